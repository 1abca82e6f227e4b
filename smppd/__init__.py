"""smppd: an SMPP daemon that stands between customers (ESMEs) and carriers (SMSCs)."""

from smppd import native

__version__ = "0.2.0"

# Before anything else of ours is imported: a module that is loaded stays as it was loaded.
native.install()
