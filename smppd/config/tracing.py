"""Settings of traces, the section `traces`: the PDUs of a peer that an operator has kept for some minutes (`smppd act trace`).

The section `tracing` is something else, OpenTelemetry: `config.spans`.
"""

from __future__ import annotations

from typing import Final

from pydantic import field_validator

from smppd.config.kinds import Model, PositiveDuration, duration

TRACE_RETAIN: Final = 7 * 86400.0
"""Seconds for which a trace is kept where nothing else is said."""
_LEAST: Final = 3600.0
_MOST: Final = 31 * 86400.0


class Traces(Model):
    """What `smppd act trace` keeps of a peer's PDUs. `tracing` is something else: OpenTelemetry."""

    retain: PositiveDuration = duration(
        "7d", "Time after which a trace is destroyed, with its key; 1 hour to 31 days. It holds texts and numbers."
    )

    @field_validator("retain")
    @classmethod
    def _bounded(cls, value: float) -> float:
        if not _LEAST <= value <= _MOST:
            raise ValueError("must be 1h to 31d")
        return value
