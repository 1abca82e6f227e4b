"""Who opted out stays opted out, whatever is restored: a restore takes over the register of the store that it replaces."""

from __future__ import annotations

from contextlib import closing
from hmac import compare_digest
from pathlib import Path
from typing import Final

from smppd.backup.manifest import DATA, KEYS
from smppd.store.api import StoreError
from smppd.store.sqlite.copies import settle
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.store.sqlite.opt_outs import OptOutRows
from smppd.vault.kek import Kek, VaultError
from smppd.vault.keys import InstallSecrets, load_install

_ROWS: Final = 2000


def carry_over(old: Path, staging: Path, kek: Kek, install: InstallSecrets) -> int | None:
    """Adds the entries of the store in `old` to those of the restored copy in `staging`, whose secrets are `install`; how many
    the copy did not have. What was lifted since the backup stands again: nobody can tell it from what came later. None where
    the old store cannot be read, or has another suppression key: then what was said since the backup is lost. StoreError where
    the copy cannot be written."""
    try:
        try:
            with closing(ReadOnlyKeys(old)) as keys:
                same = compare_digest(load_install(kek, keys).suppression, install.suppression)
            with OptOutRows(old) as before:
                entries = list(before.all()) if same else []
        finally:
            # Reading makes a write-ahead log, which is not to stay beside the file that takes this one's place.
            for name in (DATA, KEYS):
                if (old / name).exists():
                    settle(old / name)
    except (StoreError, VaultError, OSError, ValueError):
        return None
    if not same:
        return None
    if not entries:
        return 0
    with OptOutRows(staging, read_only=False) as copy:
        missing = [one for one in entries if copy.get(one.key) is None]
        for at in range(0, len(missing), _ROWS):
            copy.write(missing[at : at + _ROWS], ())
    return len(missing)
