"""Opens an installation for a command or the console: KEK and secrets, looked at before all else is opened, and its trail."""

from __future__ import annotations

import logging
from typing import NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.config import Settings
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE, Installation, StoredKeys
from smppd.store.opening import installation
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import Kek, KekMissing, VaultError, advice_for_missing, load_kek
from smppd.vault.keys import InstallSecrets, KeyRows, load_install

log = logging.getLogger("smppd.store")


def refuse_shredded(store: Installation) -> None:
    """VaultError where `keys shred` has begun: nothing of the store is what it was; and where it was copied elsewhere, or is a
    copy that is not complete. Raises StoreError where the store cannot be reached."""
    if store.being_shredded():
        raise VaultError(f"{store.name}: it is being shredded; `smppd keys shred` goes on with it")
    if why := store.closed(daemon=False):
        raise VaultError(why)


def open_trail(store: Installation, kek: Kek, rows: KeyRows) -> AuditTrail:
    """The installation's audit trail, writable. Raises VaultError when `keys init` has not run."""
    return witnessed_trail(store, load_install(kek, rows))


def witnessed_trail(store: Installation, install: InstallSecrets) -> AuditTrail:
    """The same, for whoever has the secrets. Each entry is made known to the store, so that neither can be put back behind
    it."""
    keys = ChainKeys(install.audit, install.checkpoint)

    def tell(number: int, digest: bytes) -> None:
        try:
            store.witness(keys, number, digest)
        except StoreError as error:
            raise VaultError(
                f"{store.name}: an entry of the audit trail cannot be made known to the store: {error}"
            ) from None

    return AuditTrail(store.directory / AUDIT_FILE, install.audit, witness=tell)


def refuse_no_keys(store: Installation) -> None:
    """VaultError where there is no key store."""
    if not store.has_keys():
        raise VaultError(store.keys_lost() or f"{store.name}: no key store here: run `smppd keys init`")


def existing_keys(store: Installation) -> StoredKeys:
    """The key store; VaultError if there is none (opening one would create it)."""
    refuse_no_keys(store)
    return store.keys()


class Unlocked(NamedTuple):
    """The KEK and the secrets that it opened."""

    kek: Kek
    install: InstallSecrets

    def __repr__(self) -> str:
        return "<Unlocked ***>"


def unlock(settings: Settings) -> Unlocked:
    """The KEK and the installation's secrets. What is acknowledged and cannot be read yet is brought to where it is read, by
    the daemon or, where none runs, here; else nothing is changed. VaultError where there are no keys yet, and where the KEK is
    lost, wrong or another installation's: it says which. StoreError where the store cannot be opened."""
    store = installation(settings)
    refuse_shredded(store)
    refuse_no_keys(store)
    kek = source_kek(settings)
    rows = store.read_only_keys()
    try:
        unlocked = Unlocked(kek, load_install(kek, rows))
    finally:
        rows.close()
    file_everything(store, kek)
    return unlocked


def file_everything(store: Installation, kek: Kek) -> None:
    """Has all brought to where it is read that is acknowledged by now, so that whoever reads afterwards misses nothing. Where
    that cannot be done the log says so, and what is there is read."""
    try:
        if store.settled():
            return
        lock = store.lock()
        try:
            store.file_rest(kek)
        finally:
            lock.release()
    except (StoreError, OSError) as error:
        log.warning(
            "messages of the last moments are not filed yet and are not seen",
            extra={"fields": {"store": store.name, "error": str(error)}},
        )


def source_kek(settings: Settings) -> Kek:
    """The KEK. VaultError with advice where there is none."""
    try:
        return load_kek(settings.keys)
    except KekMissing as error:
        store = installation(settings)
        raise VaultError(advice_for_missing(error, store.name if store.has_keys() else "", settings.path)) from None
