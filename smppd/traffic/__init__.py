"""Artificial traffic: what is unusual in what an account sends, its caps, and the end of its right to submit."""
