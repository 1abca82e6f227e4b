"""Opens a store, whichever back end has it: the one place that knows them by name.

A back end is imported when it is used. That of PostgreSQL needs a driver, which is an extra.
"""

from __future__ import annotations

from pathlib import Path

from smppd.config import SecretError, Settings, Store
from smppd.store.api import StoreError
from smppd.store.installation import Installation


def installation(settings: Settings, *, settle: bool = True) -> Installation:
    """The store that the configuration names; nothing is opened before a part of it is asked for. settle: for commands, which
    are to see all that was acknowledged; the daemon and the processes beside it follow what is filed, and wait for nothing.
    StoreError where the back end is not installed."""
    return installed(settings.store, settings.node, settle=settle, name=settings.node_name or "")


def installed(store: Store, node: int, *, settle: bool, name: str = "") -> Installation:
    """The same of that section and the node's number alone. name: the node's, for people; this machine's where it is empty."""
    if store.url is not None:
        return _postgres(store, node, name)  # what was acknowledged is there: nobody has to wait
    return embedded(store.directory, settle=settle)


def embedded(directory: Path, *, settle: bool = True) -> Installation:
    """The embedded store in a directory, such as a copy that is being restored."""
    from smppd.store.sqlite.installation import SqliteInstallation

    return SqliteInstallation(directory, settle=settle)


def _postgres(store: Store, node: int, name: str) -> Installation:
    try:
        from smppd.store.postgres.connection import Server
        from smppd.store.postgres.installation import PostgresInstallation
    except ImportError as error:
        if (error.name or "psycopg").partition(".")[0] not in ("psycopg", "psycopg_binary"):
            raise
        raise StoreError(
            "store.url needs a driver that is not installed: pip install 'smppd[postgres]' (requirements/postgres.txt)"
        ) from None
    from smppd.store.sqlite.seals import AuditHead

    def audit_head() -> tuple[int, bytes] | None:
        head = AuditHead(store.directory)
        try:
            return head()
        finally:
            head.close()

    assert store.url is not None
    try:
        password = "" if store.password is None else store.password.resolve().decode("utf-8")
    except SecretError as error:
        raise StoreError(f"store.password: {error}") from None
    except UnicodeDecodeError:
        raise StoreError("store.password: it is no text") from None
    return PostgresInstallation(
        Server(store.url, password), store.directory, node=node, name=name, audit_head=audit_head
    )


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
