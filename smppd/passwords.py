"""Passwords of accounts: their Argon2id hashes, made and compared, and which ones are too weak to be taken.

Parameters are OWASP's first choice for Argon2id on servers: 19 MiB, 2 passes, 1 lane; about 20 ms a bind, and never on
the message path. Hashes are in PHC form, as `accounts[].password_hash` has them.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
LANES: Final = 1
LONGEST: Final = 64
GENERATED: Final = 20
LONGEST_PASSPHRASE: Final = 256
# Without the characters that are mistaken for each other when a password is read out: 0 O o, 1 I l.
ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"

# The stems of the passwords that are tried first; digits and signs around them, and letters written as digits, do not help.
_COMMON: Final = frozenset(
    "password passwort passw pass secret admin administrator root user guest test testing demo default letmein welcome"
    " changeme change qwerty qwertz qwertyuiop azerty asdfgh asdfghjkl zxcvbn iloveyou monkey dragon master login abc"
    " abcd abcdef smpp smppclient smsc sms esme gateway carrier message operator mobile telecom provider company"
    " system server client football baseball sunshine princess shadow superman trustno summer winter spring autumn".split()
)
_LEET: Final = str.maketrans("013457@$!", "oleastasi")


def generate() -> str:
    """A random password of about 116 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(GENERATED))


def hashed(password: str, salt: bytes) -> str:
    """The Argon2id hash in PHC form (RFC 9106; parameters above)."""
    kdf = Argon2id(salt=salt, length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)
    return kdf.derive_phc_encoded(password.encode())


def password_matches(hashes: Iterable[str], password: bytes) -> bool:
    """Whether one of the PHC hashes is of this password. Tens of milliseconds each; not for the reactor's thread."""
    for encoded in hashes:
        try:
            Argon2id.verify_phc_encoded(password, encoded)
        except InvalidKey:
            continue
        return True
    return False


def weakness(password: str, system_id: str = "") -> str | None:
    """Why the password is not accepted, in words that do not repeat it; None when it is."""
    if any(not "\x20" <= char <= "\x7e" for char in password):
        return "only printable ASCII characters can be sent by every SMPP client"
    if len(password) > LONGEST:
        return f"more than {LONGEST} characters, which is the most a bind may carry"
    kinds = sum(
        any(map(test, password)) for test in (str.islower, str.isupper, str.isdigit, lambda char: not char.isalnum())
    )
    if len(password) < 8:
        return "fewer than 8 characters; take 12, or 8 of three kinds (lower, upper, digit, other)"
    if len(password) < 12 and kinds < 3:
        return "under 12 characters it needs three kinds: lower case, upper case, digits, others"
    return _guessable(password, system_id, "the system_id")


def passphrase_weakness(passphrase: str, name: str) -> str | None:
    """The same for the passphrase of a person, who types it into smppd and nothing else: characters of any script, no SMPP
    client's limits, 12 characters at least. name: of the operator."""
    if not passphrase.isprintable():
        return "it has characters that do not print"
    if len(passphrase) > LONGEST_PASSPHRASE:
        return f"more than {LONGEST_PASSPHRASE} characters"
    if len(passphrase) < 12:
        return "fewer than 12 characters; take a few words that do not belong together"
    return _guessable(passphrase, name, "the name")


def _guessable(password: str, own: str, called: str) -> str | None:
    """Whether it is among what is tried first. own: a name that it must not be, and what that is called."""
    if len(set(password)) < 5:
        return "it repeats very few characters"
    if _runs(password):
        return "it is little more than a sequence such as 123456 or abcdef"
    plain, name = password.casefold(), own.casefold()
    if name and (plain == name or (len(name) >= 4 and name in plain and len(plain) - len(name) < 8)):
        return f"it is {called}, or little more"
    # What is left of a common word when decoration and letters written as digits are undone.
    stems = {"".join(filter(str.isalpha, text)) for text in (plain, plain.translate(_LEET))}
    stems |= {plain.strip("0123456789!@#$%&*?._-+ ").translate(_LEET)}
    if stems & _COMMON:
        return "it is a common password with decoration, and among the first that are tried"
    return None


def _runs(password: str) -> bool:
    """Whether most steps from one character to the next are +1, -1 or 0 in the alphabet."""
    steps = [ord(after) - ord(before) for before, after in itertools.pairwise(password)]
    return sum(step in (-1, 0, 1) for step in steps) > 0.7 * len(steps)
