"""The process that tells the feed: `python -m smppd.feed.child`, started by the daemon, of which nothing of this takes time.

It works until its parent ends (see `child`); then it tells what is committed by then, for a moment, and ends. Nothing that it
reports holds anything of a message.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from smppd import child
from smppd.audit.trail import AuditTrail
from smppd.config import Feed, KeyRef, Store
from smppd.feed.file import PLACE_FILE, FeedError, FeedFile, PlaceFile
from smppd.feed.lines import Wanted
from smppd.feed.server import Server
from smppd.feed.tail import Tail
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE
from smppd.store.opening import installed
from smppd.vault.keys import KeyRing, VaultError, load_kek
from smppd.vault.seal import SealError

LOOK: Final = 0.1
"""Seconds between two looks for new rows, where there were none."""
SAY: Final = 1.0
"""Seconds between two reports to the daemon."""
SAVE: Final = 5.0
"""Seconds between two times that the place is kept."""
PAUSE: Final = 1.0
"""Seconds until a file that could not be written is tried again."""
LAST: Final = 2.0
"""Seconds for what is to be told when the daemon ends."""
TROUBLES: Final = (FeedError, StoreError, VaultError, SealError)
"""After these trying again may help."""
LOCK_FILE: Final = "feed.lock"
"""In the store's directory; whoever holds it tells the feed."""


class Job(NamedTuple):
    """What the daemon asks for. store: where it is; node: this node's number; keys: where the KEK is, None where it is not
    needed."""

    store: Store
    node: int
    feed: Feed
    keys: KeyRef | None

    def as_json(self) -> str:
        """For `read`."""
        keys = None if self.keys is None else self.keys.model_dump(mode="json", exclude_none=True)
        store = self.store.model_dump(mode="json", exclude_none=True)
        feed = self.feed.model_dump(mode="json")
        return json.dumps({"store": store, "node": self.node, "feed": feed, "keys": keys})

    @classmethod
    def read(cls, line: bytes) -> Job:
        """The inverse of `as_json`."""
        said: dict[str, Any] = json.loads(line)
        keys = None if said["keys"] is None else KeyRef.model_validate(said["keys"])
        return cls(Store.model_validate(said["store"]), said["node"], Feed.model_validate(said["feed"]), keys)


class Teller:
    """Moves the file and the consumers on. Without a loop of its own: `step` is called again at once where it says so."""

    def __init__(
        self,
        tail: Tail,
        file: FeedFile | None,
        listen: Callable[[], Server] | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """listen(): makes the server; called again where it could not listen."""
        self._tail = tail
        self._file = file
        self._listen = listen
        self._server: Server | None = None
        self._now = now
        self._again = self._save_at = self._serve_again = 0.0
        self._opened = self._begun = False
        self._failing = self._unserved_at = now()
        self.lines = 0
        self.gaps = 0
        self.failures = 0
        self.reason = self.unserved = ""
        """Why the file does not go on, and why consumers are not served; empty while they are. Neither stops the other."""

    def step(self) -> bool:
        """Whether there may be more to do at once."""
        now = self._now()
        busy = False
        try:
            self._tail.look()
            if self._file is None:
                self.reason = ""
            elif now >= self._again:
                busy = self._write(now)
        except TROUBLES as error:
            self._failed(str(error), now)
        if self._listen is not None and now >= self._serve_again:
            try:
                if self._server is None:
                    self._server = self._listen()
                busy = self._server.step() or busy
                self.unserved = ""
            except TROUBLES as error:
                self.failures += 1
                if not self.unserved:
                    self._unserved_at = now
                self.unserved = str(error)
                self._serve_again = now + PAUSE
        return busy

    def _failed(self, reason: str, now: float) -> None:
        self.failures += 1
        if not self.reason:
            self._failing = now
        self.reason = reason
        self._opened = False
        self._again = now + PAUSE

    def _write(self, now: float) -> bool:
        file = self._file
        assert file is not None
        if not self._opened:
            file.open()
            self._opened = self._begun = True
        file.turn()
        page = self._tail.page(file.cursor)
        file.append(page.lines, page.cursor)
        self.lines += len(page.lines)
        self.gaps += page.gaps
        if now >= self._save_at or page.gaps:
            self._save_at = now + SAVE
            file.save()
        self.reason = ""
        return page.more

    def end(self) -> None:
        """Keeps how far the file is."""
        if self._file is not None and self._opened:
            try:
                self._file.save()
            except FeedError as error:
                self._failed(str(error), self._now())

    def close(self) -> None:
        """Lets the consumers go."""
        if self._server is not None:
            self._server.close()

    def report(self) -> dict[str, Any]:
        """How far it is, for the daemon."""
        file, server = self._file, self._server
        said: dict[str, Any] = {
            "lines": self.lines,
            "gaps": self.gaps,
            "failures": self.failures,
            "reason": self.reason or self.unserved,
        }
        unserved = self._now() - self._unserved_at if self.unserved else 0.0
        try:
            said["behind"] = 0.0 if file is not None else unserved
            if file is not None and self._begun:
                said["behind"] = self._tail.behind(file.cursor)
            elif self.reason:  # how far the file is, nobody knows
                said["behind"] = self._now() - self._failing
            said["slowest"] = server.slowest() if server is not None else unserved
        except StoreError:
            said.setdefault("behind", 0.0)
            said.setdefault("slowest", 0.0)
        if server is not None:
            said |= {"consumers": server.consumers, "sent": server.lines}
            said["gaps"] += server.gaps
        return said


def main() -> int:
    """Does the job on standard input; see `child.run`."""
    return child.run(_work, FeedError, StoreError, VaultError)


def _work(line: bytes) -> None:
    with ExitStack() as stack:
        _tell(Job.read(line), stack)


def _tell(job: Job, stack: ExitStack) -> None:
    directory = job.store.directory
    _lock(directory, stack)
    # What this node wrote: each node tells its own, once.
    records = installed(job.store, job.node, settle=False).records(job.node)
    stack.callback(records.close)
    trail = AuditTrail(directory / AUDIT_FILE, None)
    stack.callback(trail.close)
    feed = job.feed
    ring = None if job.keys is None else partial(KeyRing, load_kek(job.keys), records.keys)
    tail = Tail(records, trail, Wanted(frozenset(feed.accounts), frozenset(feed.events)), ring)
    file: FeedFile | None = None
    listen: Callable[[], Server] | None = None
    if feed.file is not None:
        file = FeedFile(
            feed.file.path,
            PlaceFile(directory / PLACE_FILE),
            rotate=feed.file.rotate,
            every=feed.file.rotate_every,
            keep=feed.file.keep,
            wall=time.time,
        )
    selector = selectors.DefaultSelector()
    stack.callback(selector.close)
    if feed.socket is not None:
        asked = feed.socket
        listen = partial(
            Server,
            asked.path,
            asked.group,
            asked.consumers,
            tail,
            selector,
            now=time.monotonic,
            wall=time.time,
        )
    teller = Teller(tail, file, listen)
    stack.callback(teller.close)
    over: list[bool] = []
    selector.register(0, selectors.EVENT_READ, lambda: over.append(True))
    said = 0.0
    while not over:
        busy = teller.step()
        if time.monotonic() - said >= SAY:
            said = time.monotonic()
            child.say(teller.report())
        for key, _events in selector.select(0 if busy else LOOK):
            key.data()
    until = time.monotonic() + LAST
    while teller.step() and time.monotonic() < until:
        pass
    teller.end()
    child.say(teller.report())


def _lock(directory: Path, stack: ExitStack) -> None:
    """Waits for a feed of before to end: its daemon was killed, or has another configuration by now."""
    handle = os.open(directory / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, handle)
    fcntl.flock(handle, fcntl.LOCK_EX)


if __name__ == "__main__":
    sys.exit(main())
