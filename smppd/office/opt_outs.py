"""Who wants no messages, for people: asked, changed and decided, each on the audit trail first, the number hashed.

What changes goes through the running daemon, by its control socket, or where none runs into the store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Final, NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.config import Account, Settings
from smppd.config.senders import SENDER_MAX
from smppd.consent.suppression import ANY, Hashes
from smppd.control.client import ask
from smppd.control.wire import CHANGES, ControlError
from smppd.events import AuditEvent
from smppd.numbering import normalise
from smppd.office.access import printable, region_of
from smppd.office.errors import WRONG, OfficeError
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.roles import Authority
from smppd.records.looks import MONTH, LookKey, key_of
from smppd.store.api import Doubt, OptOut, StoreError
from smppd.store.installation import OPT_OUTS, Installation, OptOutRows
from smppd.store.opening import installation

PATIENCE: Final = 60.0
"""Seconds that somebody waits until his changes are durable."""
_FIRST, _MOST = 0.005, 0.1
_LEAST, _LONGEST = 3, 20


class Standing(NamedTuple):
    """What is known of a number. ranges: senders of the account's ranges and names were not asked, since a hash cannot be made
    of a range."""

    entries: list[OptOut]
    ranges: bool


class OptOuts:
    """The register for somebody. Methods raise OfficeError, and StoreError, VaultError and ControlError: then it is to be done
    again."""

    def __init__(
        self, settings: Settings, authority: Authority, hashes: Hashes, trail: AuditTrail, key: LookKey
    ) -> None:
        self.settings = settings
        self.store = installation(settings)
        self.authority = authority
        self.hashes = hashes
        self._trail = trail
        self._key = key
        self.accounts = {one.system_id: one for one in settings.accounts if authority.sees(one.system_id)}

    # -- what was typed ------------------------------------------------------------------------------------------------

    def account(self, name: str) -> Account:
        """An account that he may see. OfficeError."""
        found = self.accounts.get(name)
        if found is None:
            raise OfficeError(f"there is no account {printable(name)}", WRONG)
        return found

    def number(self, typed: str, account: Account) -> bytes:
        """A number in its normal form. OfficeError, which does not repeat it."""
        number = number_of(typed, region_of(self.settings, account.system_id))
        if number is None:
            raise OfficeError("this is no phone number", WRONG)
        return number

    def sender(self, typed: str | None, account: Account) -> bytes:
        """A sender in its normal form; `ANY` for none. OfficeError for what no message can come from."""
        sender = sender_of(typed, region_of(self.settings, account.system_id))
        if len(sender) > SENDER_MAX:
            raise OfficeError(f"a sender has {SENDER_MAX} octets at the most", WRONG)
        return sender

    def _senders(self, typed: str | None, account: Account) -> list[bytes]:
        """The sender that was named; without one every one that can be meant: any, and the account's own numbers."""
        sender = self.sender(typed, account)
        if sender != ANY:
            return [sender]
        own = (self.sender(number, account) for number in account.numbers if not number.endswith("*"))
        return list(dict.fromkeys((ANY, *own)))

    # -- one number ----------------------------------------------------------------------------------------------------

    def add(self, name: str, typed: str, typed_sender: str | None, note: str, source: str) -> None:
        """A number wants no messages any more. source: by what it came into the register."""
        account = self.account(name)
        number, sender = self.number(typed, account), self.sender(typed_sender, account)
        facts = {"account": name, "sender": self.hashes.label(name, sender), "note": note}
        self.note("add", dict(facts), "asked", number)
        change_register(self.store, [self._entry(name, sender, number, source)])
        self.note("add", dict(facts), "done", number)

    def remove(self, name: str, typed: str, typed_sender: str | None, note: str, source: str) -> tuple[int, bool]:
        """A number wants messages again: how many entries there were, and `Standing.ranges`."""
        account = self.account(name)
        number = self.number(typed, account)
        senders = self._senders(typed_sender, account)
        facts = {"account": name, "note": note}
        with closing(self.rows()) as rows:
            keys = [self.hashes.key(name, sender, number) for sender in senders]
            there = sum(1 for key in keys if rows.get(key) is not None)
        self.note("remove", dict(facts), "asked", number)
        entries = [self._entry(name, sender, number, source, stands=False) for sender in senders]
        for at in range(0, len(entries), CHANGES):
            change_register(self.store, entries[at : at + CHANGES])
        self.note("remove", facts | {"entries": there}, "done" if there else "not found", number)
        return there, _has_ranges(typed_sender, account)

    def check(self, name: str, typed: str, typed_sender: str | None) -> Standing:
        """Whether a number has opted out."""
        account = self.account(name)
        number = self.number(typed, account)
        senders = dict.fromkeys((ANY, *self._senders(typed_sender, account)))
        with closing(self.rows()) as rows:
            keys = [self.hashes.key(name, sender, number) for sender in senders]
            found = [one for key in keys if (one := rows.get(key)) is not None]
        self.note("check", {"account": name}, "found" if found else "not found", number)
        return Standing(found, _has_ranges(typed_sender, account))

    def _entry(self, name: str, sender: bytes, number: bytes, source: str, *, stands: bool = True) -> OptOut:
        key, label = self.hashes.key(name, sender, number), self.hashes.label(name, sender)
        return OptOut(key, name, label, int(time.time()), source, stands)

    # -- what waits for a person ---------------------------------------------------------------------------------------

    def doubts(self) -> list[Doubt]:
        """Messages of handsets that look like a refusal, of his accounts, oldest first."""
        with closing(self.rows()) as rows:
            return [one for one in rows.doubts() if self.authority.sees(one.account)]

    def decide(self, refused: Sequence[int], none: Sequence[int]) -> None:
        """Says of some of these records whether they were refusals or none. OfficeError for one that does not wait."""
        waiting = {one.record: one for one in self.doubts()}
        missing = [record for record in (*refused, *none) if record not in waiting]
        if missing:
            raise OfficeError(f"{missing[0]:016x} does not wait for anybody")
        self.note("review", _decided(refused, none), "asked")
        now = int(time.time())
        for record in refused:
            one = waiting[record]
            change_register(self.store, [OptOut(one.key, one.account, one.sender, now, "review")], [record])
        for at in range(0, len(none), CHANGES):
            change_register(self.store, [], none[at : at + CHANGES])
        for name in sorted({one.account for record, one in waiting.items() if record in {*refused, *none}}):
            # An entry for each account: who is told what concerns one account alone is told it too.
            mine = [[record for record in some if waiting[record].account == name] for some in (refused, none)]
            self.note("review", {"account": name, **_decided(*mine)}, "done")

    # -- the rest ------------------------------------------------------------------------------------------------------

    def note(self, action: str, facts: dict[str, str | int], result: str, number: bytes | None = None) -> None:
        """Puts an entry on the trail. VaultError: then nothing may be done."""
        who, source = self.authority.who, self.authority.actor.source
        named: dict[str, str | int] = (
            {} if number is None else {"number": self._key.hash(number), MONTH: self._key.month}
        )
        facts = {"action": action, **facts, **named, **self.authority.facts}
        self._trail.append(AuditEvent.OPT_OUT, who, facts, result, source=source)

    def rows(self) -> OptOutRows:
        """The register as it is on disk."""
        return self.store.opt_outs()


def _decided(refused: Sequence[int], none: Sequence[int]) -> dict[str, str | int]:
    return {
        "suppress": " ".join(f"{record:016x}" for record in refused),
        "dismiss": " ".join(f"{record:016x}" for record in none),
    }


@contextmanager
def open_opt_outs(settings: Settings, authority: Authority) -> Iterator[OptOuts]:
    """The register of a store. Raises VaultError and StoreError."""
    kek, install = unlock(settings)
    store = installation(settings)
    keys = store.keys()
    try:
        key = key_of(kek, keys, time.time())
    finally:
        keys.close()
    with closing(witnessed_trail(store, install)) as trail:
        yield OptOuts(settings, authority, Hashes(install.suppression), trail, key)


def number_of(typed: str, region: str | None) -> bytes | None:
    """The normal form of a number that somebody wrote; None for what is none."""
    try:
        number = normalise(typed.strip().encode("latin-1"), 0, 0, region)
    except UnicodeEncodeError:
        return None
    return number if number.isdigit() and _LEAST <= len(number) <= _LONGEST else None


def sender_of(typed: str | None, region: str | None) -> bytes:
    """The normal form of a sender, a number or a name; `ANY` for none and for `*`."""
    if typed is None or typed.strip() in ("", "*"):
        return ANY
    return normalise(typed.strip().encode("utf-8"), 0, 0, region)


def at(seconds: int) -> str:
    """`2026-11-30T09:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _has_ranges(typed_sender: str | None, account: Account) -> bool:
    return typed_sender is None and any(number.endswith("*") for number in account.numbers)


# -- through the daemon, or into the store -----------------------------------------------------------------------------


def change_register(store: Installation, changes: Sequence[OptOut], decided: Sequence[int] = ()) -> None:
    """Makes up to `CHANGES` changes, durable when this returns. Making one again changes nothing. ControlError and StoreError:
    then it is to be run again."""
    try:
        lock = store.lock()
    except StoreError:
        _ask(store.directory, changes, decided)
        return
    try:
        with closing(store.opt_outs(read_only=False)) as rows:
            rows.write(changes, decided)
    finally:
        lock.release()
    store.tell(OPT_OUTS)


def _ask(directory: Path, changes: Sequence[OptOut], decided: Sequence[int]) -> None:
    request = {
        "do": "optout change",
        "changes": [[one.key.hex(), *one[1:]] for one in changes],
        "decided": [f"{record:x}" for record in decided],
    }
    job = ask(directory, request)["job"]
    deadline, pause, wait = time.monotonic() + PATIENCE, _FIRST, Event()
    while not (told := ask(directory, {"do": "optout state", "job": job}))["over"]:
        if time.monotonic() > deadline:
            raise ControlError(f"the daemon did not store it within {PATIENCE:.0f} s: run the command again")
        wait.wait(pause)
        pause = min(_MOST, 2 * pause)
    if not told["stored"]:
        raise ControlError("the daemon has no space to store it: nothing has changed; run the command again")
