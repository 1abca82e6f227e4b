"""What operators touch: the commands and the HTTP endpoints."""
