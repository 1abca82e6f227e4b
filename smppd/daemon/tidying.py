"""Takes what is over out of the spool, for commands. Where no daemon runs it does so itself, otherwise it asks the
daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.store.api import StoreError
from smppd.store.installation import TIDIED, Installation, MainStore
from smppd.store.tidy import Compacted
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing

PATIENCE: Final = 60.0
"""For so many seconds it waits for a running daemon."""


def tidy(store: Installation, kek: Kek, patience: float = PATIENCE) -> str:
    """After this, nothing of a message that is over can be opened from the spool. What still waits is kept as it is. Returns
    an empty string when this was done, or a sentence that says why it was not. Raises StoreError and VaultError."""
    if not store.has_log():
        return ""
    try:
        lock = store.lock()
    except StoreError:
        if store.ask_tidy(patience):
            return ""
        return f"the running daemon did not tidy its spool within {patience:.0f} s: it is short of space, or hangs"
    lock.release()
    done = compacted(store, kek)
    if any(one.at_work for one in store.others()) and not store.ask_tidy(patience):
        return f"a node did not tidy what is on its way within {patience:.0f} s: it is short of space, or hangs"
    if done.unreadable:
        return f"{done.unreadable} spool blocks do not open and were left as they are"
    return "" if done.complete else "somebody is reading the store, or it is short of space"


def on_request(store: MainStore) -> Callable[[int], None]:
    """Makes the function that the daemon calls when it is asked to tidy: on the reactor thread, with the token of the
    command that asked, or 0."""

    def wanted(token: int) -> None:
        def told(complete: bool) -> None:
            if token and complete:
                store.batch.meta.append((TIDIED, token))
                store.kick()

        store.tidy(told)

    return wanted


def compacted(store: Installation, kek: Kek) -> Compacted:
    """Takes what is over out of the spool of a store that nobody uses, and leaves what lives as a clean end does. Raises
    StoreError and VaultError."""
    opened = store.store(notify=_nobody, later=lambda _seconds, _call: None, soon=_nobody)
    try:
        opened.use(KeyRing(kek, opened.keys))
        return opened.compact(LivingEntries(readable), None)
    finally:
        opened.close()


def _nobody(_call: object) -> None:
    """Takes calls of a store in which nothing runs: there are none."""
