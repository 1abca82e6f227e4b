"""Tracing: a sample of the messages' lives as OpenTelemetry spans, made of the committed log by a process of its own."""
