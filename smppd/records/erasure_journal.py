"""The erasure journal as a file, `erasures.journal`: which records were erased, in lines that only this installation can write.

The database may be put back to an older copy, and with it what was erased. So each erasure is on this file before anything is
destroyed. A copy lies beside each backup, and a restore erases again what any copy says. A line names records by their ids,
what no record speaks of (consents, senders remembered for replies) by keyed hashes, and nobody by a number. Each line is
signed (Ed25519) and names the hash of the line before: none can be changed, left out or moved. Lines that were cut off at the
end show against the requests in the store, and on the audit trail, which has each line too.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from smppd.store.api import StoreError

NAME: Final = "erasures.journal"
"""The file, in the store's directory and beside each backup."""
IDS: Final = 4000
"""Records in one line: an entry of the audit trail has room for as many."""
OTHERS: Final = 1000
"""Keyed hashes in one line."""
CONSENT: Final = "c"
REPLIES: Final = "r"
"""How the name of such a hash begins; its hexadecimal digits follow."""

_FORMAT: Final = 1
_SIGNED: Final = b"smppd-erasures-1\n"
_START: Final = "0" * 64
_HEX: Final = 16
_GROUP: Final = 200  # ids in one value of an entry of the audit trail


class JournalError(StoreError):
    """A journal was altered, is another installation's, or cannot be read. The text is one clear sentence."""


class Line(NamedTuple):
    """line: 1, 2, 3 ...; erasure: number of the request; at: ISO 8601, UTC; ids: of records; previous: `digest` of the line
    before, zeros for the first; signature: hexadecimal; others: `CONSENT` and the digest of a consent, `REPLIES` and the key of
    what is remembered for replies: both mean nobody without the installation's secrets."""

    line: int
    erasure: int
    at: str
    ids: tuple[int, ...]
    previous: str
    signature: str = ""
    others: tuple[str, ...] = ()

    def signed_part(self) -> bytes:
        """What the signature covers."""
        return _SIGNED + _canonical(self._facts())

    def _facts(self) -> dict[str, Any]:
        ids = " ".join(f"{one:016x}" for one in self.ids)
        others = {"others": " ".join(self.others)} if self.others else {}  # lines of before have none
        return {
            **others,
            "format": _FORMAT,
            "line": self.line,
            "erasure": self.erasure,
            "at": self.at,
            "ids": ids,
            "previous": self.previous,
        }

    def text(self) -> bytes:
        """The line as the file has it, its end included."""
        return _canonical(self._facts() | {"signature": self.signature}) + b"\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return sha256(self.text()).hexdigest()

    def for_trail(self) -> dict[str, str | int]:
        """The same as facts of an entry of the audit trail, from which `of_trail` makes it again."""
        facts: dict[str, str | int] = {
            "erasure": self.erasure,
            "line": self.line,
            "at": self.at,
            "previous": self.previous,
            "signature": self.signature,
            "records": len(self.ids),
        }
        for number, at in enumerate(range(0, len(self.ids), _GROUP)):
            facts[f"ids{number or ''}"] = " ".join(f"{one:016x}" for one in self.ids[at : at + _GROUP])
        for number, at in enumerate(range(0, len(self.others), _GROUP)):
            facts[f"others{number or ''}"] = " ".join(self.others[at : at + _GROUP])
        return facts


def of_trail(facts: Mapping[str, Any]) -> Line:
    """The inverse of `Line.for_trail`. JournalError where it is none."""
    try:
        ids = tuple(map(_id, _joined(facts, "ids")))
        values = int(facts["line"]), int(facts["erasure"]), str(facts["at"])
        others = tuple(_joined(facts, "others"))
        return Line(*values, ids, str(facts["previous"]), str(facts["signature"]), others)
    except (KeyError, TypeError, ValueError):
        raise JournalError("an entry of the audit trail does not say which records were erased") from None


def _joined(facts: Mapping[str, Any], name: str) -> list[str]:
    found: list[str] = []
    number = 0
    while (part := f"{name}{number or ''}") in facts:
        found += str(facts[part]).split()
        number += 1
    return found


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def _id(text: str) -> int:
    if len(text) != _HEX:
        raise ValueError(text)
    return int(text, _HEX)


def read_line(text: bytes) -> Line:
    """A line without its end. ValueError where it is none."""
    facts = json.loads(text)
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise ValueError("no line of an erasure journal")
    try:
        ids = tuple(_id(one) for one in str(facts["ids"]).split())
        line = Line(
            int(facts["line"]),
            int(facts["erasure"]),
            str(facts["at"]),
            ids,
            str(facts["previous"]),
            str(facts["signature"]),
            tuple(str(facts.get("others", "")).split()),
        )
    except (KeyError, TypeError):
        raise ValueError("no line of an erasure journal") from None
    if line.text() != text + b"\n":
        raise ValueError("a line is not as it was written")
    return line


def check_line(line: Line, key: Ed25519PublicKey, where: str) -> None:
    """JournalError unless this installation signed the line."""
    try:
        key.verify(bytes.fromhex(line.signature), line.signed_part())
    except (InvalidSignature, ValueError):
        raise JournalError(
            f"{where}: line {line.line} of the erasure journal was altered, or another installation wrote it"
        ) from None


def read_journal(path: Path, key: Ed25519PublicKey) -> list[Line]:
    """All lines of a journal, none where there is no file. A last line without its end was never finished, so nothing was
    destroyed on its word. JournalError where a line was altered, left out or moved."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from None
    lines: list[Line] = []
    previous = _START
    for text in data.split(b"\n")[:-1]:
        try:
            line = read_line(text)
        except (ValueError, RecursionError):
            raise JournalError(f"{path}: line {len(lines) + 1} of the erasure journal was altered") from None
        check_line(line, key, str(path))
        if line.line != len(lines) + 1 or line.previous != previous:
            raise JournalError(f"{path}: lines of the erasure journal are missing before line {line.line}")
        lines.append(line)
        previous = line.digest
    return lines


class ErasedIds:
    """The ids of all records in a journal. What is not found is looked for once more where the file has grown: while a log is
    read, others erase."""

    def __init__(self, path: Path, key: Ed25519PublicKey) -> None:
        """Raises JournalError."""
        self._path = path
        self._key = key
        self._size = -1
        self._ids: frozenset[int] = frozenset()
        self._look()

    def __contains__(self, record: object) -> bool:
        if record in self._ids:
            return True
        return self._look() and record in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def _look(self) -> bool:
        size = self._path.stat().st_size if self._path.exists() else 0
        if size == self._size:
            return False
        self._ids = frozenset(record for line in read_journal(self._path, self._key) for record in line.ids)
        self._size = size
        return True


def missing_lines(lines: Sequence[Line], requests: Iterable[tuple[int, Mapping[str, Any]]]) -> list[str]:
    """What is wrong with a journal, as sentences: it has to hold each line that a request in the store names."""
    digests = {line.line: line.digest for line in lines}
    faults = []
    for number, facts in requests:
        noted = facts.get("journal")
        if isinstance(noted, dict) and digests.get(noted.get("line", 0)) != noted.get("digest"):
            faults.append(f"the erasure journal lacks what it says of erasure {number}: it was cut short or exchanged")
    return faults


class ErasureJournal:
    """The journal of one store, for whoever appends to it."""

    def __init__(self, path: Path, key: Ed25519PrivateKey) -> None:
        """path: the file. key: the installation's (`InstallSecrets.checkpoint`)."""
        self.path = path
        self._key = key

    @contextmanager
    def alone(self, *, wait: bool) -> Iterator[bool]:
        """While it lasts nobody else appends. Gives False at once where somebody else does, unless ``wait``."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give_to_owner(self.path)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)

    def lines(self) -> list[Line]:
        """See `read_journal`."""
        return read_journal(self.path, self._key.public_key())

    def append(self, erasure: int, ids: Sequence[int], at: str, others: Sequence[str] = ()) -> list[Line]:
        """Writes the lines of some records, and of what no record speaks of (see `Line`), on stable storage when this returns;
        within `alone`."""
        before = self.lines()
        previous, number = (before[-1].digest, before[-1].line) if before else (_START, 0)
        made = []
        parts: list[tuple[tuple[int, ...], tuple[str, ...]]]
        parts = [(tuple(ids[begin : begin + IDS]), ()) for begin in range(0, len(ids), IDS)]
        parts += [((), tuple(others[begin : begin + OTHERS])) for begin in range(0, len(others), OTHERS)]
        for some, hashes in parts:
            number += 1
            line = Line(number, erasure, at, some, previous, others=hashes)
            line = line._replace(signature=self._key.sign(line.signed_part()).hex())
            made.append(line)
            previous = line.digest
        write_lines(self.path, before, made)
        return made


def give_to_owner(path: Path) -> None:
    """What root makes in a store's directory belongs to whom the directory belongs to: the daemon runs as another user, and
    has to finish what a command has begun."""
    if os.geteuid() == 0:
        owner, mine = path.parent.stat(), path.stat()
        if (mine.st_uid, mine.st_gid) != (owner.st_uid, owner.st_gid):
            os.chown(path, owner.st_uid, owner.st_gid)


def write_lines(path: Path, before: Sequence[Line], made: Sequence[Line]) -> None:
    """Puts lines behind those that are in a file, and removes what was left there unfinished."""
    end = sum(len(line.text()) for line in before)
    new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(b"".join(line.text() for line in made))
        file.flush()
        os.fsync(handle)
    if new:
        give_to_owner(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
