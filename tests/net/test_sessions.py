"""What an operator sees of customers' sessions, on real pipes over a transport in memory."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from smppd.net.sessions import Meter, _subject
from smppd.protocol.wire import Command, pdu
from tests.net.links import World, account
from tests.protocol.sessions import sm


def test_a_session_from_its_connection_to_its_end() -> None:
    world = World(account(window=5))
    client = world.client()
    (one,) = world.customers.views(None)
    assert (one.id, one.side, one.name, one.mode, one.version, one.state) == (
        "c1",
        "customer",
        None,
        None,
        None,
        "open",
    )
    assert (one.tls, one.last_pdu, one.messages) == (None, None, 0)
    assert list(world.customers.views(frozenset({"acme"}))) == [], "whose it is, nobody knows yet"
    client.bind()
    world.passes(4)
    client.feeds(sm(2), sm(3))
    (one,) = world.customers.views(frozenset({"acme"}))
    assert (one.name, one.mode, one.version, one.state, one.age) == ("acme", "transceiver", "3.4", "bound", 4.0)
    assert (one.window, one.used, one.messages, one.last_pdu, one.idle) == (5, 2, 2, "submit_sm", 0.0)
    world.relay.answer(2)
    client.feeds(pdu(Command.ENQUIRE_LINK, 0, 9))
    world.passes(3)
    (one,) = world.customers.views(None)
    assert (one.used, one.last_pdu, one.idle) == (0, "enquire_link", 3.0)
    world.client()
    assert [one.id for one in world.customers.views(None)] == ["c1", "c2"]
    client.goes()
    assert [one.id for one in world.customers.views(None)] == ["c2"]
    world.client()
    assert [one.id for one in world.customers.views(None)] == ["c2", "c3"], "a number is not used again"


def test_a_session_that_goes_is_unbinding() -> None:
    world = World()
    world.bound()
    world.customers.unbind_all()
    assert [one.state for one in world.customers.views(None)] == ["unbinding"]


def test_a_rate_is_over_the_last_seconds() -> None:
    meter = Meter(100.0)
    assert meter.rate(0, 100.0) == 0.0 and meter.rate(7, 100.5) == 7.0, "less than a second counts as one"
    for second in range(1, 31):
        meter.look(10 * second, 100.0 + second)
        assert meter.rate(10 * second, 100.0 + second) == pytest.approx(10.0)
    for second in range(31, 42):
        meter.look(300, 100.0 + second)
    assert meter.rate(300, 141.0) == 0.0


def test_the_subject_of_a_certificate_whatever_stands_in_it() -> None:
    key = ec.generate_private_key(ec.SECP256R1())

    def made(name: str) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder: Any = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        builder = builder.serial_number(1).not_valid_before(at).not_valid_after(at + dt.timedelta(days=1))
        whole: bytes = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
        return whole

    assert _subject(made("acme")) == "CN=acme"
    assert _subject(None) is None and _subject(b"no certificate") is None
    assert "\u202e" in (_subject(made("a\u202eb")) or ""), "as it is: whoever shows it writes it out"
