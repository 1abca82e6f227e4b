"""The versioned key-encryption key (KEK): its sources, the form of its file, and how it wraps other keys.

No error message and no repr carries key bytes; a KEK file that others can read is refused.
"""

from __future__ import annotations

import binascii
import hmac
import os
import re
import secrets
import selectors
import signal
import stat
import struct
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from smppd.config import private
from smppd.durable import sync_directory

KEY_BYTES = 32
COMMAND_SECONDS = 10.0
"""How long a key command may take before it counts as failed."""
SOURCE_BYTES = 64 * 1024
"""Upper limit of what a KEK file or command may hold: about 500 versions."""
_BLOB = struct.Struct("!2sBIQ12s32s")  # magic, format, KEK version, created (epoch s), nonce, commitment
_MAGIC = b"SK"
_FORMAT = 1
_TAG_BYTES = 16
_PRINT_BYTES = 8
MARK_SCOPE = b"install/kek"
"""Under this scope a key store holds a known value, wrapped: the blob's commitment is a keyed hash of it, so it tells which KEK
the keys belong to without one, and reveals nothing of it. It is wrapped again with all others."""
_MARK = bytes(KEY_BYTES)


class VaultError(Exception):
    """A key is missing, unreadable, unsafe or altered. The text is for the operator and never holds key bytes."""


class KekMissing(VaultError):
    """There is no KEK where the settings say. What to do depends on whether there are keys that only it opens."""


class KekWrong(VaultError):
    """There is a KEK, and it does not open this installation's keys: an older copy of it, or nobody knows whose."""


class KekForeign(KekWrong):
    """There is a KEK, and it is another installation's: the fingerprints differ."""


class KeySource(Protocol):
    """Where the KEK comes from; the `keys` section of the settings. Exactly one is set."""

    @property
    def file(self) -> Path | None:
        """Path of a key file, mode 0600."""

    @property
    def command(self) -> Sequence[str] | None:
        """A command (no shell) that prints the key file's text."""

    @property
    def credential(self) -> str | None:
        """Name of a systemd credential in $CREDENTIALS_DIRECTORY."""


class _Version(NamedTuple):
    created: str
    wrapper: AESGCMSIV
    commit_key: bytes


class Kek:
    """All versions of the key-encryption key; the last one wraps, every one unwraps.

    Text form, one line a version: `smppd-kek v1 <version> <created, ISO 8601> <base64 of 32 bytes>`; versions rise.
    Wrapping is AES-256-GCM-SIV with the scope as associated data. GCM does not commit to its key, so the blob also
    carries a keyed hash of (scope, version, key) that is checked after opening: no blob opens under two KEKs.
    """

    __slots__ = ("_versions", "current")

    def __init__(self, lines: Iterable[tuple[int, str, bytes]]) -> None:
        """lines: (version, created, 32 key bytes) in rising order of version."""
        self._versions: dict[int, _Version] = {}
        self.current = 0
        for version, created, key in lines:
            if version <= self.current or len(key) != KEY_BYTES:
                raise VaultError("the KEK's versions must rise from 1 and each key must have 32 bytes")
            wrap_key = blake2b(key=key, digest_size=32, person=b"smppd-kek-wrap").digest()
            commit_key = blake2b(key=key, digest_size=32, person=b"smppd-kek-commit").digest()
            self._versions[version] = _Version(created, AESGCMSIV(wrap_key), commit_key)
            self.current = version
        if not self._versions:
            raise VaultError("the KEK source holds no key")

    def __repr__(self) -> str:
        return f"<Kek versions={sorted(self._versions)} key=***>"

    @classmethod
    def parse(cls, text: bytes, where: str) -> Kek:
        """Read the text form. `where` names the source in errors; the content never appears there."""
        return cls(_parse_lines(text, where))

    def versions(self) -> list[tuple[int, str]]:
        """(version, created) of each version, oldest first."""
        return [(number, version.created) for number, version in self._versions.items()]

    def fingerprint(self, version: int | None = None) -> str:
        """Names a version (default: the current one) without revealing it: 16 hexadecimal digits. VaultError if there is
        none."""
        number = self.current if version is None else version
        if number not in self._versions:
            raise VaultError(f"the KEK source does not hold version {number}")
        return _print(_commitment(self._versions[number].commit_key, MARK_SCOPE, number, _MARK))

    def mark(self) -> bytes:
        """What a key store holds under MARK_SCOPE, so that it knows its KEK."""
        return self.wrap(MARK_SCOPE, _MARK)

    def check_mark(self, blob: bytes) -> None:
        """Raises KekForeign or KekWrong where the key store that holds this mark belongs to another KEK, or to another version
        of it."""
        info = blob_info(blob)
        theirs = _print(info.commitment)
        if info.kek_version not in self._versions:
            raise KekWrong(
                f"the KEK is wrong: its source holds version {', '.join(map(str, self._versions))} (fingerprint"
                f" {self.fingerprint()}), and the keys here are wrapped by version {info.kek_version} (fingerprint {theirs}):"
                " it is another copy of this installation's KEK, or another installation's"
            )
        if self.fingerprint(info.kek_version) != theirs:
            raise KekForeign(
                f"this is another installation's KEK: the fingerprint of its version {info.kek_version} is"
                f" {self.fingerprint(info.kek_version)}, and that of this installation's is {theirs}"
            )

    def wrap(self, scope: bytes, key: bytes, created: int | None = None) -> bytes:
        """Seal `key` under the current version for this scope only. created: epoch seconds, default now."""
        version = self._versions[self.current]
        nonce = secrets.token_bytes(12)
        commitment = _commitment(version.commit_key, scope, self.current, key)
        head = _BLOB.pack(_MAGIC, _FORMAT, self.current, _now(created), nonce, commitment)
        return head + version.wrapper.encrypt(nonce, key, head + scope)

    def unwrap(self, scope: bytes, blob: bytes) -> bytes:
        """The key in `blob`. Raises VaultError if it was altered, belongs to another scope or to another KEK."""
        info = blob_info(blob)
        name = scope.decode("ascii", "backslashreplace")
        version = self._versions.get(info.kek_version)
        if version is None:
            raise VaultError(
                f"key {name} is wrapped by KEK version {info.kek_version}, which the KEK source does not hold"
            )
        head = blob[: _BLOB.size]
        try:
            key = version.wrapper.decrypt(info.nonce, blob[_BLOB.size :], head + scope)
        except InvalidTag:
            raise VaultError(f"key {name} does not open: another KEK, another scope, or it was altered") from None
        if not hmac.compare_digest(_commitment(version.commit_key, scope, info.kek_version, key), info.commitment):
            raise VaultError(f"key {name} does not match its commitment: it was altered")
        return key

    def rewrap(self, scope: bytes, blob: bytes) -> bytes:
        """The same key under the current version, with its age kept."""
        return self.wrap(scope, self.unwrap(scope, blob), blob_info(blob).created)


class BlobInfo(NamedTuple):
    """The open part of a wrapped key. created: epoch seconds."""

    kek_version: int
    created: int
    nonce: bytes
    commitment: bytes


def blob_info(blob: bytes) -> BlobInfo:
    """What a wrapped key says without any key; authenticated only once it is unwrapped."""
    if not _BLOB.size + _TAG_BYTES < len(blob) <= _BLOB.size + _TAG_BYTES + 64:
        raise VaultError("a wrapped key has an impossible length")
    magic, form, version, created, nonce, commitment = _BLOB.unpack_from(blob)
    if magic != _MAGIC or form != _FORMAT:
        raise VaultError("a wrapped key has an unknown format")
    return BlobInfo(version, created, nonce, commitment)


def marked_print(blob: bytes) -> str:
    """The fingerprint in the mark of a key store."""
    return _print(blob_info(blob).commitment)


def _print(commitment: bytes) -> str:
    return commitment[:_PRINT_BYTES].hex()


def _commitment(commit_key: bytes, scope: bytes, version: int, key: bytes) -> bytes:
    data = struct.pack("!II", version, len(scope)) + scope + key
    return blake2b(data, key=commit_key, digest_size=32, person=b"smppd-kek-commit").digest()


def _now(created: int | None) -> int:
    return int(time.time()) if created is None else created


def _parse_lines(text: bytes, where: str) -> list[tuple[int, str, bytes]]:
    lines: list[tuple[int, str, bytes]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        fields = raw.split()
        if not fields or fields[0].startswith(b"#"):
            continue
        try:
            if (
                len(fields) != 5
                or fields[:2] != [b"smppd-kek", b"v1"]
                or not re.fullmatch(rb"[1-9][0-9]{0,8}", fields[2])
            ):
                raise ValueError
            created = fields[3].decode("ascii")
            datetime.fromisoformat(created)
            key = b64decode(fields[4], validate=True)
            if len(key) != KEY_BYTES or (lines and int(fields[2]) <= lines[-1][0]):
                raise ValueError
        except (ValueError, binascii.Error):
            # `from None`: the cause's text could quote the line, which holds the key.
            raise VaultError(
                f"{where}: line {number} is not a valid `smppd-kek v1` line, or its version does not rise"
            ) from None
        lines.append((int(fields[2]), created, key))
    if not lines:
        raise VaultError(f"{where}: it holds no `smppd-kek v1` line")
    return lines


def _kek_line(version: int) -> bytes:
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"smppd-kek v1 {version} {created} {b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n".encode()


def create_kek(path: Path) -> None:
    """Create a KEK file with version 1: mode 0600, never over an existing file, on stable storage when this returns."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(path, _kek_line(1))
    except FileExistsError:
        raise VaultError(f"{path}: there is a file already; a KEK is never overwritten") from None
    except OSError as error:
        raise VaultError(f"{path}: the KEK cannot be written: {error.strerror}") from None


def add_kek_version(path: Path) -> int:
    """Append a fresh version to the KEK file (new file, synced, renamed over the old one) and return its number."""
    text = _read_file(path, "KEK file")
    version = _parse_lines(text, str(path))[-1][0] + 1
    _replace(path, text.rstrip(b"\n") + b"\n" + _kek_line(version))
    return version


def retire_kek_versions(path: Path) -> list[int]:
    """Keep only the current version in the KEK file; returns the versions dropped. The caller has made sure that no
    wrapped key needs them any more."""
    text = _read_file(path, "KEK file")
    versions = [line[0] for line in _parse_lines(text, str(path))]
    last = [line for line in text.splitlines() if line.startswith(b"smppd-kek")][-1]
    _replace(path, last + b"\n")
    return versions[:-1]


def load_kek(source: KeySource) -> Kek:
    """Read the KEK from where the settings say. Raises VaultError with the place and the reason, never the content."""
    if source.file is not None:
        return Kek.parse(_read_file(Path(source.file), "KEK file"), str(source.file))
    if source.credential is not None:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise KekMissing(
                "keys.credential is set but $CREDENTIALS_DIRECTORY is not: start smppd from its systemd unit"
            )
        if "/" in source.credential or source.credential in ("", ".", ".."):
            raise VaultError("keys.credential is a name, not a path")
        text = _read_file(Path(directory, source.credential), "credential")
        return Kek.parse(text, f"credential {source.credential}")
    if source.command:
        return Kek.parse(_run_command(source.command), f"the output of {source.command[0]}")
    raise VaultError("keys: one of file, credential and command must be set")


def advice_for_missing(error: KekMissing, store: str, config: Path) -> str:
    """The sentence for an operator whose KEK is not there. store: the name of the one that has keys already, empty where there
    are none yet; config: the configuration file."""
    if store:
        return (
            f"the KEK is lost: {error}: restore it from where it was backed up; nothing in {store} opens with another"
        )
    return f"{error}; `smppd keys init --config {config}` makes one"


def _read_file(path: Path, what: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KekMissing(f"{path}: no such {what}") from None
    except OSError as error:
        raise VaultError(f"{path}: the {what} cannot be read: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)  # before fdopen, which takes no directory
        raise VaultError(f"{path}: the {what} must be a regular file")
    with os.fdopen(descriptor, "rb") as file:
        problem = private.exposure(path, status.st_mode, owner_only=True)
        if problem:
            raise VaultError(f"{path}: the {what}: {problem}")
        allowed = {os.geteuid(), 0}
        if os.geteuid() == 0:  # root runs commands for a daemon that is another user: the directory tells which
            allowed.add(path.parent.stat().st_uid)
        if status.st_uid not in allowed:
            raise VaultError(f"{path}: the {what} belongs to uid {status.st_uid}, not to you or root")
        text = file.read(SOURCE_BYTES + 1)
    if len(text) > SOURCE_BYTES:
        raise VaultError(f"{path}: the {what} is larger than {SOURCE_BYTES} bytes")
    return text


def _run_command(argv: Sequence[str]) -> bytes:
    """What the command prints. Its stderr is not passed on: it could hold the key."""
    name = argv[0]
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what a script started ends with it
        )
    except OSError as error:
        raise VaultError(f"the key command {name} cannot be started: {error.strerror}") from None
    deadline = time.monotonic() + COMMAND_SECONDS
    output = b""
    assert process.stdout is not None
    with process.stdout, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            while len(output) <= SOURCE_BYTES:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise VaultError(f"the key command {name} gave no key within {COMMAND_SECONDS:.0f} s")
                chunk = os.read(process.stdout.fileno(), 8192)
                if not chunk:
                    break
                output += chunk
            else:
                raise VaultError(f"the key command {name} printed more than {SOURCE_BYTES} bytes")
            status = process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise VaultError(f"the key command {name} did not end within {COMMAND_SECONDS:.0f} s") from None
        finally:
            _end(process)
    if status != 0:
        raise VaultError(f"the key command {name} failed with status {status}")
    return output


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command that has not ended, and whatever it started and left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    sync_directory(path.parent)


def _replace(path: Path, data: bytes) -> None:
    owner = path.stat()
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    try:
        _write_new(fresh, data)
        if os.geteuid() == 0:
            os.chown(fresh, owner.st_uid, owner.st_gid)
        os.replace(fresh, path)
        sync_directory(path.parent)
    except OSError as error:
        raise VaultError(f"{path}: the KEK file cannot be rewritten: {error.strerror}") from None
