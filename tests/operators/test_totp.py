"""One-time codes against the vectors of RFC 6238, and which are taken when; recovery codes."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.operators import totp

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_the_codes_are_those_of_the_standard(at: int, code: str) -> None:
    """RFC 6238, appendix B; the last six of its eight digits."""
    assert totp.code_at(SECRET, at // totp.STEP) == code
    assert totp.accepted_step(SECRET, code, at, 0) == at // totp.STEP


def test_a_code_is_taken_one_step_early_or_late_and_no_more() -> None:
    now = 1_796_000_010.0
    step = int(now) // totp.STEP
    for off, taken in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        found = totp.accepted_step(SECRET, totp.code_at(SECRET, step + off), now, 0)
        assert found == (step + off if taken else None)


def test_a_used_code_and_all_before_it_are_refused() -> None:
    now = 1_796_000_010.0
    step = int(now) // totp.STEP
    code = totp.code_at(SECRET, step)
    assert totp.accepted_step(SECRET, code, now, step - 1) == step
    assert totp.accepted_step(SECRET, code, now, step) is None
    assert totp.accepted_step(SECRET, totp.code_at(SECRET, step - 1), now, step) is None
    assert totp.accepted_step(SECRET, totp.code_at(SECRET, step + 1), now, step) == step + 1


@given(st.text(max_size=70))
def test_any_text_is_a_code_or_is_not(typed: str) -> None:
    plain = totp.plain(typed)
    assert totp.plain(plain) == plain and not re.search(r"[\s-]", plain)
    if totp.is_code(plain):
        assert re.fullmatch("[0-9]{6}", plain)
    right = totp.code_at(SECRET, 59_866_667)
    assert (totp.accepted_step(SECRET, plain, 1_796_000_010.0, 0) is None) or plain in {
        totp.code_at(SECRET, 59_866_667 + off) for off in (-1, 0, 1)
    }
    assert right.isdigit()


def test_a_code_may_be_typed_with_blanks() -> None:
    assert totp.plain(" 287 082\n") == "287082"
    assert totp.plain("ABCD-efgh jkmn-pqrs") == "abcdefghjkmnpqrs"
    assert totp.plain("\uff12\uff18\uff17\uff10\uff18\uff12") == "287082"


def test_the_uri_says_what_every_app_takes() -> None:
    uri = totp.provisioning_uri(SECRET, "anna", "smppd@db1")
    assert uri.startswith("otpauth://totp/smppd%40db1:anna?") and "secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" in uri
    assert "digits=6" in uri and "period=30" in uri and "algorithm=SHA1" in uri and "issuer=smppd%40db1" in uri


def test_recovery_codes_are_all_different_and_can_be_read_out() -> None:
    codes = [code for _ in range(50) for code in totp.recovery_codes(os.urandom)]
    assert len(set(codes)) == 400 == 50 * totp.RECOVERY_CODES
    assert all(re.fullmatch("(?:[a-hjkmnp-z2-9]{4}-){3}[a-hjkmnp-z2-9]{4}", code) for code in codes)
    assert not set("il10o") & set("".join(codes))
    counts = [sum(code.count(letter) for code in codes) for letter in "abcdefghjkmnpqrstuvwxyz23456789"]
    assert min(counts) > 120 and max(counts) < 300, "all letters are about as likely"


def test_octets_that_would_favour_a_letter_are_thrown_away() -> None:
    draws = iter([bytes([255] * 32), bytes([0] * 32)] + [bytes(range(32))] * 20)
    assert totp.recovery_codes(lambda _n: next(draws))[0] == "aaaa-aaaa-aaaa-aaaa"
