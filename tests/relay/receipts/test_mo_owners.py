"""Whose number an MO message goes to: exact, by the longest prefix, by keyword."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.config import Settings
from smppd.protocol.wire import Command, Fields, Sm, Tag, address_field, build_sm, tlv
from smppd.relay.receipts.mo_owners import MoOwners

HASH = "$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM"


def owners(**accounts: dict[str, Any]) -> MoOwners:
    return MoOwners(
        Settings.model_validate(
            {
                "listeners": [{"address": "127.0.0.1:0"}],
                "accounts": [
                    {"system_id": name, "password_hash": HASH, "networks": "any", **more}
                    for name, more in accounts.items()
                ],
                "upstreams": [{"name": "a", "address": "127.0.0.1:2776", "system_id": "gw", "password": {"env": "PW"}}],
                "routes": [{"upstreams": ["a"]}],
                "store": {"path": "var"},
                "keys": {"file": "kek"},
            }
        )
    )


def mo(text: bytes = b"hello", *, coding: int = 0, esm: int = 0, tlvs: bytes = b"") -> Sm:
    number = address_field(1, 1, b"447700900999")
    return Sm(build_sm(Command.DELIVER_SM, 1, number, number, text, Fields(esm_class=esm, data_coding=coding), tlvs))


def test_exact_numbers_then_the_longest_prefix() -> None:
    book = owners(
        wide={"numbers": ["+44*"]},
        narrow={"numbers": ["+447700*", "12125550100"]},
        exact={"numbers": ["+447700900123"]},
    )
    for plus in (b"", b"+"):
        assert book.owner_of(plus + b"447700900123", mo()) == "exact"
        assert book.owner_of(plus + b"447700900124", mo()) == "narrow"
        assert book.owner_of(plus + b"4479", mo()) == "wide"
        assert book.owner_of(plus + b"12125550100", mo()) == "narrow"
        assert book.owner_of(plus + b"121255501001", mo()) is None
    assert book.owner_of(b"", mo()) is None


def test_nobody_owns_a_number_without_numbers() -> None:
    assert owners(acme={}).owner_of(b"447700900123", mo()) is None


SHARED = {
    "first": {"numbers": ["+447700900555"], "keywords": ["JOIN", "Été"]},
    "second": {"numbers": ["+447700900555"], "keywords": ["vote"]},
}
NUMBER = b"447700900555"


@pytest.mark.parametrize(
    ("sm", "owner"),
    [
        (mo(b"join"), "first"),
        (mo(b"  JoIn\r\nnow"), "first"),
        (mo(b"VOTE 4"), "second"),
        (mo(b"joining"), None),
        (mo(b"please join"), None),
        (mo(b""), None),
        (mo("\u00c9T\u00c9 2026".encode("utf-16-be"), coding=8), "first"),
        (mo("été".encode("latin-1"), coding=3), "first"),
        (mo(b"vote", coding=4), None),
        (mo(b"\x05\x00\x03\x07\x02\x01vote now", esm=0x40), "second"),
        (mo(b"\x05\x00\x03", esm=0x40), None),
        (mo(b"", tlvs=tlv(Tag.MESSAGE_PAYLOAD, b"vote")), "second"),
    ],
)
def test_keywords_tell_the_owners_of_a_shared_number_apart(sm: Sm, owner: str | None) -> None:
    assert owners(**SHARED).owner_of(NUMBER, sm) == owner


def test_an_account_without_keywords_takes_what_no_keyword_claims() -> None:
    book = owners(**SHARED, rest={"numbers": ["+447700900555"]})
    assert book.owner_of(NUMBER, mo(b"vote")) == "second"
    assert book.owner_of(NUMBER, mo(b"anything")) == "rest"
    assert book.owner_of(NUMBER, mo(b"vote", coding=4)) == "rest"


def test_keywords_work_on_prefixes_too() -> None:
    book = owners(
        first={"numbers": ["+4477*"], "keywords": ["join"]}, second={"numbers": ["+4477*"], "keywords": ["vote"]}
    )
    assert book.owner_of(NUMBER, mo(b"vote")) == "second"
    assert book.owner_of(NUMBER, mo(b"none")) is None


def test_one_owner_with_keywords_gets_only_those() -> None:
    book = owners(acme={"numbers": ["+447700900555"], "keywords": ["join"]})
    assert (book.owner_of(NUMBER, mo(b"join")), book.owner_of(NUMBER, mo(b"other"))) == ("acme", None)
