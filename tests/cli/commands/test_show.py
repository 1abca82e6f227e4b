"""`smppd show` against a daemon that says whatever the test wants. Against the real one: tests/e2e/test_show.py."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.cli.commands import show
from smppd.cli.tables import sparkline
from smppd.daemon.askers import SHOWS_NEED
from tests.cli.installation import Run
from tests.control.listener import Listener

HOSTILE = "evil\x1b[2J\u202e\r\nname"


class Daemon(Listener):
    """Answers each request with what stands in `answers`, by what is asked."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        super().__init__(path)

    def answer(self, line: bytes, one: socket.socket) -> None:
        request = json.loads(line)
        self.asked.append(request)
        what = request["do"].removeprefix("show ")
        answer = self.answers.get(what, {"v": 1, "at": 1.8e9, what: []})
        one.sendall(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")


@pytest.fixture
def daemon(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.chdir(tmp_path / "var")  # a socket's path is short
    made = Daemon(Path("control.sock"))
    yield made
    made.close()


def test_every_view_is_offered_and_empty_ones_say_what_that_means(run: Run, daemon: Daemon) -> None:
    assert set(show.VIEWS) == set(SHOWS_NEED)
    for what in show.VIEWS:
        status, out, err = run("show", what)
        assert status == 0 and out.strip(), (what, err)
        if what in show.EMPTY:
            assert show.EMPTY[what] in out
        assert "Traceback" not in err
    assert [request["do"] for request in daemon.asked] == [f"show {what}" for what in show.VIEWS]
    assert all(request["v"] == 1 for request in daemon.asked)


def test_a_table_for_people_and_the_answer_for_scripts(run: Run, daemon: Daemon) -> None:
    one = {
        "id": "c17",
        "name": "acme",
        "tls": {"version": "TLSv1.3", "subject": "CN=acme"},
        "used": 3,
        "window": 10,
        "rate": 1.25,
    }
    answer = {"v": 1, "at": 1.8e9, "sessions": [one]}
    daemon.answers["sessions"] = answer
    status, out, err = run("show", "sessions", "--account", "acme", "--upstream", "a")
    assert status == 0 and all(text in out for text in ("c17", "acme", "TLSv1.3", "CN=acme", "3/10", "1.2"))
    assert err == "1 session\n"
    assert daemon.asked[-1] == {"v": 1, "do": "show sessions", "account": "acme", "upstream": "a"}
    status, out, err = run("show", "sessions", "--json")
    assert (status, json.loads(out), err) == (0, answer, "")


def test_one_message_and_how_many(run: Run, daemon: Daemon) -> None:
    assert run("show", "message", "0ca8a21246000000")[0] == 0
    assert daemon.asked[-1] == {"v": 1, "do": "show messages", "id": "0ca8a21246000000"}
    daemon.answers["messages"] = {
        "v": 1,
        "at": 1.8e9,
        "more": True,
        "messages": [{"id": "0ca8a21246000000", "part": [1, 2], "expires": 1.8e9}],
    }
    status, out, err = run("show", "messages", "--limit", "1")
    assert (
        status == 0
        and "1 of 2" in out
        and "2027-01-15 08:00:00Z" in out
        and err == "1 message, and there may be more\n"
    )
    assert daemon.asked[-1]["limit"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("show", "message"),
        ("show", "message", "x", "--id", "y"),
        ("show", "sessions", "c1"),
        ("show", "sessions", "--limit", "3"),
        ("show", "accounts", "--id", "3"),
        ("show", "accounts", "--credentials", "-"),
        ("show", "accounts", "--operator", "ada"),
        ("show", "sessions", "--watch", "0.1"),
        ("show", "sessions", "--watch", "nan"),
    ],
)
def test_what_makes_no_sense_is_not_asked(run: Run, daemon: Daemon, words: tuple[str, ...]) -> None:
    status, out, err = run(*words)
    assert status == 2 and out == "" and err.startswith("smppd: ") and daemon.asked == []


def test_what_is_not_there_is_called_wrongly(run: Run) -> None:
    for words in (("show",), ("show", "nothing")):
        with pytest.raises(SystemExit) as ended:
            run(*words)
        assert ended.value.code == 2


@pytest.mark.parametrize("what", sorted(show.VIEWS))
def test_nothing_that_a_peer_wrote_moves_the_terminal(run: Run, daemon: Daemon, what: str) -> None:
    row: dict[str, Any] = {str(key): HOSTILE for _title, key in show.VIEWS[what] if isinstance(key, str)} | {
        "tls": {"version": HOSTILE, "subject": HOSTILE},
        "suspended": {"by": HOSTILE},
        "act": {"act": HOSTILE},
        "compiled": HOSTILE,
    }
    body: Any = [row]
    if what == "health":
        body = {"state": HOSTILE, "checks": {HOSTILE: HOSTILE}}
    elif what == "config":
        body = {
            "path": HOSTILE,
            "hash": HOSTILE,
            "settings": {HOSTILE: HOSTILE},
            "last_reload": {"result": HOSTILE, "faults": [HOSTILE]},
            "acts": [row],
        }
    elif what == "flow":
        body = {"accounts": {HOSTILE: {"accepted": [1, 2, 3]}}, "upstreams": {}}
    daemon.answers[what] = {"v": 1, "at": 1.8e9, what: body}
    status, out, err = run("show", what)
    assert status == 0 and "evil" in out and not set("\x1b\u202e\r") & set(out + err)


@pytest.mark.parametrize("body", [None, 5, "x", [None, 5, "x", [1]], {"checks": 5, "accounts": [], "settings": None}])
@pytest.mark.parametrize("what", sorted(show.VIEWS))
def test_an_answer_that_is_not_as_it_should_be_is_no_traceback(run: Run, daemon: Daemon, what: str, body: Any) -> None:
    daemon.answers[what] = {"v": 1, "at": "x", what: body}
    assert run("show", what)[0] == 0


def test_refusals_and_a_daemon_that_is_away(run: Run, daemon: Daemon) -> None:
    daemon.answers["config"] = {"v": 1, "error": "ada may not do this", "code": "role"}
    status, out, err = run("show", "config")
    assert (status, out, err) == (1, "", "smppd: ada may not do this\n")
    daemon.answers["config"] = b"no json\n"
    assert run("show", "config")[0] == 2
    daemon.close()
    status, out, err = run("show", "config")
    assert status == 2 and "no smppd runs on the store" in err


def test_again_and_again_until_it_is_told_to_end(run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("smppd.cli.commands.show.time.sleep", sleep)
    status, out, _ = run("show", "queues", "--watch")
    assert status == 0 and out.count("nothing waits") == 3 and slept == [2.0] * 3
    slept.clear()
    status, out, _ = run("show", "flow", "--watch", "5", "--json")
    assert (
        status == 0 and [json.loads(line)["flow"] for line in out.splitlines()] == [[], [], []] and slept == [5.0] * 3
    )
    assert all("since" in request for request in daemon.asked if request["do"] == "show flow")


def test_another_socket_needs_no_configuration(run: Run, daemon: Daemon, tmp_path: Path) -> None:
    assert run("show", "acts", "--socket", "control.sock")[0] == 0
    file = tmp_path / "credentials"
    file.write_text("walnut ferry\n123456\n")
    file.chmod(0o600)
    words = ("show", "acts", "--socket", "control.sock", "--operator", "ada", "--credentials", str(file))
    assert run(*words)[0] == 0
    assert daemon.asked[-1]["login"] == {"name": "ada", "passphrase": "walnut ferry", "code": "123456"}
    status, _, err = run(*words, "--watch", "1")
    assert status == 2 and "a code serves once" in err


def test_bars() -> None:
    assert sparkline([]) == "" and sparkline([0, 0]) == "▁▁" and sparkline([0, 1, 8, 4]) == "▁▂█▅"
