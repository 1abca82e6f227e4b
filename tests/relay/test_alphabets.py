"""Texts between links whose default alphabets differ: the same, the nearest (counted), or refused; never other octets."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smppd.protocol import gsm
from smppd.protocol.longmessage import parse_udh
from smppd.protocol.text import Alphabet, as_ucs2, decode, encode, means_default, nearest
from smppd.protocol.wire import Command, Fields, Sm, Status, Tag, address_field, build_sm, pdu, tlv
from smppd.relay.alphabets import OCTETS, exchange_alphabets
from smppd.relay.state.model import ALPHABETS
from tests.relay.fakes import FROM, TO, World
from tests.relay.fakes import settings as configuration

PAIRS = list(permutations(ALPHABETS.values(), 2))
SEVEN = (Alphabet.GSM, Alphabet.GSM_PACKED)
CODINGS = [0x00, 0x0F, 0x10, 0x12, 0x43, 0xC8, 0xD1, 0xF0, 0xF1]
LETTERS = "@é€{|}[]~^\\ΔΦΓΞΩàç ñÇ$_abcXYZ 019'\"\n`^²½Þ\x80"
PART = bytes((5, 0, 3, 7, 2, 1))
WIDE = bytes((6, 8, 4, 1, 7, 2, 1))
SAR = tlv(0x020C, b"\0\7") + tlv(0x020E, b"\2") + tlv(0x020F, b"\1")
HOW = ["short", "payload", "data_sm", "part", "wide", "sar", "payload part", "ports", "data_sm part"]


def written(text: str, alphabet: Alphabet, how: str, coding: int = 0, head: bytes = b"", **fields: Any) -> Sm:
    """A message with this text under a data_coding of the default alphabet, carried in one of the ways."""
    head = head or {"part": PART, "wide": WIDE, "payload part": PART, "data_sm part": PART}.get(how, b"")
    if how == "ports":
        head = bytes((6, 5, 4, 0x23, 0xF4, 0, 0))
    single, locking = parse_udh(head).national if head else (0, 0)  # type: ignore[union-attr]
    return carried(head + encode(text, 0, alphabet, national=(single, locking), header=len(head)), how, coding, head)


def carried(body: bytes, how: str, coding: int = 0, head: bytes = b"", default_message: int = 0) -> Sm:
    to = address_field(1, 1, TO)
    tlvs = SAR if how == "sar" else b""
    esm = 0x40 if head else 0
    if how.startswith("data_sm"):
        flags = bytes((esm, 0, coding))
        return Sm(pdu(Command.DATA_SM, 0, 1, b"\0" + FROM + to + flags + tlv(Tag.MESSAGE_PAYLOAD, body)))
    if how.startswith("payload"):
        tlvs += tlv(0x1400, b"1701") + tlv(Tag.MESSAGE_PAYLOAD, body) + tlv(0x1401, b"9")
        body = b""
    fields = Fields(esm_class=esm, data_coding=coding, default_message=default_message)
    return Sm(build_sm(Command.SUBMIT_SM, 1, FROM, to, body, fields, tlvs))


def read_as(frame: bytes, alphabet: Alphabet) -> str:
    """The text as a link of this alphabet reads the frame."""
    sm = Sm(frame)
    head = parse_udh(sm.body) if sm.esm_class & 0x40 else None
    length, national = (head.length, head.national) if head is not None else (0, (0, 0))
    return decode(sm.body[length:], sm.data_coding, alphabet, national=national, header=length)


def same(one: str, other: str) -> bool:
    """Alike but for a CR that packing may leave at the end (3GPP TS 23.038 section 6.1.2.3.1)."""
    return one == other or one.removesuffix("\r") == other.removesuffix("\r")


def fits_a_part(sm: Sm, alphabet: Alphabet) -> bool:
    """Whether one short message holds the body with its header."""
    head = parse_udh(sm.body) if sm.esm_class & 0x40 else None
    length = head.length if head is not None else 6
    body = sm.body[head.length if head is not None else 0 :]
    if means_default(sm.data_coding) and alphabet is Alphabet.GSM:
        return len(body) <= (OCTETS - length) * 8 // 7
    if means_default(sm.data_coding) and alphabet is not Alphabet.GSM_PACKED:
        return len(body) <= (OCTETS - length) * 8 // 7
    return len(body) <= OCTETS - length


@settings(deadline=None, max_examples=600)
@given(
    st.sampled_from(PAIRS),
    st.text(alphabet=LETTERS, min_size=1, max_size=153) | st.text(alphabet="a@é", min_size=120, max_size=160),
    st.sampled_from(HOW),
    st.sampled_from(CODINGS),
    st.booleans(),
    st.booleans(),
)
@example((Alphabet.LATIN1, Alphabet.GSM), "\x05 to you", "payload", 0, True, False)
@example((Alphabet.GSM, Alphabet.LATIN1), "@é€" + "x" * 96, "short", 0, True, False)
@example((Alphabet.GSM, Alphabet.LATIN1), "@é€" + "x" * 149, "part", 0, True, False)
@example((Alphabet.GSM, Alphabet.LATIN1), "@é€" + "x" * 96, "short", 0, False, False)
@example((Alphabet.GSM, Alphabet.GSM_PACKED), "0" * 152 + "@", "part", 0, False, False)
@example((Alphabet.GSM, Alphabet.GSM_PACKED), "0" * 152 + "\r", "part", 0, False, False)
@example((Alphabet.GSM, Alphabet.GSM_PACKED), "0" * 152 + "@", "sar", 0, False, False)
def test_the_same_text_the_nearest_or_none(
    pair: tuple[Alphabet, Alphabet], text: str, how: str, coding: int, payloads: bool, lossy: bool
) -> None:
    ours, theirs = pair
    try:
        sm = written(text, ours, how, coding)
    except ValueError:
        return  # no text of this alphabet, or no room in short_message
    text = read_as(sm.raw, ours)
    made = exchange_alphabets(sm, ours, theirs, payloads=payloads, lossy=lossy)
    if made is None:
        assert not lossy or "part" in how or how in ("wide", "sar") or not payloads
        assert "short" not in how or not payloads, "a whole message has UCS-2 and message_payload"
        return
    came = Sm(made.frame)
    came.tlvs  # noqa: B018  readable
    assert int.from_bytes(made.frame[:4], "big") == len(made.frame)
    got = read_as(made.frame, theirs)
    if theirs is Alphabet.GSM_PACKED and len(came.body) == OCTETS and text == got + "@":
        got += "@"  # it is there: octets alone do not tell it from a fill, the count of septets does
    if not made.nearest:
        assert same(got, text)
    else:
        near = [nearest(text, theirs, short=short, lossy=lossy) for short in (False, True)]
        assert any(one is not None and same(got, one) for one in near)
        assert not same(got, text)
    assert came.data_coding in (coding, as_ucs2(coding))
    assert came.esm_class == sm.esm_class
    if sm.esm_class & 0x40:
        head = sm.body[: sm.body[0] + 1]
        assert came.body.startswith(head), "the header is kept"
    if how not in ("short", "payload", "data_sm", "ports"):
        assert fits_a_part(came, theirs) or not fits_a_part(sm, ours)
    if not payloads and how == "short":
        assert came.tlv(Tag.MESSAGE_PAYLOAD) is None
    if came.short_message and came.data_coding == 8:
        assert len(came.short_message) <= OCTETS
    others = [one for one in came.tlvs if one[0] != Tag.MESSAGE_PAYLOAD]
    assert others == [one for one in sm.tlvs if one[0] != Tag.MESSAGE_PAYLOAD], "every other TLV in its place"


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PAIRS), st.binary(max_size=160), st.sampled_from(HOW), st.booleans(), st.integers(0, 255))
def test_any_octets_are_converted_or_refused_and_never_raise(
    pair: tuple[Alphabet, Alphabet], body: bytes, how: str, lossy: bool, coding: int
) -> None:
    ours, theirs = pair
    for head in (b"", b"\x40"):
        sm = carried(body, how, coding, head)
        made = exchange_alphabets(sm, ours, theirs, payloads=True, lossy=lossy)
        if made is not None:
            Sm(made.frame).tlvs  # noqa: B018
        if not means_default(coding):
            assert made is not None and made.frame == sm.raw, "the octet names its alphabet: nothing to change"


TABLES = [(1, 0), (1, 1), (3, 3), (0, 3), (2, 0), (13, 13), (6, 6)]


@pytest.mark.parametrize("how", ["part", "short", "payload"])
@pytest.mark.parametrize("national", TABLES)
@pytest.mark.parametrize("pair", PAIRS)
def test_national_tables(pair: tuple[Alphabet, Alphabet], national: tuple[int, int], how: str) -> None:
    ours, theirs = pair
    single, locking = national
    head = (PART[1:] if how == "part" else b"") + bytes((0x24, 1, single, 0x25, 1, locking))
    head = bytes((len(head),)) + head
    letters = [c for c in gsm.encoding(*national) if c not in "\f\r"]
    for words in (*("".join(letters[at : at + 60]) for at in range(0, len(letters), 60)), "Ok 12"):
        try:
            sm = written(words, ours, how, 0, head)
        except ValueError:
            continue
        made = exchange_alphabets(sm, ours, theirs, payloads=True)
        assert made is not None
        got = read_as(made.frame, theirs)
        assert same(got, words) or made.nearest
        assert Sm(made.frame).body.startswith(head), "there was room: the header is whole"
        if ours in SEVEN and theirs in SEVEN:
            assert Sm(made.frame).data_coding == 0 and not made.nearest


def test_a_full_part_in_a_national_table_loses_its_language_and_keeps_its_place() -> None:
    head = bytes((11, 0, 3, 7, 2, 1, 0x24, 1, 2, 0x25, 1, 1))
    sm = written("ığş€" + "a" * 130, Alphabet.GSM, "part", 0, head)
    made = exchange_alphabets(sm, Alphabet.GSM, Alphabet.LATIN1, payloads=True)
    assert made is not None and made.nearest
    body = Sm(made.frame).body
    assert body == PART + b"igsEUR" + b"a" * 130


def test_letters_that_have_no_nearest_are_refused_or_marked() -> None:
    head = bytes((8, 0, 3, 7, 2, 1, 0x25, 1, 6))
    sm = written("अ" * 100, Alphabet.GSM, "part", 0, head)
    assert exchange_alphabets(sm, Alphabet.GSM, Alphabet.LATIN1, payloads=True) is None
    made = exchange_alphabets(sm, Alphabet.GSM, Alphabet.LATIN1, payloads=True, lossy=True)
    assert made is not None and made.nearest and Sm(made.frame).body == PART + b"?" * 100


def test_with_a_canned_message_named_nothing_moves_to_the_payload() -> None:
    text = "@€" + "x" * 96
    sm = carried(encode(text, 0), "short", default_message=4)
    made = exchange_alphabets(sm, Alphabet.GSM, Alphabet.LATIN1, payloads=True)
    assert made is not None and made.nearest
    assert Sm(made.frame).short_message == b"@EUR" + b"x" * 96, "an empty short_message would be the canned one"
    canned = carried(b"", "short", default_message=4)
    assert exchange_alphabets(canned, Alphabet.GSM, Alphabet.LATIN1, payloads=True) == (canned.raw, False)


def test_short_message_and_payload_side_by_side_are_both_exchanged() -> None:
    sm = Sm(carried(b"\0 one", "short").raw)
    both = Sm(pdu(sm.command, 0, 1, sm.raw[16:] + tlv(Tag.MESSAGE_PAYLOAD, b"\x05 two")))
    made = exchange_alphabets(both, Alphabet.GSM, Alphabet.LATIN1, payloads=True)
    assert made is not None
    came = Sm(made.frame)
    assert (came.short_message, came.tlv(Tag.MESSAGE_PAYLOAD)) == (b"@ one", "é two".encode("latin-1"))


def test_a_header_that_is_none_is_not_guessed_at() -> None:
    sm = carried(b"\x40\x01\x02", "short", 0, b"\x40")
    assert exchange_alphabets(sm, Alphabet.GSM, Alphabet.LATIN1, payloads=True) is None


@pytest.mark.parametrize(
    ("coding", "wide"),
    [
        (0, 8),
        (0xF, 8),
        (0x10, 0x18),
        (0x13, 0x1B),
        (0x43, 0x4B),
        (0xC8, 0xE8),
        (0xD1, 0xE1),
        (0xF0, 0x18),
        (0xF2, 0x1A),
    ],
)
def test_ucs2_keeps_class_and_waiting_indication(coding: int, wide: int) -> None:
    assert as_ucs2(coding) == wide
    made = exchange_alphabets(written("€", Alphabet.GSM, "short", coding), Alphabet.GSM, Alphabet.LATIN1, payloads=True)
    assert made is not None and Sm(made.frame).data_coding == wide


# -- in the relay ----------------------------------------------------------------------------------------------------------


def world(account: str, upstream: str, **more: Any) -> World:
    return World(
        configuration(
            acme={"default_alphabet": account, "numbers": ["+447700900300"], **more.pop("acme", {})},
            a={"default_alphabet": upstream, **more.pop("a", {})},
            **more,
        )
    )


def test_a_payload_is_text_too() -> None:
    here = world("gsm", "latin1")
    acme, a = here.customer(), here.carrier()
    acme.submits(b"", tlvs=tlv(Tag.MESSAGE_PAYLOAD, b"\0\x05 to you"))
    acme.sends(carried(b"\0\x05 to you", "data_sm").raw)
    here.commits()
    assert [Sm(one.raw).tlv(Tag.MESSAGE_PAYLOAD) for one in a.waiting] == ["@é to you".encode("latin-1")] * 2


def test_where_ucs2_does_not_fit_it_goes_in_the_payload() -> None:
    here = world("gsm", "latin1")
    acme, a = here.customer(), here.carrier()
    text = "@é€" + "x" * 96
    acme.submits(encode(text, 0))
    here.commits()
    sm = a.waiting[0]
    assert (sm.data_coding, sm.short_message, sm.tlv(Tag.MESSAGE_PAYLOAD)) == (8, b"", text.encode("utf-16-be"))


def test_an_upstream_of_3_3_gets_the_nearest_letters_and_they_are_counted() -> None:
    here = world("gsm", "latin1", a={"interface_version": "3.3"})
    acme, a = here.customer(), here.carrier()
    acme.submits(encode("@é€" + "x" * 96, 0))
    here.commits()
    assert a.texts() == ["@éEUR".encode("latin-1") + b"x" * 96]
    assert here.total("text_nearest", account="acme", direction="MT") == 1


def test_what_has_no_letters_on_any_way_is_refused_at_once() -> None:
    here = world("gsm", "latin1", b={"default_alphabet": "ascii"})
    acme = here.customer()
    here.carrier()
    head = bytes((8, 0, 3, 7, 2, 1, 0x25, 1, 6))
    acme.sends(written("अ" * 100, Alphabet.GSM, "part", 0, head).raw)
    assert acme.statuses() == [Status.RSUBMITFAIL]
    assert here.total("text_refused", account="acme", direction="MT") == 1
    assert here.total("messages_refused", account="acme", reason="alphabet") == 1


def test_an_accepted_text_that_cannot_be_said_at_the_moment_of_sending_ends_visibly() -> None:
    here = world("gsm", "latin1")
    acme = here.customer()
    head = bytes((8, 0, 3, 7, 2, 1, 0x25, 1, 6))
    body = head + encode("अ" * 100, 0, national=(0, 6), header=len(head))
    acme.submits(body, esm_class=0x40)
    acme.submits(b"after it")
    here.commits()
    one, _ = acme.ids()  # the second upstream of the route could say it
    a = here.carrier()
    here.commits()
    assert a.texts() == [b"after it"], "the others go on"
    assert acme.receipts() == [(one, "REJECTD")]
    assert here.total("text_refused", account="acme", direction="MT") == 1
    here.check()


def test_mo_in_a_payload_and_beyond_what_the_customers_alphabet_has() -> None:
    here = world("latin1", "gsm")
    acme, a = here.customer(), here.carrier()
    to = address_field(1, 1, b"447700900300")
    long = "€@é" + "x" * 100
    for text in ("@é", long):
        body = tlv(Tag.MESSAGE_PAYLOAD, encode(text, 0))
        a.delivers(build_sm(Command.DELIVER_SM, 0, FROM, to, b"", Fields(), body))
    a.delivers(build_sm(Command.DELIVER_SM, 0, FROM, to, PART + encode(long + "x" * 40, 0), Fields(esm_class=0x40)))
    here.commits()
    one, two, three = acme.takes()
    assert one.body == "@é".encode("latin-1") and one.data_coding == 0
    assert two.body == long.encode("utf-16-be") and two.data_coding == 8
    assert three.short_message == PART + ("EUR@é" + "x" * 140).encode("latin-1") and three.data_coding == 0
    assert here.total("text_nearest", account="acme", direction="MO") == 1


def test_mo_keywords_are_read_in_the_carriers_alphabet_and_recorded_in_the_owners() -> None:
    hashed = configuration().accounts[0].password_hash
    other = {"system_id": "other", "password_hash": hashed, "networks": "any", "keywords": ["vote"]}
    here = world("gsm", "latin1", acme={"keywords": ["été"]}, more=[{**other, "numbers": ["+447700900300"]}])
    acme, a = here.customer(), here.carrier()
    to = address_field(1, 1, b"447700900300")
    a.delivers(build_sm(Command.DELIVER_SM, 0, FROM, to, "Été @".encode("latin-1"), Fields()))
    a.delivers(build_sm(Command.DELIVER_SM, 0, FROM, to, PART + "été @".encode("latin-1"), Fields(esm_class=0x40)))
    here.commits()
    first, second = acme.takes()
    assert decode(first.short_message, first.data_coding) == "Été @"
    assert second.short_message == PART + encode("été @", 0)
