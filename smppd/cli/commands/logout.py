"""`smppd logout`: ends the session of this terminal at once."""

from __future__ import annotations

import argparse

from smppd.cli.authority import token_file
from smppd.cli.commands import CommandError, add_config, load_settings
from smppd.office.desk import has_people, open_office, told
from smppd.operators.sessions import end


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("logout", help="end the session of this terminal")
    add_config(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ends the session; 0, or 1 when there was none."""
    settings = load_settings(args)
    with told():
        if not has_people(settings):
            raise CommandError("nobody is logged in here")
    with open_office(settings) as office:
        tokens = token_file(office)
        token = tokens.read()
        tokens.remove()
        if token is None or not end(office.desk, token):
            raise CommandError("nobody is logged in here")
    print("Logged out.")
    return 0
