"""Opens an installation for a command or the console: KEK and secrets, looked at before all else is opened, and its trail."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.config import Settings
from smppd.store.api import StoreError
from smppd.store.sqlite.files import SHREDDING, Lock, keys_lost
from smppd.store.sqlite.keys import KeyStore, ReadOnlyKeys
from smppd.store.sqlite.seals import witness
from smppd.store.sqlite.settling import file_rest, settled
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import Kek, KekMissing, VaultError, advice_for_missing, load_kek
from smppd.vault.keys import InstallSecrets, KeyRows, load_install

log = logging.getLogger("smppd.store")
_BEHIND: Final = "messages of the last moments are not filed yet and are not seen"
KEYS_FILE = "keys.db"
AUDIT_FILE = "audit.db"


def store_directory(settings: Settings) -> Path:
    """The directory of the embedded store."""
    if settings.store.path is None:
        raise VaultError("keys need an embedded store: set store.path")
    return settings.store.path


def refuse_shredded(directory: Path) -> None:
    """VaultError where `keys shred` has begun: no file of the store is what it was."""
    if (directory / SHREDDING).exists():
        raise VaultError(f"{directory}: it is being shredded; `smppd keys shred` goes on with it")


def open_trail(directory: Path, kek: Kek, rows: KeyRows) -> AuditTrail:
    """The installation's audit trail, writable. Raises VaultError when `keys init` has not run."""
    return witnessed_trail(directory, load_install(kek, rows))


def witnessed_trail(directory: Path, install: InstallSecrets) -> AuditTrail:
    """The same, for whoever has the secrets. Each entry is made known to the other files of the store, so that none can be put
    back behind it."""
    keys = ChainKeys(install.audit, install.checkpoint)

    def tell(number: int, digest: bytes) -> None:
        try:
            witness(directory, keys, number, digest)
        except StoreError as error:
            raise VaultError(
                f"{directory}: an entry of the audit trail cannot be made known to the store: {error}"
            ) from None

    return AuditTrail(directory / AUDIT_FILE, install.audit, witness=tell)


def existing_store(directory: Path) -> KeyStore:
    """The key store; VaultError if there is none (opening one would create it)."""
    if not (directory / KEYS_FILE).exists():
        raise VaultError(keys_lost(directory) or f"{directory}: no key store here: run `smppd keys init`")
    return KeyStore(directory)


class Unlocked(NamedTuple):
    """The KEK and the secrets that it opened."""

    kek: Kek
    install: InstallSecrets

    def __repr__(self) -> str:
        return "<Unlocked ***>"


def unlock(settings: Settings) -> Unlocked:
    """The KEK and the installation's secrets. What is durable and not filed yet is filed, by the daemon or, where none runs,
    here; no other file changes. VaultError where there are no keys yet, and where the KEK is lost, wrong or another
    installation's: it says which."""
    directory = store_directory(settings)
    refuse_shredded(directory)
    if not (directory / KEYS_FILE).exists():
        raise VaultError(keys_lost(directory) or f"{directory}: no key store here: run `smppd keys init`")
    kek = source_kek(settings)
    rows = ReadOnlyKeys(directory)
    try:
        unlocked = Unlocked(kek, load_install(kek, rows))
    finally:
        rows.close()
    file_everything(directory, kek)
    return unlocked


def file_everything(directory: Path, kek: Kek) -> None:
    """Has all filed that is durable by now, so that whoever reads the store afterwards misses nothing. Where that cannot be
    done it is said on the standard error, and what was filed before is read."""
    try:
        if settled(directory):
            return
        try:
            lock = Lock(directory)
        except StoreError:
            log.warning(_BEHIND, extra={"fields": {"store": str(directory)}})
            return
        try:
            file_rest(directory, kek)
        finally:
            lock.release()
    except (StoreError, OSError) as error:
        log.warning(_BEHIND, extra={"fields": {"store": str(directory), "error": str(error)}})


def source_kek(settings: Settings) -> Kek:
    """The KEK. VaultError with advice where there is none."""
    try:
        return load_kek(settings.keys)
    except KekMissing as error:
        raise VaultError(advice_for_missing(error, settings.store.directory, settings.path)) from None
