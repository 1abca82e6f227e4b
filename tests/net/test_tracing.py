"""Transcripts of traces of PDUs on real pipes and sessions: what is heard, what is not, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.net import tracing
from smppd.net.tracing import Recording
from smppd.protocol.capture import Entry, Kind, facts_of, unpack
from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.wire import command_name, pdu
from tests.net.links import PASSWORD, TRX, World, account
from tests.protocol.sessions import sm

AT = 1_795_348_800.0


class Heard:
    """A recording, and what became of it."""

    def __init__(self, one_session: bool = False) -> None:
        self.over: list[str] = []
        self.recording = Recording(lambda: AT, self.over.append, one_session=one_session)

    def take(self) -> list[Entry]:
        return list(unpack(iter([self.recording.take()])))

    def says(self) -> list[tuple[str, str]]:
        """(kind, command) of all that was gathered since."""
        return [
            (one.kind.name, command_name(int.from_bytes(one.data[4:8])) if one.kind in (2, 3) else "")
            for one in self.take()
        ]


def test_an_accounts_sessions_are_heard_from_the_middle_of_a_pdu_on() -> None:
    world, heard = World(), Heard()
    client, other = world.bound(), world.bound()
    client.feeds(sm(2)[:30])
    world.customers.trace("acme", heard.recording)
    client.feeds(sm(2)[30:] + sm(3)[:5])
    world.relay.answer()
    other.feeds(pdu(0x15, 0, 9))
    first, second, *rest = heard.take()
    assert (first.kind, second.kind) == (Kind.OPENED, Kind.OPENED) and first.at == 1_795_348_800_000_000
    assert facts_of(first)["side"] == "customer" and facts_of(first)["peer"] == client.pipe.peer
    sessions = {client.pipe.tap.session: "client", other.pipe.tap.session: "other"}  # type: ignore[union-attr]
    assert [(sessions[one.session], one.kind, one.data) for one in rest] == [
        ("client", Kind.RECEIVED, sm(2)),
        ("client", Kind.SENT, pdu(0x80000004, 0, 2)),
        ("other", Kind.RECEIVED, pdu(0x15, 0, 9)),
        ("other", Kind.SENT, pdu(0x80000015, 0, 9)),
    ]
    assert (heard.recording.sessions, heard.recording.pdus) == (2, 4)


def test_a_bind_that_names_the_account_is_heard_without_its_password_right_or_wrong() -> None:
    world, heard = World(account(), account("other")), Heard()
    world.customers.trace("acme", heard.recording)
    for password in (PASSWORD, b"wrong"):
        client = world.client()
        client.feeds(write_bind(Bind(TRX, 1, b"acme", password, b"", 0x34, 0, 0, b"")) + pdu(0x15, 0, 2)[:7])
        client.feeds(pdu(0x15, 0, 2)[7:])
        world.hand.decide()
        world.passes(1.0)
        opened, bind, *rest = heard.take()
        assert opened.kind is Kind.OPENED
        assert bind.data == write_bind(Bind(TRX, 1, b"acme", b"*****", b"", 0x34, 0, 0, b""))
        said = [command_name(int.from_bytes(one.data[4:8])) for one in rest]
        assert said == ["bind_transceiver_resp", "enquire_link", "enquire_link_resp"] or said == [
            "enquire_link",
            "bind_transceiver_resp",
            "enquire_link_resp",
        ]
    other = world.client()
    other.feeds(write_bind(Bind(TRX, 1, b"other", PASSWORD, b"", 0x34, 0, 0, b"")))
    world.hand.decide()
    assert heard.take() == []


def test_who_was_refused_and_binds_for_another_account_is_heard_no_longer() -> None:
    world, acme, other = World(account(), account("other")), Heard(), Heard()
    world.customers.trace("acme", acme.recording)
    for traced in (False, True):
        if traced:
            world.customers.trace("other", other.recording)
        client = world.client()
        client.feeds(write_bind(Bind(TRX, 1, b"acme", b"wrong", b"", 0x34, 0, 0, b"")))
        world.hand.decide()
        world.passes(1.0)
        client.feeds(write_bind(Bind(TRX, 2, b"other", PASSWORD, b"", 0x34, 0, 0, b"")))
        world.hand.decide()
        world.passes(1.0)
        client.feeds(sm(3))
        kinds = [one.kind for one in acme.take()]
        assert kinds == [Kind.OPENED, Kind.RECEIVED, Kind.SENT, Kind.RECEIVED, Kind.CLOSED]
        assert client.link.is_traced is traced
        assert (sm(3) in [one.data for one in other.take()]) is traced
    assert acme.over == other.over == []


def test_a_session_that_ends_ends_the_trace_of_it_alone() -> None:
    world, heard, alone = World(), Heard(), Heard(one_session=True)
    client, other = world.bound(), world.bound()
    client.link.trace(alone.recording)
    world.customers.trace("acme", heard.recording)
    assert heard.recording.sessions == 1, "one trace a connection"
    client.feeds(pdu(0x15, 0, 5))
    client.goes()
    assert alone.over == ["the session ended"]
    kinds = [one.kind for one in alone.take()]
    assert kinds == [Kind.OPENED, Kind.RECEIVED, Kind.SENT, Kind.CLOSED]
    assert heard.over == [] and other.pipe.tap is not None


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [
        ("OCTETS", 300, "0 MiB"),
        ("PDUS", 2, "2 PDUs"),
        ("UNWRITTEN", 250, "the disk was too slow"),
        ("SESSIONS", 0, "0 connections"),
    ],
)
def test_it_ends_at_a_limit_and_the_session_goes_on(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, why: str
) -> None:
    monkeypatch.setattr(tracing, limit, value)
    world, heard = World(), Heard()
    client = world.bound()
    world.customers.trace("acme", heard.recording)
    for number in range(5, 10):
        client.feeds(pdu(0x15, 0, number))
    assert heard.over == [why]
    assert client.pipe.tap is None
    assert len(client.hears()) == 5
    assert heard.recording.pdus <= 6


def test_what_is_no_smpp_is_said_once_and_not_kept() -> None:
    world, heard = World(), Heard()
    client = world.bound()
    world.customers.trace("acme", heard.recording)
    client.feeds(b"GET / HTTP/1.1\r\nAuthorization: Basic c2VjcmV0\r\n\r\n")
    entries = heard.take()
    assert [one.kind for one in entries[:2]] == [Kind.OPENED, Kind.BROKEN]
    assert entries[1].data == bytes((Kind.RECEIVED,))
    assert not any(b"Authorization" in one.data for one in entries)


def test_when_it_is_stopped_nothing_is_heard_and_nobody_told() -> None:
    world, heard = World(), Heard()
    client = world.bound()
    world.customers.trace("acme", heard.recording)
    heard.recording.stop()
    heard.take()
    client.feeds(pdu(0x15, 0, 9))
    client.link.trace(heard.recording)
    assert client.pipe.tap is None and heard.take() == [] and heard.over == []


def test_an_error_of_a_trace_ends_the_trace_and_not_the_session(caplog: pytest.LogCaptureFixture) -> None:
    world, heard = World(), Heard()
    client = world.bound()
    world.customers.trace("acme", heard.recording)
    broken: Any = lambda *_: 1 / 0  # noqa: E731
    heard.recording.add = broken  # type: ignore[method-assign]
    client.feeds(pdu(0x15, 0, 9))
    assert client.hears() == [("enquire_link_resp", 0, 9)]
    assert heard.over == ["an error; the daemon's log has it"] and client.pipe.tap is None
    assert world.errors() == 0 and "error in a trace" in caplog.text
