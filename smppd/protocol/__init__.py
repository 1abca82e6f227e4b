"""SMPP itself, without Twisted, clock or files: bytes and times come in, values go out."""
