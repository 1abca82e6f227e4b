"""Quiet hours: when a message of a class may leave for a number, by the recipient's own clock."""
