"""`smppd traffic list|release`: what stands against unusual traffic in the running daemon, by its control socket."""

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
from smppd.office.access import printable
from smppd.operators.roles import Act


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = subparsers.add_parser(
        "traffic",
        description="Show what stands against unusual traffic, and end it. Asks the running daemon over the socket in the"
        " store's directory, as root or as the daemon's user. Exit status: 0 done, 1 it does not stand, 2 not reachable.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", description="The decisions that stand, by account.")
    release = actions.add_parser(
        "release",
        description="End a decision before its time. A new country is known from then on, a cap is lifted for the day.",
    )
    release.add_argument("account", metavar="ACCOUNT", help="its system_id")
    release.add_argument("number", type=int, metavar="N", help="the decision's number in the list")
    release.add_argument("--reason", required=True, metavar="TEXT", help="why, without personal data; kept for ever")
    add_json(listing)
    for action in (listing, release):
        add_login(action)
        add_config(action)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a table (or JSON), or releases."""
    settings = load_settings(args)
    authority = authorise(Act.RUNTIME if args.action == "release" else Act.SEARCH, args, settings)
    if args.action == "release":
        reason = " ".join(printable(args.reason).split())[:200]
        if not reason:
            raise CommandError("--reason needs a text", 2)
        request = {"do": "traffic release", "account": args.account, "number": args.number}
        released = _ask(settings, request | {"reason": reason, "operator": authority.operator})["released"]
        print(f"{args.account}: {released['signal']} of {released['target']} is released.")
        return 0
    found = [one for one in _ask(settings, {"do": "traffic list"})["decisions"] if authority.sees(one["account"])]
    if args.json:
        print(json.dumps({"decisions": found}, indent=2))
        return 0
    for one in found:
        left = format_duration(max(1, round(one["left"])))
        print(
            f"{one['account']}  {one['number']:>4}  {one['signal']}: {one['action']}  {one['target']}  {one['why']}"
            f"  {one['messages']} messages, ends in {left}"
        )
    say(f"{len(found)} decision{'s' * (len(found) != 1)} stand{'s' * (len(found) == 1)}.")
    return 0


def _ask(settings: Settings, request: dict[str, object]) -> dict[str, Any]:
    try:
        return ask(settings.store.directory, request)
    except ControlError as error:
        raise CommandError(str(error), 1 if "does not stand" in str(error) else 2) from None
