"""A TCP port in front of another one, or of a Unix socket, whose line can be cut: at once, or so that nothing passes any more
and nobody is told. In the event loop of the peers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any


class Proxy:
    """See above. ``to``: a port of 127.0.0.1, or a socket's path. ``port``: where it listens. To be used in its event loop."""

    def __init__(self, to: int | Path) -> None:
        self.to = to
        self.port = 0
        self._state = "open"
        self._server: asyncio.Server | None = None
        self._sides: set[_Side] = set()
        self._held: list[_Side] = []

    async def start(self) -> int:
        """Listens on a free port; the port."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Side(self), "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    async def stop(self) -> None:
        """Listens no more and cuts all connections."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Cuts all connections; new ones are cut at once."""
        self._state = "cut"
        self._held.clear()
        for each in list(self._sides):
            each.cut()

    def silence(self) -> None:
        """Nothing passes any more, and connections stay: as where a cable is pulled. New ones get no answer."""
        self._state = "silent"
        for each in self._sides:
            each.transport.pause_reading()

    def mend(self) -> None:
        """All is as it was. What stood still goes on; what was cut has to connect anew."""
        self._state = "open"
        for each in self._sides:
            each.reads()
        held, self._held = self._held, []
        for each in held:
            each.begin()

    async def _connect(self, side: _Side) -> None:
        loop = asyncio.get_running_loop()
        behind = _Side(self, side)
        try:
            if isinstance(self.to, Path):
                await loop.create_unix_connection(lambda: behind, str(self.to))
            else:
                await loop.create_connection(lambda: behind, "127.0.0.1", self.to)
        except OSError:
            side.cut()
            return
        if side.gone or self._state == "cut":
            behind.cut()
            side.cut()
            return
        side.other = behind
        if self._state != "silent":
            side.reads()
        else:
            behind.transport.pause_reading()


class _Side(asyncio.Protocol):
    """One of two connections that belong together. ``other``: None until the one behind stands."""

    def __init__(self, proxy: Proxy, other: _Side | None = None) -> None:
        self.proxy = proxy
        self.other = other
        self.accepted = other is None
        self.transport: Any = None
        self.gone = False
        self.full = False
        """Whether what goes out of here piles up."""
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.proxy._sides.add(self)
        if not self.accepted:
            return
        self.transport.pause_reading()
        if self.proxy._state == "cut":
            self.cut()
        elif self.proxy._state == "silent":
            self.proxy._held.append(self)
        else:
            self.begin()

    def begin(self) -> None:
        """Connects to what is behind, unless the client has gone."""
        if not self.gone:
            self._connecting = asyncio.get_running_loop().create_task(self.proxy._connect(self))

    def reads(self) -> None:
        """Reads again, where there is somebody to pass it to who can take it."""
        if self.other is not None and not self.other.full and not self.gone:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.full = True
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        if self.other is not None and self.proxy._state == "open":
            self.other.reads()

    def cut(self) -> None:
        """Drops the connection at once."""
        self.gone = True
        with suppress(OSError):
            self.transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self.gone = True
        self.proxy._sides.discard(self)
        if self.other is not None and not self.other.gone:
            # What was sent before the end is to arrive.
            self.other.gone = True
            self.other.transport.close()
