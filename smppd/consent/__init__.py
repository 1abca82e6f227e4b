"""What people want to be sent: opt-outs, and the register of consents."""
