"""What there is: accounts, carriers, lanes, messages, mail, and the lists they stand in."""
