"""The SMSC and the clients of the tests, each a child process that speaks JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from smppd.demo.process import Child, ChildError

ROOT: Final = Path(__file__).resolve().parents[2]


class Smsc(Child):
    """The simulated SMSC; ``port`` is where it listens."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__([sys.executable, "-m", "smppd.demo", "smsc"], config, ROOT)
        self.port: int = self.expect("listening")["port"]

    def submits(self) -> list[bytes]:
        """The submit_sm frames it received, in order."""
        frames = [bytes.fromhex(frame) for frame in self.ask("frames")["frames"]]
        return [frame for frame in frames if frame[4:8] == b"\0\0\0\4"]

    def deliveries(self) -> list[bytes]:
        """The deliver_sm frames it sent, in order."""
        return [bytes.fromhex(frame) for frame in self.ask("sent")["frames"]]


CLIENTS: Final = {
    "smpp.twisted": [sys.executable, "-m", "smppd.demo", "customer"],
    "smpplib": [sys.executable, "-m", "tests.peers.smpplib_client"],
    "node-smpp": [str(Path(sys.executable).parent / "node"), str(ROOT / "tests/peers/client.js")],
}


def client(name: str, config: dict[str, Any]) -> Child:
    """A client of that library, still binding."""
    return Child(CLIENTS[name], {"frames": True, "answers": True, "retry": False, "window": 10, **config}, ROOT)


__all__ = ["CLIENTS", "ROOT", "Child", "ChildError", "Smsc", "client"]
