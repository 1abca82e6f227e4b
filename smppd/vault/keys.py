"""The keys in use: the installation's secrets, period keys, spool keys, and the ring that caches them.

Wrapped keys are read and written by `KeyRows`, which the key store implements. It is asked rarely: once for each account,
part and period, and once for each spool segment. Every type that holds a key prints masked, and no error message contains
octets of a key.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from smppd.vault.kek import KEY_BYTES, MARK_SCOPE, Kek, KekWrong, VaultError, blob_info, create_kek, load_kek

__all__ = [
    "CACHED_KEYS",
    "ERASED",
    "REPLIES",
    "InstallSecrets",
    "Kek",
    "KeyRing",
    "KeyRows",
    "Part",
    "Period",
    "PeriodKey",
    "VaultError",
    "create_install",
    "create_kek",
    "hold_scope",
    "load_install",
    "load_kek",
    "period_from_code",
    "period_from_label",
    "period_of",
    "period_scope",
    "read_scope",
    "remember_kek",
    "rewrap_all",
    "segment_scope",
]

CACHED_KEYS = 4096
"""Period keys the ring remembers beside the current ones (an export walks through many)."""

_TOLD_EACH = 500
_HOUR = 3600
_DAY = 24 * _HOUR


class KeyRows(Protocol):
    """Wrapped keys by scope, durable. Scopes are readable ASCII: `period/acme/body/2026-11-22`, `segment/000123`."""

    def get(self, scope: bytes) -> bytes | None:
        """The wrapped key of this scope, or None."""

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """Insert if the scope is absent, and return the row that is there now (ours, or who came first).
        Durable (synced) when it returns."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(scope, wrapped) of all scopes with this prefix, in order of scope."""

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """In one durable transaction, UPDATE the rows of these scopes. A scope that was deleted meanwhile stays
        deleted: inserting it again would bring a purged key back."""

    def delete(self, scope: bytes) -> None:
        """Delete the row if there is one; durable, and overwritten (`secure_delete`), when it returns."""


# --- Secrets of the installation -------------------------------------------------------------------------------------

ERASED = "erased numbers v1"
"""Purpose of the key that knows an erased number again for some days, likewise."""
REPLIES = "replies v1"
"""Purpose of the key that finds the sender a handset replies to (`InstallSecrets.for_purpose`)."""

_INSTALL = ("audit", "checkpoint", "dedupe", "suppression")


class InstallSecrets:
    """The long-lived secrets of one installation.

    lists: keys what is compiled of big lists (`smppd.lists`), derived from suppression, so that installations of every version
    have it. checkpoint: Ed25519 key that signs chain checkpoints; suppression: keys the opt-out list; dedupe: keys duplicate
    detection; audit: keys the audit trail's MAC (32 bytes each).
    """

    __slots__ = ("audit", "checkpoint", "dedupe", "lists", "suppression")

    def __init__(self, keys: dict[str, bytes]) -> None:
        self.audit = keys["audit"]
        self.checkpoint = Ed25519PrivateKey.from_private_bytes(keys["checkpoint"])
        self.dedupe = keys["dedupe"]
        self.suppression = keys["suppression"]
        self.lists = _hkdf(self.suppression, b"smppd lists v1")

    def __repr__(self) -> str:
        return "<InstallSecrets ***>"

    def for_purpose(self, purpose: str) -> bytes:
        """A long-lived key of 32 octets for one purpose, such as `replies v1`: another one tells nothing of it."""
        info = b"smppd " + purpose.encode()
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self.suppression)


def missing_secrets(rows: KeyRows) -> list[str]:
    """The names of the installation's secrets that are not there."""
    return [name for name in _INSTALL if rows.get(b"install/" + name.encode()) is None]


def create_install(kek: Kek, rows: KeyRows) -> list[str]:
    """Create the installation's secrets that are missing; returns their names (empty: nothing to do)."""
    made = []
    for name in _INSTALL:
        scope = b"install/" + name.encode()
        if rows.get(scope) is None:
            rows.put_new(scope, kek.wrap(scope, secrets.token_bytes(KEY_BYTES)))
            made.append(name)
    return made


def remember_kek(kek: Kek, rows: KeyRows) -> None:
    """Lets the key store know which KEK it belongs to, if it does not yet. The KEK has opened the installation's secrets."""
    if rows.get(MARK_SCOPE) is None:
        rows.put_new(MARK_SCOPE, kek.mark())


def load_install(kek: Kek, rows: KeyRows) -> InstallSecrets:
    """The installation's secrets; VaultError if the key store was not initialised, KekWrong or KekForeign if the KEK is not the
    right one. Changes nothing."""
    mark = rows.get(MARK_SCOPE)
    if mark is not None:
        kek.check_mark(mark)
    keys = {}
    for name in _INSTALL:
        scope = b"install/" + name.encode()
        blob = rows.get(scope)
        if blob is None:
            raise VaultError(f"the key store lacks {scope.decode()}: run `smppd keys init`")
        try:
            keys[name] = kek.unwrap(scope, blob)
        except VaultError as error:
            if mark is not None:
                raise VaultError(
                    f"{error}; the KEK is the right one (fingerprint {kek.fingerprint()}): restore keys.db from a backup"
                ) from None
            raise KekWrong(f"the KEK is wrong: it does not open this installation's keys: {error}") from None
    return InstallSecrets(keys)


def rewrap_all(kek: Kek, rows: KeyRows, progress: Callable[[int, int], object] = lambda _done, _all: None) -> int:
    """Wrap every key that an older KEK version wrapped under the current one, in one transaction; returns how many.

    A crash before the commit leaves all old rows, which the KEK still opens, so running it again is always right.
    progress(keys done, of how many): told now and then.
    """
    old = [pair for pair in rows.scan(b"") if blob_info(pair[1]).kek_version != kek.current]
    pairs = []
    for number, (scope, blob) in enumerate(old, 1):
        pairs.append((scope, kek.rewrap(scope, blob)))
        if not number % _TOLD_EACH or number == len(old):
            progress(number, len(old))
    if pairs:
        rows.replace_all(pairs)
    return len(pairs)


# --- Periods ---------------------------------------------------------------------------------------------------------


class Part(StrEnum):
    """The two sealed parts of a record: numbers and body. They may be kept for different times."""

    NUMBERS = "numbers"
    BODY = "body"


class Period(NamedTuple):
    """A stretch of UTC time that shares a key: `start <= t < end` in epoch seconds.

    label: `2026-11-22T10`, `2026-11-22` or `2026-11`. code: the same in 32 bits for record headers, (start in hours
    since the epoch) * 4 + kind, kind 0 hour, 1 day, 2 month; 0 means "no period".
    """

    label: str
    code: int
    start: int
    end: int


def period_of(when: int, retain: float) -> Period:
    """The period that holds `when` (epoch seconds) for data kept `retain` seconds: an hour up to 48 h, a UTC day up to
    31 d, else a month, so that a key outlives its oldest record by little."""
    if retain <= 48 * _HOUR:
        return _hour(when - when % _HOUR)
    if retain <= 31 * _DAY:
        return _day(when - when % _DAY)
    return _month(when)


@lru_cache(4096)
def period_from_code(code: int) -> Period:
    """The inverse of `Period.code`. Raises VaultError for a code that no period has."""
    kind, start = code & 3, (code >> 2) * _HOUR
    make = (_hour, _day, _month)[kind] if kind < 3 else None
    if make is None or not 0 < code < 1 << 32:
        raise VaultError("not a period code")
    try:
        period = make(start)
    except (OverflowError, ValueError, OSError):
        raise VaultError("not a period code") from None
    if period.code != code:
        raise VaultError("not a period code")
    return period


@lru_cache(4096)
def period_from_label(label: str) -> Period:
    """The inverse of `Period.label`. Raises VaultError for anything else."""
    forms = {13: ("%Y-%m-%dT%H", _hour), 10: ("%Y-%m-%d", _day), 7: ("%Y-%m", _month)}
    try:
        form, make = forms[len(label)]
        period = make(int(datetime.strptime(label, form).replace(tzinfo=UTC).timestamp()))
    except (KeyError, ValueError, OverflowError):
        raise VaultError("not a period label") from None
    if period.label != label:
        raise VaultError("not a period label")
    return period


def _hour(start: int) -> Period:
    return Period(f"{datetime.fromtimestamp(start, UTC):%Y-%m-%dT%H}", start // _HOUR << 2, start, start + _HOUR)


def _day(start: int) -> Period:
    return Period(f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d}", start // _HOUR << 2 | 1, start, start + _DAY)


def _month(when: int) -> Period:
    first = datetime.fromtimestamp(when, UTC).replace(day=1, hour=0, minute=0, second=0)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    start = int(first.timestamp())
    return Period(f"{first:%Y-%m}", start // _HOUR << 2 | 2, start, int(following.timestamp()))


class PeriodKey:
    """The key of one account, part and period, with what is derived from it.

    index_key and content_hash_key: HKDF-SHA256 of the period key under one label each. The three hash states are keyed
    once, because copying a keyed BLAKE2b state costs half of making one, and the hot path makes four a record:
    `derive` (32 bytes out: update with a record secret), `index` (16: a normalised number), `content` (32: a body).
    Never update them, only copies.
    """

    __slots__ = (
        "account",
        "account_bytes",
        "content",
        "content_hash_key",
        "derive",
        "index",
        "index_key",
        "part",
        "period",
    )

    def __init__(self, account: str, part: Part, period: Period, key: bytes) -> None:
        self.account = account
        self.account_bytes = account.encode("utf-8")
        self.part = part
        self.period = period
        self.index_key = _hkdf(key, b"smppd blind index v1")
        self.content_hash_key = _hkdf(key, b"smppd content hash v1")
        self.derive = blake2b(key=key, digest_size=32, person=b"smppd-" + part.encode())
        self.index = blake2b(key=self.index_key, digest_size=16, person=b"smppd-index")
        self.content = blake2b(key=self.content_hash_key, digest_size=32, person=b"smppd-content")

    def __repr__(self) -> str:
        return f"<PeriodKey {self.account}/{self.part.value}/{self.period.label} ***>"


def _hkdf(key: bytes, label: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=label).derive(key)


def period_scope(account: str, part: Part, period: Period) -> bytes:
    """`period/<account, percent-encoded>/<part>/<label>`."""
    return f"period/{quote(account, safe='')}/{part.value}/{period.label}".encode("ascii")


def read_scope(scope: bytes) -> tuple[str, Part, Period] | None:
    """The inverse of `period_scope`; None for the scope of another kind of key."""
    pieces = scope.decode("ascii", "replace").split("/")
    try:
        kind, account, part, label = pieces
        return (unquote(account), Part(part), period_from_label(label)) if kind == "period" else None
    except (ValueError, VaultError):
        return None


def hold_scope(number: int) -> bytes:
    """`hold/000001`."""
    return b"hold/%06d" % number


def segment_scope(number: int) -> bytes:
    """`segment/000123`."""
    return b"segment/%06d" % number


# --- The ring --------------------------------------------------------------------------------------------------------


class KeyRing:
    """Period and spool keys, unwrapped and cached. Safe to call from several threads.

    `period` costs a dict look-up while the period lasts. The first call in a new period creates or loads the key, which
    waits for the disk; so whoever owns the clock calls `prepare` for `now + lead` beforehand, off the hot path.
    """

    def __init__(self, kek: Kek, rows: KeyRows, cached: int = CACHED_KEYS) -> None:
        self._kek = kek
        self._rows = rows
        self._limit = cached
        self._lock = threading.RLock()
        self._current: dict[tuple[str, Part], tuple[int, int, float, PeriodKey]] = {}
        self._known: OrderedDict[bytes, PeriodKey] = OrderedDict()
        self._segments: dict[int, AESGCM] = {}
        self._last_segment = 0

    def __repr__(self) -> str:
        return f"<KeyRing {len(self._known)} period keys, {len(self._segments)} segments, ***>"

    @property
    def kek_version(self) -> int:
        """The version of the key-encryption key that new keys are wrapped under."""
        return self._kek.current

    def wrap(self, scope: bytes, key: bytes, created: int) -> bytes:
        """A key of another kind (a hold's), wrapped for its place. created: epoch seconds."""
        with self._lock:
            return self._kek.wrap(scope, key, created)

    def unwrap(self, scope: bytes, blob: bytes) -> bytes:
        """The inverse of `wrap`. Raises VaultError."""
        with self._lock:
            return self._kek.unwrap(scope, blob)

    def use(self, kek: Kek, stored: Mapping[bytes, bytes] | None = None) -> None:
        """Wrap and unwrap with this KEK from now on (after a rotation and reload). stored: the wrapped keys as the file has
        them now, where the rows are a copy in memory; what is in it only under an old version could not be opened once that
        version is dropped, nor what waits to be stored."""
        with self._lock:
            self._kek = kek
            # Rows kept in memory, while others work on the file (`store.pending_keys`).
            renew = getattr(self._rows, "renew", None)
            if renew is not None:
                renew(lambda scope, blob: _renewed(kek, scope, blob), stored or {})

    def period(self, account: str, part: Part, when: int, retain: float) -> PeriodKey:
        """The key for data of `when` (epoch seconds) kept `retain` seconds; created, durably, when it is the first."""
        current = self._current.get((account, part))
        if current is not None and current[0] <= when < current[1] and current[2] == retain:
            return current[3]
        with self._lock:
            period = period_of(when, retain)
            key = self._obtain(account, part, period)
            self._current[account, part] = (period.start, period.end, retain, key)
            return key

    def prepare(self, account: str, part: Part, when: int, retain: float) -> None:
        """Make sure that `period` with the same arguments will not wait for the disk. Cheap when it is already so."""
        with self._lock:
            self._obtain(account, part, period_of(when, retain))

    def existing(self, account: str, part: Part, period: Period) -> PeriodKey | None:
        """The key of a past or present period, or None when it was never made or has been destroyed."""
        scope = period_scope(account, part, period)
        with self._lock:
            key = self._known.get(scope)
            if key is not None:
                self._known.move_to_end(scope)
                return key
            blob = self._rows.get(scope)
            if blob is None:
                return None
            return self._remember(scope, PeriodKey(account, part, period, self._kek.unwrap(scope, blob)))

    def drop(self, account: str, part: Part, period: Period) -> None:
        """Destroys this key: all that was sealed under it can never be read again."""
        with self._lock:
            self.forget(account, part, period)
            self._rows.delete(period_scope(account, part, period))

    def forget(self, account: str, part: Part, period: Period) -> None:
        """Takes the key out of memory only (another process destroyed it)."""
        with self._lock:
            self._known.pop(period_scope(account, part, period), None)
            current = self._current.get((account, part))
            if current is not None and current[3].period == period:
                del self._current[account, part]

    def new_segment(self) -> int:
        """Create the key of a new spool segment and return the segment's number (rising, at least 1).

        A segment is written by one process in one lifetime: its nonces are counters, and a counter that was read back
        from disk after a crash could repeat one (the lost row's bytes may still be in the write-ahead log).
        """
        with self._lock:
            if not self._last_segment:
                self._last_segment = max(self.segments(), default=0)
            while True:
                self._last_segment += 1
                scope = segment_scope(self._last_segment)
                key = secrets.token_bytes(KEY_BYTES)
                blob = self._kek.wrap(scope, key)
                if self._rows.put_new(scope, blob) == blob:
                    self._segments[self._last_segment] = AESGCM(key)
                    return self._last_segment

    def segments(self) -> list[int]:
        """Numbers of all spool segments that have a key."""
        return sorted(int(scope.rpartition(b"/")[2]) for scope, _ in self._rows.scan(b"segment/"))

    def segment(self, number: int) -> AESGCM:
        """The cipher of a spool segment. Raises VaultError when its key is gone."""
        aead = self._segments.get(number)
        if aead is not None:
            return aead
        scope = segment_scope(number)
        with self._lock:
            blob = self._rows.get(scope)
            if blob is None:
                raise VaultError(f"spool segment {number} has no key any more")
            aead = self._segments[number] = AESGCM(self._kek.unwrap(scope, blob))
            return aead

    def drop_segment(self, number: int) -> None:
        """Destroy a segment's key, when the segment is empty."""
        with self._lock:
            self._segments.pop(number, None)
            self._rows.delete(segment_scope(number))

    def forget_segment(self, number: int) -> None:
        """Takes the key out of memory only (another process destroyed it)."""
        with self._lock:
            self._segments.pop(number, None)

    def _obtain(self, account: str, part: Part, period: Period) -> PeriodKey:
        key = self.existing(account, part, period)
        if key is not None:
            return key
        scope = period_scope(account, part, period)
        # Two processes may come here at once: the first row wins and both use it.
        blob = self._rows.put_new(scope, self._kek.wrap(scope, secrets.token_bytes(KEY_BYTES)))
        return self._remember(scope, PeriodKey(account, part, period, self._kek.unwrap(scope, blob)))

    def _remember(self, scope: bytes, key: PeriodKey) -> PeriodKey:
        self._known[scope] = key
        while len(self._known) > self._limit:
            self._known.popitem(last=False)
        return key


def _renewed(kek: Kek, scope: bytes, blob: bytes) -> bytes:
    return blob if blob_info(blob).kek_version == kek.current else kek.rewrap(scope, blob)
