"""What people want to be sent: the words by which they say so, the registers of opt-outs and consents, and what asks them."""
