"""The audit trail: who did what with the data, in a chain that shows each change."""
