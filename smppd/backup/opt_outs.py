"""Who opted out stays opted out, and what was withdrawn stays withdrawn, whatever is restored: a restore takes over what the
store that it replaces knows of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from hmac import compare_digest
from pathlib import Path
from typing import Final, NamedTuple

from smppd.backup.manifest import DATA, KEYS
from smppd.store.api import StoreError
from smppd.store.consents import ConsentRow
from smppd.store.sqlite.consent_rows import SqliteConsents
from smppd.store.sqlite.copies import settle
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.store.sqlite.opt_outs import OptOutRows
from smppd.vault.kek import Kek, VaultError
from smppd.vault.keys import InstallSecrets, load_install

_ROWS: Final = 2000


class TakenOver(NamedTuple):
    """opt_outs: entries of the register that the copy did not have; withdrawals: of consents, that it did not know."""

    opt_outs: int = 0
    withdrawals: int = 0


def carry_over(old: Path, staging: Path, kek: Kek, install: InstallSecrets) -> TakenOver | None:
    """Adds the entries of the store in `old` to those of the restored copy in `staging`, whose secrets are `install`, and ends
    the consents that were withdrawn there. What was lifted since the backup stands again: nobody can tell it from what came
    later. None where the old store cannot be read, or has another suppression key: then what was said since the backup is lost.
    StoreError where the copy cannot be written."""
    try:
        try:
            with closing(ReadOnlyKeys(old)) as keys:
                same = compare_digest(load_install(kek, keys).suppression, install.suppression)
            with OptOutRows(old) as before:
                entries = list(before.all()) if same else []
            withdrawn = list(_withdrawn(old)) if same else []
        finally:
            # Reading makes a write-ahead log, which is not to stay beside the file that takes this one's place.
            for name in (DATA, KEYS):
                if (old / name).exists():
                    settle(old / name)
    except (StoreError, VaultError, OSError, ValueError):
        return None
    if not same:
        return None
    withdrawals = 0
    if withdrawn:
        with closing(SqliteConsents(staging)) as consents:
            for at in range(0, len(withdrawn), _ROWS):
                withdrawals += consents.take_over(withdrawn[at : at + _ROWS])
    if not entries:
        return TakenOver(0, withdrawals)
    with OptOutRows(staging, read_only=False) as copy:
        missing = [one for one in entries if copy.get(one.key) is None]
        for at in range(0, len(missing), _ROWS):
            copy.write(missing[at : at + _ROWS], ())
    return TakenOver(len(missing), withdrawals)


def _withdrawn(old: Path) -> Iterator[ConsentRow]:
    after = 0
    with closing(SqliteConsents(old, read_only=True)) as consents:
        while page := consents.withdrawn(after, _ROWS):
            yield from page
            after = page[-1].number
