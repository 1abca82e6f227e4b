"""Each kind of condition by itself, as a table: condition, message, whether it holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import Condition
from smppd.policy.conditions import HEAD_KINDS, TEXT_KINDS, ConditionFault, Conditions
from smppd.protocol import gsm, wire
from smppd.protocol.text import Alphabet, encode
from smppd.protocol.wire import Sm
from tests.policy.helpers import FakeList, frame, pipeline, run, text

HEAD: list[tuple[dict[str, Any], Sm, bool]] = [
    ({"sender": "ACME"}, frame(sender=b"acme"), True),
    ({"sender": "acme"}, frame(sender=b" ACME "), True),
    ({"sender": "ACME"}, frame(sender=b"ACME2"), False),
    ({"sender": ["X", "AC*"]}, frame(sender=b"acme"), True),
    ({"sender": "AC*"}, frame(sender=b"A"), False),
    ({"sender": "*"}, frame(sender=b"*"), True),
    ({"sender": "+447700900001"}, frame(sender=b"447700900001"), True),
    ({"sender": "447700900001"}, frame(sender=b"+447700900001"), True),
    ({"sender": "Crédit"}, frame(sender="CRéDIT".encode("latin-1")), True),
    ({"sender": "Crédit"}, frame(sender="crédit".encode()), True),
    ({"sender_kind": "alphanumeric"}, frame(sender=b"ACME"), True),
    ({"sender_kind": "alphanumeric"}, frame(sender=b"12345", ton=5), True),
    ({"sender_kind": "alphanumeric"}, frame(sender=b"12345", ton=0), False),
    ({"sender_kind": "short"}, frame(sender=b"12345", ton=3), True),
    ({"sender_kind": "short"}, frame(sender=b"1234567", ton=3), False),
    ({"sender_kind": ["numeric"]}, frame(sender=b"+447700900001", ton=1), True),
    ({"sender": {"kind": "short"}}, frame(sender=b"12345"), True),
    ({"sender_pattern": "^[A-Z]{4}$"}, frame(sender=b"ACME"), True),
    ({"sender_pattern": "^[A-Z]{4}$"}, frame(sender=b"acme"), False),
    ({"sender_is": "unauthorised"}, frame(), True),
    ({"sender_is": ["lookalike", "generic"]}, frame(sender=b"INF0"), True),
    ({"sender_is": ["lookalike", "expired", "protected", "wrong_form"]}, frame(), False),
    ({"destination": ["+33", "+44"]}, frame(), True),
    ({"destination": "44"}, frame(to=b"+447700900123"), True),
    ({"destination": "44"}, frame(to=b"00447700900123"), True),
    ({"destination": "44"}, frame(to=b"07700900123"), False),
    ({"destination": "447700900123"}, frame(), True),
    ({"destination": "4477009001234"}, frame(), False),
    ({"country": "gb"}, frame(), True),
    ({"country": ["FR", "GG"]}, frame(), False),
    ({"country": "CA"}, frame(to=b"14165550100"), True),
    ({"country": "US"}, frame(to=b"14165550100"), False),
    ({"country": "US"}, frame(to=b"0012125550100"), True),
    ({"destination_in": "dnd"}, frame(), True),
    ({"destination_in": ["nobody", "dnd"]}, frame(to=b"+447700900123"), True),
    ({"destination_in": "dnd"}, frame(to=b"00447700900123"), True),
    ({"destination_in": "dnd"}, frame(to=b"447700900124"), False),
    ({"destination_in": "nobody"}, frame(), False),
    ({"sender_in": "brands"}, frame(sender=b" ACME  Bank"), True),
    ({"sender_in": "brands"}, frame(sender=b"ACME"), False),
    ({"sender_in": "brands"}, frame(sender=b"+447700900001"), True),
    ({"sender_in": "brands"}, frame(sender=b"60777", ton=3), True),
    ({"data_coding": [4, 8]}, frame(coding=8), True),
    ({"data_coding": [4, 8]}, frame(coding=0), False),
    ({"binary": True}, frame(coding=4), True),
    ({"binary": True}, frame(coding=0xF5), True),
    ({"binary": True}, frame(coding=0), False),
    ({"binary": False}, frame(coding=8), True),
    ({"size_over": "10B"}, frame(b"x" * 11), True),
    ({"size_over": "10B"}, frame(b"x" * 10), False),
    ({"size_over": "1kB"}, frame(b"x" * 1001), True),
    ({"has_tlv": [0x1400, 0x1401]}, frame(tlvs=wire.tlv(0x1401, b"1")), True),
    ({"has_tlv": [0x1400]}, frame(tlvs=wire.tlv(0x1401, b"1")), False),
    ({"has_tlv": [0x1400]}, frame(), False),
    ({"tlv": {0x1400: "1101"}}, frame(tlvs=wire.tlv(0x1400, b"1101")), True),
    ({"tlv": {0x1400: "1101"}}, frame(tlvs=wire.tlv(0x1400, b"1101\0")), True),
    ({"tlv": {0x1400: 1101}}, frame(tlvs=wire.tlv(0x1400, b"1101")), True),
    ({"tlv": {0x1400: "1101"}}, frame(tlvs=wire.tlv(0x1401, b"1101")), False),
    ({"tlv": {0x1400: "1101"}}, frame(), False),
    ({"tlv": {0x1400: "110*"}}, frame(tlvs=wire.tlv(0x1400, b"1101")), True),
    ({"tlv": {0x1400: "111*"}}, frame(tlvs=wire.tlv(0x1400, b"1101")), False),
    ({"tlv": {0x1400: "*"}}, frame(tlvs=wire.tlv(0x1400, b"")), True),
    ({"tlv": {"0x1400": "0x0001"}}, frame(tlvs=wire.tlv(0x1400, b"\0\1")), True),
    ({"tlv": {"0x1400": "0x0001"}}, frame(tlvs=wire.tlv(0x1400, b"\1")), False),
    ({"tlv": {"5120": "0x00*"}}, frame(tlvs=wire.tlv(0x1400, b"\0\1")), True),
    ({"tlv": {0x1400: {"matches": "^1[0-9]+$"}}}, frame(tlvs=wire.tlv(0x1400, b"1101\0")), True),
    ({"tlv": {0x1400: {"matches": "^1[0-9]+$"}}}, frame(tlvs=wire.tlv(0x1400, b"1x01")), False),
    ({"tlv": {0x1400: ["1", {"matches": "2"}]}}, frame(tlvs=wire.tlv(0x1400, b"32")), True),
    ({"tlv": {0x1400: "1", 0x1401: "2"}}, frame(tlvs=wire.tlv(0x1400, b"1") + wire.tlv(0x1401, b"2")), True),
    ({"tlv": {0x1400: "1", 0x1401: "2"}}, frame(tlvs=wire.tlv(0x1400, b"1") + wire.tlv(0x1401, b"1")), False),
    ({"tlv": {0x1400: "2"}}, frame(tlvs=wire.tlv(0x1400, b"1") + wire.tlv(0x1400, b"2")), True),
    ({"tlv": {0x1400: "1"}, "sender": "X"}, frame(tlvs=wire.tlv(0x1400, b"1")), False),
    ({"service_type": "otp"}, frame(service=b"OTP"), True),
    ({"service_type": ["WAP", "OTP"]}, frame(service=b"otp"), True),
    ({"service_type": "OTP"}, frame(service=b"OTPX"), False),
    ({"service_type": "OTP"}, frame(), False),
    ({"service_type": ""}, frame(), True),
    ({"tag": "never-given"}, frame(), False),
    # All keys of one condition must hold.
    ({"sender": "ACME", "country": "GB", "data_coding": 0}, frame(), True),
    ({"sender": "ACME", "country": "FR", "data_coding": 0}, frame(), False),
    ({"sender": "ACME", "sender_kind": "numeric"}, frame(), False),
]

TEXT: list[tuple[dict[str, Any], Sm, bool]] = [
    ({"text": "ell"}, text("hello"), True),
    ({"text": "ELL"}, text("hello"), False),
    ({"text": ["x", "(?i)ELL"]}, text("hello"), True),
    ({"text": "^hello$"}, text("hello"), True),
    ({"text": "€"}, text("10€"), True),
    ({"text": r"\[x\]"}, text("[x]"), True),
    ({"text": "Привет"}, text("Привет"), True),
    ({"text": "Grüße"}, frame("Grüße".encode("latin-1"), coding=3), True),
    ({"text": "Привет"}, frame("Привет".encode("iso8859-5"), coding=6), True),
    ({"text": "שלום"}, frame("שלום".encode("iso8859-8"), coding=7), True),
    ({"text": "hello"}, frame(b"hello", coding=1), True),
    ({"text": "hello"}, frame(b"hello", coding=0xF0), True),
    ({"text": "Привет"}, frame("Привет".encode("utf-16-be"), coding=0x18), True),
    ({"text": "\ufffd"}, frame(b"\x00h\xd8", coding=8), True),
    ({"text": "h"}, frame(b"\x00h\xd8", coding=8), True),
    ({"text": "hello"}, frame(b"hello", coding=4), False),
    ({"text": "."}, frame(b""), False),
    ({"text": "hello"}, frame(b"hello " * 60), True),
    ({"text": "hello"}, frame(b"hello", command=wire.Command.DATA_SM), True),
    ({"keywords": ["free prize"]}, text("A FREE prize!"), True),
    ({"keywords": ["free"]}, text("freedom"), False),
    ({"keywords": ["libero"]}, text("Líbero"), True),
    ({"keywords": ["приз"]}, text("ПРИЗ"), True),
    ({"family": "marketing"}, text("50% off, ends today! http://example.com/s"), True),
    ({"family": ["marketing", "card_number"]}, text("4111 1111 1111 1111"), True),
    ({"family": "marketing"}, text("4111 1111 1111 1111"), False),
    ({"family": "marketing"}, frame(b"\1\2", coding=4), False),
    ({"links": True}, text("go to evil.com"), True),
    ({"links": True}, text("go home"), False),
    ({"links": False}, text("go home"), True),
    ({"links": False}, text("go to evil.com"), False),
    ({"links": False}, frame(b"\1\2", coding=4), True),
    ({"domains": ["evil.com", "bad.org"]}, text("http://www.bad.org/x"), True),
    ({"domains": ["evil.com"]}, text("http://good.org/evil.com"), False),
    ({"domains": ["пример.рф"]}, text("Тут: ПРИМЕР.рф"), True),
    ({"domain_in": "phishing"}, text("go to http://www.EVIL.example/x"), True),
    ({"domain_in": ["nobody", "phishing"]}, text("Тут: ПРИМЕР.рф"), True),
    ({"domain_in": "phishing"}, text("http://evil.example.org/evil.example"), False),
    ({"domain_in": "phishing"}, text("http://notevil.example/"), False),
    ({"domain_in": "phishing"}, text("http://" + "a." * 40 + "evil.example/"), True),
    ({"domain_in": "phishing"}, text("no link"), False),
    ({"domain_in": "phishing"}, frame(b"evil.example", coding=4), False),
    ({"longer_than": 4}, text("hello"), True),
    ({"longer_than": 5}, text("hello"), False),
    ({"longer_than": 200}, text("x" * 300), True),
    # Of an account that is not in a registry; tests/policy/test_dlt.py has the others.
    ({"dlt": "no_entity"}, text("hello"), True),
    ({"dlt": ["ok", "no_template"]}, text("hello"), False),
    ({"text": "hello", "links": True}, text("hello"), False),
    ({"text": "hello", "links": True}, text("hello evil.com"), True),
]


def test_every_kind_has_its_table() -> None:
    kinds = set(HEAD_KINDS) | set(TEXT_KINDS) | {"tag"}
    assert kinds == set(Condition.model_fields)
    assert kinds <= {key for condition, _, _ in HEAD + TEXT for key in condition}


@pytest.mark.parametrize(("condition", "sm", "expected"), HEAD + TEXT)
def test_when(condition: dict[str, Any], sm: Sm, expected: bool) -> None:
    pipe = pipeline({"when": condition})
    for _ in range(2):  # what is remembered says the same
        assert run(pipe, sm) == ["refused r0" if expected else "-"]


@pytest.mark.parametrize(("condition", "sm", "expected"), HEAD + TEXT)
def test_unless(condition: dict[str, Any], sm: Sm, expected: bool) -> None:
    assert run(pipeline({"unless": condition}), sm) == ["-" if expected else "refused r0"]


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("see good.org", False),
        ("see good.org and www.good.org/x", False),
        ("see good.org and evil.com", True),
        ("see evil.com?x=good.org", True),
        ("http://good.org@evil.com/", True),
        ("evil.com write me@good.org", True),
        ("no link", False),
    ],
)
def test_a_welcome_link_does_not_excuse_another(words: str, refused: bool) -> None:
    pipe = pipeline({"when": {"links": True}, "unless": {"domains": ["good.org"]}})
    assert run(pipe, text(words)) == ["refused r0" if refused else "-"]
    listed = {"welcome": FakeList("welcome", b"good.org")}
    pipe = pipeline({"when": {"links": True}, "unless": {"domain_in": "welcome"}}, lists=listed)
    assert run(pipe, text(words)) == ["refused r0" if refused else "-"]


@pytest.mark.parametrize(
    ("alphabet", "octets"),
    [(a, encode("Grüße @ home", 0, a)) for a in (Alphabet.GSM, Alphabet.GSM_PACKED, Alphabet.LATIN1)],
)
def test_default_alphabet_of_the_account(alphabet: Alphabet, octets: bytes) -> None:
    pipe = pipeline({"when": {"text": "Grüße @ home"}}, alphabet=alphabet)
    assert run(pipe, frame(octets)) == ["refused r0"]
    header = bytes((5, 0, 3, 1, 2, 1))
    packed = encode("Grüße @ home ", 0, alphabet, header=6)
    assert run(pipe, frame(header + packed, esm=0x40)) == ["refused r0"]


@pytest.mark.parametrize("language", range(1, 14))
def test_national_tables(language: int) -> None:
    for national, header in (
        ((language, 0), bytes((3, 0x24, 1, language))),
        ((0, language), bytes((3, 0x25, 1, language))),
    ):
        octets = bytes(range(0x20, 0x7F))
        letters = gsm.decode(octets, *national)
        pipe = pipeline({"when": {"text": rf"\Q{letters}\E"}})
        assert run(pipe, frame(header + octets, esm=0x40)) == ["refused r0"]


def test_a_payload_beside_a_short_message_is_read_too() -> None:
    pipe = pipeline({"when": {"text": "phish"}})
    assert run(pipe, frame(b"fine", tlvs=wire.tlv(0x0424, b"phish"))) == ["refused r0"]
    assert run(pipe, frame(b"phish", tlvs=wire.tlv(0x0424, b"fine"))) == ["refused r0"]


def test_a_broken_header_hides_nothing() -> None:
    pipe = pipeline({"when": {"text": "phish"}})
    assert run(pipe, frame(b"\xffphish", esm=0x40), frame(b"phish", esm=0x40)) == ["refused r0"] * 2


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        ({"text": ("fine", "(")}, "1.text[1]"),
        ({"sender_pattern": ("(?=x)",)}, "1.sender_pattern[0]"),
        ({"keywords": ("win", "$$$")}, "1.keywords[1]"),
        ({"domains": ("evil",)}, "1.domains[0]"),
    ],
)
def test_faults_name_their_place(condition: dict[str, Any], path: str) -> None:
    # Not checked by the configuration here, so that the policy must.
    bad = Condition.model_construct(**condition)
    with pytest.raises(ConditionFault) as caught:
        Conditions([Condition(text=("fine",)), bad])
    assert caught.value.path == path


_conditions = st.fixed_dictionaries(
    {},
    optional={
        "sender": st.lists(st.sampled_from(["ACME", "AC*", "12345"]), min_size=1),
        "sender_kind": st.lists(st.sampled_from(["alphanumeric", "numeric", "short"]), min_size=1),
        "sender_pattern": st.just(["^[A-Z]"]),
        "destination": st.lists(st.sampled_from(["44", "4477009", "1", "33"]), min_size=1),
        "country": st.lists(st.sampled_from(["GB", "US"]), min_size=1),
        "text": st.lists(st.sampled_from(["o", "hello", "^x"]), min_size=1),
        "keywords": st.lists(st.sampled_from(["hello", "free prize", "приз"]), min_size=1),
        "links": st.booleans(),
        "domains": st.lists(st.sampled_from(["evil.com", "good.org"]), min_size=1),
        "data_coding": st.lists(st.sampled_from([0, 4, 8]), min_size=1),
        "binary": st.booleans(),
        "longer_than": st.integers(0, 12),
        "size_over": st.integers(0, 12).map("{}B".format),
        "has_tlv": st.just([0x1400]),
    },
).filter(bool)
_messages = st.builds(
    lambda words, sender, to, tlvs: text(words, sender=sender, to=to, tlvs=tlvs),
    st.lists(st.sampled_from(["hello", "free prize", "приз", "evil.com", "good.org", "x", "me@evil.com"])).map(
        " ".join
    ),
    st.sampled_from([b"ACME", b"acorn", b"12345", b"447700900001"]),
    st.sampled_from([b"447700900123", b"+447700900123", b"12125550100", b"33612345678"]),
    st.sampled_from([b"", wire.tlv(0x1400, b"1")]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(_conditions, min_size=1, max_size=6), _messages)
def test_together_as_each_alone(conditions: list[dict[str, Any]], sm: Sm) -> None:
    """A condition holds among others exactly when it holds by itself."""
    together = pipeline(*({"when": condition, "mode": "shadow"} for condition in conditions)).decide(sm, 0.0)
    hits = {hit.rule for hit in together.hits} if together is not None else set()
    for index, condition in enumerate(conditions):
        assert (f"r{index}" in hits) == (run(pipeline({"when": condition}), sm) == ["refused r0"])
