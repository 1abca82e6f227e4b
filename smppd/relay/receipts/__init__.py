"""From a carrier: receipts and messages of subscribers."""
