"""Why somebody looks, as a command is told it: `--reason`, `--note` and `--reveal`."""

from __future__ import annotations

import argparse
from typing import Final

from smppd.office.access import REASONS, Why

NOTE: Final = "the reason in words, a ticket; kept for ever, so runs of 5 or more digits are stored as ***"
"""The help of `--note`."""


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Adds `--reason`, `--note` and `--reveal`."""
    parser.add_argument("--reason", required=True, choices=REASONS, help="why you look; goes on the audit trail")
    parser.add_argument(
        "--note",
        default="",
        metavar="TEXT",
        help=NOTE,
    )
    parser.add_argument("--reveal", action="store_true", help="show whole numbers and texts; needs --note")


def why_of(args: argparse.Namespace) -> Why:
    """What was given."""
    return Why(args.reason, args.note)
