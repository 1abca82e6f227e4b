"""The control socket: how commands and the console see and act on the running daemon (docs/control.md).

It lies in the store's directory, and where `control.path` says another one, for who may not enter that directory. The kernel
says who connects (SO_PEERCRED); it cannot be reached over a network. Root and the daemon's own user may do everything; anybody
else needs an operator's login (`daemon.askers`). One request a connection: a line of JSON, `{"v": 1, "do": NAME, ...}`,
answered by a line of JSON, with `error` and `code` where it failed. A handler may answer later. A long list is made and written
some items at a time, a turn of the reactor for each, and the next items only when the last ones were taken.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from smppd.control.wire import (
    ANSWERED_WITHIN,
    NAME,
    REQUEST_MAX,
    STRANGERS_MAX,
    VERSION,
    WITHIN,
    Code,
    ControlError,
)
from smppd.daemon.acts import ActHandler, ActRequest, Done
from smppd.daemon.answers import Answer, Listing, Pieces
from smppd.daemon.askers import ACTS_NEED, NEEDED, Askers, View
from smppd.metrics import Metrics
from smppd.operators.roles import Authority

CONNECTIONS: Final = 32
"""Connections of root and the daemon's own user at one time, on all sockets; for one more the oldest is cut."""
STRANGERS: Final = 16
"""The same of everybody else, who cannot take the others' places."""
REASON: Final = 200
"""Characters of a reason at the most, and of a target."""
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_MODE: Final = 0o660

log = logging.getLogger("smppd.control")

RequestHandler = Callable[[dict[str, Any], int], "Answer | Deferred[Answer]"]
"""Does what a command asks for; the second argument is the uid of who asks: root's or the daemon's own. ControlError when it
cannot."""


class ControlServer:
    """The daemon's end. ``handlers``: of the commands' own requests, by what is in `do`; the command has looked at the login.
    ``shows``: what can be seen, by its name. ``acts``: what can be done, by its name. ``askers`` finds out who somebody is;
    without it there is nothing to show or to do, and nobody can log in."""

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        handlers: Mapping[str, RequestHandler],
        metrics: Metrics,
        *,
        shows: Mapping[str, View] | None = None,
        acts: Mapping[str, ActHandler] | None = None,
        askers: Askers | None = None,
        place: Path | None = None,
        group: int | None = None,
    ) -> None:
        """`directory`: the store's, which is this process's alone while it runs. `place`: of a second socket. `group`: whose
        members may connect to that one, beside the daemon's own user."""
        self._reactor = reactor
        self._handlers = handlers
        self._metrics = metrics
        self._shows = shows or {}
        self._acts = acts or {}
        self._askers = askers
        self._sockets = [_Socket(directory / NAME, ours=True)]
        if place is not None and place != directory / NAME:
            self._sockets.append(_Socket(place, ours=False, group=group))
        self._one_act = DeferredLock()
        self.channels: dict[_Channel, None] = {}
        """In the order of connecting."""

    def start(self) -> None:
        """Listens. OSError or twisted.internet.error.CannotListenError where a directory takes no socket."""
        try:
            for one in self._sockets:
                one.listen(self._reactor, _Factory(self))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Closes the sockets and every connection, and takes the names away."""
        for channel in list(self.channels):
            channel.cut()
        for one in self._sockets:
            one.stop()

    # -- answering -----------------------------------------------------------------------------------------------------

    def answer(self, raw: bytes, uid: int, trusted: bool) -> Deferred[Answer]:
        """What a request is answered. It never fails."""
        work: Any = self._answer  # answers at once or later
        answered: Deferred[Answer] = maybeDeferred(work, raw, uid, trusted)
        answered.addErrback(self._refused)
        return answered

    def _answer(self, raw: bytes, uid: int, trusted: bool) -> Answer | Deferred[Answer]:
        try:
            request = json.loads(raw)
        except (ValueError, RecursionError):
            raise ControlError("this is no request", Code.REQUEST) from None
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            raise ControlError("this is no request", Code.REQUEST)
        version = request.get("v", VERSION)
        if type(version) is not int or version != VERSION:
            raise ControlError(f"this daemon speaks version {VERSION} of the control interface", Code.VERSION)
        if not trusted and "login" not in request:
            log.warning("control socket: not allowed", extra={"fields": {"uid": uid}})
            raise ControlError("only root and the daemon's own user may ask without a login", Code.LOGIN)
        do: str = request["do"]
        handler = self._handlers.get(do)
        if handler is not None:
            if "login" in request:
                raise ControlError("this is asked by the commands of this host only", Code.ROLE)
            return handler(request, uid)
        return self._asked(do, request, uid, trusted)

    def _asked(self, do: str, request: dict[str, Any], uid: int, trusted: bool) -> Deferred[Answer]:
        """Something to see or to do. Who it is comes first, so that a stranger learns nothing from the answer."""
        view = self._shows.get(do.removeprefix("show ")) if do.startswith("show ") else None
        known = do == "act" or view is not None
        needed = view.needs if view is not None else ACTS_NEED if do == "act" else NEEDED
        if self._askers is None:
            raise ControlError("the daemon does not know this request; is it of another version?", Code.REQUEST)

        def named(who: Authority) -> Answer | Deferred[Answer]:
            if not known:
                raise ControlError("the daemon does not know this request; is it of another version?", Code.REQUEST)
            return view.make(request, who) if view is not None else self._act(request, who)

        return self._askers.identify(request, uid, trusted, do, needed).addCallback(named)

    def _act(self, request: dict[str, Any], who: Authority) -> Deferred[Answer]:
        asked = _read_act(request)
        handler = self._acts.get(asked.act)
        if handler is None:
            raise ControlError(f"there is no act {asked.act!r}; `smppd act --help` has them", Code.UNKNOWN)
        if len(self._one_act.waiting) >= CONNECTIONS:
            raise ControlError("too many acts wait for the one that is being done", Code.STATE)
        work: Any = handler  # does it at once or later
        done: Deferred[Done] = self._one_act.run(work, asked, who)
        return done.addCallback(lambda one: {"said": one.said, "changed": one.changed})

    def _refused(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, ControlError):
            return {"error": str(error), "code": error.code}
        self.failed(error)
        return {"error": "internal error; see the daemon's log", "code": str(Code.FAILED)}

    def failed(self, error: BaseException | None) -> None:
        """An error of ours while a request is answered: a bug."""
        self._metrics.errors.labels("control").inc()
        log.error("a request on the control socket failed", exc_info=error)


def _read_act(request: Mapping[str, Any]) -> ActRequest:
    """An act as it stands in a request. ControlError where something is missing."""
    act, target, reason = request.get("act"), request.get("target", ""), request.get("reason")
    if not isinstance(act, str) or not isinstance(target, str) or len(target) > REASON:
        raise ControlError("an act needs `act` and `target`", Code.REQUEST)
    reason = reason.strip() if isinstance(reason, str) else ""
    if not 1 <= len(reason) <= REASON or not reason.isprintable():
        raise ControlError(f"an act needs a reason of 1 to {REASON} characters, in one line", Code.REQUEST)
    return ActRequest(act[:REASON], target, reason, dict(request))


@implementer(IHalfCloseableProtocol)
class _Channel(TwistedProtocol):
    """One connection for one request."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._data = b""
        self._uid = -1
        self._asked = False
        self._deadline: Any = None
        self.trusted = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        credentials = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, self._uid, _ = _CREDENTIALS.unpack(credentials)
        self.trusted = self._uid in (0, os.geteuid())
        channels = self._server.channels
        alike = [one for one in channels if one.trusted is self.trusted]
        if len(alike) >= (CONNECTIONS if self.trusted else STRANGERS):
            alike[0].cut()
        channels[self] = None
        self._deadline = self._server._reactor.callLater(WITHIN, self.cut)

    def dataReceived(self, data: bytes) -> None:
        if self._asked or self not in self._server.channels:
            return
        most = REQUEST_MAX if self.trusted else STRANGERS_MAX
        self._data += data
        line, end, _ = self._data.partition(b"\n")
        if end and len(line) < most:
            self._asked, self._data = True, b""
            self._deadline.reset(ANSWERED_WITHIN)
            self._server.answer(line, self._uid, self.trusted).addCallback(self._say)
        elif len(self._data) >= most:
            self.cut()

    def readConnectionLost(self) -> None:
        """The peer says nothing more, as `nc -N` does behind its request: it may still read the answer."""
        if not self._asked:
            self.cut()

    def writeConnectionLost(self) -> None:
        """Nothing more can be said."""
        self.cut()

    def connectionLost(self, reason: Any = None) -> None:
        self._server.channels.pop(self, None)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def _say(self, answer: Answer) -> None:
        if self not in self._server.channels:  # cut or gone meanwhile
            return
        transport: Any = self.transport
        if isinstance(answer, Listing):
            transport.registerProducer(_Writer(self._server, self, answer.pieces()), False)
            return
        transport.write(json.dumps({"v": VERSION, **answer}).encode() + b"\n")
        transport.loseConnection()

    def cut(self) -> None:
        """Ends the connection now."""
        self._server.channels.pop(self, None)
        transport: Any = self.transport
        transport.abortConnection()


class _Writer:
    """Writes a long answer (IPullProducer): a piece each time that the one before was taken."""

    def __init__(self, server: ControlServer, channel: _Channel, pieces: Pieces) -> None:
        self._server = server
        self._channel = channel
        self._pieces = pieces

    def resumeProducing(self) -> None:
        """The next piece, or the end."""
        transport: Any = self._channel.transport
        try:
            piece = next(self._pieces, None)
        except Exception as error:  # noqa: BLE001  the edge: the daemon goes on; whoever asks has no whole line, and says so
            self._server.failed(error)
            self._channel.cut()
            return
        if piece is not None:
            transport.write(piece)
        else:
            transport.unregisterProducer()
            transport.loseConnection()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._pieces.close()


class _Factory(Factory):
    noisy = False

    def __init__(self, server: ControlServer) -> None:
        self._server = server

    def buildProtocol(self, addr: object) -> _Channel:
        return _Channel(self._server)


class _Socket:
    """One socket and its name."""

    def __init__(self, path: Path, *, ours: bool, group: int | None = None) -> None:
        """`ours`: the directory is this process's alone, so whoever left a socket there is gone."""
        self._path = path
        self._ours = ours
        self._group = group
        self._port: Any = None
        self._opened = -1

    def listen(self, reactor: Any, factory: Factory) -> None:
        """See ``ControlServer.start``."""
        # A path through the descriptor is short, whatever the directory's is: 107 octets are all there is. Twisted looks at the
        # path again later, so the descriptor stays open.
        self._opened = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        path = f"/proc/self/fd/{self._opened}/{self._path.name}"
        self._clear(path)
        # Twisted sets the mode after it has bound; in between, whoever connects is still asked who he is.
        self._port = reactor.listenUNIX(path, factory, backlog=CONNECTIONS, mode=_MODE)
        if self._group is not None:
            try:
                os.chown(self._path.name, -1, self._group, dir_fd=self._opened)
            except OSError as error:
                raise OSError(
                    error.errno, f"cannot be given to the group of `control.group`: {error.strerror}"
                ) from error

    def _clear(self, path: str) -> None:
        """Takes away the socket of a daemon that was killed."""
        try:
            mode = os.stat(self._path.name, dir_fd=self._opened, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise FileExistsError(errno.EEXIST, "is no socket, and the control socket has to be there", str(self._path))
        if not self._ours and _is_heard(path):
            raise OSError(errno.EADDRINUSE, "another process listens on this control socket", str(self._path))
        os.unlink(self._path.name, dir_fd=self._opened)

    def stop(self) -> None:
        """Closes it, and takes its name away."""
        port, self._port = self._port, None
        if port is not None:
            stopping = port.stopListening()
            stopping.addBoth(self._stopped)
        elif self._opened >= 0:
            self._close()

    def _stopped(self, _result: object) -> None:
        try:
            os.unlink(self._path.name, dir_fd=self._opened)
        except FileNotFoundError:
            pass
        finally:
            self._close()

    def _close(self) -> None:
        opened, self._opened = self._opened, -1
        os.close(opened)


def _is_heard(path: str) -> bool:
    """Whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(path)
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
        return True
