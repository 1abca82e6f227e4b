"""A console on a real store with people, a clock of the test's own, and a daemon that answers by the contract."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from smppd.audit.trail import Actor
from smppd.config import Settings
from smppd.console.app import App
from smppd.console.asking import Daemon
from smppd.console.gate import Gate
from smppd.console.pages import pages
from smppd.office.desk import Office
from smppd.operators import totp
from smppd.operators.desk import Desk
from smppd.operators.people import Credentials, Operator, People, new_credentials
from smppd.operators.roles import Role
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.keys import InstallSecrets, create_install, load_install
from tests.cli.staff import Staff
from tests.console.counter import Counter
from tests.console.fake import NOW, Browser, FakeDaemon
from tests.vault.rows import kek

PASSPHRASE = "walnut ferry ochre lamp"

Entry = tuple[str, str, dict[str, str | int], str]
"""Of the audit trail: event, who, what, result."""


@cache
def credentials(name: str) -> Credentials:
    """Of a person, the same in all tests: a hash takes a while."""
    return new_credentials(name, PASSPHRASE, os.urandom)


class StandIn(Office):
    """An office whose trail is a list, and which vouches for everybody."""

    def __init__(self, desk: Desk, entries: list[Entry]) -> None:
        self.desk = desk
        self.people = People(desk)
        self._entries = entries

    def vouched(self, operator: Operator) -> bool:
        return True

    def record(self, event: str, who: str, what: Mapping[str, str | int], result: str, actor: Actor) -> None:
        self._entries.append((event, who, dict(what), result))


class Installation:
    """A store with operators, and the console on it. `now` is its clock; `steps` gives each login a code of its own."""

    def __init__(self, path: Path, install: InstallSecrets) -> None:
        self.path = path
        self.install = install
        self.now = NOW
        self.daemon = FakeDaemon()
        self.entries: list[Entry] = []
        self.people: dict[str, Operator] = {}
        self.recovery: dict[str, tuple[str, ...]] = {}
        self.settings = Settings.model_validate(
            {
                "listeners": [{"address": "127.0.0.1:2775"}],
                "store": {"path": str(path)},
                "keys": {"file": str(path / "kek")},
            }
        )
        self.gate = Gate(self.office, 900.0, 300.0, lambda: self.now, os.urandom)
        self.app = self.console()

    def console(self) -> App:
        """The pages on this gate."""
        daemon = Daemon(self.daemon, lambda: self.now)
        return App(self.settings, self.office, self.gate, daemon, pages(self.gate), lambda: self.now)

    @contextmanager
    def office(self) -> Iterator[StandIn]:
        desk = Desk(SqliteDocuments(self.path), self.install)
        try:
            yield StandIn(desk, self.entries)
        finally:
            desk.close()

    def add(self, name: str, *roles: Role, **fields: object) -> None:
        """A new operator."""
        made = credentials(name)
        self.daemon.roles[name] = roles
        with self.office() as office:
            hashes = office.people.recovery_hashes(name, made.codes)
            operator = Operator(
                name, made.phc, made.secret, hashes, frozenset(roles), created=int(NOW), changed=int(NOW)
            )
            operator = operator._replace(**fields)  # type: ignore[arg-type]
            office.people.add(operator)
        self.people[name] = operator
        self.recovery[name] = made.codes

    def change(self, name: str, **fields: object) -> None:
        """Changes an operator, as `smppd operators` does."""
        with self.office() as office:
            office.people.change(name, lambda one: one._replace(**fields), self.now, "root")  # type: ignore[arg-type]

    def code(self, name: str) -> str:
        """The next code of an operator: the clock goes on for it."""
        self.now += totp.STEP
        return totp.code_at(self.people[name].secret, int(self.now) // totp.STEP)

    def claim(self, name: str, **fields: str) -> dict[str, str]:
        """What is typed into the login form."""
        return {"name": name, "passphrase": PASSPHRASE, "code": self.code(name), **fields}

    def logged_in(self, name: str, **browser: object) -> Browser:
        """A browser in which somebody has logged in, with the second look."""
        made = Browser(self.app, **browser)  # type: ignore[arg-type]
        made.send("/login", self.claim(name))
        assert "Next code" in made.words, made.words
        made.post("/login/code", {"form": made.token(), "code": self.code(name)})
        assert made.location == "/", made.words
        return made


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    """The installation, with an operator (ada), a supporter (sue), an auditor (aud) and the owner of acme (olga)."""
    key, rows = kek(), KeyStore(tmp_path)
    create_install(key, rows)
    install = load_install(key, rows)
    rows.close()
    made = Installation(tmp_path, install)
    made.add("ada", Role.OPERATOR)
    made.add("sue", Role.SUPPORT)
    made.add("aud", Role.AUDITOR)
    made.add("olga", Role.ACCOUNT_OWNER, accounts=("acme",))
    return made


@pytest.fixture
def staff(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Staff:
    """An installation whose commands are run by root, who may do all without a login."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Staff(tmp_path, capsys, monkeypatch)


@pytest.fixture
def counter(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """The pages that are made of its records, as its people get them."""
    return Counter(staff, monkeypatch)
