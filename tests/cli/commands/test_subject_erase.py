"""`smppd subject erase` as a transcript: what it asks for, what it says, what it leaves, and that it can be run again."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any

import pytest

from smppd.audit.trail import current_actor
from smppd.backup.erasures import open_eraser
from smppd.cli.commands import CommandError
from smppd.cli.commands import subject_erase as command
from smppd.cli.commands.subject_erase import _Erasure
from smppd.daemon import erasing as daemon_erasing
from smppd.daemon.erasing import Underway
from smppd.operators.roles import Act, Authority
from smppd.records.erasure import Eraser
from smppd.records.erasure_journal import NAME
from smppd.relay.erasing import Kept
from smppd.store.api import Damaged
from smppd.vault.kek import load_kek
from tests.cli.installation import FileSource, Run
from tests.cli.killed import killed_at
from tests.store.builder import DAY, Builder, files
from tests.store.journals import cores_of

PERSON = "+447700900123"
DIGITS = PERSON[1:].encode()
OTHER = b"447700900456"
WHY = ("--reason", "law", "--note", "request of 2026-11-29 by +447700900123")


@pytest.fixture
def log(run: Run, tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "var", load_kek(FileSource(tmp_path / "keys/kek")), sealed=True)
    builder.now = time.time() - DAY
    yield builder
    builder.close()


def fill(log: Builder, rows: int = 3) -> list[int]:
    mine = []
    for _ in range(rows):
        mine.append(log.record(b"secret", destination=DIGITS))
        log.record(b"other", destination=OTHER)
        log.record(b"national", destination=b"07700900123")
        log.commit()
    log.close()
    return mine


def found(run: Run, number: str = PERSON) -> list[dict[str, Any]]:
    status, out, _ = run("log", "search", number, "--reason", "law", "--json")
    return list(json.loads(out)["records"]) if status == 0 else []


def sound(run: Run) -> None:
    for name in ("log", "audit"):
        status, out, err = run(name, "verify")
        assert status == 0, out + err


def test_erasing_says_what_it_did_and_where_the_certificate_is(run: Run, log: Builder, tmp_path: Path) -> None:
    mine = fill(log)
    status, out, err = run("subject", "erase", PERSON, *WHY, "--yes")
    assert (status, err) == (0, "")
    first, second, third = out.splitlines()
    assert first == "Erased 3 records, and 0 things on their way (erasure 1)."
    assert second == f"The certificate is {tmp_path / 'var'}/certificates/erasure-1.json."
    assert third.startswith("Copies of keys in backups can open it until ")
    everything = files(tmp_path / "var")
    assert not [one for one in mine if log.secrets[one][:32] in everything or log.secrets[one][32:] in everything]
    assert DIGITS not in everything and DIGITS not in (tmp_path / "var" / NAME).read_bytes()
    assert {row["match"] for row in found(run)} == {"national digits"}
    sound(run)
    entries = [json.loads(line) for line in run("audit", "show", "--event", "erasure", "--json")[1].splitlines()]
    assert [entry["result"] for entry in entries] == ["journal", "erased"]
    assert entries[0]["what"]["ids"] == " ".join(f"{one:016x}" for one in sorted(mine))
    assert entries[0]["what"]["note"] == "request of 2026-11-29 by +***" and "900123" not in json.dumps(entries)


def test_the_commit_of_a_record_that_came_meanwhile_is_destroyed_too(
    run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = fill(log)
    late: list[int] = []
    erase_underway = daemon_erasing.erase_underway

    def then_one_comes(*words: Any, acts: bool, **named: Any) -> Underway:
        done = erase_underway(*words, acts=acts, **named)
        if acts:
            again = Builder(log.directory, log.kek, sealed=True)
            again.now = time.time()
            late.append(again.record(b"late", destination=DIGITS))
            again.commit()
            again.close()
            assert cores_of(log.directory), "its secrets stand in the block of the commit too"
        return done

    monkeypatch.setattr(command, "erase_underway", then_one_comes)
    assert run("subject", "erase", PERSON, *WHY, "--yes", "--json")[0] == 0
    assert len(late) == 1 and found(run) != [] and late[0] not in {int(one["id"], 16) for one in found(run)}
    assert cores_of(log.directory) == [] and len(mine) == 3
    sound(run)


def test_running_it_again_finds_nothing(run: Run, log: Builder) -> None:
    fill(log)
    assert run("subject", "erase", PERSON, *WHY, "--yes")[0] == 0
    status, out, err = run("subject", "erase", PERSON, *WHY, "--yes")
    assert (status, out) == (1, "") and "there is nothing of +44770***0123 in the log or on its way" in err
    assert run("subject", "erase", "--resume") == (
        0,
        "Finished 0 erasures; 0 wait for a hold or a retention to end.\n",
        "",
    )


def test_national_digits_only_where_it_is_said(run: Run, log: Builder) -> None:
    fill(log)
    status, out, _ = run(
        "subject", "erase", "07700 900123", "--region", "GB", "--also-national", *WHY, "--yes", "--json"
    )
    assert status == 0 and json.loads(out)["erased"] == 6
    assert found(run) == []
    assert len(found(run, "+" + OTHER.decode())) == 3


def test_it_asks_and_takes_no_for_an_answer(run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, status in (("no\n", 1), ("", 1), ("yes\n", 0)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        done = run("subject", "erase", PERSON, *WHY)
        assert done[0] == status and "3 records of +44770***0123 and 0 things on their way will be destroyed" in done[1]
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    assert run("subject", "erase", "+" + OTHER.decode(), *WHY)[0] == 2


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ((PERSON, "--yes"), 2, "give NUMBER, --reason and --note"),
        ((PERSON, "--reason", "law", "--yes"), 2, "give NUMBER, --reason and --note"),
        (("--reason", "law", "--note", "x", "--yes"), 2, "give NUMBER, --reason and --note"),
        ((PERSON, "--resume"), 2, "--resume takes no number"),
        (("+", *WHY, "--yes"), 2, "give a phone number"),
        ((PERSON, *WHY, "--region", "XX", "--yes"), 2, "no country"),
        (("+447700900999", *WHY, "--yes"), 1, "nothing was erased"),
    ],
)
def test_refusals(run: Run, log: Builder, words: tuple[str, ...], status: int, sentence: str) -> None:
    fill(log)
    before = files(log.directory)
    done = run("subject", "erase", *words)
    assert done[0] == status and sentence in done[2] and done[1] == ""
    assert all(log.secrets[one] in before for one in log.secrets) and len(found(run)) >= 3


def test_who_may_not_erase_does_not(run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log)

    def refuse(act: Act, *_rest: object) -> Authority:
        assert act is Act.ERASE
        raise CommandError("you may not do this")

    monkeypatch.setattr(command, "authorise", refuse)
    assert run("subject", "erase", PERSON, *WHY, "--yes")[::2] == (1, "smppd: you may not do this\n")
    monkeypatch.setattr(
        command, "authorise", lambda *_: Authority(current_actor(), "alice", accounts=frozenset(("zeta",)))
    )
    assert run("subject", "erase", PERSON, *WHY, "--yes", "--account", "acme")[0] == 2
    assert run("subject", "erase", PERSON, *WHY, "--yes")[0] == 1  # there is nothing in his account
    assert len(found(run)) == 6


class Held:
    """Hold 4 keeps some records."""

    def __init__(self, records: Collection[int]) -> None:
        self._records = records

    def holding(self, record_id: int, _account: str, _accepted_ms: int, _forms: Collection[bytes]) -> int:
        return 4 if record_id in self._records else 0

    def in_force(self) -> Collection[int]:
        return (4,) if self._records else ()


def test_what_is_held_is_queued_and_said(run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = fill(log)
    held = Held({mine[0]})
    plain = open_eraser

    def with_holds(*arguments: Any, **more: Any) -> tuple[Eraser, Any]:
        return plain(*arguments, **{**more, "holds": held})

    monkeypatch.setattr("smppd.cli.erasing.open_eraser", with_holds)
    status, out, err = run("subject", "erase", PERSON, *WHY, "--yes")
    assert status == 1 and out.startswith("Erased 2 records")
    assert "1 records are not erased yet: hold 4 keeps 1. They are queued" in err
    assert len([row for row in found(run) if row["match"] == "exact"]) == 1
    sound(run)
    status, out, err = run("subject", "erase", PERSON, *WHY, "--yes", "--json")
    assert status == 1 and json.loads(out)["queued_by_hold"] == {"4": 1}
    assert run("subject", "erase", "--resume")[0] == 1
    monkeypatch.setattr("smppd.cli.erasing.open_eraser", plain)
    assert run("purge")[0] == 0  # which knows of no hold, so it finishes what was queued
    assert run("subject", "erase", "--resume")[0] == 0
    assert not [row for row in found(run) if row["match"] == "exact"]
    sound(run)


def test_damaged_items_with_the_number_go_and_others_stay(run: Run, log: Builder) -> None:
    fill(log, 1)
    again = Builder(log.directory, log.kek, sealed=True)
    at = int(time.time())
    for content in (b"x" + DIGITS + b"y", b"x" + OTHER + b"y"):
        again.store.batch.damaged.append(Damaged("frame", "acme", 0, "deliver", "ValueError", at, at + 9999, content))
    again.commit()
    again.close()
    status, out, _ = run("subject", "erase", PERSON, *WHY, "--yes", "--json")
    assert status == 0 and json.loads(out)["on_its_way"]["damaged"] == 1
    assert len(run("damaged", "list", "--json")[1].strip().splitlines()) >= 1
    assert len(json.loads(run("damaged", "list", "--json")[1])["items"]) == 1


def test_it_can_be_killed_at_any_step_and_run_again(run: Run, log: Builder, tmp_path: Path) -> None:
    mine = fill(log, 40)
    words = ["subject", "erase", PERSON, *WHY, "--yes", "--config", str(tmp_path / "smppd.yaml")]
    killed = [step for step in (3, 9, 20, 33, 47, 60, 75) if killed_at(words, step)]
    assert len(killed) > 3
    sound(run)
    run("subject", "erase", PERSON, *WHY, "--yes")
    assert run("subject", "erase", "--resume")[0] == 0
    everything = files(tmp_path / "var")
    assert not [one for one in mine if log.secrets[one][:32] in everything or log.secrets[one][32:] in everything]
    sound(run)


def test_killed_on_its_way_it_is_finished_by_the_next(run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what was taken out, nor what holds kept: it is done again by the records, when no hold of
    then is in force any more."""
    mine = fill(log)
    monkeypatch.setattr(_Erasure, "_held", lambda _: [Kept(frozenset(), "", 0, inf, 4)])

    def killed(*_: Any, acts: bool, **__: Any) -> Underway:
        if acts:
            raise CommandError("killed")
        return Underway({}, frozenset(), True)

    asked: list[int] = []

    def finish(_settings: object, _kek: object, records: Sequence[int]) -> bool:
        asked.extend(records)
        return True

    plain = open_eraser
    with monkeypatch.context() as patch:
        patch.setattr("smppd.cli.commands.subject_erase.erase_underway", killed)
        assert run("subject", "erase", PERSON, *WHY, "--yes")[0] == 1
    monkeypatch.setattr("smppd.cli.erasing.finish_underway", finish)
    with monkeypatch.context() as patch:
        patch.setattr(
            "smppd.cli.erasing.open_eraser", lambda *given, **more: plain(*given, **{**more, "holds": Held(set())})
        )
        patch.setattr(Held, "in_force", lambda _: (4,))
        assert run("subject", "erase", "--resume")[0] == 1 and asked == []
    for _ in range(2):
        assert run("subject", "erase", "--resume")[0] == 0 and asked == sorted(mine)
