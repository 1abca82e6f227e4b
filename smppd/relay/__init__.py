"""The data path: accept, dispatch, receipts, mailboxes. Pure of I/O: batches go to the store."""
