"""The audit trail: an append-only, hash-chained list of who did what when, in its own SQLite file `audit.db`.

The daemon and the commands on its host append to the same file, so each append is one immediate, synced transaction.
Two chains run through it: a plain hash, which anyone can verify, and a MAC under the audit key, which nobody can forge
without it. A head row says how long the trail is, so that entries cut off its end are missed; a roll-back of the whole
file shows against the head in a signed checkpoint (`chain.Checkpoint`) kept elsewhere.
Content is never in it, and numbers only masked.
"""

from __future__ import annotations

import hmac
import json
import os
import platform
import pwd
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from smppd.vault.keys import VaultError
from smppd.vault.mask import mask_digits, mask_text

BUSY_SECONDS = 5.0
_RETRY_SECONDS = 0.02
VALUE_CHARACTERS = 4096
"""Longer values are clipped, and end with an ellipsis."""
ITEMS = 64
"""An entry holds at most so many values."""

FREE_TEXT = frozenset({"note", "reason", "asked", "comment", "authority", "reference"})
"""Facts that people write: no run of digits that may be a phone number stays in them (`mask.mask_digits`)."""
_LOGIN_UID = Path("/proc/self/loginuid")
_NOBODY = (1 << 32) - 1  # what the kernel says where nobody logged in
_ZERO = bytes(32)
_VERSION = 0
"""Of the file (user_version): a newer smppd's entries may mean something else."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, event TEXT NOT NULL, who TEXT NOT NULL, source TEXT NOT NULL,
    what TEXT NOT NULL, result TEXT NOT NULL, hash BLOB NOT NULL, mac BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL, hash BLOB NOT NULL, mac BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS operators ON entries (id) WHERE event = 'operator';
CREATE INDEX IF NOT EXISTS approvals ON entries (id) WHERE event = 'approval';
CREATE INDEX IF NOT EXISTS recoveries ON entries (id) WHERE event = 'login' AND instr(what, '"codes_left":') > 0;
"""
_COLUMNS = "id, at_ms, event, who, source, what, result, hash, mac"


class TrailEntry(NamedTuple):
    """One entry. at_ms: epoch milliseconds. who: the acting user or account; source: from where (address, terminal)."""

    id: int
    at_ms: int
    event: str
    who: str
    source: str
    what: dict[str, str | int]
    result: str
    hash: bytes

    def as_json(self) -> str:
        """One JSON line, for export."""
        values = self._asdict() | {"hash": self.hash.hex()}
        return json.dumps(values, ensure_ascii=False, sort_keys=False, separators=(",", ":"))


class TrailRow(NamedTuple):
    """An entry as it is stored. what: the JSON text that its hash is made of; mac: under the audit key."""

    id: int
    at_ms: int
    event: str
    who: str
    source: str
    what: str
    result: str
    hash: bytes
    mac: bytes

    def hash_after(self, previous: bytes) -> bytes:
        """The hash that this entry has if the entry before it has the hash `previous` (32 zero bytes for the first)."""
        return _hash(previous, self.id, self.at_ms, [self.event, self.who, self.source, self.what, self.result])

    def mac_after(self, key: bytes, previous: bytes) -> bytes:
        """The MAC that this entry has if the one before it has the MAC `previous`. key: the audit key."""
        return _mac(key, b"entry", previous, self.hash)


class TrailVerdict(NamedTuple):
    """What `verify` found. entries: how many were good; first_bad: the id where the trail stops being trustworthy, or
    None; reason: one sentence; keyed: whether the MACs were checked too."""

    ok: bool
    entries: int
    first_bad: int | None
    reason: str
    keyed: bool


class Actor(NamedTuple):
    """Who runs a command, and from where."""

    who: str
    source: str


def current_actor(environ: Mapping[str, str] | None = None, login: Path = _LOGIN_UID) -> Actor:
    """Who runs this process, and from where, as the kernel knows it.

    who: the user of the login session (`login`, which sudo and su do not change; audit(7)), else the real user; `alice (as
    root)` where the process acts for another. source: this host and the terminal. What the environment says (SUDO_UID,
    SSH_CONNECTION), which the caller may have set to anything, stands behind it as claimed.
    """
    env = os.environ if environ is None else environ
    real, effective = os.getuid(), os.geteuid()
    origin = _login_uid(login)
    first = real if origin is None else origin
    who = _user(first)
    acting = [_user(uid) for uid in dict.fromkeys((real, effective)) if uid != first]
    if acting:
        who += f" (as {', '.join(acting)})"
    sudo = env.get("SUDO_UID", "")
    if sudo.isascii() and sudo.isdigit() and len(sudo) < 11 and int(sudo) != first:
        who += f" (claimed: {_user(int(sudo))})"
    try:
        terminal = os.ttyname(0)
    except OSError:
        terminal = "no terminal"
    source = f"{platform.node() or 'unnamed host'}, {terminal}"
    connection = env.get("SSH_CONNECTION", "").split()
    if connection:
        source += f" (claimed: ssh {connection[0][:64]})"
    return Actor(_clean(who), _clean(source))


def _login_uid(path: Path) -> int | None:
    try:
        uid = int(path.read_text())
    except (OSError, ValueError):
        return None
    return None if uid == _NOBODY else uid


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"


class AuditTrail:
    """The trail in one file. Thread-safe; each append waits for the disk, so the daemon calls it off the reactor."""

    def __init__(
        self,
        path: Path,
        key: bytes | None,
        clock: Callable[[], float] = time.time,
        witness: Callable[[int, bytes], object] | None = None,
    ) -> None:
        """path: the file, created with mode 0600 if a key is given. key: the audit key (`InstallSecrets.audit`); with
        None the trail can only be read and its plain chain verified. clock: epoch seconds. witness(id, hash): told of each
        entry once it is durable, to say so elsewhere (`store.sqlite.seals.witness`); what it raises, `append` raises."""
        self._key = key
        self._clock = clock
        self._witness = witness
        self._lock = threading.Lock()
        try:
            self._database = _connect(path, read_only=key is None)
        except (OSError, sqlite3.Error) as error:
            raise VaultError(f"{path}: the audit trail cannot be opened: {error}") from None
        self._path = path

    def __repr__(self) -> str:
        return f"<AuditTrail {self._path} key=***>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def append(self, event: str, who: str, what: Mapping[str, str | int], result: str, *, source: str = "") -> int:
        """Add an entry and return its id; on stable storage when this returns. VaultError if it cannot be written: the
        caller must then refuse what it was about to do.

        event: one of `vault.events.AuditEvent`. what: a few short facts, never content; international numbers in it are
        masked here once more, and in what people write (FREE_TEXT) whatever may be a number.
        """
        if self._key is None:
            raise VaultError("the audit trail was opened without its key and cannot be written")
        facts = {_clean(key): _value(key, value) for key, value in what.items()}
        if len(facts) > ITEMS:
            facts = {**dict(list(facts.items())[: ITEMS - 1]), "clipped": len(facts) - ITEMS + 1}
        texts = [_clean(event), _clean(who), _clean(source), _canonical(facts), _clean(result)]
        at_ms = int(self._clock() * 1000)
        with self._lock:
            database = self._database
            try:
                database.execute("BEGIN IMMEDIATE")
                try:
                    number, last_hash = self._last()
                    last_mac = database.execute("SELECT mac FROM entries WHERE id = ?", (number,)).fetchone()
                    if number and last_mac is None:
                        raise VaultError("the audit trail was cut off: run `smppd audit verify`")
                    number += 1
                    digest = _hash(last_hash, number, at_ms, texts)
                    mac = _mac(self._key, b"entry", last_mac[0] if last_mac else _ZERO, digest)
                    database.execute(
                        f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (number, at_ms, *texts, digest, mac),
                    )
                    head = (number, digest, _mac(self._key, b"head", mac, digest))
                    database.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?)", head)
                    database.execute("COMMIT")
                except BaseException:
                    if database.in_transaction:  # for want of space SQLite has done so itself
                        database.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise VaultError(f"{self._path}: the audit trail cannot be written: {error}") from None
        if self._witness is not None:
            self._witness(number, digest)
        return number

    def head(self) -> tuple[int, bytes]:
        """(id, hash) of the last entry, for a checkpoint; (0, 32 zero bytes) when there is none."""
        with self._lock:
            try:
                return self._last()
            except sqlite3.Error as error:
                raise VaultError(f"{self._path}: the audit trail cannot be read: {error}") from None

    def hash_of(self, number: int) -> bytes | None:
        """The hash of an entry by its id; None when it is not there."""
        with self._lock:
            try:
                row = self._database.execute(
                    "SELECT CAST(hash AS BLOB) FROM entries WHERE id = ?", (number,)
                ).fetchone()
            except sqlite3.Error as error:
                raise VaultError(f"{self._path}: the audit trail cannot be read: {error}") from None
        return None if row is None else row[0]

    def rows_after(self, number: int, limit: int) -> list[TrailRow]:
        """The first `limit` entries behind the entry `number`, as they are stored. VaultError."""
        query = (
            "SELECT id, at_ms, event, who, source, what, result, CAST(hash AS BLOB), CAST(mac AS BLOB) FROM entries"
            " WHERE id > ? ORDER BY id LIMIT ?"
        )
        return [TrailRow(*row) for row in self._rows(query, [number, limit])]

    def newest_of_operator(self, name: str) -> dict[str, str | int] | None:
        """The facts of the newest entry about an operator of this name (event `operator`) that says in what state it left him
        (`state`); None where there is none. VaultError, also where the entry was altered."""
        query = (
            f"SELECT {_COLUMNS} FROM entries INDEXED BY operators WHERE event = 'operator'"
            " AND what ->> '$.name' = ? AND what ->> '$.state' IS NOT NULL ORDER BY id DESC LIMIT 1"
        )
        return next((_facts(row.what) for row in self._sound(query, [name])), None)

    def recovery_codes_left(self, name: str) -> int | None:
        """How many recovery codes the newest login of an operator with one left him; None where there was none since the newest
        entry that says in what state he was left. VaultError, also where the entry was altered."""
        query = (
            f"SELECT {_COLUMNS} FROM entries INDEXED BY recoveries WHERE event = 'login' AND instr(what, '\"codes_left\":') > 0"
            " AND what ->> '$.name' = ? AND id > coalesce((SELECT max(id) FROM entries INDEXED BY operators WHERE"
            " event = 'operator' AND what ->> '$.name' = ? AND what ->> '$.state' IS NOT NULL), 0) ORDER BY id DESC LIMIT 1"
        )
        return next((int(_facts(row.what)["codes_left"]) for row in self._sound(query, [name, name])), None)

    def answers_to(self, request: int, limit: int) -> Iterator[tuple[str, str, str, str]]:
        """(action, who, result, why it was refused) of the newest entries about a request for another person's word (event
        `approval`), newest first. VaultError, also where one of them was altered."""
        query = (
            f"SELECT {_COLUMNS} FROM entries INDEXED BY approvals WHERE event = 'approval' AND what ->> '$.number' = ?"
            " ORDER BY id DESC LIMIT ?"
        )
        for row in self._sound(query, [request, limit]):
            facts = _facts(row.what)
            yield str(facts.get("action")), row.who, row.result, str(facts.get("why", ""))

    def _sound(self, query: str, values: list[int | str]) -> Iterator[TrailRow]:
        """The rows of a query, each held against its own hash and MAC."""
        for found in self._rows(query, values):
            row = TrailRow(*found)
            before = self.rows_after(row.id - 2, 1) if row.id > 1 else []
            last, mac = (before[0].hash, before[0].mac) if before and before[0].id == row.id - 1 else (_ZERO, _ZERO)
            if row.hash_after(last) != row.hash or self._key is None or row.mac_after(self._key, mac) != row.mac:
                raise VaultError("the audit trail was altered: run `smppd audit verify`")
            yield row

    def events(self) -> list[str]:
        """The names of all events on the trail."""
        return [row[0] for row in self._rows("SELECT DISTINCT event FROM entries ORDER BY event", [])]

    def entries(
        self,
        *,
        since_ms: int = 0,
        until_ms: int = 1 << 62,
        events: Collection[str] | None = None,
        who: str | None = None,
    ) -> Iterator[TrailEntry]:
        """Entries in order, `since_ms <= at_ms < until_ms`; of these events, and of one user, if given. who: the whole name or
        what stands before its first bracket: `alice` finds `alice (as root)` too."""
        marks = "" if events is None else f" AND event IN ({','.join('?' * len(events))})"
        query = f"SELECT {_COLUMNS} FROM entries WHERE at_ms >= ? AND at_ms < ?{marks} ORDER BY id"
        for row in self._rows(query, [since_ms, until_ms, *(events or ())]):
            if who is None or row[3] == who or row[3].partition(" (")[0] == who:
                yield TrailEntry(row[0], row[1], row[2], row[3], row[4], _facts(row[5]), row[6], row[7])

    def newest(
        self,
        before: int,
        limit: int,
        looked: int,
        *,
        since_ms: int = 0,
        until_ms: int = 1 << 62,
        events: Collection[str] | None = None,
        who: str | None = None,
    ) -> tuple[list[TrailEntry], int]:
        """A page of the trail, newest first, and where the next begins (0: at the end): at most `limit` entries with an
        id below `before`, as `entries` chooses them, among `looked` that are looked at. VaultError."""
        marks = "" if events is None else f" AND event IN ({','.join('?' * len(events))})"
        named = " AND (who = ? OR substr(who, 1, instr(who || ' (', ' (') - 1) = ?)" if who is not None else ""
        last = min(before, self.head()[0] + 1)
        first = max(1, last - looked)
        query = (
            f"SELECT {_COLUMNS} FROM entries WHERE id >= ? AND id < ? AND at_ms >= ? AND at_ms < ?{marks}{named}"
            " ORDER BY id DESC LIMIT ?"
        )
        values: list[int | str] = [
            first,
            last,
            since_ms,
            until_ms,
            *(events or ()),
            *((who, who) if who else ()),
            limit,
        ]
        found = [
            TrailEntry(row[0], row[1], row[2], row[3], row[4], _facts(row[5]), row[6], row[7])
            for row in self._rows(query, values)
        ]
        after = found[-1].id if len(found) == limit else first
        return found, 0 if after <= 1 else after

    def verify(self, expected: tuple[int, bytes] | None = None) -> TrailVerdict:
        """Walk the whole trail; with the key, check its MACs too. expected: (id, hash) from a checkpoint kept
        elsewhere, which the trail must contain: this is what shows a roll-back of the whole file."""
        keyed = self._key is not None
        good, last_hash, last_mac = 0, _ZERO, _ZERO
        seen_expected = expected is None or expected[0] == 0
        # One snapshot: an append between walking and reading the head must not look like a cut.
        rows = self._rows(
            "SELECT 1, id, at_ms, event, who, source, what, result, hash, mac FROM entries UNION ALL "
            "SELECT 2, id, 0, '', '', '', '', '', hash, mac FROM head ORDER BY 1, 2",
            [],
        )
        head: tuple[int, bytes, bytes] | None = None
        for kind, number, at_ms, *texts, digest, mac in rows:
            if kind == 2:
                head = (number, digest, mac)
                continue
            if number != good + 1:
                return TrailVerdict(False, good, good + 1, f"entry {good + 1} is missing", keyed)
            if not hmac.compare_digest(_hash(last_hash, number, at_ms, texts), digest):
                return TrailVerdict(
                    False, good, number, f"entry {number} was altered or does not follow the one before", keyed
                )
            if self._key is not None and not hmac.compare_digest(_mac(self._key, b"entry", last_mac, digest), mac):
                return TrailVerdict(
                    False, good, number, f"entry {number} was not written with this installation's key", keyed
                )
            if expected is not None and number == expected[0]:
                if digest != expected[1]:
                    return TrailVerdict(False, good, number, f"entry {number} is not the one in the checkpoint", keyed)
                seen_expected = True
            good, last_hash, last_mac = number, digest, mac
        bad = None
        if (head[:2] if head is not None else (0, _ZERO)) != (good, last_hash):
            bad = "entries are missing at the end: the trail was longer once"
        if head is not None and self._key is not None and bad is None:
            if not hmac.compare_digest(_mac(self._key, b"head", last_mac, last_hash), head[2]):
                bad = "the trail's end was not written with this installation's key"
        if bad is None and not seen_expected:
            bad = "the trail ends before the checkpoint: an older copy was put back"
        if bad is not None:
            return TrailVerdict(False, good, good + 1, bad, keyed)
        return TrailVerdict(True, good, None, f"{good} entries, none altered, none missing", keyed)

    def _last(self) -> tuple[int, bytes]:
        row = self._database.execute("SELECT id, hash FROM head").fetchone()
        return (row[0], row[1]) if row else (0, _ZERO)

    def _rows(self, query: str, values: list[int | str]) -> Iterator[tuple]:  # type: ignore[type-arg]
        # A reader's own connection state: the lock is not held while the caller works on a row.
        try:
            with self._lock:
                cursor = self._database.execute(query, values)
            while True:
                with self._lock:
                    rows = cursor.fetchmany(500)
                if not rows:
                    return
                yield from rows
        except sqlite3.Error as error:
            raise VaultError(f"{self._path}: the audit trail cannot be read: {error}") from None


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        # SQLite would follow the umask. A file that is there is not even opened: closing it again would drop the locks of
        # every other connection of this process to it (POSIX locks; sqlite.org/howtocorrupt.html, 2.2), and the next
        # command to leave would take the write-ahead log along.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        if version > _VERSION:
            raise VaultError(f"{path}: written by a newer smppd (schema {version}, this one knows {_VERSION})")
        if not read_only:
            _write_ahead(database)
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_SCHEMA)
    except (VaultError, sqlite3.Error):
        database.close()
        raise
    return database


def _write_ahead(database: sqlite3.Connection) -> None:
    """Switches a new file to a write-ahead log. SQLite does not wait where another process is doing the same just now, as a
    daemon and a command may that start together: so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _value(key: str, value: str | int) -> str | int:
    if not isinstance(value, str):
        return int(value)
    # Before it is cut to one line: what does not print may stand between the digits of a number.
    return _clean(mask_digits(unicodedata.normalize("NFKC", value)) if key in FREE_TEXT else value)


def _clean(text: str) -> str:
    """One line of printable text, masked and clipped."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: VALUE_CHARACTERS + 1])
    line = mask_text(line)
    return line if len(line) <= VALUE_CHARACTERS else line[: VALUE_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _canonical(facts: Mapping[str, str | int]) -> str:
    return json.dumps(facts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _facts(text: str) -> dict[str, str | int]:
    try:
        facts = json.loads(text)
    except ValueError:
        return {"unreadable": text[:80]}
    return facts if isinstance(facts, dict) else {"unreadable": text[:80]}


def _hash(previous: bytes, number: int, at_ms: int, texts: list[str]) -> bytes:
    packed = json.dumps([number, at_ms, *texts], ensure_ascii=True, separators=(",", ":")).encode()
    return blake2b(previous + packed, digest_size=32, person=b"smppd-audit").digest()


def _mac(key: bytes, label: bytes, previous: bytes, digest: bytes) -> bytes:
    return blake2b(label + previous + digest, key=key, digest_size=32, person=b"smppd-audit-mac").digest()
