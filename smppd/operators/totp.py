"""The second factor: time-based one-time codes (RFC 6238, with what every authenticator app takes: SHA-1, six digits, 30 s),
and recovery codes for when the phone is lost."""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

STEP: Final = 30
"""Seconds for which a code is the current one."""
SECRET_BYTES: Final = 20
RECOVERY_CODES: Final = 8
_DIGITS: Final = 6
_WINDOW: Final = 1
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # without those that are mistaken for each other
_RECOVERY_LETTERS: Final = 16  # about 79 bits
_GROUP: Final = 4


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, _DIGITS, SHA1(), STEP)


def code_at(secret: bytes, step: int) -> str:
    """The code of a step (epoch seconds // STEP)."""
    return _totp(secret).generate(step * STEP).decode("ascii")


def accepted_step(secret: bytes, code: str, now: float, newest: int) -> int | None:
    """The step of a code that is right at `now` (epoch seconds), give or take one step. newest: the last step that was
    accepted; that one and those before it are refused, so no code works twice. None where it is not right."""
    current = int(now) // STEP
    found = None
    for step in range(current - _WINDOW, current + _WINDOW + 1):
        right = step >= 0 and hmac.compare_digest(code_at(secret, step).encode(), code.encode("utf-8", "replace"))
        if right and step > newest:
            found = step if found is None else found
    return found


def provisioning_uri(secret: bytes, name: str, issuer: str) -> str:
    """The otpauth:// URI that an authenticator app takes. It contains the secret."""
    return _totp(secret).get_provisioning_uri(name, issuer)


def is_code(text: str) -> bool:
    """Whether a text has the form of a code, as `plain` gives it."""
    return re.fullmatch("[0-9]{6}", text) is not None


def plain(typed: str) -> str:
    """What was typed as a code, of either kind, without what people put in between."""
    folded = unicodedata.normalize("NFKC", typed).casefold()
    return "".join(c for c in folded if c.isalnum())


def recovery_codes(draw: Callable[[int], bytes]) -> list[str]:
    """New recovery codes, as they are shown: `abcd-efgh-jkmn-pqrs`. draw(n): n random octets."""
    codes: list[str] = []
    while len(codes) < RECOVERY_CODES:
        letters = ""
        while len(letters) < _RECOVERY_LETTERS:
            # What lies beyond the last multiple of the alphabet is thrown away, so that all letters are as likely.
            fair = [octet for octet in draw(2 * _RECOVERY_LETTERS) if octet < 256 - 256 % len(_LETTERS)]
            letters += "".join(_LETTERS[octet % len(_LETTERS)] for octet in fair)
        letters = letters[:_RECOVERY_LETTERS]
        codes.append("-".join(letters[at : at + _GROUP] for at in range(0, _RECOVERY_LETTERS, _GROUP)))
    return codes
