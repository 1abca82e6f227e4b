"""Backups: taken beside a running daemon, sealed, restored."""
