"""Opens the holds of an installation for a command."""

from __future__ import annotations

from contextlib import ExitStack

from smppd.cli.unlocking import existing_store, unlock
from smppd.config import Settings
from smppd.records.holds import Holds
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.held_rows import SqliteHeldRows
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import KeyRing


def open_holds(settings: Settings) -> Holds:
    """The caller closes them. Raises VaultError and StoreError where there is no store or the keys do not fit."""
    directory = settings.store.directory
    kek, install = unlock(settings)
    rows = existing_store(directory)
    rows.close()
    with ExitStack() as undo:
        documents = SqliteDocuments(directory)
        undo.callback(documents.close)
        held = SqliteHeldRows.at(directory)
        undo.callback(held.close)
        # For holds' keys alone, which go by the held rows: their own connection sees who else changes them.
        holds = Holds(documents, held, KeyRing(kek, rows), DocumentSealer(install))
        undo.pop_all()
    return holds
