"""`smppd dlt check`: every bad line of the files of a registry, before a configuration uses them."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from smppd.cli.commands import CommandError, add_json, say
from smppd.config.dlt import read_registry


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "dlt", description="India's registries of entities, headers and templates (DLT)."
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    check = actions.add_parser(
        "check",
        description="Read the CSV files of one registry and print each line that is wrong as file:line: why, without its"
        " text. Exit status: 0 without bad lines, 1 with.",
    )
    check.add_argument("file", nargs="+", type=Path, metavar="FILE", help="all CSV files of the registry")
    check.add_argument(
        "--variable-length", type=int, default=30, metavar="N", help="characters of a variable (default: %(default)s)"
    )
    check.add_argument("--untyped", action="store_true", help="templates may have {#var#}")
    add_json(check)


def run(args: argparse.Namespace) -> int:
    """Prints the bad lines and what the others hold."""
    if not 1 <= args.variable_length <= 255:
        raise CommandError("--variable-length must lie between 1 and 255", 2)
    content, bad = read_registry(tuple(args.file), args.variable_length, args.untyped)
    classes = Counter(one.message_class for one in content.templates)
    counts = {
        "entities": len(content.entities),
        "headers": len(content.headers),
        "templates": len(content.templates),
        "classes": dict(sorted(classes.items())),
    }
    if args.json:
        print(json.dumps({"ok": not bad, **counts, "bad": [one._asdict() for one in bad]}, indent=2))
        return 1 if bad else 0
    for one in bad:
        print(one)
    say(
        f"{counts['entities']} entities, {counts['headers']} headers, {counts['templates']} templates"
        + (f"; {len(bad)} bad line{'s' * (len(bad) != 1)}" if bad else "")
    )
    return 1 if bad else 0
