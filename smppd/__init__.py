"""smppd: an SMPP daemon that stands between customers (ESMEs) and carriers (SMSCs)."""

__version__ = "0.1.0"
