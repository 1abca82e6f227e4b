"""Every account's screens (`policy.screens`), made of a configuration. What they know outlives a reload."""

from __future__ import annotations

from collections.abc import Mapping

from smppd.config import Account, Settings
from smppd.consent.screen import OptOutScreen
from smppd.consent.suppression import Register
from smppd.lists.named import NamedList
from smppd.policy.screens import Screen


class Screens:
    """Makes the screens of each account, in the order in which they are asked.

    Made once, before the relay; what the screens know is held here, so that a reload exchanges settings and forgets
    nothing. ``register``: of opt-outs."""

    def __init__(self, register: Register) -> None:
        self.register = register

    def of(self, settings: Settings, lists: Mapping[str, NamedList]) -> dict[str, tuple[Screen, ...]]:
        """The screens by account. ``lists``: those of the configuration, by name. Changes nothing that is in use: a reload may
        still be refused. Any thread."""
        return {one.system_id: self._of(one, lists) for one in settings.accounts}

    def _of(self, account: Account, lists: Mapping[str, NamedList]) -> tuple[Screen, ...]:
        screens: list[Screen] = []
        opt_out = account.opt_out
        if opt_out.told != "off":
            screens.append(OptOutScreen(self.register, opt_out.told, [lists[name] for name in opt_out.lists]))
        return tuple(screens)
