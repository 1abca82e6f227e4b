"""What people want to be sent: the words by which they say so, the register of opt-outs, the question asked of a message."""
