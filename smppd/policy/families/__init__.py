"""Families of content: shipped, tested sets of signs that tell lures, marketing, card numbers and one-time codes."""
