"""Streams become PDUs whatever pieces they come in, and no password is in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.protocol.capture import ENTRY, LONGEST, Entry, Kind, PduCutter, blanked, facts_of, opened, pack, unpack
from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.wire import Command, pdu
from tests.protocol.sessions import sm

BINDS = (Command.BIND_RECEIVER, Command.BIND_TRANSMITTER, Command.BIND_TRANSCEIVER)
WORD = st.binary(max_size=20).map(lambda one: one.replace(b"\0", b"x"))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True) if a < b]


@given(st.lists(st.integers(1, 5), max_size=8), st.lists(st.integers(0, 5000), max_size=10))
def test_any_pieces_give_the_same_pdus(kinds: list[int], cuts: list[int]) -> None:
    whole = [
        sm(number, text=b"x" * kind * 9) if kind > 1 else pdu(0x15, 0, number) for number, kind in enumerate(kinds, 1)
    ]
    cutter = PduCutter()
    found = [one for piece in pieces(b"".join(whole), cuts) for one in cutter.feed(piece)]
    assert found == whole and not cutter.is_broken()


@given(st.sampled_from(BINDS), WORD, WORD.filter(bool), WORD)
def test_a_bind_is_as_it_was_but_for_its_password(
    command: Command, name: bytes, password: bytes, system: bytes
) -> None:
    def bind(secret: bytes) -> bytes:
        return write_bind(Bind(command, 7, name, secret, system, 0x34, 1, 1, b"4477"))

    (found,) = PduCutter().feed(bind(password))
    assert found == bind(b"*" * len(password))


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"acme\0secret", b"acme\0******"),
        (b"acme secret", b"***********"),
        (b"acme\0\0\0\x34", b"acme\0\0\0\x34"),
        (b"", b""),
        (b"\0secret\0", b"\0******\0"),
    ],
)
def test_a_bind_that_cannot_be_read_keeps_nothing_that_may_be_the_password(body: bytes, kept: bytes) -> None:
    assert blanked(pdu(0x9, 0, 1, body)) == pdu(0x9, 0, 1, kept)


def test_an_outbind_has_a_password_too() -> None:
    (found,) = PduCutter().feed(pdu(0xB, 0, 1, b"smsc\0secret\0"))
    assert found == pdu(0xB, 0, 1, b"smsc\0******\0")


@given(st.binary(max_size=60))
def test_what_is_no_smpp_gives_nothing_and_breaks_nothing(data: bytes) -> None:
    cutter = PduCutter()
    for one in cutter.feed(data):
        assert int.from_bytes(one[:4]) == len(one)
    if len(data) >= 4 and not 16 <= int.from_bytes(data[:4]) <= LONGEST:
        assert cutter.is_broken() and cutter.feed(sm(1)) == []


@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.integers(1, 2**32 - 1), st.integers(0, 2**63), st.binary(max_size=50)),
        max_size=6,
    ),
    st.lists(st.integers(0, 500), max_size=6),
)
def test_entries_are_read_back_in_any_pieces(entries: list[tuple[Kind, int, int, bytes]], cuts: list[int]) -> None:
    data = b"".join(pack(*one) for one in entries)
    assert list(unpack(iter(pieces(data, cuts)))) == [Entry(*one) for one in entries]
    assert list(unpack(iter([data[:-1]]))) == [Entry(*one) for one in entries[: len(entries) - 1]]


@pytest.mark.parametrize("data", [b"\x09" + bytes(16), ENTRY.pack(2, 1, 0, LONGEST + 1)])
def test_what_is_no_entry_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"entry|Kind"):
        list(unpack(iter([data])))


def test_facts_are_read_back_and_an_entry_shows_nothing() -> None:
    entry = Entry(Kind.OPENED, 1, 0, opened({"peer": "192.0.2.7", "peer_port": 40000}))
    assert facts_of(entry) == {"peer": "192.0.2.7", "peer_port": 40000}
    assert "192" not in repr(entry)
