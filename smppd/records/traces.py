"""The traces of a store: each is a sealed document of kind `trace`, a wrapped key (scope `trace/<number>`) and a file.

The key is stored before the file is made, and the file before the document: who finds a document finds all of it. It is
destroyed in the same order, so that nothing opens any more whatever a kill leaves; `Traces.expire` takes away what one has
left. A trace is no record of the log: no hold keeps it, no backup has it, and an erasure destroys it as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol

from smppd.durable import sync_directory
from smppd.store.api import StoreError
from smppd.store.documents import Documents
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import VaultError, blob_info
from smppd.vault.keys import KeyRows
from smppd.vault.seal import SealError
from smppd.vault.traces import TRACES, TraceWriter, new_key, read_trace, trace_scope

KIND: Final = "trace"
"""Of the documents."""
DIRECTORY: Final = "traces"
"""In the store's directory; the files of all traces."""
MOST: Final = 32
"""Traces that are kept at a time."""
_BEING_MADE: Final = 600.0
"""Seconds for which a key or a file without a document may be one of a trace that is being begun."""
_LATE: Final = 30.0
_TRIES: Final = 3


class TraceError(Exception):
    """It cannot be done; the text says why."""


class Wraps(Protocol):
    """What wraps a key for its place, and unwraps it: `vault.keys.KeyRing`, `vault.kek.Kek`. Raises VaultError."""

    def wrap(self, scope: bytes, key: bytes, created: int) -> bytes:
        """The wrapped key. created: epoch seconds."""

    def unwrap(self, scope: bytes, blob: bytes) -> bytes:
        """The inverse."""


class Trace(NamedTuple):
    """A trace. peer: `session`, `account` or `upstream`; target: which one; account: whose messages are in it, empty where they
    may be anybody's. began, until, ended: epoch seconds, ended 0 while it is on. why: it ended. pdus: None where that was
    never said. octets: of its entries, before they are sealed."""

    number: int
    peer: str
    target: str
    account: str
    reason: str
    note: str
    who: str
    began: float
    until: float
    ended: float = 0.0
    why: str = ""
    sessions: int | None = None
    pdus: int | None = None
    octets: int | None = None

    def state(self, now: float) -> str:
        """`on`, `ended`, or `broken off` where nobody said how it ended."""
        if self.ended:
            return "ended"
        return "on" if now < self.until + _LATE else "broken off"


class Traces:
    """The traces of one store. For one thread. Methods raise StoreError, VaultError, SealError and OSError."""

    def __init__(
        self, documents: Documents, keys: KeyRows, sealer: DocumentSealer, wraps: Wraps, directory: Path
    ) -> None:
        """keys: the rows of the store itself, durable at once. directory: the store's. Nothing is closed with this."""
        self._documents = documents
        self._keys = keys
        self._sealer = sealer
        self._wraps = wraps
        self._directory = directory / DIRECTORY

    def path(self, number: int) -> Path:
        """The file of a trace."""
        return self._directory / f"{number:06d}.trace"

    def all(self) -> list[Trace]:
        """All that are kept and can be read, by number."""
        return [trace for _, trace in self._look() if trace is not None]

    def unreadable(self) -> list[int]:
        """The numbers of those whose document was altered."""
        return [number for number, trace in self._look() if trace is None]

    def _look(self) -> list[tuple[int, Trace | None]]:
        found: list[tuple[int, Trace | None]] = []
        for name, sealed in self._documents.all(KIND):
            try:
                trace = self._read(name, sealed)
            except (SealError, VaultError):
                found.append((int(name) if name.isdigit() else 0, None))
            else:
                found.append((trace.number, trace))
        return sorted(found, key=lambda one: one[0])

    def get(self, number: int) -> Trace | None:
        """One of them. SealError where its document was altered."""
        name = _name(number)
        sealed = self._documents.get(KIND, name)
        return None if sealed is None else self._read(name, sealed)

    # -- beginning and ending ------------------------------------------------------------------------------------------

    def begin(self, asked: Trace) -> tuple[Trace, TraceWriter, BinaryIO]:
        """Puts a trace down; it, what writes it, and the file to be closed. asked: its number is given here. TraceError where
        too many are kept."""
        if len(self._documents.all(KIND)) >= MOST:
            raise TraceError(f"{MOST} traces are kept, and there may be no more: `smppd trace delete` takes one away")
        trace = asked._replace(number=self._documents.number(KIND))
        key, scope = new_key(), trace_scope(trace.number)
        if self._keys.get(scope) is not None or self.path(trace.number).exists():
            self.destroy(trace.number)  # of a store that was exchanged by an older copy, which counts anew
        wrapped = self._wraps.wrap(scope, key, int(trace.began))
        if self._keys.put_new(scope, wrapped) != wrapped:
            raise StoreError(f"there is a key of trace {trace.number} already")
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            path = self.path(trace.number)
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            file = os.fdopen(handle, "wb", buffering=0)
            try:
                writer = TraceWriter(file, trace.number, key)
                os.fsync(handle)
                sync_directory(self._directory)
                name = _name(trace.number)
                self._documents.add(KIND, name, self._sealer.seal(KIND, name, trace._asdict()))
            except BaseException:
                file.close()
                raise
        except (OSError, StoreError):
            self.destroy(trace.number)
            raise
        return trace, writer, file

    def end(self, number: int, now: float, why: str, sessions: int, pdus: int, octets: int) -> None:
        """Says how a trace ended, unless it was destroyed meanwhile."""
        counts = {"sessions": sessions, "pdus": pdus, "octets": octets}
        self._change(number, {"ended": now, "why": why, **counts})

    def settle(self, now: float) -> int:
        """Ends all of this machine that are on, at the start of a daemon; how many. Nobody writes them any more."""
        broken = [one for one in self.all() if not one.ended and self.path(one.number).exists()]
        for one in broken:
            self._change(one.number, {"ended": min(now, one.until), "why": "smppd ended"})
        return len(broken)

    def _change(self, number: int, changes: dict[str, float | str | int]) -> None:
        name = _name(number)
        for _ in range(_TRIES):
            before = self._documents.get(KIND, name)
            if before is None:
                return
            value = self._sealer.open(KIND, name, before) | changes
            if self._documents.replace(KIND, name, before, self._sealer.seal(KIND, name, value)):
                return

    # -- reading -------------------------------------------------------------------------------------------------------

    def blocks(self, number: int) -> Iterator[bytes]:
        """What stands in a trace's file, up to its last whole block. TraceError where its key is gone."""
        scope = trace_scope(number)
        wrapped = self._keys.get(scope)
        if wrapped is None:
            raise TraceError(f"trace {number} cannot be opened: its key was destroyed")
        key = self._wraps.unwrap(scope, wrapped)
        with open(self.path(number), "rb") as file:
            yield from read_trace(file, number, key)

    # -- the end -------------------------------------------------------------------------------------------------------

    def destroy(self, number: int) -> bool:
        """Destroys a trace: its key first; False where there was none. A daemon that still writes it ends it within a second,
        for it sees that the file is gone."""
        there = self._keys.get(trace_scope(number)) is not None
        self._keys.delete(trace_scope(number))
        try:
            self.path(number).unlink(missing_ok=True)
        finally:  # a file that cannot be removed opens no more; `expire` tries again
            known = self._documents.remove(KIND, _name(number))
        return known or there

    def may_hold(self, accounts: Collection[str] | None) -> list[int]:
        """The numbers of traces in which messages of these accounts may stand; of any where None. Of one that cannot be read
        nobody knows."""
        return [
            number
            for number, one in self._look()
            if accounts is None or one is None or not one.account or one.account in accounts
        ]

    def expire(
        self, now: float, retain: float, tell: Callable[[list[int]], object] = lambda _numbers: None
    ) -> list[int]:
        """Destroys the traces that are older than `retain` seconds, and what a kill has left of others; their numbers.
        tell(numbers): called before any of them is destroyed. A file that cannot be removed stays, without its key, until the
        next call: it stops nothing."""
        found = self._look()
        # One that cannot be read was altered: nobody knows how old it is.
        over = [number for number, trace in found if trace is None or trace.began + retain <= now]
        kept = {number for number, _ in found}.difference(over)
        if over:
            tell(over)
        for number in over:
            with suppress(OSError):
                self.destroy(number)
        for scope, wrapped in list(self._keys.scan(TRACES)):
            name = scope.rpartition(b"/")[2]
            if name.isdigit() and int(name) not in kept and _created(wrapped) + _BEING_MADE < now:
                with suppress(OSError):
                    self.destroy(int(name))
        if self._directory.is_dir():
            for path in self._directory.glob("*.trace"):
                with suppress(OSError):  # somebody may have removed it just now
                    if (
                        not (path.stem.isdigit() and int(path.stem) in kept)
                        and path.stat().st_mtime + _BEING_MADE < now
                    ):
                        path.unlink(missing_ok=True)
        return over

    def _read(self, name: str, sealed: bytes) -> Trace:
        try:
            return Trace(**self._sealer.open(KIND, name, sealed))
        except TypeError:
            raise VaultError(f"trace {name} was written by another version") from None


def _created(wrapped: bytes) -> float:
    """When a key was wrapped, in epoch seconds; long ago where somebody altered it, for then it opens nothing."""
    try:
        return blob_info(wrapped).created
    except VaultError:
        return float("-inf")


def _name(number: int) -> str:
    return f"{number:06d}"
