"""Takes what is over out of the spool, for commands. Where no daemon runs it does so itself, otherwise it asks the
daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.store.api import StoreError
from smppd.store.sqlite.files import Lock
from smppd.store.sqlite.store import SqliteStore
from smppd.store.sqlite.tidy import DONE, Compacted, ask
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing

PATIENCE: Final = 60.0
"""For so many seconds it waits for a running daemon."""


def tidy(directory: Path, kek: Kek, patience: float = PATIENCE) -> str:
    """After this, nothing of a message that is over can be opened from the spool. What still waits is kept as it is. Returns
    an empty string when this was done, or a sentence that says why it was not. Raises StoreError and VaultError."""
    if not (directory / "data.db").exists():
        return ""
    try:
        lock = Lock(directory)
    except StoreError:
        if ask(directory, patience):
            return ""
        return f"the running daemon did not tidy its spool within {patience:.0f} s: it is short of space, or hangs"
    lock.release()
    done = _directly(directory, kek)
    if done.unreadable:
        return f"{done.unreadable} spool blocks do not open and were left as they are"
    return "" if done.complete else "somebody is reading the store, or it is short of space"


def on_request(store: SqliteStore) -> Callable[[int], None]:
    """Makes the function that the daemon calls when it is asked to tidy: on the reactor thread, with the token of the
    command that asked, or 0."""

    def wanted(token: int) -> None:
        def told(complete: bool) -> None:
            if token and complete:
                store.batch.meta.append((DONE, token))
                store.kick()

        store.tidy(told)

    return wanted


def _directly(directory: Path, kek: Kek) -> Compacted:
    store = SqliteStore(directory, notify=_nobody, later=lambda _seconds, _call: None, soon=_nobody)
    try:
        store.use(KeyRing(kek, store.keys))
        return store.compact(LivingEntries(readable), None)
    finally:
        store.close()


def _nobody(_call: object) -> None:
    """Takes calls of a store in which nothing runs: there are none."""
