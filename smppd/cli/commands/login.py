"""`smppd login`: passphrase and code once, for all commands at this terminal until the session ends by itself."""

from __future__ import annotations

import argparse
import os
import time
from datetime import UTC, datetime
from typing import Final

from smppd.audit.trail import current_actor
from smppd.cli.authority import NOBODY_YET, log_in, token_file
from smppd.cli.commands import CommandError, add_config, load_settings
from smppd.cli.credentials import add_credentials, claim_of, place
from smppd.config.units import format_duration, parse_duration
from smppd.office.desk import has_people, open_office, told
from smppd.operators.sessions import DEFAULT, LONGEST, begin, end

_SHORTEST: Final = 10.0


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "login",
        help="log in once for the next commands at this terminal",
        description="Logs in once for the next commands of this user at this terminal. The session ends by itself, with"
        " `smppd logout`, and when the operator is changed, reset or disabled.",
    )
    parser.add_argument("--operator", metavar="NAME", required=True, help="who you are (`smppd operators`)")
    parser.add_argument(
        "--for",
        dest="lasting",
        metavar="T",
        type=_lasting,
        default=DEFAULT,
        help="how long, 15m by default, 1h at most",
    )
    add_credentials(parser)
    add_config(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Opens a session; 0, or 1 when the login was refused."""
    settings = load_settings(args)
    with told():
        if not has_people(settings):
            raise CommandError(NOBODY_YET, 2)
    with open_office(settings) as office:
        if not office.people.any():
            raise CommandError(NOBODY_YET, 2)
        operator = log_in(office, claim_of(args.operator, args.credentials), current_actor())
        tokens = token_file(office)
        before = tokens.read()
        token, until = begin(office.desk, operator, place(), time.time(), args.lasting, os.urandom)
        try:
            tokens.write(token)
        except CommandError:
            end(office.desk, token)
            raise
        if before is not None:
            end(office.desk, before)
    at = datetime.fromtimestamp(until, UTC).strftime("%H:%M:%SZ")
    print(f"Logged in as {operator.name} until {at}; `smppd logout` ends it.")
    return 0


def _lasting(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not _SHORTEST <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"must lie between 10s and {format_duration(LONGEST)}")
    return seconds
