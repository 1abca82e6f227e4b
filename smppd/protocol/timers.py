"""What a session is allowed, in time and in number. ``session`` hands it on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timers:
    """Deadlines and limits of one session; seconds, octets, PDUs a second (reliability.md, "Hostile peers").
    ``bad_bodies`` None: PDUs with a bad body never end the session."""

    bind: float = 10.0
    pdu: float = 10.0
    enquire_link: float = 30.0
    inactivity: float = 150.0
    response: float = 30.0
    max_pdu: int = 69632
    max_pdu_unbound: int = 512
    control_rate: float = 5.0
    control_burst: float = 20.0
    stray_rate: float = 0.0  # responses to nothing that we asked; 0: they count as control PDUs
    stray_burst: float = 0.0
    bad_bodies: int | None = 10
