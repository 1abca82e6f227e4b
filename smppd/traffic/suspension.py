"""The end of an account's right to submit: after so many refusals in a time, or by hand. Its binds stay, and receipts and MO go
on; each message is refused before anything else is looked at, until an operator lifts it with a reason.

A suspension is a document of the store, sealed, with the ids of the records that brought it about. What stands in the store
counts: the daemon reads it at its start and when a command has changed it, and writes what it decides itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from smppd.config.traffic import SuspendAfter
from smppd.message import Refusal
from smppd.policy.screens import Admission, Question
from smppd.protocol.wire import Status

KIND: Final = "suspension"
"""Of the documents (`store.documents`); their names are the accounts'."""
SUSPENDED: Final = Refusal(Status.RSUBMITFAIL, "the right to submit is suspended, ask the operator", "suspended")
EVIDENCE: Final = 100
"""Records that are named at the most: the latest."""


class Suspension(NamedTuple):
    """``since``: epoch seconds. ``by``: an operator, or `smppd`. ``hits`` within ``within`` seconds by ``rules`` (how often by
    each), where the daemon decided; ``records``: ids of the latest of these messages."""

    account: str
    since: float
    by: str
    reason: str
    hits: int = 0
    within: float = 0.0
    rules: tuple[tuple[str, int], ...] = ()
    records: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `of_dict` reads it back."""
        return {
            "account": self.account,
            "since": self.since,
            "by": self.by,
            "reason": self.reason,
            "hits": self.hits,
            "within": self.within,
            "rules": dict(self.rules),
            "records": [f"{one:016x}" for one in self.records],
        }

    @classmethod
    def of_dict(cls, said: Any) -> Suspension:
        """Out of a document. ValueError where it is none."""
        try:
            return cls(
                str(said["account"]),
                float(said["since"]),
                str(said["by"]),
                str(said["reason"]),
                int(said["hits"]),
                float(said["within"]),
                tuple((str(rule), int(count)) for rule, count in said["rules"].items()),
                tuple(int(one, 16) for one in said["records"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError("this is no suspension") from None


class Standing:
    """What is known of one account: whether it is suspended, and its latest refusals that count."""

    __slots__ = ("hits", "suspension")

    def __init__(self) -> None:
        self.suspension: Suspension | None = None
        self.hits: deque[tuple[float, int, str]] = deque()

    def __repr__(self) -> str:
        return f"<Standing suspended={self.suspension is not None}>"


class Suspensions:
    """All accounts. ``made`` is called when one is suspended by its refusals; it has to become durable then."""

    def __init__(self, made: Callable[[Suspension], object] = lambda _suspension: None) -> None:
        self._made = made
        self._standing: dict[str, Standing] = {}
        self._screens: dict[str, SuspensionScreen] = {}
        self.changes = 0
        """Rises with each suspension, and each end of one."""

    def standing(self, account: str) -> Standing:
        """What is known of an account; of one that leaves the configuration too."""
        found = self._standing.get(account)
        if found is None:
            found = self._standing[account] = Standing()
        return found

    def screen(self, account: str, settings: SuspendAfter | None) -> SuspensionScreen:
        """A screen for an account. Several may be made, of which a reload uses the last or none: each knows what stands."""
        return SuspensionScreen(self, account, settings)

    def use(self, screens: Iterable[SuspensionScreen]) -> None:
        """These are in force now."""
        self._screens = {one.account: one for one in screens}
        for screen in self._screens.values():
            screen.closed = SUSPENDED if self.standing(screen.account).suspension is not None else None

    def suspend(self, suspension: Suspension) -> None:
        """From now on."""
        self.changes += 1
        self.standing(suspension.account).suspension = suspension
        screen = self._screens.get(suspension.account)
        if screen is not None:
            screen.closed = SUSPENDED

    def lift(self, account: str) -> Suspension | None:
        """The account may submit again, and begins without hits; what stood, or None."""
        self.changes += 1
        standing = self.standing(account)
        was, standing.suspension = standing.suspension, None
        standing.hits.clear()
        screen = self._screens.get(account)
        if screen is not None:
            screen.closed = None
        return was

    def take(self, stored: Iterable[Suspension], unwritten: Iterable[str] = ()) -> None:
        """What stands in the store, all of it; ``unwritten``: accounts whose suspension is not there yet."""
        found = {one.account: one for one in stored}
        for account, standing in list(self._standing.items()):
            if standing.suspension is not None and account not in found and account not in unwritten:
                self.lift(account)
        for one in found.values():
            self.suspend(one)

    def suspended(self) -> list[Suspension]:
        """Those that stand, by account."""
        found = [one.suspension for one in self._standing.values() if one.suspension is not None]
        return sorted(found, key=lambda one: one.account)

    def refused(self, account: str, rule: str, record: int, wall: float, settings: SuspendAfter) -> None:
        """A refusal that counts."""
        standing = self.standing(account)
        hits = standing.hits
        if standing.suspension is not None:
            return
        if hits and wall < hits[-1][0]:  # the clock was put back: older ones are taken to be of now
            while hits and hits[-1][0] > wall:
                hits.pop()
        hits.append((wall, record, rule))
        while len(hits) > settings.hits or wall - hits[0][0] > settings.within:
            hits.popleft()
        if len(hits) < settings.hits:
            return
        by_rule: dict[str, int] = {}
        for _, _, one in hits:
            by_rule[one] = by_rule.get(one, 0) + 1
        records = tuple(number for _, number, _ in hits)[-EVIDENCE:]
        reason = f"{len(hits)} refusals within {wall - hits[0][0]:.0f} s"
        made = Suspension(
            account, wall, "smppd", reason, len(hits), settings.within, tuple(sorted(by_rule.items())), records
        )
        self.suspend(made)
        self._made(made)


class SuspensionScreen(Admission):
    """The first screen of an account; `policy.screens.Screen` and `Admission`."""

    def __init__(self, suspensions: Suspensions, account: str, settings: SuspendAfter | None) -> None:
        super().__init__()
        self.name = "suspension"
        self.account = account
        self._suspensions = suspensions
        self._settings = settings
        self._rules: dict[str, bool] = {}  # by the name of a refusal: whether it counts

    def look(self, _question: Question) -> Refusal | None:
        """Whether the account is suspended; asked before the rules already."""
        return self.closed

    def explain(self, question: Question) -> str:
        """What it would say."""
        stands = self._suspensions.standing(self.account).suspension
        if stands is not None:
            return f"refused: suspended by {stands.by} ({stands.reason})"
        if self._settings is None:
            return "not suspended"
        recent = question.wall - self._settings.within
        hits = sum(1 for wall, _, _ in self._suspensions.standing(self.account).hits if wall >= recent)
        return f"not suspended; {hits} of {self._settings.hits} refusals"

    def refused(self, rule: str, record: int, wall: float) -> None:
        """See `policy.screens.Admission`."""
        settings = self._settings
        if settings is None:
            return
        counts = self._rules.get(rule)
        if counts is None:
            counts = rule in settings.rules or rule.partition("/")[0] in settings.rules
            if len(self._rules) < 10_000:
                self._rules[rule] = counts
        if counts:
            self._suspensions.refused(self.account, rule, record, wall, settings)
