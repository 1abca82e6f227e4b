"""Opens a store, whichever back end has it: the one place that knows them by name.

A back end is imported when it is used. That of PostgreSQL needs a driver, which is an extra.
"""

from __future__ import annotations

from pathlib import Path

from smppd.config import Settings, Store
from smppd.store.api import StoreError
from smppd.store.installation import Installation


def installation(settings: Settings, *, settle: bool = True) -> Installation:
    """The store that the configuration names; nothing is opened before a part of it is asked for. settle: for commands, which
    are to see all that was acknowledged; the daemon and the processes beside it follow what is filed, and wait for nothing.
    StoreError where the back end is not installed."""
    return installed(settings.store, settings.node, settle=settle)


def installed(store: Store, node: int, *, settle: bool) -> Installation:
    """The same of that section and the node's number alone."""
    if store.url is not None:
        return _postgres(store, node, settle)
    return embedded(store.directory, settle=settle)


def embedded(directory: Path, *, settle: bool = True) -> Installation:
    """The embedded store in a directory, such as a copy that is being restored."""
    from smppd.store.sqlite.installation import SqliteInstallation

    return SqliteInstallation(directory, settle=settle)


def _postgres(_store: Store, _node: int, _settle: bool) -> Installation:
    raise StoreError("store.url: this version cannot open a store on PostgreSQL; use store.path alone")


def files_of(store: Store, command: str) -> Path:
    """The directory of the embedded store, for a command that works on its files. StoreError where another back end has it."""
    if store.url is not None:
        raise StoreError(
            f"`{command}` works on the files of the embedded store, and store.url is set: see docs/operations.md"
        )
    return store.directory


def embedded_schema() -> int:
    """The schema version of the embedded store's files."""
    from smppd.store.sqlite.files import SCHEMA_VERSION

    return SCHEMA_VERSION
