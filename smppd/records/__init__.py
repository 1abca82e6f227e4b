"""The sealed log, read: look-up, search, verification, index, retention."""
