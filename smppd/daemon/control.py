"""The control socket: how commands on this host ask the running daemon to do something. It lies in the store's directory.

Only root and the daemon's own user are heard, by what the kernel says of who connects (SO_PEERCRED); it cannot be reached
over a network. One request a connection: a line of JSON, `{"do": NAME, ...}`, answered by a line of JSON, with `error` where
it failed. A long list is made and written some items at a time, a turn of the reactor for each.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol

from smppd.control.wire import NAME, REQUEST_MAX, WITHIN, ControlError
from smppd.metrics import Metrics

CONNECTIONS: Final = 8
"""Connections at one time; for one more the oldest is cut."""
ITEMS: Final = 500
"""Items of a list that are written in one turn: of bans, a millisecond."""
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid

log = logging.getLogger("smppd.control")


class Listing(NamedTuple):
    """An answer that is one long list, `{name: items}`. The items are made as they are written."""

    name: str
    items: Iterable[object]

    def pieces(self) -> Iterator[bytes]:
        """The line, its end included, `ITEMS` items at a time."""
        yield b"{" + json.dumps(self.name).encode() + b": ["
        items = iter(self.items)
        comma = ""
        while some := list(islice(items, ITEMS)):
            yield (comma + ", ".join(map(json.dumps, some))).encode()
            comma = ", "
        yield b"]}\n"


Answer = dict[str, object] | Listing
RequestHandler = Callable[[dict[str, Any], int], Answer]
"""Does what a request asks for; the second argument is the uid of who asks. ControlError when it cannot."""


class ControlServer:
    """The daemon's end."""

    def __init__(self, reactor: Any, directory: Path, handlers: Mapping[str, RequestHandler], metrics: Metrics) -> None:
        """`directory`: the store's, which is this process's alone while it runs."""
        self._reactor = reactor
        self._directory = directory
        self._handlers = handlers
        self._metrics = metrics
        self._port: Any = None
        self._opened = -1
        self.channels: dict[_Channel, None] = {}
        """In the order of connecting."""

    def start(self) -> None:
        """Listens. OSError or twisted.internet.error.CannotListenError where the directory takes no socket."""
        # A path through the descriptor is short, whatever the directory's is: 107 octets are all there is. Twisted looks at the
        # path again later, so the descriptor stays open.
        self._opened = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        self._clear(self._opened)
        path = f"/proc/self/fd/{self._opened}/{NAME}"
        # Twisted sets the mode after it has bound; in between, whoever connects is still asked who he is.
        self._port = self._reactor.listenUNIX(path, _Factory(self), backlog=CONNECTIONS, mode=0o600)

    @staticmethod
    def _clear(directory: int) -> None:
        """Takes away the socket of a daemon that was killed: the store is ours, so nobody listens on it."""
        try:
            mode = os.stat(NAME, dir_fd=directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise FileExistsError(errno.EEXIST, "is no socket, and the control socket has to be there", NAME)
        os.unlink(NAME, dir_fd=directory)

    def stop(self) -> None:
        """Closes the socket and every connection, and takes its name away."""
        port, self._port = self._port, None
        for channel in list(self.channels):
            channel.cut()
        if port is not None:
            stopping = port.stopListening()
            stopping.addBoth(self._stopped)

    def _stopped(self, _result: object) -> None:
        try:
            self._clear(self._opened)
        finally:
            os.close(self._opened)

    def answer(self, raw: bytes, uid: int) -> Answer:
        """What a request is answered. Never raises."""
        try:
            request = json.loads(raw)
            handler = self._handlers.get(str(request.get("do"))) if isinstance(request, dict) else None
            if handler is None:
                raise ControlError("the daemon does not know this request; is it of another version?")
            return handler(request, uid)
        except (ValueError, RecursionError, TypeError):
            return {"error": "this is no request"}
        except ControlError as error:
            return {"error": str(error)}
        except Exception:  # noqa: BLE001  the edge: whoever asks gets an answer and the daemon goes on
            self.failed()
            return {"error": "internal error; see the daemon's log"}

    def failed(self) -> None:
        """An error of ours while a request is answered; within its handler."""
        self._metrics.errors.labels("control").inc()
        log.exception("a request on the control socket failed")


class _Channel(TwistedProtocol):
    """One connection for one request."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._data = b""
        self._uid = -1
        self._deadline: Any = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        credentials = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, self._uid, _ = _CREDENTIALS.unpack(credentials)
        channels = self._server.channels
        if len(channels) >= CONNECTIONS:
            next(iter(channels)).cut()
        channels[self] = None
        self._deadline = self._server._reactor.callLater(WITHIN, self.cut)

    def dataReceived(self, data: bytes) -> None:
        if self not in self._server.channels:
            return
        if self._uid not in (0, os.geteuid()):
            # Told now and not before: closing with a request unread would take the answer away.
            self._server.channels.pop(self, None)
            log.warning("control socket: not allowed", extra={"fields": {"uid": self._uid}})
            self._say({"error": "only root and the daemon's own user may ask"})
            return
        self._data += data
        line, end, _ = self._data.partition(b"\n")
        if end and len(line) < REQUEST_MAX:
            self._server.channels.pop(self, None)
            self._say(self._server.answer(line, self._uid))
        elif len(self._data) >= REQUEST_MAX:
            self.cut()

    def connectionLost(self, reason: Any = None) -> None:
        self._server.channels.pop(self, None)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def _say(self, answer: Answer) -> None:
        transport: Any = self.transport
        if isinstance(answer, Listing):
            transport.registerProducer(_Writer(self._server, self, answer), False)
            return
        transport.write(json.dumps(answer).encode() + b"\n")
        transport.loseConnection()

    def cut(self) -> None:
        """Ends the connection now."""
        self._server.channels.pop(self, None)
        transport: Any = self.transport
        transport.abortConnection()


class _Writer:
    """Writes a list (IPullProducer): a piece each time that the one before was taken."""

    def __init__(self, server: ControlServer, channel: _Channel, listing: Listing) -> None:
        self._server = server
        self._channel = channel
        self._pieces = listing.pieces()

    def resumeProducing(self) -> None:
        """The next piece, or the end."""
        transport: Any = self._channel.transport
        try:
            piece = next(self._pieces, None)
        except Exception:  # noqa: BLE001  the edge: the daemon goes on; whoever asks has no whole line, and says so
            self._server.failed()
            self._channel.cut()
            return
        if piece is not None:
            transport.write(piece)
        else:
            transport.unregisterProducer()
            transport.loseConnection()

    def stopProducing(self) -> None:
        """The connection is gone."""


class _Factory(Factory):
    noisy = False

    def __init__(self, server: ControlServer) -> None:
        self._server = server

    def buildProtocol(self, addr: object) -> _Channel:
        return _Channel(self._server)
