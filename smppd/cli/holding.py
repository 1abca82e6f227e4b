"""Opens the holds of an installation for a command."""

from __future__ import annotations

from contextlib import ExitStack

from smppd.cli.commands.keys import existing_store
from smppd.config import Settings
from smppd.records.holds import Holds
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.held_rows import SqliteHeldRows
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import load_kek
from smppd.vault.keys import InstallSecrets, KeyRing, load_install


def load_secrets(settings: Settings) -> InstallSecrets:
    """The installation's secrets. Raises VaultError and StoreError."""
    rows = existing_store(settings.store.directory)
    try:
        return load_install(load_kek(settings.keys), rows)
    finally:
        rows.close()


def open_holds(settings: Settings) -> Holds:
    """The caller closes them. Raises VaultError and StoreError where there is no store or the keys do not fit."""
    directory = settings.store.directory
    kek = load_kek(settings.keys)
    rows = existing_store(directory)
    try:
        install = load_install(kek, rows)
    finally:
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
