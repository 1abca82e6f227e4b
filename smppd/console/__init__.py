"""The web console: a process of its own, which reads by the control socket and the records' interface."""
