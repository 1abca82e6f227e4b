"""Pure decisions on a message: rules are compiled once and asked without I/O, clock or Twisted."""
