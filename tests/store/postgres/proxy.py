"""Stands between a store and its server, and cuts the line where the test says."""

from __future__ import annotations

import selectors
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from smppd.store.postgres.connection import Server
from tests import postgres

_NAME = ".s.PGSQL.5432"


class Proxy:
    """See above. ``server``: the database, through it. ``swallow``: the next answer, or the so many-th, is swallowed and is
    the end of its connection: the server has done what was asked, and nobody hears of it."""

    def __init__(self, database: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="smppd-proxy-")
        self.server = Server(f"postgresql://{postgres.USER}@/{database}?host={self._folder.name}")
        self.swallow = 0
        self.refuse = False
        """New connections are cut at once."""
        self.cuts = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self._folder.name) / _NAME))
        self._listener.listen()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._thread = threading.Thread(target=self._accepts, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()
        self._folder.cleanup()

    def cut(self, last_words: bytes = b"") -> None:
        """Cuts all connections; clients read these octets before the end."""
        for client, _ in self._pairs if last_words else ():
            client.sendall(last_words)
        for pair in self._pairs:
            _cut(pair)

    def _accepts(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            behind = socket.socket(socket.AF_UNIX)
            behind.connect(str(postgres.server().folder / _NAME))
            pair = client, behind
            self._pairs.append(pair)
            threading.Thread(target=self._passes, args=(pair,), daemon=True).start()

    def _swallows(self) -> bool:
        if not self.swallow:
            return False
        self.swallow -= 1
        return not self.swallow

    def _passes(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, behind = pair
        with selectors.DefaultSelector() as both, suppress(OSError, ValueError):
            both.register(client, selectors.EVENT_READ)
            both.register(behind, selectors.EVENT_READ)
            while True:
                for key, _ in both.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    octets = source.recv(65536)
                    if not octets or (source is behind and self._swallows()):
                        self.cuts += 1
                        _cut(pair)
                        return
                    (behind if source is client else client).sendall(octets)
        _cut(pair)


def _cut(pair: tuple[socket.socket, socket.socket]) -> None:
    for one in pair:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
