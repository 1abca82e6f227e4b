"""Configurations for tests: a small valid one as plain data, and as text in a temporary directory."""

from __future__ import annotations

import textwrap
from pathlib import Path

from smppd.config import ConfigError, Fault, Settings, load

HASH = "$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM"

BASE = f"""\
listeners: [{{address: "127.0.0.1:0"}}]
accounts:
  - {{system_id: acme, password_hash: '{HASH}', networks: any}}
upstreams:
  - {{name: carrier-a, address: "127.0.0.1:2776", system_id: gw, password: {{env: PW}}}}
routes: [{{upstreams: carrier-a}}]
store: {{path: var}}
keys: {{file: kek}}
"""


def write(directory: Path, text: str) -> Path:
    """The text, dedented, as smppd.yaml in the directory."""
    path = directory / "smppd.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def loaded(directory: Path, text: str) -> Settings:
    """The settings of a text."""
    return load(write(directory, text))


def faults(directory: Path, text: str) -> list[Fault]:
    """The faults of a text, which must have some."""
    try:
        load(write(directory, text))
    except ConfigError as error:
        return error.faults
    raise AssertionError("no fault was found")


def lines(directory: Path, text: str) -> list[str]:
    """The faults as `line:column: path: message`."""
    return [str(fault).split("smppd.yaml:", 1)[1] for fault in faults(directory, text)]
