"""Who may do what: the acts that need a login, the roles, and one table between them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from smppd.audit.trail import Actor


class Act(StrEnum):
    """What somebody does with the data or the daemon. SEARCH: masked looks, which need no login; all others do. OPT_OUT: spare
    somebody messages; OPT_IN: have them sent again. CONSENT: put consents on record, and withdraw them."""

    SEARCH = "search"
    REVEAL = "reveal"
    EXPORT = "export"
    ERASE = "erase"
    HOLD = "hold"
    PURGE = "purge"
    KEYS = "keys"
    OPERATORS = "operators"
    RUNTIME = "runtime"
    AUDIT = "audit"
    REPORT = "report"
    BACKUP = "backup"
    OPT_OUT = "opt-out"
    OPT_IN = "opt-in"
    CONSENT = "consent"


class Role(StrEnum):
    """What an operator is."""

    OPERATOR = "operator"
    SUPPORT = "support"
    PRIVACY_OFFICER = "privacy-officer"
    AUDITOR = "auditor"
    ACCOUNT_OWNER = "account-owner"


MAY: Final[dict[Role, frozenset[Act]]] = {
    Role.OPERATOR: frozenset(
        {Act.SEARCH, Act.PURGE, Act.KEYS, Act.OPERATORS, Act.RUNTIME, Act.BACKUP, Act.REPORT, Act.OPT_OUT, Act.CONSENT}
    ),
    Role.SUPPORT: frozenset({Act.SEARCH, Act.REVEAL, Act.OPT_OUT}),
    Role.PRIVACY_OFFICER: frozenset(
        {
            Act.SEARCH,
            Act.REVEAL,
            Act.EXPORT,
            Act.ERASE,
            Act.HOLD,
            Act.PURGE,
            Act.AUDIT,
            Act.REPORT,
            Act.OPT_OUT,
            Act.OPT_IN,
            Act.CONSENT,
        }
    ),
    Role.AUDITOR: frozenset({Act.AUDIT, Act.REPORT}),
    Role.ACCOUNT_OWNER: frozenset({Act.SEARCH, Act.REVEAL, Act.OPT_OUT, Act.CONSENT}),
}
"""An account owner's acts are on his accounts alone. Nobody approves what he asked for himself."""


def may(roles: Iterable[Role], act: Act) -> bool:
    """Whether one of the roles allows an act."""
    return any(act in MAY[role] for role in roles)


class Authority(NamedTuple):
    """On whose word something is done. actor: who runs the command, as the kernel knows it, and from where. operator: the name
    that was logged in with, empty without a login. accounts: those he may see, None for all. act: what he was allowed to do."""

    actor: Actor
    operator: str = ""
    roles: frozenset[Role] = frozenset()
    accounts: frozenset[str] | None = None
    act: Act | None = None

    def sees(self, account: str) -> bool:
        """Whether he may see what is an account's."""
        return self.accounts is None or account in self.accounts

    @property
    def facts(self) -> dict[str, str | int]:
        """For the entry on the audit trail: that an act which needs a login was done without one."""
        return {} if self.operator or self.act in (None, Act.SEARCH) else {"login": "none"}

    @property
    def who(self) -> str:
        """As the audit trail names him: the operator, by whom the command was run behind it; without a login that is said."""
        return f"{self.operator} ({self.actor.who})" if self.operator else f"{self.actor.who} (no login)"
