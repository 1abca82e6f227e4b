"""`smppd store copy`: into a database and back, killed and cut off on the way, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.store.postgres.connection import Server
from tests import postgres
from tests.cli.house import House


class Pair(House):
    """An installation with a second configuration, which has its store in a database of its own."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(path, capsys)
        self.server: Server = postgres.server().database(schema=False)
        self.there = path / "there.yaml"
        text = (path / "smppd.yaml").read_text()
        url = postgres.server().url(self.server.name.rpartition(" ")[2])
        self.there.write_text(text.replace("store: {path: var}", f'store: {{path: var, url: "{url}"}}'))
        self.config = path / "smppd.yaml"

    def moved(self, *words: str, back: bool = False) -> tuple[int, str, str]:
        source, target = (self.there, self.config) if back else (self.config, self.there)
        return self.at(source, "store", "copy", *words, "--to-config", str(target))

    def at(self, config: Path, *words: str) -> tuple[int, str, str]:
        from smppd.cli.main import main

        status = main([*words, "--config", str(config)])
        shown = self.capsys.readouterr()
        return status, shown.out, shown.err


@pytest.fixture
def pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Pair]:
    made = Pair(tmp_path, capsys)
    yield made
    postgres.server().drop(made.server)


def test_there_and_back(pair: Pair) -> None:
    pair.day()
    pair.look()
    status, out, err = pair.moved("--json")
    assert status == 0, err
    told = json.loads(out)
    assert told["tables"]["log"]["rows"] and told["tables"]["keys"]["rows"]
    verdict = json.loads(pair.at(pair.there, "log", "verify", "--json")[1])
    assert verdict["ok"], verdict
