"""The vault: keys, sealed records, blind indexes, masking and the audit trail. Pure code: no reactor, no store."""
