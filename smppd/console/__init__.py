"""The web console: pages for a browser, from a process of its own that asks the running daemon as any command does."""
