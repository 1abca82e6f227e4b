"""How senders stand, as a table: what is authorised, whose name it is or looks like, which form a country takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import Senders
from smppd.policy.explain import explain
from smppd.policy.pipeline import Pipeline, Program
from smppd.policy.senders import STANDINGS, SenderBook, readings, shape, shown
from smppd.protocol import gsm
from tests.policy.helpers import frame, policy, run

DAY = 86400.0
FRENCH = b"33639980001"  # of the numbers that ARCEP keeps for fiction
TODAY = 20_000 * DAY  # 2024-10-04
SAID: dict[str, Any] = {
    "authorised": [
        {"account": "acme", "country": ["GB", "IE"], "sender": "ACME Ltd", "expires": "2024-10-04"},
        {"account": "acme", "sender": "Old", "expires": "2024-10-03"},
        {"account": "acme", "country": "GB", "sender": "+44 7700 900001"},
        {"account": "acme", "country": "GB", "sender": "4477009000*"},
        {"account": "acme", "country": "GB", "sender": "60123"},
        {"account": "acme", "sender": "Grüße"},
        {"account": "shop", "sender": "Shop24"},
        {"account": "bank", "country": "GB", "sender": "Santander"},
    ],
    "protected": ["Santander", "PayPal", "HSBC*", "Сбербанк"],
    "forms": {"GB": ["alphanumeric", "national", "short"], "US": "numeric"},
    "registered": {"FR": "alphanumeric"},
}


def book(said: dict[str, Any] = SAID, wall: float = TODAY) -> SenderBook:
    return SenderBook(Senders.model_validate(said), {"acme": "GB"}.get, lambda: wall)


def stands(
    sender: bytes, country: str = "GB", account: str = "acme", ton: int = 5, said: dict[str, Any] = SAID
) -> set[str]:
    standing = book(said).standing(account, ton, sender, country, "GB" if account == "acme" else None)
    return {name for name, bit in STANDINGS.items() if standing & bit}


@pytest.mark.parametrize(
    ("sender", "more", "expected"),
    [
        # Whose it is.
        (b"ACME Ltd", {}, set()),
        (b"acme  LTD", {}, set()),
        (b"ACME Ltd", {"country": "IE"}, set()),
        (b"ACME Ltd", {"country": "DE"}, {"unauthorised"}),
        (b"ACME Ltd", {"country": ""}, {"unauthorised"}),
        (b"ACME Ltd", {"account": "shop"}, {"unauthorised", "lookalike"}),
        (b"Old", {}, {"unauthorised", "expired"}),
        (b"Other", {}, {"unauthorised"}),
        (b"Other", {"account": "nobody"}, {"unauthorised"}),
        ("Grüße".encode("latin-1"), {}, set()),
        ("GRÜSSE".encode(), {}, set()),
        (gsm.encode("Grüße"), {}, set()),
        # Numbers, in every notation.
        (b"447700900001", {"ton": 1}, set()),
        (b"+447700900001", {"ton": 1}, set()),
        (b"07700900001", {"ton": 2}, set()),
        (b"447700900077", {"ton": 1}, set()),
        (b"447700900101", {"ton": 1}, {"unauthorised"}),
        (b"60123", {"ton": 3}, set()),
        (b"60124", {"ton": 3}, {"unauthorised"}),
        (b"447700900001", {"ton": 1, "country": "IE"}, {"unauthorised"}),
        # In France names alone need an entry.
        (b"Other", {"country": "FR"}, {"unauthorised"}),
        (FRENCH, {"ton": 1, "country": "FR"}, set()),
        # Names of others.
        (b"Santander", {}, {"unauthorised", "protected", "lookalike"}),
        (b"SANTANDER", {}, {"unauthorised", "protected", "lookalike"}),
        (b"Santander", {"account": "bank"}, set()),
        (b"Santander", {"account": "bank", "country": "DE"}, {"unauthorised"}),
        (b"Santand3r", {"account": "bank"}, {"unauthorised"}),
        (b"Santand3r", {}, {"unauthorised", "lookalike"}),
        (b"$antander", {}, {"unauthorised", "lookalike"}),
        (b"PayPaI", {}, {"unauthorised", "lookalike"}),
        (b"Pay-Pal", {}, {"unauthorised", "lookalike"}),
        (b"P A Y P A L", {}, {"unauthorised", "lookalike"}),
        ("PаyPаl".encode(), {}, {"unauthorised", "lookalike"}),  # Cyrillic
        ("ΡΑΥΡΑL".encode(), {}, {"unauthorised", "lookalike"}),  # Greek
        ("Päypal".encode("latin-1"), {}, {"unauthorised", "lookalike"}),
        (b"P\x7fypal", {}, {"unauthorised", "lookalike"}),  # GSM: a with grave
        (b"PayPals", {}, {"unauthorised"}),
        (b"HSBC UK", {}, {"unauthorised", "protected", "lookalike"}),
        (b"H5BC-Info", {}, {"unauthorised", "lookalike"}),
        ("СБЕРБАНК".encode(), {}, {"unauthorised", "protected", "lookalike"}),
        (b"5hop24", {}, {"unauthorised", "lookalike"}),
        (b"Shop24", {"account": "shop"}, set()),
        (b"Sh0p24", {"account": "shop"}, {"unauthorised"}),
        # Names that say nothing.
        (b"Info", {}, {"unauthorised", "generic"}),
        (b"INF0", {}, {"unauthorised", "generic"}),
        (b"Infos", {}, {"unauthorised"}),
        # Forms.
        (b"447700900101", {"ton": 1}, {"unauthorised"}),
        (FRENCH, {"ton": 1}, {"unauthorised", "wrong_form"}),
        (b"Other", {"country": "US"}, {"unauthorised", "wrong_form"}),
        (b"12125550100", {"ton": 1, "country": "US"}, {"unauthorised"}),
        (b"60123", {"ton": 3, "country": "US"}, {"unauthorised", "wrong_form"}),
        # What is no name at all.
        (b"", {}, {"unauthorised"}),
        (b"12345", {"ton": 5}, {"unauthorised"}),
        (b"\xff\xfe", {}, {"unauthorised"}),
    ],
)
def test_how_a_sender_stands(sender: bytes, more: dict[str, Any], expected: set[str]) -> None:
    assert stands(sender, **more) == expected


def test_a_digit_name_of_ton_5_is_a_form_of_its_own() -> None:
    assert stands(b"12345", "US", ton=5) == {"unauthorised", "wrong_form"}


def test_an_entry_ends_at_midnight() -> None:
    now = [TODAY + DAY - 1]
    given_book = SenderBook(Senders.model_validate(SAID), wall=lambda: now[0])
    assert given_book.standing("acme", 5, b"ACME Ltd", "GB") == 0
    assert given_book.is_authorised("acme", 5, b"ACME Ltd", "GB")
    now[0] += 1
    assert shown(given_book.standing("acme", 5, b"ACME Ltd", "GB")) == "unauthorised, expired"
    assert not given_book.is_authorised("acme", 5, b"ACME Ltd", "GB")


def test_an_operators_generic_names_count_instead_of_the_shipped_ones() -> None:
    assert stands(b"Info", said={"generic": []}) == {"unauthorised"}
    assert stands(b"WEATHER", said={"generic": ["Weather"]}) == {"unauthorised", "generic"}


@pytest.mark.parametrize(
    ("pack", "country", "sender", "ton", "expected"),
    [
        ("GB", "GB", b"Other", 5, {"unauthorised"}),
        ("GB", "GB", b"447700900101", 1, set()),
        ("GB", "GB", FRENCH, 1, {"wrong_form"}),
        ("IE", "IE", b"Other", 5, {"unauthorised"}),
        ("IE", "IE", FRENCH, 1, set()),
        ("AU", "AU", b"Other", 5, {"unauthorised"}),
        ("SG", "SG", b"Other", 5, {"unauthorised"}),
        ("IN", "IN", b"AX-ACMEIN", 5, {"unauthorised"}),
        ("IN", "IN", FRENCH, 1, {"wrong_form"}),
        ("AE", "AE", b"AD-ACME", 5, {"unauthorised"}),
    ],
)
def test_packs(pack: str, country: str, sender: bytes, ton: int, expected: set[str]) -> None:
    assert stands(sender, country, "acme", ton, {"packs": [pack]}) == expected


def test_settings_win_over_a_pack() -> None:
    said = {"packs": "GB", "forms": {"GB": ["numeric"]}, "registered": {"GB": ["numeric"]}}
    assert stands(FRENCH, said=said, ton=1) == {"unauthorised"}
    assert stands(b"Other", said=said) == {"wrong_form"}


def test_readings() -> None:
    assert readings(b"ACME") == ["ACME"]
    assert readings("é".encode()) == ["é", "Ã©"]
    assert readings(b"\xe9") == ["é"]
    assert readings(b"@\x05") == ["@\x05", "¡é"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=20), st.integers(0, 255))
def test_no_octets_are_too_strange(sender: bytes, ton: int) -> None:
    made = book()
    standing = made.standing("acme", ton, sender, "GB", "GB")
    assert standing == made.standing("acme", ton, sender, "GB", "GB") and 0 <= standing < 64
    assert bool(standing & STANDINGS["unauthorised"]) != made.is_authorised("acme", ton, sender, "GB", "GB")


def test_memory_is_bounded() -> None:
    made = book()
    for number in range(20_000):
        made.standing("acme", 5, b"N%d" % number, "GB")
    assert len(made._known) <= 8192


def test_a_name_of_one_letter_is_nobodys_likeness() -> None:
    assert stands(b"O", said={"protected": ["0"]}) == {"unauthorised"}
    assert shape("2024") == ""


# -- in rules ------------------------------------------------------------------------------------------------------

RULES = [
    {"name": "stolen", "when": {"sender_is": ["lookalike", "protected"]}, "do": "refuse"},
    {"name": "plain", "when": {"sender_is": "generic", "country": "GB"}, "do": {"replace_sender": "+447700900555"}},
    {
        "name": "unknown",
        "mode": "shadow",
        "unless": {"sender": "Trial"},
        "when": {"sender_is": "unauthorised"},
        "do": "refuse",
    },
]


def pipe(account: str = "acme") -> Pipeline:
    made = book()
    return Pipeline(Program([policy("p", RULES)], book=made), account=account, book=made, region=None)


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (b"ACME Ltd", "-"),
        (b"PayPa1", "refused stolen"),
        (b"Verify", "plain,unknown*"),
        (b"Other", "unknown*"),
        (b"Trial", "-"),
    ],
)
def test_rules_ask_how_the_sender_stands(sender: bytes, expected: str) -> None:
    assert run(pipe(), frame(sender=sender), frame(sender=sender)) == [expected, expected]


def test_accounts_that_share_a_program_have_their_own_senders() -> None:
    made = book()
    program = Program([policy("p", RULES)], book=made)
    acme, bank = (Pipeline(program, account=name, book=made) for name in ("acme", "bank"))
    assert run(bank, frame(sender=b"Santander")) == ["-"]
    assert run(acme, frame(sender=b"Santander")) == ["refused stolen"]
    assert run(bank, frame(sender=b"Santander")) == ["-"]
    assert bank.is_authorised(frame(sender=b"Santander")) and not acme.is_authorised(frame(sender=b"Santander"))


def test_explain_says_how_it_stands() -> None:
    told = explain(pipe(), frame(sender=b"INF0"), 0.0)
    assert [step.why for step in told.steps] == [
        "not sender_is (unauthorised, generic)",
        "sender_is (unauthorised, generic), country",
        "sender_is (unauthorised, generic)",
    ]
    told = explain(pipe(), frame(sender=b"ACME Ltd"), 0.0)
    assert told.steps[0].why == "not sender_is (nothing of it)"


def test_without_settings_every_sender_is_unauthorised() -> None:
    made = Pipeline(Program([policy("p", [{"when": {"sender_is": "unauthorised"}}])]))
    assert run(made, frame()) == ["refused r0"] and not made.is_authorised(frame())
