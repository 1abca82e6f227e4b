"""An installation with three accounts, two carriers and a log, for the tests of its reports."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from smppd.audit.trail import AuditTrail
from smppd.cli.main import main
from smppd.config import Settings, load
from smppd.ids import id_time
from smppd.reports.source import Source
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.kek import load_kek
from tests.config.helpers import HASH
from tests.store.builder import Builder

DAY = 86400.0
NUMBERS = [f"4477009001{n:02d}" for n in range(40)]
TEXT = "canary text 4711"
SECRETS = ["4477009", "7700 9", "canary", "4711", "Acme Ltd", "not-used", HASH[30:60], "own-2-order-48291"]

CONFIG = f"""\
listeners:
  - {{address: "127.0.0.1:2775"}}
region: GB
accounts:
  - system_id: acme
    password_hash: '{HASH}'
    networks: 192.0.2.0/24
    basis: {{purpose: instruction, reference: order 48291 of 2026-10-01}}
    retain: {{body: 10d, numbers: 90d, billing: 400d, at_least: {{numbers: 30d, reference: order 12}}}}
    numbers: ["+44 7700 900140"]
  - system_id: beta
    password_hash: '{HASH}'
    networks: any
    policies: [words]
  - {{system_id: clinic, password_hash: '{HASH}', networks: any, content: hide, retain: 24h}}
upstreams:
  - name: carrier-a
    address: 127.0.0.1:2776
    country: FR
    contract: agreement 2025-03 with +44 7700 900141
    system_id: gateway
    password: {{env: PASSWORD}}
  - {{name: carrier-b, address: "127.0.0.1:2777", system_id: gateway, password: {{env: PASSWORD}}, enabled: false}}
routes:
  - {{name: uk, destination: "+44 7700 900142", accounts: acme, upstreams: carrier-a}}
  - {{upstreams: [carrier-a, carrier-b]}}
policies:
  words:
    - {{name: casino, when: {{keywords: casino}}, do: refuse}}
    - {{name: elsewhere, when: {{country: FR}}, do: {{route: carrier-b}}}}
retention: {{at_most: {{billing: 500d}}}}
store: {{path: var}}
keys: {{file: keys/kek}}
"""


class FileSource:
    command = None
    credential = None

    def __init__(self, file: Path) -> None:
        self.file = file


class House:
    """See the module. `run(words)` gives (status, output, errors) of the command; `log` builds the store."""

    def __init__(self, directory: Path, capsys: Any) -> None:
        self.directory = directory
        self.config = directory / "smppd.yaml"
        self.config.write_text(CONFIG)
        self._capsys = capsys
        assert self.run("keys", "init")[0] == 0
        self.log = Builder(directory / "var", load_kek(FileSource(directory / "keys/kek")))
        self.log.now = float(int(time.time()) // 3600 * 3600) - 3 * DAY

    def run(self, *words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(self.config)])
        shown = self._capsys.readouterr()
        return status, shown.out, shown.err

    def report(self, *words: str) -> Any:
        status, out, err = self.run("report", *words, "--json")
        assert (status, err) == (0, ""), err
        return json.loads(out)

    def records(self, account: str, people: list[str], **more: Any) -> list[int]:
        """One record to each of these numbers, in one row."""
        made = [
            self.log.record(TEXT.encode(), b"Acme Ltd", number.encode(), account=account, **more) for number in people
        ]
        self.log.commit()
        return made

    def trail(self) -> AuditTrail:
        return AuditTrail(self.directory / "var" / "audit.db", self.log.install.audit, clock=lambda: self.log.now)

    def settings(self) -> Settings:
        return load(self.config)

    def source(self, **more: Any) -> Source:
        """For a report that is made without the command."""
        return Source(
            self.settings(),
            self.log.now,
            self.trail(),
            SqliteRecords(self.directory / "var"),
            id_time,
            **more,
        )
