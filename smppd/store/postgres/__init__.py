"""The store on PostgreSQL, a back end behind the seams of `smppd/store/`. Nothing imports it unasked: its driver is an extra."""
