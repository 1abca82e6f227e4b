"""The data path: accept, dispatch, receipts, mailboxes. Pure of I/O: bytes, sessions and times come in, batches go to the store."""
