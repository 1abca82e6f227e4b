"""The real daemon as a child process, between independent SMPP stacks."""
