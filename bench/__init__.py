"""The bench: what a message costs smppd, measured from outside by tools that check every answer and receipt."""
