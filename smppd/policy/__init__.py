"""Pure decisions on a message: rules compiled once, consulted without I/O, clock or Twisted."""
