"""`smppd passwd`: the Argon2id hash of an account's password, alone on one line of standard output.

It goes into `accounts[].password_hash`; `smppd.passwords` makes it.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from typing import Any

from smppd.cli.commands import CommandError, say
from smppd.passwords import generate, hashed, weakness


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
