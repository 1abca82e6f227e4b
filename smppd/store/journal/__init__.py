"""The journal of the embedded store: what a commit is, and the files that it is in (docs/adr/0025)."""
