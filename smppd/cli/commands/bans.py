"""`smppd bans`: shows and lifts the bans of addresses that guessed passwords, by the running daemon's control socket."""

from __future__ import annotations

import argparse
import json
from typing import Any

from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.config import Settings
from smppd.config.units import format_duration
from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.operators.roles import Act


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bans",
        description="Show and lift the bans of addresses that guessed passwords. Asks the running daemon over the socket in the"
        " store's directory, as root or as the daemon's user. Exit status: 0 done, 1 nothing to lift, 2 not reachable.",
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    listing = actions.add_parser("list", description="Show the bans that stand.")
    lifting = actions.add_parser(
        "lift", description="End all bans and delays of an address; the audit trail says who did."
    )
    lifting.add_argument("address", metavar="ADDRESS", help="as `smppd bans list` shows it; of IPv6 the whole /64")
    add_login(lifting)
    for one in (listing, lifting):
        add_config(one)
    add_json(listing)


def run(args: argparse.Namespace) -> int:
    """Prints a table (or JSON), or lifts. CommandError, status 2, when no daemon answers."""
    settings = load_settings(args)
    if args.action == "lift":
        authority = authorise(Act.RUNTIME, args, settings)
        request = {"do": "bans lift", "address": args.address, "operator": authority.operator}
        answer = _ask(settings, request)
        lifted = int(answer["lifted"])
        say(
            f"{lifted} ban{'s' * (lifted != 1)} of {args.address} lifted" if lifted else f"{args.address} is not banned"
        )
        return 0 if lifted else 1
    bans = _ask(settings, {"do": "bans list"})["bans"]
    if args.json:
        print(json.dumps(bans, indent=2))
        return 0
    for ban in bans:
        what = f"binds of {ban['who']}" if ban["scope"] == "name" else "every connection"
        print(f"{ban['address']}  {what}  ends in {format_duration(round(ban['left']))}")
    say(f"{len(bans)} ban{'s' * (len(bans) != 1)}")
    return 0


def _ask(settings: Settings, request: dict[str, object]) -> dict[str, Any]:
    try:
        return ask(settings.store.directory, request)
    except ControlError as error:
        raise CommandError(str(error), 2) from None
