"""How others speak to the running daemon: the control socket's wire, and the asking end of it."""
