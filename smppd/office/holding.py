"""The holds of an installation for people: asked for and released by two of them, each step on the audit trail first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.numbering import REGIONS, SHORT_DIGITS, parse
from smppd.office.access import Access, printable
from smppd.office.authority import approver
from smppd.office.errors import WRONG, OfficeError
from smppd.office.unlocking import existing_keys, unlock
from smppd.operators.roles import Authority
from smppd.records.holds import LONGEST, Hold, Holds, HoldState
from smppd.records.looks import MONTH
from smppd.records.search import accounts
from smppd.store.opening import installation
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import VaultError
from smppd.vault.keys import KeyRing
from smppd.vault.mask import mask_number
from smppd.vault.numbers import search_forms

WORDS: Final = 200
"""Characters of who demands a hold, and in which matter."""


def open_holds(settings: Settings) -> Holds:
    """The caller closes them. Raises VaultError and StoreError where there is no store or the keys do not fit."""
    store = installation(settings)
    kek, install = unlock(settings)
    rows = existing_keys(store)
    rows.close()
    with ExitStack() as undo:
        documents = store.documents()
        undo.callback(documents.close)
        held = store.held()
        undo.callback(held.close)
        # For holds' keys alone, which go by the held rows: their own connection sees who else changes them.
        holds = Holds(documents, held, KeyRing(kek, rows), DocumentSealer(install))
        undo.pop_all()
    return holds


class Order(NamedTuple):
    """What is to be kept, as it was typed. number, account: None for any, but not both. since, until, expires: epoch seconds;
    until: None for no end. region: of a national number. also_national: also what has its national digits."""

    number: str | None
    account: str | None
    since: float
    until: float | None
    region: str | None
    also_national: bool
    authority: str
    reference: str
    expires: float

    def __repr__(self) -> str:
        return "<Order ***>"


def asked_for(settings: Settings, order: Order, authority: Authority, now: float) -> Hold:
    """What was asked for, without a number yet. OfficeError, in the words of `smppd hold add`."""
    if order.number is None and order.account is None:
        raise OfficeError("give --number, --account or both: nobody can hold everything", WRONG)
    if order.account is not None and not order.account.strip():
        raise OfficeError("--account is empty", WRONG)
    if authority.accounts is not None and order.account not in authority.accounts:
        raise OfficeError("you may hold nothing beyond your accounts: give --account", WRONG)
    until = float("inf") if order.until is None else order.until
    if order.since >= until:
        raise OfficeError("--since is not before --until", WRONG)
    if order.expires <= now:
        raise OfficeError("--expires is not in the future", WRONG)
    if order.expires > now + LONGEST:
        raise OfficeError("--expires is more than ten years away: ask for a shorter time, and again then", WRONG)
    authority_name, reference = (" ".join(printable(one).split()) for one in (order.authority, order.reference))
    if not authority_name or not reference or max(len(authority_name), len(reference)) > WORDS:
        raise OfficeError(f"--authority and --reference need 1 to {WORDS} characters each", WRONG)
    return Hold(
        0,
        _forms(settings, order),
        order.account or "",
        order.since,
        until,
        authority_name,
        reference,
        order.expires,
        authority.who,
        now,
    )


def _forms(settings: Settings, order: Order) -> tuple[bytes, ...]:
    if order.number is None:
        return ()
    region = order.region.upper() if order.region else None
    if region is not None and region not in REGIONS:
        raise OfficeError(f"{printable(region)} is no country of two letters (ISO 3166)", WRONG)
    mine = next((one.region for one in settings.accounts if one.system_id == order.account), None)
    forms = search_forms(order.number, region or mine or settings.region)
    exact = forms.exact[0]
    if not any(chr(octet).isalnum() for octet in exact):
        raise OfficeError("give a phone number, a short code or an alphanumeric sender", WRONG)
    if exact.isdigit() and len(exact) > SHORT_DIGITS and parse("+" + exact.decode(), None) is None:
        raise OfficeError(
            f"{mask_number(order.number)} may be anybody's: write it with + and its country code, or give --region",
            WRONG,
        )
    return (*forms.exact, *(forms.ambiguous if order.also_national else ()))


class HoldDesk:
    """The holds for somebody. Methods raise OfficeError, and StoreError and VaultError."""

    def __init__(self, access: Access, holds: Holds) -> None:
        self.access = access
        self.holds = holds
        self._authority = access.authority

    def sees(self, hold: Hold) -> bool:
        """Whether somebody may know of a hold."""
        return sees(hold, self._authority)

    def one(self, number: int) -> Hold:
        """A hold by its number; one that he may not know of is as if it were not there."""
        return one_of(self.holds, number, self._authority)

    def ask(self, hold: Hold) -> Hold:
        """Puts a hold down, which protects when this returns; the one that there is where the same was asked for already."""
        access = self.access
        if hold.account and hold.account not in self._accounts():
            raise OfficeError(f"there is no account {printable(hold.account)}, and nothing of one in the log", WRONG)
        known = self.holds.asked(hold)
        if known is not None:
            return known
        hold = hold._replace(number=self.holds.number())
        self._tell({"action": "asked", **_facts(access, hold)}, "pending")
        self.holds.add(hold)
        return hold

    def activate(self, hold: Hold) -> Hold:
        """The hold after another person agreed. OfficeError (ANOTHER_PERSON) where nobody has yet: it protects all the same,
        for 72 hours."""
        second = approver(self._authority, self.access.settings, "hold", _asked(self.access, hold))
        self._tell({"action": "added", "hold": hold.number, "second": second}, "active")
        return self.holds.activate(hold.number, second)

    def release(self, number: int) -> Hold:
        """Ends a hold, where another person agreed: what only it kept dies."""
        hold = self.one(number)
        if not hold.lives:
            raise OfficeError(f"hold {hold.number} is {hold.state} already")
        facts: dict[str, str | int] = {"hold": hold.number, "authority": hold.authority, "reference": hold.reference}
        second = approver(self._authority, self.access.settings, "hold release", facts)
        self._tell({"action": "released", **facts, "second": second}, "ended")
        return self.holds.end(hold.number, HoldState.RELEASED, time.time())

    def _accounts(self) -> set[str]:
        return {one.system_id for one in self.access.settings.accounts} | set(accounts(self.access.reader.records))

    def _tell(self, facts: dict[str, str | int], result: str) -> None:
        if "number" in facts:
            facts = facts | {MONTH: self.access.look_key.month}
        facts = facts | self._authority.facts
        source = self._authority.actor.source
        try:
            self.access.trail.append(AuditEvent.HOLD, self._authority.who, facts, result, source=source)
        except VaultError as error:
            raise OfficeError(f"nothing was done, because it cannot be recorded: {error}") from None


@contextmanager
def open_hold_desk(settings: Settings, authority: Authority) -> Iterator[HoldDesk]:
    """Raises OfficeError, StoreError and VaultError."""
    with Access(settings, authority) as access:
        holds = open_holds(settings)
        try:
            yield HoldDesk(access, holds)
        finally:
            holds.close()


def sees(hold: Hold, authority: Authority) -> bool:
    """Whether somebody may know of a hold."""
    return authority.accounts is None or hold.account in authority.accounts


def one_of(holds: Holds, number: int, authority: Authority) -> Hold:
    """A hold that somebody may know of. OfficeError where there is none."""
    hold = holds.get(number)
    if hold is None or not sees(hold, authority):
        raise OfficeError(f"there is no hold {number}")
    return hold


def as_dict(hold: Hold) -> dict[str, Any]:
    """A hold as JSON has it, numbers masked."""
    return {
        "hold": hold.number,
        "state": hold.state.value,
        "numbers": [mask_number(form.decode("utf-8", "replace")) for form in hold.forms],
        "account": hold.account or None,
        "since": iso(hold.since) if hold.since else None,
        "until": None if hold.until == float("inf") else iso(hold.until),
        "authority": hold.authority,
        "reference": hold.reference,
        "asked": iso(hold.added),
        "who": hold.who,
        "second": hold.second or None,
        "expires": iso(hold.expires),
        "ends": iso(hold.ends) if hold.lives else None,
        "ended": iso(hold.ended) if hold.ended else None,
    }


def _facts(access: Access, hold: Hold) -> dict[str, str | int]:
    """What a hold is, as the trail and the second person see it. The number only as a keyed hash."""
    facts: dict[str, str | int] = {
        "hold": hold.number,
        "authority": hold.authority,
        "reference": hold.reference,
        "expires": iso(hold.expires),
    }
    if hold.forms:
        facts["number"] = " ".join(access.subject(form) for form in hold.forms)
    if hold.account:
        facts["account"] = hold.account
    if hold.since:
        facts["since"] = iso(hold.since)
    if hold.until != float("inf"):
        facts["until"] = iso(hold.until)
    return facts


def _asked(access: Access, hold: Hold) -> dict[str, str | int]:
    """The same for the person who has to agree: with the number itself, which is sealed in the request."""
    facts = _facts(access, hold)
    if hold.forms:
        facts["number"] = " ".join(form.decode("utf-8", "replace") for form in hold.forms)
    return facts


def iso(at: float) -> str:
    """`2026-11-30T09:00:00Z`, of epoch seconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
