"""Finds messages for a person: by phone number, by id, or by account and time. What is given back is on the audit trail."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from smppd.events import AuditEvent
from smppd.ids import parse_shown
from smppd.office.access import Access, Why, printable
from smppd.office.authority import approver
from smppd.office.errors import WRONG, OfficeError
from smppd.office.messages import as_dict, iso, state_of
from smppd.office.numbers import Typed, forms_of_search, refuse_nothing, regions_of_search, without_number
from smppd.records.listing import Place, by_time
from smppd.records.lookup import Found
from smppd.records.search import by_number
from smppd.store.log import LAST_ID
from smppd.vault.numbers import SearchForms
from smppd.vault.seal import RecordHeader, SealError

ALONE: Final = 100
"""So many records may one person reveal at a time; for more, and for the reason `law`, two have to agree."""
LISTED: Final = 10_000
"""So many records are looked at for one page of those of a time, and ..."""
STATES: Final = 500
"""... for so many of them at most it is looked up in which state they are."""


class Question(NamedTuple):
    """A search. since_ms, until_ms: epoch milliseconds, None for no end; typed_since, typed_until: as they were typed, since an
    age means another time each hour. state: empty for any (`State`'s names). before: only records with a lower id."""

    asked: Typed
    since_ms: int = 0
    until_ms: int | None = None
    limit: int = 50
    typed_since: str = ""
    typed_until: str = ""
    state: str = ""
    before: int = LAST_ID
    enough: float | None = None
    """Seconds after which a search ends where it is, and says how far that was; None: it goes through all."""


class Results(NamedTuple):
    """What a search found. rows: as `messages.as_dict`; more: there may be more; last: the id that the next page begins below;
    damaged: ids that cannot be opened; forms, regions: what was searched for, and in which countries."""

    rows: list[dict[str, Any]]
    more: bool
    last: int
    damaged: list[int]
    forms: SearchForms
    regions: list[str]

    def __repr__(self) -> str:
        return f"<Results {len(self.rows)} ***>"


def search(
    access: Access,
    question: Question,
    why: Why,
    reveal: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Results:
    """All messages from or to a phone number, newest first. OfficeError: also where another person has to agree first
    (ANOTHER_PERSON). Raises StoreError and VaultError."""
    reader, authority, asked = access.reader, access.authority, question.asked
    regions = regions_of_search(access.settings, asked)
    forms = forms_of_search(regions, asked)
    refuse_nothing(forms)
    why = why._replace(note=without_number(why.note, forms))
    until = float("inf") if question.until_ms is None else question.until_ms / 1000
    second = _second(access, question, why, forms) if reveal and why.reason == "law" else None
    accounts: Collection[str] | None = asked.accounts or None
    if accounts is not None:
        accounts = [one for one in accounts if authority.sees(one)]
    elif authority.accounts is not None:
        accounts = sorted(authority.accounts)
    found: list[Found] = []
    more, last, until_id = False, question.before, 0
    ends = None if question.enough is None else time.monotonic() + question.enough

    def reached(low: int) -> bool:
        nonlocal more, until_id
        more = ends is not None and time.monotonic() >= ends
        until_id = low
        return more

    every = by_number(
        reader,
        forms.exact + forms.ambiguous,
        accounts,
        question.since_ms / 1000,
        until,
        progress,
        question.before,
        None if ends is None else reached,
    )
    for one in every:
        late = ends is not None and time.monotonic() >= ends
        if len(found) == question.limit or (late and last < question.before):
            more = True
            break
        last = one.record.header.record_id
        if not question.state or state_of(reader.events(last))[0] == question.state:
            found.append(one)
    else:
        last = until_id if more else last
    damaged = reader.damaged if authority.accounts is None else []  # nobody can tell whose these are
    if reveal and second is None and len(found) > ALONE:
        second = _second(access, question, why, forms)
    what: dict[str, str | int] = {"number": " ".join(access.subject(form) for form in forms.exact)}
    if second:
        what["second"] = second
    if asked.accounts:
        what["accounts"] = " ".join(asked.accounts)
    _put_times(what, question)
    ids = [access.shown(one) for one in found]
    result = f"{len(found)} found{', more there' if more else ''}{', revealed' if reveal else ', masked'}"
    access.record(AuditEvent.REVEAL if reveal else AuditEvent.SEARCH, why, what, ids, result)
    rows = [as_dict(access, one, reveal, forms) for one in found]
    return Results(rows, more, last, damaged, forms, regions)


def _put_times(what: dict[str, str | int], question: Question) -> None:
    if question.since_ms:
        what["since"] = iso(question.since_ms)
    if question.until_ms is not None:
        what["until"] = iso(question.until_ms)
    if question.state:
        what["state"] = question.state


def _second(access: Access, question: Question, why: Why, forms: SearchForms) -> str:
    """Who else agreed to reveal what this search finds. The times count as they were typed, so `--since 7d` is the same act an
    hour later."""
    what: dict[str, str | int] = {
        "number": " ".join(form.decode("utf-8", "replace") for form in forms.exact),
        "accounts": " ".join(sorted(question.asked.accounts or ())),
        "since": question.typed_since,
        "until": question.typed_until,
        "region": question.asked.region or "",
        "limit": question.limit,
        "reason": why.reason,
    }
    said = {name: value for name, value in what.items() if value != ""}
    return approver(access.authority, access.settings, "reveal", said, why.note, why.reason)


# -- by account and time -----------------------------------------------------------------------------------------------


class Listed(NamedTuple):
    """Messages of a time, masked. more: where the next page begins, None at the end; reached: epoch milliseconds of the oldest
    message that was looked at."""

    rows: list[dict[str, Any]]
    more: Place | None
    reached: int | None
    damaged: list[int]

    def __repr__(self) -> str:
        return f"<Listed {len(self.rows)} ***>"


def listed(access: Access, question: Question, why: Why, place: Place) -> Listed:
    """A page of the messages that were accepted in a time, newest first. question: its number is not looked at. A page ends
    where LISTED messages were looked at too: then it may be empty, and there is more. OfficeError; raises StoreError and
    VaultError."""
    authority, reader = access.authority, access.reader
    accounts: Collection[str] | None = question.asked.accounts or None
    if accounts is None:
        accounts = authority.accounts
    else:
        accounts = [one for one in accounts if authority.sees(one)]
    until = float("inf") if question.until_ms is None else question.until_ms / 1000

    def wanted(header: RecordHeader) -> bool:
        return state_of(reader.events(header.record_id))[0] == question.state

    page = by_time(
        reader,
        question.since_ms / 1000,
        until,
        accounts,
        place,
        question.limit,
        LISTED,
        wanted if question.state else None,
        STATES,
    )
    what: dict[str, str | int] = {}
    if question.asked.accounts:
        what["accounts"] = " ".join(question.asked.accounts)
    _put_times(what, question)
    more = ", more there" if page.more is not None else ""
    ids = [access.shown(one) for one in page.found]
    access.record(AuditEvent.SEARCH, why, what, ids, f"{len(page.found)} found{more}, masked")
    rows = [as_dict(access, one, False, None) for one in page.found]
    return Listed(rows, page.more, page.reached, reader.damaged if authority.accounts is None else [])


# -- one message -------------------------------------------------------------------------------------------------------


def ids_meant(text: str) -> list[int]:
    """What an id may mean: the form a customer sees, the same without its leading zero as spreadsheets show it, or decimal;
    with blanks around it, or `0x` before it. OfficeError."""
    text = text.strip()
    marked = text[:2].lower() == "0x"
    digits = text[2:] if marked else text
    shown = parse_shown(
        (digits.rjust(16, "0") if (marked and digits) or len(digits) == 15 else digits).encode("utf-8", "replace")
    )
    meant = [] if shown is None else [shown]
    if text.isascii() and text.isdigit() and len(text) < 20:
        meant.append(int(text))
    if not meant:
        raise OfficeError(
            f"{printable(text)} is no message id: give 16 hexadecimal characters, or a decimal number", WRONG
        )
    return meant


def find(access: Access, typed: str, why: Why, reveal: bool = False) -> Found:
    """One message, by the id that was typed. OfficeError where there is none, where it is another's account's, and where
    another person has to agree first (ANOTHER_PERSON). Raises SealError for one that was altered, StoreError and VaultError."""
    found, hidden = None, False
    for identity in ids_meant(typed):
        found = found or _record_of(access, identity)
    if found is not None and not access.authority.sees(found.record.header.account):
        found, hidden = None, True  # looks exactly like one that is not there
    what: dict[str, str | int] = {"asked": printable(typed)[:64]}
    if found is not None:
        what["asked"] = f"{found.record.header.record_id:016x}"
        if reveal and why.reason == "law":
            asked: dict[str, str | int] = {"record": what["asked"], "reason": why.reason}
            what["second"] = approver(access.authority, access.settings, "reveal", asked, why.note, why.reason)
    if hidden:
        what["other_account"] = 1
    ids = [] if found is None else [access.shown(found)]
    result = "not found" if found is None else "revealed" if reveal else "masked"
    access.record(AuditEvent.REVEAL if reveal else AuditEvent.SHOW, why, what, ids, result)
    if found is None:
        raise OfficeError(f"there is no record {printable(typed)} in the log (any more)")
    return found


def _record_of(access: Access, identity: int) -> Found | None:
    try:
        return access.reader.record(identity)
    except SealError:
        if access.authority.accounts is not None:
            return None  # nobody can tell whose it is
        raise
