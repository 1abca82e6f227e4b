"""What is said about an installation as a whole: five reports from its configuration, its store and its audit trail."""
