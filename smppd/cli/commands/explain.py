"""`smppd explain`: what policy and routing would do with a message, rule by rule, without a daemon, keys or a carrier."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.office.explaining import Part, Trial, as_dict, conclusion, explain_trial
from smppd.policy.pipeline import Standing
from smppd.protocol import wire

_STYLES: Final = {Standing.MATCHED: "bold", Standing.UNDECIDED: "yellow"}


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        description="Show what policy would do with a message of an account: every rule in order, whether it matches"
        " and why not, the verdict, and the upstreams that would be tried. A long text is cut into parts, each shown."
        " Nothing is sent.",
    )
    add_config(parser)
    parser.add_argument("--account", required=True, metavar="NAME", help="system_id of the account that sends it")
    parser.add_argument("--from", required=True, dest="sender", metavar="SENDER", help="source address")
    parser.add_argument("--to", required=True, metavar="NUMBER", help="destination address")
    body = parser.add_mutually_exclusive_group(required=True)
    body.add_argument("--text", help="the text, encoded as the account's default alphabet or UCS-2")
    body.add_argument("--hex", metavar="BODY", help="the octets of the body, in hexadecimal")
    parser.add_argument("--data-coding", type=_octet, metavar="N", help="data_coding (default: 0, or 8 where needed)")
    parser.add_argument(
        "--esm-class", type=_octet, default=0, metavar="N", help="esm_class, 0x40 for a header in --hex"
    )
    parser.add_argument(
        "--tlv", type=_tlv, action="append", default=[], metavar="TAG=HEX", help="a TLV: 0x1400=31323334"
    )
    add_json(parser)


def _octet(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 255:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 255")
    return value


def _tlv(text: str) -> bytes:
    tag, _, value = text.partition("=")
    try:
        number, octets = int(tag, 0), bytes.fromhex(value)
    except ValueError:
        number, octets = -1, b""
    if not 0 <= number <= 0xFFFF or len(octets) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is not TAG=HEX, such as 0x1400=31323334")
    return wire.tlv(number, octets)


def run(args: argparse.Namespace) -> int:
    """Prints a table of the rules for each part, the verdict and the way it would take."""
    settings = load_settings(args)
    octets = None
    if args.hex is not None:
        try:
            octets = bytes.fromhex(args.hex)
        except ValueError:
            raise CommandError("--hex is not hexadecimal", 2) from None
    asked = Trial(
        args.account, args.sender, args.to, args.text, octets, args.data_coding, args.esm_class, b"".join(args.tlv)
    )
    explained = explain_trial(settings, asked)
    for remark in explained.remarks:
        say(remark)
    if args.json:
        parts = [
            {
                **as_dict(one),
                "screens": one.screens and [{"screen": name, "says": says} for name, says in one.screens],
            }
            for one in explained.parts
        ]
        print(json.dumps({"account": args.account, "parts": parts}, indent=2))
        return 0
    console = Console(highlight=False)
    for number, part in enumerate(explained.parts, 1):
        _show(console, part, f"Part {number} of {len(explained.parts)}" if len(explained.parts) > 1 else "")
    return 0


def _show(console: Console, part: Part, title: str) -> None:
    one, screens = part.explanation, part.screens
    if title:
        console.print(title, style="bold")
    if one.steps:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for heading in ("rule", "", "because", "action"):
            table.add_column(heading, overflow="fold")
        for step in one.steps:
            style = _STYLES.get(step.standing, "dim")
            action = f"{step.action}, shadow: counted only" if step.shadow else step.action
            cells = (f"{step.policy}/{step.rule}", step.standing.value, step.why, action)
            table.add_row(*(Text(cell, style=style) for cell in cells))
        console.print(table)
    console.print(Text(f"Verdict: {conclusion(part)}."))
    if screens is None:
        console.print(
            Text("Opt-outs, consents, traffic and hours were not asked: no daemon runs on this store.", style="dim")
        )
    for name, says in screens or ():
        console.print(Text(f"{name}: {says.removeprefix(f'{name}: ')}."))
