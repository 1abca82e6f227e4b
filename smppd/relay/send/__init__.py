"""To a carrier: lanes, sending, what has no answer, other ways."""
