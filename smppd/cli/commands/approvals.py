"""`smppd approvals list|grant|deny`: what one person asked for and another has to agree to."""

from __future__ import annotations

import argparse
import json
import time

from smppd.audit.trail import current_actor
from smppd.cli.authority import add_login, identify
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.office.approving import answer, as_dict, iso, waiting
from smppd.office.desk import Office, has_people, open_office, told
from smppd.operators.approvals import WINDOW
from smppd.operators.roles import Authority


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "approvals",
        help="agree to what another person asked for, or deny it",
        description="What one person asked for and another has to agree to. Who agrees must be allowed to do the same, and"
        " cannot be the one who asked. What was granted may be done for an hour; what nobody answers ends after three days.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what you asked for, and what waits for you")
    grant = actions.add_parser("grant", help="agree to a request")
    deny = actions.add_parser("deny", help="deny a request, withdraw one of your own, or end what was granted")
    for one in (grant, deny):
        one.add_argument("number", type=_number, metavar="N", help="the number of the request")
    add_json(listing)
    for one in (listing, grant, deny):
        add_login(one)
        add_config(one)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `approvals ACTION`; 0, 1 when it was refused, 2 without a store."""
    settings = load_settings(args)
    with told():
        if not has_people(settings):
            raise CommandError("there are no operators yet, so nothing waits for two of them", 2)
    with open_office(settings) as office:
        authority = identify(None, args, office, current_actor())
        if args.action == "list":
            return _list(office, authority, args)
        return _answer(office, authority, args, args.action == "grant")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 53:
        raise argparse.ArgumentTypeError("must be the number of a request")
    return int(text)


def _answer(office: Office, authority: Authority, args: argparse.Namespace, granted: bool) -> int:
    after = answer(office, authority, args.number, granted, time.time())
    if granted:
        say(
            f"Request {after.number} is granted: {after.asker} may do it until {iso(after.until)}"
            f" ({round(WINDOW / 60)} minutes)."
        )
    else:
        say(f"Request {after.number} is denied.")
    return 0


# -- list --------------------------------------------------------------------------------------------------------------


def _list(office: Office, authority: Authority, args: argparse.Namespace) -> int:
    rows = [as_dict(one) for one in waiting(office, authority, time.time())]
    if args.json:
        print(json.dumps({"requests": rows}, indent=2))
        return 0
    for row in rows:
        what = "  ".join(f"{name}={value}" for name, value in row["what"].items())
        print(f"{row['number']}  {row['state']}  {row['kind']}  asked by {row['asker']} {row['asked']}")
        print(f"    {what}")
        if row["reason"] or row["note"]:
            print(f"    reason: {row['reason'] or 'none'}  note: {row['note'] or 'none'}")
        print(f"    {'answered by ' + row['by'] + ', ' if row['by'] else ''}ends {row['until']}")
    say(f"{len(rows)} request{'s' * (len(rows) != 1)}.")
    return 0
