"""`smppd passwd`: the Argon2id hash of an account's password, alone on one line of standard output.

Parameters are OWASP's first choice for Argon2id on servers: 19 MiB, 2 passes, 1 lane; about 20 ms a bind, and never on
the message path. The hash is in PHC form and goes into `accounts[].password_hash`.
"""

from __future__ import annotations

import argparse
import getpass
import itertools
import os
import secrets
import sys
from typing import Any, Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from smppd.cli.commands import CommandError, say

MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
LANES: Final = 1
LONGEST: Final = 64
GENERATED: Final = 20
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


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "passwd",
        description="Make the hash of an account's password for `password_hash`. The hash alone is on standard output,"
        " in one line. Asks twice for the password unless --stdin or --generate is given.",
        epilog="A password needs 12 characters, or 8 of at least three kinds (lower, upper, digit, other), and at most"
        " 64. SMPP 3.4 has room for 8 by the letter; most clients send longer ones.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--stdin", action="store_true", help="read the password from the first line of standard input")
    source.add_argument(
        "--generate", action="store_true", help="make a password, and print it on standard error: it is shown once"
    )
    parser.add_argument("--system-id", metavar="ID", default="", help="the account, so that its name is not accepted")


def run(args: argparse.Namespace) -> int:
    """Prints the hash."""
    if args.generate:
        password = generate()
        say(f"password: {password}")
    else:
        password = _from_stdin() if args.stdin else _asked()
        reason = weakness(password, args.system_id)
        if reason:
            raise CommandError(f"password refused: {reason}")
    print(hashed(password, os.urandom(16)))
    return 0


def generate() -> str:
    """A random password of about 116 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(GENERATED))


def hashed(password: str, salt: bytes) -> str:
    """The Argon2id hash in PHC form (RFC 9106; parameters above)."""
    kdf = Argon2id(salt=salt, length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)
    return kdf.derive_phc_encoded(password.encode())


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
    if len(set(password)) < 5:
        return "it repeats very few characters"
    if _runs(password):
        return "it is little more than a sequence such as 123456 or abcdef"
    plain, name = password.casefold(), system_id.casefold()
    if name and (plain == name or (len(name) >= 4 and name in plain and len(plain) - len(name) < 8)):
        return "it is the system_id, or little more"
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


def _from_stdin() -> str:
    line = sys.stdin.buffer.readline(4096)
    try:
        password = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise CommandError("password refused: standard input is not UTF-8") from None
    if not password:
        raise CommandError("no password: standard input is empty")
    return password


def _asked() -> str:
    if not sys.stdin.isatty():
        raise CommandError("no terminal to ask at: use --stdin or --generate", 2)
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Once more: ")
    except EOFError:
        raise CommandError("no password was given") from None
    if password != again:
        raise CommandError("the two passwords differ")
    return password
