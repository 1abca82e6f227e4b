"""To a customer: the mail."""
