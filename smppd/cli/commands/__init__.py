"""The commands of `smppd`, one module each, and what they share.

A module NAME.py has `register(subparsers)`, which adds its parser, and `run(args) -> int`, which gives the exit status:
0 done, 1 failed (and a sentence on standard error said why), 2 called wrongly, 3 asked for: another person has to agree.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from smppd.config import Settings, load
from smppd.office.errors import OfficeError

DEFAULT_CONFIG = Path("/etc/smppd/smppd.yaml")


CommandError = OfficeError
"""The command failed; the text is the sentence to say. `status` is the exit status."""


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds `--config F`."""
    parser.add_argument(
        "--config",
        metavar="F",
        type=Path,
        default=DEFAULT_CONFIG,
        help="the configuration file (default: %(default)s)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def load_settings(args: argparse.Namespace) -> Settings:
    """The settings of `--config`. ConfigError, which `smppd` prints fault by fault, when they cannot be used."""
    return load(args.config)


def say(sentence: str) -> None:
    """A sentence for the person at the terminal; standard output is left to results."""
    print(sentence, file=sys.stderr)
