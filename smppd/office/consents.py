"""The register of consents for people: finding, withdrawing and erasing what it has of a person, and telling the daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Self

from smppd.audit.trail import AuditTrail
from smppd.config import Settings
from smppd.consent.register_csv import facts_of, iso, number_of
from smppd.consent.register_proof import ANY, PURPOSE, WITHDRAWAL, Consent, ConsentKeys, scopes_of, sender_form
from smppd.control.client import ask
from smppd.control.wire import CHANGES
from smppd.events import AuditEvent
from smppd.office.access import Why
from smppd.office.errors import WRONG, OfficeError
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.roles import Authority
from smppd.records.looks import LookKey, key_of
from smppd.store.consents import ConsentRow, Standing
from smppd.store.installation import CONSENTS, Installation
from smppd.store.opening import installation
from smppd.vault.certificate import certify
from smppd.vault.keys import InstallSecrets
from smppd.vault.mask import mask_digits, mask_number
from smppd.vault.seal import SealError

_TRIES = 5


class Entry(NamedTuple):
    """A row and what it holds; None where it does not open."""

    row: ConsentRow
    consent: Consent | None


def entry_facts(entry: Entry) -> dict[str, Any]:
    """What a proof says of one; of one that does not open, that it does not."""
    if entry.consent is None:
        return {"account": entry.row.account, "unreadable": True}
    return facts_of(entry.consent)


class ConsentBook:
    """As a context. Raises StoreError where there is no store, and ControlError where a running daemon cannot be told."""

    def __init__(self, settings: Settings, install: InstallSecrets) -> None:
        self.keys = ConsentKeys(install.for_purpose(PURPOSE))
        self._store = installation(settings)
        self.rows = self._store.consents()
        self._settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rows.close()

    def accounts(self, only: Collection[str] | None) -> list[str]:
        """The accounts to look through, those that left the configuration too."""
        every = sorted({one.system_id for one in self._settings.accounts}.union(self.rows.accounts()))
        return every if only is None else [one for one in every if one in only]

    def of(self, forms: Iterable[bytes], accounts: Collection[str] | None = None) -> list[Entry]:
        """All of a person, by the forms of the number."""
        numbers = [form for form in forms if form.isdigit()]
        found: list[Entry] = []
        for account in self.accounts(accounts):
            subjects = [self.keys.subject(account, form) for form in numbers]
            found += [self._opened(row) for row in (self.rows.of(subjects) if subjects else [])]
        return found

    def _opened(self, row: ConsentRow) -> Entry:
        try:
            return Entry(row, self.keys.open(row))
        except SealError:
            return Entry(row, None)

    def withdraw(self, forms: Iterable[bytes], accounts: Collection[str] | None, now: float, why: str) -> int:
        """What counts of a person counts no longer; how many. The daemon knows when this returns."""
        forms = list(forms)
        until = int(now + self._settings.consent.retain)
        for _ in range(_TRIES):
            entries = [one for one in self.of(forms, accounts) if not one.row.withdrawn]
            changes = [(one.row, self._ended(one, now, until, why)) for one in entries]
            if self.rows.withdraw(changes):
                self._tell_removed(one.row for one in entries)
                return len(entries)
        raise AssertionError("somebody changes the same rows again and again")

    def _ended(self, entry: Entry, now: float, until: int, why: str) -> ConsentRow:
        row = entry.row._replace(withdrawn=int(now), until=until)
        if entry.consent is None:
            return row
        ended = replace(entry.consent, withdrawn=iso(now), withdrawal=why)
        return row._replace(sealed=self.keys.seal(ended, row.digest))

    def note_withdrawal(self, account: str, number: str, now: float, why: str) -> None:
        """Puts down that somebody who has no consent withdrew it, so that none that is older and comes later counts."""
        ended = iso(now)
        consent = Consent(account, number, WITHDRAWAL, ended, classes=(), withdrawn=ended, withdrawal=why)
        row = self.keys.row(consent, int(now), None)
        self.rows.add([row])
        (stored,) = self.rows.named([row.digest])
        self.rows.withdraw(
            [(stored, stored._replace(withdrawn=int(now), until=int(now + self._settings.consent.retain)))]
        )

    def remove(self, entries: Iterable[Entry]) -> int:
        """Deletes rows; how many. The daemon knows when this returns."""
        rows = [one.row for one in entries]
        removed = self.rows.remove([row.number for row in rows])
        self._tell_removed(rows)
        return removed

    def _tell_removed(self, rows: Iterable[ConsentRow]) -> None:
        rows = list(rows)
        subjects = list({row.subject for row in rows})
        left = [one for at in range(0, len(subjects), 200) for one in self.rows.of(subjects[at : at + 200])]
        tell(self._store, [standing(one) for one in left if not one.withdrawn], list(map(standing, rows)))

    def add(self, rows: list[ConsentRow]) -> int:
        """Adds consents; how many are new. The daemon knows all of them that count when this returns."""
        new = self.rows.add(rows)
        stored = self.rows.named([row.digest for row in rows])
        tell(self._store, [standing(one) for one in stored if not one.withdrawn])
        return new

    def region(self) -> Callable[[str], str | None]:
        """region(account): of its national numbers."""
        regions = {one.system_id: one.region or self._settings.region for one in self._settings.accounts}
        return regions.get


def standing(row: ConsentRow) -> Standing:
    """A row as the daemon is told of it."""
    return Standing(row.account, row.subject, row.scopes)


def tell(store: Installation, add: Sequence[Standing] = (), remove: Sequence[Standing] = ()) -> bool:
    """Tells the daemon that uses the store what changed; False where none does. ControlError where one does and cannot be told:
    what it knows is older than the store then."""
    if not store.in_use():
        store.tell(CONSENTS)
        return False
    for at in range(0, max(len(add), len(remove)), CHANGES):
        request = {
            "do": "consents changed",
            "add": [_said(one) for one in add[at : at + CHANGES]],
            "remove": [_said(one) for one in remove[at : at + CHANGES]],
        }
        ask(store.directory, request)
    return True


def _said(one: Standing) -> tuple[str, str, str]:
    return one.account, one.subject.hex(), one.scopes.hex()


# -- for a person ------------------------------------------------------------------------------------------------------


class ConsentDesk:
    """The register for somebody: what is asked and changed is on the audit trail, the number hashed. Methods raise OfficeError,
    and StoreError, VaultError and ControlError."""

    def __init__(
        self,
        settings: Settings,
        authority: Authority,
        book: ConsentBook,
        install: InstallSecrets,
        trail: AuditTrail,
        key: LookKey,
    ) -> None:
        self.settings = settings
        self.authority = authority
        self.book = book
        self._install = install
        self._trail = trail
        self._key = key

    def number(self, account: str, typed: str) -> str:
        """A number as international digits. OfficeError, which does not repeat it."""
        try:
            return number_of(typed, self.book.region()(account))
        except ValueError:
            raise OfficeError("this is no international phone number", WRONG) from None

    def note(self, action: str, what: Mapping[str, str | int], result: str, number: str = "") -> None:
        """An entry on the audit trail, durable when this returns."""
        facts: dict[str, str | int] = {"action": action, **what, **self.authority.facts}
        if number:
            facts["number"] = self._key.hash(number.encode())
        self._trail.append(AuditEvent.CONSENT, self.authority.who, facts, result, source=self.authority.actor.source)

    def withdraw(self, account: str, typed: str, note: str) -> int:
        """What a number agreed to counts no longer; how many consents. Where there is none it is noted all the same."""
        number, note, now = self.number(account, typed), mask_digits(note), time.time()
        self.note("withdraw", {"account": account, "note": note}, "begun", number)
        count = self.book.withdraw([number.encode()], [account], now, note)
        if not count:
            self.book.note_withdrawal(account, number, now, note)
        self.note("withdraw", {"account": account, "consents": count}, "done", number)
        return count

    def check(self, account: str, typed: str, message_class: str, sender: str) -> bool:
        """Whether there is a consent to messages of a class from a sender."""
        number, keys = self.number(account, typed), self.book.keys
        wanted = frozenset(
            keys.scope(one, whom)
            for one in (message_class, ANY)
            for whom in (ANY.encode(), sender_form(sender, self.book.region()(account)))
        )
        rows = [one.row for one in self.book.of([number.encode()], [account]) if not one.row.withdrawn]
        found = any(not wanted.isdisjoint(scopes_of(row.scopes)) for row in rows)
        self.note("check", {"account": account}, "yes" if found else "no", number)
        return found

    def found(self, account: str, typed: str, why: Why, action: str) -> list[dict[str, Any]]:
        """What is on record, which is on the audit trail when this returns. OfficeError where there is nothing."""
        number = self.number(account, typed)
        entries = self.book.of([number.encode()], [account])
        note = mask_digits(why.note)
        what: dict[str, str | int] = {"account": account, "reason": why.reason, "note": note, "consents": len(entries)}
        self.note(action, what, "shown" if entries else "nothing found", number)
        if not entries:
            raise OfficeError(f"there is no consent of {mask_number('+' + number)} on record")
        return [entry_facts(one) for one in entries]

    def proof(self, account: str, typed: str, why: Why) -> str:
        """The proof of what is on record, signed, as JSON."""
        consents = self.found(account, typed, why, "export")
        proof = {"what": "consents on record", "account": account, "exported": iso(time.time()), "consents": consents}
        # One text and the signature of exactly its octets, so that whoever has both can verify it without this program.
        signed = certify(proof, self._install.checkpoint)
        whole = {
            "proof": signed.text.decode(),
            "signature": signed.signature.hex(),
            "public_key": signed.public.decode(),
        }
        return json.dumps(whole, indent=2) + "\n"


@contextmanager
def open_consents(settings: Settings, authority: Authority) -> Iterator[ConsentDesk]:
    """The register of a store. Raises VaultError and StoreError."""
    kek, install = unlock(settings)
    with ExitStack() as opened:
        store = installation(settings)
        rows = store.keys()
        try:
            key = key_of(kek, rows, time.time())
        finally:
            rows.close()
        trail = opened.enter_context(witnessed_trail(store, install))
        book = opened.enter_context(ConsentBook(settings, install))
        yield ConsentDesk(settings, authority, book, install, trail, key)
