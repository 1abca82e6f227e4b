"""The phone number of a command: `args` has `number`, `region` (None: not given) and `account` (a list, or None)."""

from __future__ import annotations

import argparse

from smppd.office.numbers import Typed, typed


def typed_of(args: argparse.Namespace) -> Typed:
    """What was given. CommandError for what is no country."""
    return typed(args.number, args.region, args.account)
