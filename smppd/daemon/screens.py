"""Every account's screens (`policy.screens`), made of a configuration. What they know outlives a reload."""

from __future__ import annotations

from collections.abc import Mapping

from smppd.config import Settings
from smppd.daemon.traffic import TrafficMemory
from smppd.policy.screens import Screen


class Screens:
    """Makes the screens of each account, in the order in which they are asked.

    Made once, before the relay; what the screens know is held here, so that a reload exchanges settings and forgets
    nothing."""

    def __init__(self, traffic: TrafficMemory) -> None:
        self.traffic = traffic

    def of(self, settings: Settings) -> dict[str, tuple[Screen, ...]]:
        """The screens by account. Changes nothing that is in use: a reload may still be refused. Any thread."""
        traffic = self.traffic.screens(settings)
        # In this order: suspension, (opt-out, consent,) traffic(, hours).
        return {one.system_id: traffic[one.system_id] for one in settings.accounts}

    def use(self, screens: Mapping[str, tuple[Screen, ...]]) -> None:
        """These are in force from now on. Reactor thread."""
        self.traffic.use(screens.values())
