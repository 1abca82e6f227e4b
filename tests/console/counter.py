"""The console's pages about records and people on a real store, asked by operators without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from smppd.audit.trail import Actor
from smppd.config import Settings, load
from smppd.console.app import App
from smppd.console.asking import Daemon
from smppd.console.gate import Visitor
from smppd.console.office import offices
from smppd.console.pages import RECORDS_AND_PEOPLE
from smppd.console.web import Incoming, Reply
from smppd.control.wire import ControlError
from smppd.operators.people import Operator, People
from smppd.operators.roles import Act, Authority
from tests.cli.staff import Person, Staff

TOKEN = "a form's token"


class _Gate:
    """Stands for the door: everybody says who he is in his cookie."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.said: list[str] = []

    def visitor(self, token: str, address: str, act: Act | None, *, person: bool) -> Visitor | None:
        operator = self._counter.operator(token)
        actor = Actor("console", f"console, browser at {address}")
        return Visitor(operator, Authority(actor, operator.name, operator.roles, operator.sees(), act), "login")

    def is_form_token(self, cookie: str, token: str) -> bool:
        return token == TOKEN

    def form_token(self, cookie: str) -> str:
        return TOKEN

    def note(self, token: str, sentence: str) -> None:
        self.said.append(sentence)

    def notes(self, token: str) -> list[str]:
        return []


class Shown:
    """A reply, as somebody reads it."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.html = reply.body.decode()
        self.headers = dict(reply.headers)
        main = self.html.partition("<main")[2]
        self.text = " ".join(unescape(re.sub(r"<[^>]*>", " ", main)).split())

    def hidden(self, name: str) -> str:
        """The value of a hidden field."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.html)
        assert found is not None, name
        return unescape(found[1])


class Counter:
    """The console of an installation with people. Nobody logs in: `ask` says who it is."""

    def __init__(self, staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
        self.staff = staff
        # A page of a search ends after a fifth of a second, which a busy machine takes for a few records.
        monkeypatch.setattr("smppd.office.searching.time", staff.clock)
        monkeypatch.setenv("PASSWORD", "not-used")
        self.settings: Settings = load(staff.path / "smppd.yaml")
        self._offices = offices(self.settings)
        self.gate = _Gate(self)
        gate: Any = self.gate
        self.app = App(self.settings, self._offices, gate, Daemon(_nobody, lambda: 0.0), RECORDS_AND_PEOPLE, self._now)

    def _now(self) -> float:
        return self.staff.clock.now

    def operator(self, name: str) -> Operator:
        """An operator by name."""
        with self._people() as people:
            found = people.get(name)
        assert found is not None
        return found

    @contextmanager
    def _people(self) -> Iterator[People]:
        with self._offices() as office:
            yield office.people

    def get(self, who: Person, path: str) -> Shown:
        """A page, as one sees it who follows a link."""
        where, _, query = path.partition("?")
        return Shown(self.app.reply(self._incoming("GET", who, where, query, b"")))

    def post(self, person: Person, path: str, /, **form: str) -> Shown:
        """A form that is sent, with its token."""
        return Shown(
            self.app.reply(self._incoming("POST", person, path, "", urlencode({"form": TOKEN, **form}).encode()))
        )

    @staticmethod
    def _incoming(method: str, who: Person, path: str, query: str, body: bytes) -> Incoming:
        headers = {
            "cookie": f"__Host-smppd-session={who.name}",
            "content-type": "application/x-www-form-urlencoded",
        }
        return Incoming(method, path, query, headers, body, "192.0.2.9", True)


def _nobody(_request: object) -> dict[str, Any]:
    raise ControlError("no smppd runs here")
