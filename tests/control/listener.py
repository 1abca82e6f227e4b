"""A socket where a daemon's would be, and a thread that answers there."""

from __future__ import annotations

import os
import socket
import threading
from abc import ABC, abstractmethod
from pathlib import Path


class Listener(ABC):
    """Reads the line of each who asks, and hands it on. One at a time."""

    def __init__(self, path: Path) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        before = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            self._listening.bind(path.name)
        finally:
            os.chdir(before)
        self._listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    @abstractmethod
    def answer(self, line: bytes, one: socket.socket) -> None:
        """Somebody asks. line: the first; one: the connection, which is closed afterwards."""

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._listening.accept()
            except OSError:
                return
            with one:
                self.answer(one.makefile("rb").readline(), one)

    def close(self) -> None:
        """Nobody listens any more."""
        if self._listening.fileno() >= 0:
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
