"""`smppd subject erase`: everything about one phone number."""

from __future__ import annotations

import argparse

from smppd.cli.commands.subject_erase import register_erase, run_erase


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("subject", help="export or erase everything about one phone number")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    register_erase(actions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `subject ACTION`."""
    return run_erase(args)
