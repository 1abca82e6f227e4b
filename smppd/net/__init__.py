"""The Twisted edge: byte pipes, plain and TLS; who may connect and bind; and the two sides that talk SMPP over the pipes."""
