"""Every account's screens (`policy.screens`), made of a configuration. What they know outlives a reload."""

from __future__ import annotations

from smppd.config import Settings
from smppd.policy.hours.hours import Hours
from smppd.policy.hours.screen import HoursScreen
from smppd.policy.screens import Screen


class Screens:
    """Makes the screens of each account, in the order in which they are asked.

    Made once, before the relay; what the screens know is held here, so that a reload exchanges settings and forgets
    nothing."""

    def of(self, settings: Settings) -> dict[str, tuple[Screen, ...]]:
        """The screens by account. Changes nothing that is in use: a reload may still be refused. Any thread."""
        hours = Hours.of(settings)
        made: dict[str, tuple[Screen, ...]] = {}
        for one in settings.accounts:
            # Without a class that is restricted anywhere the screen would say nothing, at a price.
            asks = hours.ready and one.quiet_hours != "off"
            made[one.system_id] = (HoursScreen(hours, one, settings.region_of(one.system_id)),) if asks else ()
        return made
