"""Holds beside what else decides on a record: floors, rotation, a person's request."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from smppd.vault.kek import load_kek
from tests.cli.installation import CONFIG, FileSource, Run
from tests.store.builder import DAY, Builder

SUBJECT = "+447700900123"
WHY = ("--authority", "District Court", "--reference", "Order 12/26", "--expires", "2030-01-01")


@pytest.fixture
def log(run: Run, tmp_path: Path) -> Builder:
    builder = Builder(tmp_path / "var", load_kek(FileSource(tmp_path / "keys/kek")), sealed=True)
    builder.now = time.time() - 40 * DAY
    builder.record(b"meet me at noon", destination=SUBJECT[1:].encode(), body=DAY, numbers=30 * DAY)
    builder.record(b"a neighbour", destination=b"447700900111", body=DAY, numbers=30 * DAY)
    builder.commit()
    builder.close()
    return builder


def shown(run: Run) -> str:
    status, out, err = run("log", "search", SUBJECT, "--reason", "law", "--note", "Order 12/26", "--reveal")
    assert status == 0, err
    return out


def test_a_retired_kek_takes_nothing_of_what_a_hold_keeps(run: Run, log: Builder) -> None:
    assert run("hold", "add", "--number", SUBJECT, *WHY)[0] == 0
    assert run("purge")[0] == 0
    assert "meet me at noon" in shown(run)
    assert run("keys", "rotate")[0] == 0 and "meet me at noon" in shown(run)
    status, _out, err = run("keys", "rotate", "--retire")
    assert status == 0, err
    assert "meet me at noon" in shown(run)
    assert run("hold", "release", "1")[0] == 0
    assert run("purge")[0] == 0
    assert run("log", "search", SUBJECT, "--reason", "law", "--note", "x", "--reveal")[0] == 1


def test_a_person_gets_what_only_a_hold_still_keeps(run: Run, log: Builder) -> None:
    assert run("hold", "add", "--number", SUBJECT, *WHY)[0] == 0
    assert run("purge")[0] == 0
    status, out, err = run("subject", "export", SUBJECT, "--reason", "contract", "--note", "access 7", "--json")
    assert status == 0, err
    (record,) = json.loads(out)["records"]
    assert (record["text"], record["match"], record["person"]) == ("meet me at noon", "exact", "recipient")
    assert "national digits" not in err


def test_a_floor_and_a_hold_each_keep_until_their_own_end(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CONFIG.replace("billing: 60d}", "billing: 60d, at_least: {numbers: 20d, reference: Telecom Act 7}}")
    assert text != CONFIG
    (tmp_path / "smppd.yaml").write_text(text)
    builder = Builder(tmp_path / "var", load_kek(FileSource(tmp_path / "keys/kek")), sealed=True)
    builder.now = time.time() - 10 * DAY
    builder.record(b"meet me at noon", destination=SUBJECT[1:].encode(), body=DAY, numbers=30 * DAY)
    builder.commit()
    builder.close()
    erase = ("subject", "erase", SUBJECT, "--reason", "contract", "--note", "request 7", "--yes", "--json")
    added = run("hold", "add", "--number", SUBJECT, *WHY)
    assert added[0] == 0, added
    status, out, _ = run(*erase)
    told = json.loads(out)
    assert status == 1 and told["queued_by_hold"] == {"1": 1}
    assert run("hold", "release", "1")[0] == 0
    status, out, _ = run("subject", "erase", "--resume", "--json")
    assert status == 1, "the floor still keeps it"
    (tmp_path / "smppd.yaml").write_text(CONFIG)
    status, out, err = run("subject", "erase", "--resume", "--json")
    assert status == 0, err
    assert run("log", "search", SUBJECT, "--reason", "support")[0] == 1
    assert run("log", "verify")[0] == 0
