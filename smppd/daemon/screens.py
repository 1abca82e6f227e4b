"""Every account's screens (`policy.screens`), made of a configuration. What they know outlives a reload."""

from __future__ import annotations

from collections.abc import Mapping

from smppd.config import Settings
from smppd.consent.register import ConsentScreen
from smppd.consent.register import Register as ConsentRegister
from smppd.consent.screen import OptOutScreen
from smppd.consent.suppression import Register
from smppd.daemon.traffic import TrafficMemory
from smppd.lists.named import NamedList
from smppd.policy.hours.hours import Hours
from smppd.policy.hours.screen import HoursScreen
from smppd.policy.screens import Screen


class Screens:
    """Makes the screens of each account, in the order in which they are asked.

    Made once, before the relay; what the screens know is held here, so that a reload exchanges settings and forgets
    nothing. ``register``: of opt-outs. ``traffic``: what is known of accounts' traffic; None where nobody looks for that.
    ``consents``: the register of consents; None where nobody is asked for one."""

    def __init__(
        self, register: Register, traffic: TrafficMemory | None = None, consents: ConsentRegister | None = None
    ) -> None:
        self.register = register
        self.traffic = traffic
        self.consents = consents

    def of(self, settings: Settings, lists: Mapping[str, NamedList]) -> dict[str, tuple[Screen, ...]]:
        """The screens by account. ``lists``: those of the configuration, by name. Changes nothing that is in use: a reload may
        still be refused. Any thread."""
        hours = Hours.of(settings)
        traffic = {} if self.traffic is None else self.traffic.screens(settings)
        made: dict[str, tuple[Screen, ...]] = {}
        for one in settings.accounts:
            screens: list[Screen] = []
            opt_out = one.opt_out
            if opt_out.told != "off":
                screens.append(OptOutScreen(self.register, opt_out.told, [lists[name] for name in opt_out.lists]))
            if one.consent != "off" and self.consents is not None:
                screens.append(ConsentScreen(self.consents, one.consent == "shadow", one.consent_classes))
            # Behind these: what nobody was sent is no traffic. What says whether an account may submit at all is among these,
            # and is asked before all screens (`policy.screens.Admission`).
            screens.extend(traffic.get(one.system_id, ()))
            # Without a class that is restricted anywhere the screen would say nothing, at a price.
            if hours.ready and one.quiet_hours != "off":
                screens.append(HoursScreen(hours, one, settings.region_of(one.system_id)))
            made[one.system_id] = tuple(screens)
        return made

    def use(self, screens: Mapping[str, tuple[Screen, ...]]) -> None:
        """These are in force from now on. Reactor thread."""
        if self.traffic is not None:
            self.traffic.use(screens.values())
