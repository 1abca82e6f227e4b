"""`smppd act` against a daemon that says whatever the test wants. Against the real one: tests/e2e/test_acts.py."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands.test_show import Daemon
from tests.cli.installation import Run

WHY = ("--reason", "ticket 47")
DONE = {"v": 1, "said": "It is done.", "changed": True}


@pytest.fixture
def daemon(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.chdir(tmp_path / "var")  # a socket's path is short
    made = Daemon(Path("control.sock"))
    made.answers["act"] = DONE
    yield made
    made.close()


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("pause", "a"), {"act": "pause", "target": "a"}),
        (("drain", "a", "--for", "10m"), {"act": "drain", "target": "a", "for": 600.0}),
        (("move", "a", "--to", "b"), {"act": "move", "target": "a", "to": "b"}),
        (("expire", "acme", "--older-than", "1h", "--yes"), {"act": "expire", "target": "acme", "older_than": 3600.0}),
        (("log-level", "debug", "--for", "5m"), {"act": "log-level", "target": "debug", "for": 300.0}),
        (("reload",), {"act": "reload", "target": ""}),
    ],
)
def test_what_is_asked_for(run: Run, daemon: Daemon, words: tuple[str, ...], asked: dict[str, object]) -> None:
    assert run("act", *words, *WHY)[:2] == (0, "It is done.\n")
    assert daemon.asked == [{"v": 1, "do": "act", "reason": "ticket 47", **asked}]


def test_the_answer_for_scripts(run: Run, daemon: Daemon) -> None:
    status, out, _ = run("act", "kick", "c17", *WHY, "--json")
    assert status == 0 and json.loads(out) == {"said": "It is done.", "changed": True}


def test_a_hostile_answer_moves_no_terminal(run: Run, daemon: Daemon) -> None:
    daemon.answers["act"] = DONE | {"said": "evil\x1b[2J\r\n"}
    assert "\x1b" not in run("act", "pause", "a", *WHY)[1]


def test_what_destroys_asks(run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, err = run("act", "expire", "acme", *WHY)
    assert status == 2 and "--yes" in err and not daemon.asked
    terminal = io.StringIO("no\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    status, _, err = run("act", "expire", "acme", *WHY)
    assert status == 1 and "nothing was done" in err and not daemon.asked


@pytest.mark.parametrize("code", ["unknown", "state", "role"])
def test_a_refusal(run: Run, daemon: Daemon, code: str) -> None:
    daemon.answers["act"] = {"v": 1, "error": "that cannot be", "code": code}
    status, out, err = run("act", "pause", "a", *WHY)
    assert (status, out) == (1, "") and "that cannot be" in err


def test_what_is_called_wrongly(run: Run, daemon: Daemon) -> None:
    assert run("act", "pause", "a", "--reason", " ")[0] == 2
    assert run("act", "pause", "a", "--reason", "x" * 201)[0] == 2
    for words in (("pause", "a"), ("move", "a", *WHY), ("drain", "a", "--for", "soon", *WHY), ("jump", "a", *WHY)):
        with pytest.raises(SystemExit) as ended:
            run("act", *words)
        assert ended.value.code == 2
    assert not daemon.asked


def test_without_a_daemon(run: Run) -> None:
    status, _, err = run("act", "pause", "a", *WHY)
    assert status == 2 and "no smppd runs" in err
