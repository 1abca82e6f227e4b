"""`smppd schema`: the JSON Schema of the configuration, for editors; or every key as a page for people."""

from __future__ import annotations

import argparse
from typing import Any

from smppd.config.describe import json_schema, markdown


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "schema",
        description="Print the JSON Schema of the configuration file, for editors and other tools.",
    )
    parser.add_argument("--markdown", action="store_true", help="print docs/configuration.md instead")


def run(args: argparse.Namespace) -> int:
    """Prints the schema, or the page."""
    print(markdown() if args.markdown else json_schema(), end="")
    return 0
