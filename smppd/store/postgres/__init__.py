"""The store on PostgreSQL, a back end behind the seams of `smppd/store/`. Its driver is an extra; nobody imports it
unasked."""
