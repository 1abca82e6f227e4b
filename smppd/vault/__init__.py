"""The vault: keys, sealed records, blind indexes, the digest chain and masking. Pure code: no reactor, no store."""
