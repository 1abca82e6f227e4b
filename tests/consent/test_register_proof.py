"""Consents sealed and hashed: nothing readable, nothing that can be moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smppd.consent.register_proof import Consent, ConsentKeys, scopes_of, sender_form
from smppd.vault.seal import SealError

KEYS = ConsentKeys(b"k" * 32)
ONE = Consent(
    "acme", "447700900123", "electronic", "2026-01-02T03:04:05Z", ip="192.0.2.7", classes=("promotional", "service")
)


def test_a_row_opens_to_what_was_sealed() -> None:
    row = KEYS.row(ONE, 1767319445, "GB")
    assert KEYS.open(row) == ONE and row.withdrawn == -1767319445
    assert len(row.digest) == len(row.subject) == 16 and len(scopes_of(row.scopes)) == 2
    plain = b"".join((row.digest, row.subject, row.scopes, row.sealed))
    assert b"7700900123" not in plain and b"192.0.2.7" not in plain
    assert "7700" not in repr(ONE) + repr(row) + repr(KEYS)


def test_the_same_said_twice_has_one_digest() -> None:
    row = KEYS.row(ONE, 1, None)
    assert KEYS.row(replace(ONE, imported="2026-02-02T00:00:00Z"), 1, None).digest == row.digest
    assert KEYS.row(replace(ONE, ip="192.0.2.8"), 1, None).digest != row.digest


def test_another_key_another_account_and_altered_octets_do_not_open() -> None:
    row = KEYS.row(ONE, 1, None)
    for other in (
        row._replace(account="shop"),
        row._replace(digest=b"x" * 16),
        row._replace(sealed=row.sealed[:-1] + b"x"),
        row._replace(sealed=b"\2" + row.sealed[1:]),
        row._replace(sealed=b""),
    ):
        with pytest.raises(SealError):
            KEYS.open(other)
    other_keys = ConsentKeys(b"l" * 32)
    with pytest.raises(SealError):
        other_keys.open(row)
    assert other_keys.subject("acme", b"447700900123") != row.subject
    assert KEYS.subject("shop", b"447700900123") != row.subject


def test_senders_are_hashed_in_their_normal_form() -> None:
    assert sender_form("ACME", None) == sender_form("acme", None) == b"acme"
    assert sender_form("07700900555", "GB") == sender_form("+447700900555", None)
    assert sender_form("*", None) == b"*"
