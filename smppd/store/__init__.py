"""Durable state: what the relay and the log hand over is on stable storage when the store says so."""
