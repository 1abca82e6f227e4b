"""The spool's contents: what is written of a thing, and how it is read back."""
