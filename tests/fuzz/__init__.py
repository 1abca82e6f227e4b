"""Hostile bytes at everything that parses: targets, a corpus that is kept, a campaign and its short form."""
