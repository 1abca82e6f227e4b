"""`smppd log export` on a real store: columns, cursors, formulas, reveals, owners, files that are whole or not there."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from smppd.audit.trail import Actor
from smppd.cli.commands import CommandError, log_export
from smppd.cli.commands.log_export import COLUMNS, REVEALED
from smppd.cli.whole_file import WholeFile
from smppd.message import State
from smppd.operators.roles import Act, Authority
from tests.cli.commands.test_log import log, trail
from tests.cli.installation import Run
from tests.store.builder import Builder

__all__ = ["log"]

WHY = ("--reason", "contract", "--note", "invoice of November")


def rows(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out)))


def fill(log: Builder, count: int = 4) -> list[str]:
    made = [log.record(b"text %d" % at, destination=b"447700900123") for at in range(count)]
    log.commit()
    log.event(made[0], State.SUBMITTED, b"carrier-a\0up-1")
    log.event(made[0], State.DELIVERED, b"carrier-a\0up-1")
    log.event(made[1], State.REFUSED, b"", error=69)
    log.commit()
    log.event(made[0], State.RECEIPT_DONE, b"")
    log.commit()
    return [f"{one:016x}" for one in made]


def test_a_line_a_message(run: Run, log: Builder) -> None:
    made = fill(log)
    status, out, err = run("log", "export")
    assert status == 0 and "Exported 4 messages. The next export goes on with --after " in err
    found = rows(out)
    assert tuple(found[0]) == COLUMNS and [row["id"] for row in found] == made
    first, second, third, _fourth = found
    assert (first["state"], first["upstream"], first["upstream_id"], first["tries"]) == (
        "DELIVERED",
        "carrier-a",
        "up-1",
        "1",
    )
    assert first["accepted"] and first["submitted"] and first["final"] and first["acknowledged"]
    assert (second["state"], second["error"], second["tries"], second["submitted"]) == ("REFUSED", "69", "0", "")
    assert (third["state"], third["final"], third["to"], third["from"]) == ("STORED", "", "'+44770***0123", "***")
    end = err.split("--after ")[1].strip()
    assert rows(run("log", "export", "--after", end)[1]) == []
    (entry, *_rest) = [one for one in trail(run) if one["event"] == "search"]
    assert (entry["result"], entry["what"]["export"]) == ("begun, masked", "csv")
    assert [one["what"].get("messages") for one in trail(run) if one["event"] == "search"][:2] == [None, 4]


def test_json_lines_and_filters(run: Run, log: Builder) -> None:
    made = fill(log)
    status, out, _err = run("log", "export", "--format", "jsonl", "--state", "delivered", "--state", "refused")
    found: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [one["id"] for one in found] == made[:2]
    assert tuple(found[0]) == COLUMNS and found[0]["to"] == "+44770***0123" and found[0]["error"] is None
    status, out, err = run("log", "export", "--account", "nobody")
    assert (status, rows(out)) == (0, []) and err.startswith("The configuration has no account nobody:")
    assert len(rows(run("log", "export", "--since", "2h")[1])) == 4
    assert rows(run("log", "export", "--since", "5m")[1]) == []
    assert rows(run("log", "export", "--until", "2h")[1]) == []


def test_chained_by_the_cursor_of_the_last_line(run: Run, log: Builder) -> None:
    made = fill(log)
    found: list[str] = []
    after: list[str] = []
    for _ in range(3):
        some = rows(run("log", "export", "--limit", "3", *after)[1])
        found += [row["id"] for row in some]
        after = ["--after", some[-1]["cursor"]] if some else after
    assert found == made


def test_a_cursor_that_is_none_of_this_log(run: Run, log: Builder) -> None:
    fill(log)
    status, out, err = run("log", "export", "--after", "7fffffffffffffff-3")
    assert (status, rows(out)) == (1, []) and "--after is no cursor of this log" in err
    end = err.split("--after ")[1].split()[0]
    assert end == "7fffffffffffffff-3"
    assert run("log", "export", "--after", "0000000000000007-1")[0] == 1, "of a row that was never here"
    assert run("log", "export", "--after", "0000000000000007-0")[0] == 0, "nothing was taken of it"


def test_no_cell_is_a_formula(run: Run, log: Builder) -> None:
    log.record(b"=1+1", source=b"=cmd", destination=b"447700900123")
    log.commit()
    log.event(log.record(b"x", destination=b"447700900123"), State.SUBMITTED, b"carrier-a\0=HYPERLINK(1)")
    log.commit()
    out = run("log", "export", "--reveal", *WHY, "--out", str(log.directory.parent / "out.csv"))
    assert out[0] == 0, out
    found = rows((log.directory.parent / "out.csv").read_text())
    assert (found[0]["text"], found[0]["from"], found[1]["upstream_id"]) == ("'=1+1", "'=cmd", "'=HYPERLINK(1)")
    assert log_export._cell("\N{FULLWIDTH EQUALS SIGN}1") == "'\N{FULLWIDTH EQUALS SIGN}1"


def test_a_reveal_is_named_on_the_trail_and_only_then_there(run: Run, log: Builder, tmp_path: Path) -> None:
    made = fill(log)
    file = tmp_path / "out.jsonl"
    for wrong in ((), ("--reason", "contract"), (*WHY,)):
        assert run("log", "export", "--reveal", *wrong)[0] == 2
    status, _out, err = run("log", "export", "--format", "jsonl", "--reveal", *WHY, "--out", str(file))
    assert status == 0, err
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert tuple(found[0]) == REVEALED and found[0]["text"] == "text 0" and found[0]["to"] == "+447700900123"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (entry,) = [one for one in trail(run) if one["event"] == "reveal"]
    assert entry["what"]["ids"].split() == made and len(entry["what"]["subjects"].split()) == 4
    assert entry["what"]["note"] == "invoice of November"
    assert run("log", "export", "--out", str(file))[0] == 2, "it is there already"
    assert run("log", "export", "--out", str(file), "--force")[0] == 0


def test_nothing_is_there_where_the_look_cannot_be_recorded(
    run: Run, log: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log)

    def fails(*_words: object, **_named: object) -> None:
        raise CommandError("nothing is shown")

    monkeypatch.setattr("smppd.office.access.Access.record", fails)
    file = tmp_path / "out.csv"
    assert run("log", "export", "--reveal", *WHY, "--out", str(file))[0] == 1
    assert not file.exists()
    status, out, _err = run("log", "export")
    assert (status, out) == (1, "")


def test_more_than_one_person_may_reveal(
    run: Run, log: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def agreed(_authority: object, _args: object, _settings: object, kind: str, what: dict[str, object]) -> str:
        asked.append({"kind": kind, **what})
        return "bob"

    monkeypatch.setattr(log_export, "approver", agreed)
    monkeypatch.setattr(log_export, "ALONE", 3)
    monkeypatch.setattr(log_export, "MOST_REVEALED", 4)
    fill(log)
    words = ("log", "export", "--reveal", *WHY, "--force", "--out", str(tmp_path / "out.csv"))
    assert run(*words, "--limit", "3")[0] == 0 and asked == []
    assert run(*words, "--since", "7d")[0] == 0
    assert asked == [{"kind": "reveal", "export": "log", "reason": "contract", "since": "7d"}]
    entry = [one for one in trail(run) if one["event"] == "reveal"][-1]
    assert entry["what"]["second"] == "bob"
    log.record(b"a fifth")
    log.commit()
    status, _out, err = run(*words)
    assert status == 2 and "more than 4 records" in err


def test_an_owner_exports_his_own_account_alone() -> None:
    owner = Authority(Actor("uid 1", "tty"), "ann", accounts=frozenset({"acme"}), act=Act.SEARCH)

    def accounts(*asked: str) -> frozenset[str] | None:
        return log_export._accounts(argparse.Namespace(account=list(asked) or None), owner)

    assert accounts() == accounts("acme") == frozenset({"acme"})
    with pytest.raises(CommandError, match="you may not see account beta"):
        accounts("acme", "beta")


@pytest.mark.parametrize(
    "words", [("--after", "7"), ("--since", "1h", "--until", "2h"), ("--limit", "0"), ("--state", "lost")]
)
def test_bad_calls(run: Run, log: Builder, words: tuple[str, ...]) -> None:
    fill(log)
    try:
        status, _out, err = run("log", "export", *words)
    except SystemExit as ended:
        assert ended.code == 2
    else:
        assert status == 2 and err


@pytest.mark.parametrize("where", ["file", "standard output"])
def test_a_disk_without_space_is_a_sentence(
    run: Run, log: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    fill(log)
    file = tmp_path / "out.csv"
    if where == "file":
        monkeypatch.setattr(WholeFile, "_open", lambda _self: os.open("/dev/full", os.O_WRONLY))
        status, _out, err = run("log", "export", "--out", str(file))
    else:
        with open("/dev/full", "w") as full:
            monkeypatch.setattr("sys.stdout", full)
            status, _out, err = run("log", "export")
    assert status == 1 and "it cannot be written: No space left on device" in err and not file.exists()
