"""Big lists by name: numbers, domains and senders for rules and screens, compiled from files."""
