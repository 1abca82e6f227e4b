"""`smppd subject ACTION NUMBER`: what one person's data is, by phone number, found and given out or destroyed.

A thin registrar: each action is a module of its own with `register_ACTION(actions)` and `run_ACTION(args)`.
"""

from __future__ import annotations

import argparse
from typing import Final

from smppd.cli.commands.subject_erase import register_erase, run_erase
from smppd.cli.commands.subject_export import register_export, run_export
from smppd.cli.commands.subject_looks import add_looks, run_looks

_ACTIONS: Final = {"export": run_export, "erase": run_erase, "looks": run_looks}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("subject", help="export or erase everything about one phone number")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    register_export(actions)
    register_erase(actions)
    add_looks(actions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `subject ACTION`."""
    return _ACTIONS[args.action](args)
