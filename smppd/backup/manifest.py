"""What a backup says of itself: the signed manifest of its files, and the note beside its copy of the keys, which is
to be kept for a short time only.

A directory without `manifest.json` is no backup: it is renamed into place when all else is on stable storage.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from smppd.durable import sync_directory
from smppd.store.api import StoreError

DATA: Final = "data.db"
AUDIT: Final = "audit.db"
KEYS: Final = "keys.db"
MANIFEST: Final = "manifest.json"
KEY_MANIFEST: Final = "keys.json"
FORMAT: Final = 1

Progress = Callable[[str, float], object]
"""Told (what is being done, how much of it from 0.0 to 1.0)."""

_SIGNED: Final = b"smppd-backup-1\n"
_PIECE: Final = 1 << 20


class BackupError(StoreError):
    """A backup cannot be taken, is not whole, or does not verify. The text is for the operator."""


class Copied(NamedTuple):
    """One file of a backup. octets: its size; schema: SQLite's user_version."""

    name: str
    octets: int
    sha256: str
    schema: int


class Manifest(NamedTuple):
    """What a backup holds, without secrets. Times are ISO 8601 in UTC; ids and digests hexadecimal.

    id: names the backup and binds its two halves. taken: no later than the moment it shows. keys_expire: by then the copy of
    keys.db has to be deleted. kek_versions: versions of the key-encryption key that a restore needs. chain: the last
    link of the digest chain, empty when the log is. first_id, highest_id: of log rows and records. audit_id, audit_hash:
    the audit trail's head.
    """

    format: int
    id: str
    smppd: str
    taken: str
    keys_expire: str
    files: tuple[Copied, ...]
    kek_versions: tuple[int, ...]
    chain: str
    first_id: str
    highest_id: str
    rows: int
    records: int
    audit_id: int
    audit_hash: str

    def file(self, name: str) -> Copied:
        """One of the three files."""
        return next(one for one in self.files if one.name == name)

    def signed_part(self) -> bytes:
        """What the signature covers."""
        facts = self._asdict() | {"files": [one._asdict() for one in self.files]}
        return _SIGNED + json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def verify_manifest(directory: Path, key: Ed25519PublicKey) -> Manifest:
    """The manifest, BackupError unless this installation's checkpoint key signed it."""
    manifest, signature = _read(directory)
    try:
        key.verify(signature, manifest.signed_part())
    except InvalidSignature:
        raise BackupError(f"{directory / MANIFEST}: not signed by this installation, or changed since") from None
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest as it stands, its signature not checked. BackupError when there is no whole backup."""
    return _read(directory)[0]


def _read(directory: Path) -> tuple[Manifest, bytes]:
    path = directory / MANIFEST
    if not path.exists():
        why = "a backup was interrupted here: delete it" if (directory / DATA).exists() else f"there is no {MANIFEST}"
        raise BackupError(f"{directory}: no complete backup: {why}")
    facts = _load(path)
    try:
        signature = bytes.fromhex(facts.pop("signature"))
        if facts["format"] != FORMAT:
            raise BackupError(f"{path}: written by a newer smppd")
        files = tuple(Copied(**one) for one in facts.pop("files"))
        manifest = Manifest(**facts, files=files)._replace(kek_versions=tuple(facts["kek_versions"]))
        whole = sorted(one.name for one in files) == sorted((DATA, AUDIT, KEYS))
        parse_time(manifest.keys_expire)
        parse_time(manifest.taken)
        int(manifest.highest_id, 16)
        if not whole or not all(isinstance(one.octets, int) and isinstance(one.sha256, str) for one in files):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise BackupError(f"{path}: not a manifest of smppd") from None
    return manifest, signature


def _load(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from None
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise BackupError(f"{path}: not a manifest of smppd")
    return facts


def parse_time(text: str) -> float:
    """Epoch seconds of a manifest's time. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()


def format_time(at: float) -> str:
    """A manifest's form of epoch seconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def write_manifest(directory: Path, manifest: Manifest, key: Ed25519PrivateKey) -> None:
    """Signs the manifest and puts it in place: from now on this is a backup. Durable when it returns."""
    facts = manifest._asdict() | {"files": [one._asdict() for one in manifest.files]}
    write(directory / MANIFEST, facts | {"signature": key.sign(manifest.signed_part()).hex()})


def write_key_manifest(directory: Path, manifest: Manifest) -> None:
    """Says beside keys.db which backup it belongs to, and how long it may be kept."""
    write(
        directory / KEY_MANIFEST,
        {"format": FORMAT, "backup": manifest.id, "keys_expire": manifest.keys_expire, "file": KEYS},
    )


def write(path: Path, facts: dict[str, Any]) -> None:
    """A JSON file, 0600, that is there whole or not at all; durable, as are the files it stands beside."""
    part = path.with_name(path.name + ".part")
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(facts, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
    os.replace(part, path)
    sync_directory(path.parent)


def sha256_of(path: Path, progress: Progress) -> tuple[int, str]:
    """(octets, SHA-256 in hexadecimal) of a file."""
    size, at, state = max(1, path.stat().st_size), 0, hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            state.update(piece)
            at += len(piece)
            progress(f"Hashing {path.name}", at / size)
    return at, state.hexdigest()


# -- the copies of keys ----------------------------------------------------------------------------------------------


def key_copy(directory: Path, backup: str) -> Path:
    """keys.db of this backup in `directory` or in a directory right below it. BackupError when there is none."""
    others = 0
    for place in _key_copies(directory):
        if _load(place / KEY_MANIFEST).get("backup") == backup:
            return place / KEYS
        others += 1
    why = f"the {others} key copies there belong to other backups" if others else f"there is no {KEY_MANIFEST}"
    raise BackupError(f"{directory}: no keys of backup {backup}: {why}")


def _key_copies(directory: Path) -> list[Path]:
    try:
        places = [directory, *sorted(path for path in directory.iterdir() if path.is_dir())]
    except OSError as error:
        raise BackupError(f"{directory}: {error.strerror}") from None
    return [place for place in places if (place / KEY_MANIFEST).exists()]


class Pruned(NamedTuple):
    """deleted, kept: directories of key copies; next: when the next of those kept ends (epoch seconds), None if none is."""

    deleted: list[Path]
    kept: list[Path]
    next: float | None


def prune_keys(directory: Path, now: float) -> Pruned:
    """Deletes the key copies, in `directory` and right below it, whose keys_expire has passed. Their bytes are written over
    first, which helps on a plain disk only. Raises BackupError."""
    deleted, kept, ends = [], [], []
    for place in _key_copies(directory):
        try:
            end = parse_time(_load(place / KEY_MANIFEST)["keys_expire"])
        except (KeyError, TypeError, ValueError):
            raise BackupError(f"{place / KEY_MANIFEST}: not a manifest of smppd") from None
        if end > now:
            kept.append(place)
            ends.append(end)
            continue
        try:
            _shred(place / KEYS)
            (place / KEY_MANIFEST).unlink()
            sync_directory(place)
            if place != directory and not any(place.iterdir()):
                place.rmdir()
        except OSError as error:
            raise BackupError(f"{place}: a key copy could not be deleted: {error.strerror}") from None
        deleted.append(place)
    return Pruned(deleted, kept, min(ends, default=None))


def _shred(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        left = os.fstat(file.fileno()).st_size
        while left:
            left -= file.write(bytes(min(left, _PIECE)))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
