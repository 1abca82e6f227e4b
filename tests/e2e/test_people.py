"""People as they work: the real commands in processes of their own, at a terminal, as a user who is not root, side by side."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.vault.kek import load_kek
from tests import forked
from tests.cli.installation import CONFIG, FileSource
from tests.cli.staff import PASSPHRASE, Person
from tests.store.builder import Builder, files

ROOT = Path(__file__).resolve().parent.parent.parent
SUBJECT = "+447700900123"
LAW = ("log", "search", SUBJECT, "--reason", "law", "--note", "order 12/26", "--reveal")
NOBODY = 65534


class House:
    """An installation whose commands are run as processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.terminals: list[Terminal] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("SSH_CONNECTION", "SUDO_UID")},
            "PASSWORD": "not-used",
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(path / "run"),
            "HOME": str(path / "home"),
        }
        for name in ("run", "home"):
            (path / name).mkdir(mode=0o700)
        (path / "smppd.yaml").write_text(CONFIG)
        assert self.run("keys", "init").returncode == 0

    def _words(self, words: tuple[str, ...]) -> list[str]:
        return [*words, "--config", str(self.path / "smppd.yaml")]

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "smppd", *self._words(words)]

    def run(self, *words: str, stdin: str = "", nobody: bool = False) -> subprocess.CompletedProcess[str]:
        user = NOBODY if nobody else None
        return forked.run(self._words(words), stdin, environment=self.environment, user=user)

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        pipes = subprocess.PIPE
        return subprocess.Popen(self._command(words), stdin=pipes, stdout=pipes, stderr=pipes, env=self.environment)

    def at_terminal(self, *words: str) -> Terminal:
        self.terminals.append(Terminal(self._command(words), self.environment))
        return self.terminals[-1]

    def close(self) -> None:
        """Ends what a test that failed has left."""
        for one in self.terminals:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait(60)

    def add(self, name: str, role: str) -> Person:
        made = self.run("operators", "add", name, "--role", role, "--stdin", stdin=PASSPHRASE + "\n")
        assert made.returncode == 0, made.stderr
        return Person(name, PASSPHRASE, made.stdout)

    def give_to_nobody(self) -> None:
        """The daemon's user owns the installation, as a package makes it."""
        for path in [self.path, *self.path.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)

    def trail(self, event: str) -> list[dict[str, dict[str, str]]]:
        lines = self.run("audit", "show", "--json", "--event", event).stdout.splitlines()
        return [json.loads(line) for line in lines]


class Terminal:
    """A command at a terminal of its own, and what is on the screen."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()

        def controlled() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, preexec_fn=controlled
        )
        os.close(slave)
        self.screen = ""
        self.seen = 0

    def until(self, text: str, seconds: float = 180) -> str:
        """Waits for a text behind the one waited for before; the screen until then."""
        end = time.monotonic() + seconds
        while text not in self.screen[self.seen :]:
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.screen}"
            try:
                octets = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                octets = b""
            assert octets, f"{text!r} did not come: {self.screen}"
            self.screen += octets.decode().replace("\r\n", "\n")
        self.seen = self.screen.index(text, self.seen) + len(text)
        return self.screen

    def type(self, line: str) -> None:
        os.write(self.master, line.encode() + b"\n")

    def end(self) -> int:
        try:
            while octets := os.read(self.master, 65536):
                self.screen += octets.decode().replace("\r\n", "\n")
        except OSError:
            pass
        status = self.process.wait(180)
        os.close(self.master)
        return status


@pytest.fixture
def house() -> Iterator[House]:
    # Not in pytest's own folder, which nobody but its user may enter.
    with tempfile.TemporaryDirectory(prefix="smppd-people-") as name:
        path = Path(name)
        one = House(path)
        log = Builder(path / "var", load_kek(FileSource(path / "keys/kek")))
        log.now = time.time() - 60
        log.record(b"your code is 4711", destination=SUBJECT[1:].encode())
        log.commit()
        log.close()
        yield one
        one.close()


def test_an_operator_is_added_at_a_terminal_and_nothing_typed_is_shown(house: House) -> None:
    terminal = house.at_terminal("operators", "add", "anna", "--role", "operator")
    terminal.until("New passphrase of anna: ")
    terminal.type(PASSPHRASE)
    terminal.until("Once more: ")
    terminal.type(PASSPHRASE)
    shown = terminal.until("Code that the app shows: ")
    anna = Person("anna", PASSPHRASE, shown)
    assert json.loads(house.run("operators", "list", "--json").stdout) == {"operators": []}, "not before the code"
    terminal.type("000000")
    terminal.until("That is not the code.")
    terminal.until("Code that the app shows: ")
    code = anna.code(time.time())
    terminal.type(code)
    assert terminal.end() == 0 and "anna is an operator now" in terminal.screen
    assert PASSPHRASE not in terminal.screen and code not in terminal.screen
    # The code that proved it is used up.
    used = house.run("operators", "list", "--operator", "anna", "--credentials", "-", stdin=f"{PASSPHRASE}\n{code}\n")
    assert used.returncode == 1 and "login refused" in used.stderr and "Traceback" not in used.stderr
    terminal = house.at_terminal("operators", "list", "--operator", "anna")
    terminal.until("Passphrase of anna: ")
    terminal.type(PASSPHRASE)
    terminal.until("Code: ")
    terminal.type(anna.recovery[0])
    assert terminal.end() == 0 and "7 are left" in terminal.screen and anna.recovery[0] not in terminal.screen
    stored = files(house.path / "var")
    for secret in (PASSPHRASE, anna.typed, anna.recovery[0], anna.recovery[1], anna.uri):
        assert secret.encode() not in stored


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_who_is_stopped_at_the_code_has_added_nobody(house: House, how: signal.Signals) -> None:
    terminal = house.at_terminal("operators", "add", "anna", "--role", "operator")
    for prompt in ("New passphrase of anna: ", "Once more: "):
        terminal.until(prompt)
        terminal.type(PASSPHRASE)
    terminal.until("Code that the app shows: ")
    terminal.process.send_signal(how)
    assert terminal.end() == (-how if how is signal.SIGKILL else 130) and "Traceback" not in terminal.screen
    assert json.loads(house.run("operators", "list", "--json").stdout) == {"operators": []}
    assert house.add("anna", "operator").name == "anna"


def test_processes_side_by_side_guess_five_times_in_all(house: House) -> None:
    house.add("anna", "operator")
    guesses = [house.begin("operators", "list", "--operator", "anna", "--credentials", "-") for _ in range(8)]
    answers = [one.communicate(b"a wrong passphrase\n000000\n", timeout=300) for one in guesses]
    assert {one.returncode for one in guesses} == {1} and len(set(answers)) == 1, answers
    reasons = [entry["what"]["reason"] for entry in house.trail("login refused")]
    assert reasons.count("passphrase") == 5 and set(reasons) <= {"passphrase", "too often"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_who_is_not_root_works_with_a_login_and_two_agree(house: House) -> None:
    anna, ben = house.add("anna", "privacy-officer"), house.add("ben", "support")
    house.give_to_nobody()
    refused = house.run("purge", nobody=True)
    assert refused.returncode == 1 and "this needs a login" in refused.stderr
    masked = house.run("log", "search", SUBJECT, "--reason", "support", nobody=True)
    assert masked.returncode == 0 and "+44770***0123" in masked.stdout
    asked = house.run("log", "search", SUBJECT, "--reason", "law", "--note", "x", "--reveal", nobody=True)
    assert asked.returncode == 1 and asked.stdout == ""

    def log_in(person: Person, number: int) -> str:
        return f"{PASSPHRASE}\n{person.recovery[number]}\n"

    session = house.run("login", "--operator", "anna", "--credentials", "-", stdin=log_in(anna, 0), nobody=True)
    assert session.returncode == 0, session.stderr
    (token,) = (house.path / "run/smppd").glob("*.session")
    assert token.stat().st_uid == NOBODY and token.stat().st_mode & 0o777 == 0o600
    waits = house.run(*LAW, nobody=True)
    assert waits.returncode == 3 and "approvals grant 1" in waits.stderr, waits.stderr
    assert house.run("approvals", "grant", "1", nobody=True).returncode == 1, "his own"
    grant = ("approvals", "grant", "1", "--operator", "ben", "--credentials", "-")
    granted = house.run(*grant, stdin=log_in(ben, 0), nobody=True)
    assert granted.returncode == 0, granted.stderr
    shown = house.run(*LAW, nobody=True)
    assert shown.returncode == 0 and "your code is 4711" in shown.stdout, shown.stderr
    purged = house.run("purge", nobody=True)
    assert purged.returncode == 0, purged.stderr
    assert house.run("logout", nobody=True).returncode == 0
    assert house.run("purge", nobody=True).returncode == 1
    entries = house.trail("reveal")
    assert len(entries) == 1 and str(entries[0]["who"]).startswith("anna (") and entries[0]["what"]["second"] == "ben"
    assert house.run("audit", "verify", nobody=True).returncode == 0
