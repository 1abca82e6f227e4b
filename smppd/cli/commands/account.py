"""`smppd account guide ACCOUNT`: the page for a customer's engineers, made of the configuration."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.config import Settings, split_address
from smppd.reports.guide import HOST_UNKNOWN, facts, markdown


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "account", description="What concerns one account of the configuration."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    guide = actions.add_parser(
        "guide",
        description="A page for the customer's engineers, in Markdown: host, port, TLS, limits and what happens beyond them,"
        " ids, alphabets, statuses with what to do, receipts, what is kept, and a first session in Python, Node.js and Java. No"
        " secret and nobody else's name is in it. Exit status: 0 done, 1 no such account, or it cannot be written.",
    )
    guide.add_argument("account", metavar="ACCOUNT", help="its system_id")
    guide.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="where the customer connects, where that is no listener's own address, as behind a load balancer",
    )
    guide.add_argument("--out", metavar="FILE", type=Path, help="write it there instead of to standard output")
    add_config(guide)
    add_json(guide)


def run(args: argparse.Namespace) -> int:
    """Prints the page, or writes it."""
    settings = load_settings(args)
    guide = _facts(settings, args)
    text = json.dumps(guide, indent=2) + "\n" if args.json else markdown(guide)
    if args.address is None and any(one["host"] == HOST_UNKNOWN for one in guide["endpoints"]):
        say(f"The configuration names no host that a customer could write: it says {HOST_UNKNOWN}. --address names it.")
    if args.out is None:
        print(text, end="")
        return 0
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{args.out}: {error.strerror}") from None
    say(f"{args.out} is written.")
    return 0


def _facts(settings: Settings, args: argparse.Namespace) -> dict[str, Any]:
    account = next((one for one in settings.accounts if one.system_id == args.account), None)
    if account is None:
        raise CommandError(f"the configuration has no account {args.account}")
    try:
        address = None if args.address is None else split_address(args.address)
    except ValueError as error:
        raise CommandError(f"--address {error}", 2) from None
    try:
        return facts(settings, account, address)
    except ValueError as error:
        raise CommandError(str(error)) from None
