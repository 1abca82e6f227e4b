"""Hashes of passwords, and which passwords are taken; `smppd passwd`'s tests have the refused ones."""

from __future__ import annotations

import pytest

from smppd import passwords

RIGHT, WRONG = "right-horse", "wrong-horse"


def test_generated_passwords_are_never_refused() -> None:
    made = {passwords.generate() for _ in range(200)}
    assert len(made) == 200 and not any(map(passwords.weakness, made))


@pytest.mark.parametrize("password", ["tR4x!9qZ", "correct horse battery", "k3#Vq9-wLp", "SMPP3.4-uplink-Zx7"])
def test_strong_passwords(password: str) -> None:
    assert passwords.weakness(password, "acme") is None


def test_the_hash_is_salted() -> None:
    assert passwords.hashed("x", b"a" * 16) != passwords.hashed("x", b"b" * 16)


def test_a_password_matches_any_of_its_hashes_and_no_other() -> None:
    right, wrong = passwords.hashed(RIGHT, b"example-salt-001"), passwords.hashed(WRONG, b"example-salt-001")
    assert passwords.password_matches((wrong, right), RIGHT.encode())
    assert not passwords.password_matches((right,), WRONG.encode())
