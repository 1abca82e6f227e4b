"""To a carrier: lanes, sending, messages without an answer, other routes."""
