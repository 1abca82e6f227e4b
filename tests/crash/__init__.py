"""The daemon killed at random moments under load."""
