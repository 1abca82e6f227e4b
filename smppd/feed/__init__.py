"""The event feed: what happened to messages, told from the committed rows of the log by a process of its own."""
