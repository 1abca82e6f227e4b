"""Runs that need more than a checkout; none belongs to `make test`."""
