"""The feed's Unix socket: a consumer says from which cursor on, and gets all that follows, and then what comes.

A consumer that is slow has one page in memory and no more: what it has not taken lies in the log. One that takes nothing for
long is cut, since there are only so many places.
"""

from __future__ import annotations

import grp
import json
import os
import selectors
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from smppd.feed.file import FeedError
from smppd.feed.lines import Cursor, error_line, mark_line
from smppd.feed.tail import Tail
from smppd.records.places import BadPlace
from smppd.store.api import StoreError
from smppd.vault.keys import VaultError

MODE: Final = 0o660
REQUEST_OCTETS: Final = 4096
REQUEST_SECONDS: Final = 10.0
"""Time for a request, from connecting on."""
LEAVE_SECONDS: Final = 2.0
"""Time for who was refused to read why."""
STALLED_SECONDS: Final = 600.0
"""A consumer that takes nothing of what is there for so long is cut."""
MARK_SECONDS: Final = 30.0
"""Silence after which a consumer is told how far it is."""
OLDEST: Final = "oldest"
NEWEST: Final = "newest"
_BACKLOG: Final = 16
_ASKS: Final = 'send one line: {"after": CURSOR}, or "oldest" or "newest" for the cursor'


class _Consumer:
    """One connection."""

    def __init__(self, link: socket.socket, now: float) -> None:
        self.link = link
        self.asked = b""
        self.cursor: Cursor | None = None
        self.out = memoryview(b"")
        self.leaving = False
        """It was told why it is refused, and reads that."""
        self.since = now
        """When it connected; then, when it last took something, or had nothing to take."""
        self.told = now
        self.marked = Cursor()
        self.over = False
        self.more = False


class Server:
    """See the module. For one thread. Raises OSError where it cannot listen."""

    def __init__(
        self,
        path: Path,
        group: str | None,
        most: int,
        tail: Tail,
        selector: selectors.BaseSelector,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """group: whose members may connect, None for the process's own. most: consumers at one time. The selector is the
        caller's: what is registered there has a function without arguments as data."""
        self._path = path
        self._most = most
        self._tail = tail
        self._selector = selector
        self._now = now
        self._wall = wall
        self._consumers: list[_Consumer] = []
        self._leaving: list[_Consumer] = []
        self.lines = 0
        """Sent since the start."""
        self.gaps = 0
        try:
            gid = -1 if group is None else grp.getgrnam(group).gr_gid
        except KeyError:
            raise FeedError(f"there is no group {group}") from None
        try:
            self._port = _listen(path, gid)
        except OSError as error:
            raise FeedError(f"{path}: {error.strerror or error}") from None
        selector.register(self._port, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Ends every connection and takes the socket's name away."""
        for consumer in [*self._consumers, *self._leaving]:
            self._end(consumer)
        self._selector.unregister(self._port)
        self._port.close()
        with suppress(OSError):
            self._path.unlink()

    @property
    def consumers(self) -> int:
        """How many are connected and have said from where on."""
        return sum(1 for one in self._consumers if one.cursor is not None)

    def slowest(self) -> float:
        """How old the oldest row is that a consumer lacks, in seconds."""
        return max((self._tail.behind(one.cursor) for one in self._consumers if one.cursor is not None), default=0.0)

    def step(self) -> bool:
        """Gives each consumer a page, if it can take one. Whether there may be more at once."""
        busy = False
        now = self._now()
        for consumer in list(self._leaving):
            if now - consumer.since > LEAVE_SECONDS:
                self._end(consumer)
        for consumer in list(self._consumers):
            if consumer.cursor is None:
                if now - consumer.since > REQUEST_SECONDS:
                    self._refuse(consumer, "request", f"no request came within {REQUEST_SECONDS:g} s: {_ASKS}")
            elif not consumer.out:
                self._feed(consumer, now)
                busy = busy or (consumer.more and not consumer.out and not consumer.over)
            elif now - consumer.since > STALLED_SECONDS:
                self._end(consumer)
        return busy

    # -- connections ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            link, _address = self._port.accept()
        except OSError:  # it has gone, or there are no descriptors left: whoever waits is taken later
            return
        link.setblocking(False)
        consumer = _Consumer(link, self._now())
        full = len(self._consumers) >= self._most
        self._consumers.append(consumer)
        self._selector.register(link, selectors.EVENT_READ, lambda: self._ready(consumer))
        if full:
            self._refuse(consumer, "full", f"there are {self._most} consumers already (feed.socket.consumers)")

    def _ready(self, consumer: _Consumer) -> None:
        """Something can be read, or written."""
        if consumer.out:
            self._send(consumer)
            if consumer.over or consumer.out:
                return
        try:
            data = consumer.link.recv(REQUEST_OCTETS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._end(consumer)
        elif consumer.cursor is None and not consumer.leaving:
            self._ask(consumer, data)
        # What it says later is no question, and is not kept.

    def _ask(self, consumer: _Consumer, data: bytes) -> None:
        consumer.asked += data
        line, found, _rest = consumer.asked.partition(b"\n")
        if not found:
            if len(consumer.asked) >= REQUEST_OCTETS:
                self._refuse(consumer, "request", f"the request is too long: {_ASKS}")
            return
        consumer.asked = b""
        try:
            asked = json.loads(line)
            after = asked["after"]
            if asked.get("v", 1) != 1:
                return self._refuse(consumer, "version", "this is version 1 of the feed")
            if after == OLDEST:
                cursor = Cursor(trail=0)
            else:
                cursor = self._tail.end() if after == NEWEST else Cursor.parse(after)
        except (StoreError, VaultError):
            return self._refuse(consumer, "busy", "the log cannot be read just now: ask again")
        except BadPlace as error:
            return self._refuse(consumer, "cursor", str(error))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return self._refuse(consumer, "request", f"this is no request: {_ASKS}")
        consumer.cursor = consumer.marked = cursor
        consumer.more = True
        consumer.since = self._now()
        consumer.told = -MARK_SECONDS if after == NEWEST else consumer.since  # it has no cursor yet

    def _feed(self, consumer: _Consumer, now: float) -> None:
        assert consumer.cursor is not None
        page = self._tail.page(consumer.cursor)
        consumer.cursor, consumer.more = page.cursor, page.more
        consumer.since = now
        if page.lines:
            data = b"".join(line.data for line in page.lines)
            self.lines += len(page.lines)
            self.gaps += page.gaps
            consumer.marked = page.lines[-1].cursor
            consumer.told = now
        elif now - consumer.told >= MARK_SECONDS:
            data = mark_line(consumer.cursor, int(self._wall() * 1000)).data
            consumer.marked = consumer.cursor
            consumer.told = now
        else:
            return
        consumer.out = memoryview(data)
        self._send(consumer)

    def _send(self, consumer: _Consumer) -> None:
        try:
            while consumer.out:
                sent = consumer.link.send(consumer.out)
                consumer.out = consumer.out[sent:]
                consumer.since = self._now()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            return self._end(consumer)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if consumer.out else 0)
        self._selector.modify(consumer.link, events, lambda: self._ready(consumer))

    def _refuse(self, consumer: _Consumer, code: str, sentence: str) -> None:
        """Says why, and lets it read that: a connection that is closed with a question unread takes the answer along."""
        consumer.leaving = True
        consumer.since = self._now()
        self._consumers.remove(consumer)
        self._leaving.append(consumer)
        try:
            consumer.link.send(error_line(code, sentence))
            consumer.link.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(consumer)
            return
        if len(self._leaving) > _BACKLOG:
            self._end(self._leaving[0])

    def _end(self, consumer: _Consumer) -> None:
        if consumer.over:
            return
        consumer.over = True
        (self._leaving if consumer.leaving else self._consumers).remove(consumer)
        self._selector.unregister(consumer.link)
        consumer.link.close()


def _listen(path: Path, gid: int) -> socket.socket:
    """A listening socket of MODE. Until it has its group and mode, its mode lets nobody else in."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(17, "it is there, and is no socket")
        path.unlink()  # of a feed that was killed: the lock says that there is no other one
    port = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            port.bind(os.fspath(path))
        finally:
            os.umask(before)
        if gid >= 0:
            os.chown(path, -1, gid)
        os.chmod(path, MODE)
        port.listen(_BACKLOG)
        port.setblocking(False)
    except BaseException:
        port.close()
        raise
    return port
