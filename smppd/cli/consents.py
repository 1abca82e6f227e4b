"""The register of consents for commands: finding, withdrawing and erasing what it has of a person, and telling the daemon."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from smppd.config import Settings
from smppd.consent.register_csv import facts_of, iso
from smppd.consent.register_proof import PURPOSE, WITHDRAWAL, Consent, ConsentKeys
from smppd.daemon.consents import tell
from smppd.store.consents import ConsentRow, Standing
from smppd.store.sqlite.consent_rows import SqliteConsents
from smppd.vault.keys import InstallSecrets
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
        self.rows = SqliteConsents(settings.store.directory)
        self._directory: Path = settings.store.directory
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
        tell(self._directory, [standing(one) for one in left if not one.withdrawn], list(map(standing, rows)))

    def add(self, rows: list[ConsentRow]) -> int:
        """Adds consents; how many are new. The daemon knows all of them that count when this returns."""
        new = self.rows.add(rows)
        stored = self.rows.named([row.digest for row in rows])
        tell(self._directory, [standing(one) for one in stored if not one.withdrawn])
        return new

    def region(self) -> Callable[[str], str | None]:
        """region(account): of its national numbers."""
        regions = {one.system_id: one.region or self._settings.region for one in self._settings.accounts}
        return regions.get


def standing(row: ConsentRow) -> Standing:
    """A row as the daemon is told of it."""
    return Standing(row.account, row.subject, row.scopes)
