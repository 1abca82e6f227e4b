"""A small installation for tests of commands: its configuration, and where its key-encryption key is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

CONFIG = """
listeners: [{address: "127.0.0.1:2775"}]
accounts:
  - system_id: acme
    password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$3bYkP0P3vKQm3mB7m3x0sX9r5o3cVbXw1bN2oO3y0f4"
    networks: any
    retain: {body: 1d, numbers: 30d, billing: 60d}
upstreams: [{name: carrier-a, address: "127.0.0.1:2776", system_id: gateway, password: {env: PASSWORD}}]
routes: [{upstreams: [carrier-a]}]
store: {path: var}
keys: {file: keys/kek}
"""

Run = Callable[..., tuple[int, str, str]]
"""Runs a command: its exit status, what it printed, what it said on standard error."""


class FileSource:
    command = None
    credential = None

    def __init__(self, file: Path) -> None:
        self.file = file
