"""Every account's screens (`policy.screens`), made of a configuration. What they know outlives a reload."""

from __future__ import annotations

from smppd.config import Account, Settings
from smppd.consent.register import ConsentScreen
from smppd.consent.register import Register as ConsentRegister
from smppd.policy.screens import Screen


class Screens:
    """Makes the screens of each account, in the order in which they are asked.

    Made once, before the relay; what the screens know is held here, so that a reload exchanges settings and forgets
    nothing. ``consents``: the register of consents; None: nobody is asked for one."""

    def __init__(self, consents: ConsentRegister | None = None) -> None:
        self.consents = consents

    def of(self, settings: Settings) -> dict[str, tuple[Screen, ...]]:
        """The screens by account. Changes nothing that is in use: a reload may still be refused. Any thread."""
        return {one.system_id: self._of(one) for one in settings.accounts}

    def _of(self, account: Account) -> tuple[Screen, ...]:
        screens: list[Screen] = []
        if account.consent != "off" and self.consents is not None:
            screens.append(ConsentScreen(self.consents, account.consent == "shadow", account.consent_classes))
        return tuple(screens)
