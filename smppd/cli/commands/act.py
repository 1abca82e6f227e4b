"""`smppd act ACT [TARGET]`: does something to the running daemon, by its control socket (docs/control.md)."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final, NamedTuple

from smppd.cli.authority import add_login, authorise, is_believed, wanted
from smppd.cli.commands import CommandError, add_config, add_json, load_settings
from smppd.cli.credentials import claim_of
from smppd.config import Settings
from smppd.config.units import parse_duration
from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.office.access import printable
from smppd.operators.roles import Act

_REASON: Final = 200


class _Kind(NamedTuple):
    """An act: what its target is called (empty: it has none), and its line in the help."""

    target: str
    what: str
    duration: str = ""


_UPSTREAM: Final = "UPSTREAM"
_WAITING: Final = "MESSAGE|ACCOUNT|UPSTREAM"
_KINDS: Final = {
    "kick": _Kind(
        "SESSION|ACCOUNT|UPSTREAM|ADDRESS",
        "Unbind sessions when their answers are through. A carrier's link binds again by itself.",
    ),
    "suspend": _Kind("ACCOUNT", "End an account's right to submit; its binds stay. As `smppd suspensions add`."),
    "resume": _Kind("ACCOUNT", "Give an account its right to submit back. As `smppd suspensions lift`."),
    "pause": _Kind(
        _UPSTREAM, "Release no message to an upstream; routes fall through to their next, receipts come in."
    ),
    "drain": _Kind(
        _UPSTREAM,
        "Pause an upstream, wait for its answers, then for its receipts, and unbind its links until it is unpaused.",
        "how long receipts are waited for, at most 7d (default: 30s)",
    ),
    "unpause": _Kind(_UPSTREAM, "End a pause or a drain."),
    "unban": _Kind("ADDRESS", "End all bans and delays of an address. As `smppd bans lift`."),
    "expire": _Kind(
        _WAITING, "What waits ends EXPIRED now, with its receipt. What a carrier has, or may have, is left alone."
    ),
    "requeue": _Kind(_WAITING, "What waits takes the route that it has now."),
    "move": _Kind(_UPSTREAM, "What waits for an upstream first waits for another one first; its order is kept."),
    "log-level": _Kind(
        "LEVEL",
        "Log `debug`, `info`, `warning` or `error` for a while, then as configured.",
        "how long, at most 1d (default: 15m)",
    ),
    "trace": _Kind(
        "SESSION|ACCOUNT|UPSTREAM",
        "Keep the PDUs of a peer, sealed, to be read with `smppd trace`. Passwords are not kept.",
        "how long, at most 10m (default: 5m)",
    ),
    "reload": _Kind("", "Read the configuration again, as SIGHUP does."),
}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = subparsers.add_parser(
        "act",
        description="Do something to the running daemon. Each act has a reason and is on the audit trail before it takes"
        " effect. Where two things have one name, say `account:NAME` or `upstream:NAME`. Exit status: 0 done, or nothing to do,"
        " which is said; 1 refused, 2 not reachable.",
    )
    acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    for name, kind in _KINDS.items():
        one = acts.add_parser(name, description=kind.what)
        if kind.target:
            one.add_argument("target", metavar=kind.target)
        one.add_argument("--reason", required=True, metavar="TEXT", help="why, without personal data; kept for ever")
        if kind.duration:
            one.add_argument("--for", dest="seconds", type=_duration, metavar="DURATION", help=kind.duration)
        if name == "move":
            one.add_argument("--to", required=True, metavar=_UPSTREAM, help="the upstream that is waited for then")
        if name == "trace":
            one.add_argument("--note", default="", metavar="TEXT", help="what for, a ticket; kept with the trace")
            one.add_argument("--stop", action="store_true", help="end the one that is on")
        if name == "expire":
            one.add_argument("--older-than", type=_duration, metavar="DURATION", help="only what has waited for longer")
            one.add_argument("--yes", action="store_true", help="do not ask")
        add_json(one)
        add_login(one)
        add_config(one)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Does an act; 0 where it is done or was so already. CommandError: status 1 where the daemon refuses, 2 where none
    answers."""
    settings = load_settings(args)
    target: str = getattr(args, "target", "")
    reason = " ".join(printable(args.reason).split())
    if not 0 < len(reason) <= _REASON:
        raise CommandError(f"--reason needs 1 to {_REASON} characters", 2)
    if args.act == "expire" and not args.yes and not _confirmed(target):
        raise CommandError("nothing was done")
    request: dict[str, object] = {"do": "act", "act": args.act, "target": target, "reason": reason}
    if args.act == "move":
        request["to"] = args.to
    if args.act == "trace":
        request |= {"note": " ".join(printable(args.note).split()), "stop": args.stop}
    if getattr(args, "seconds", None) is not None:
        request["for"] = args.seconds
    if getattr(args, "older_than", None) is not None:
        request["older_than"] = args.older_than
    answer = _asked(settings, args, request)
    if args.json:
        print(json.dumps({"said": answer["said"], "changed": answer["changed"]}))
    else:
        print(printable(str(answer["said"])))
    return 0


def _asked(settings: Settings, args: argparse.Namespace, request: dict[str, object]) -> dict[str, Any]:
    """The daemon's answer. Whom the daemon believes says a name; anybody else says all that he logs in with."""
    directory = settings.store.directory
    try:
        if is_believed(directory):
            authority = authorise(Act.RUNTIME, args, settings)
            return ask(directory, request | ({"operator": authority.operator} if authority.operator else {}))
        name = wanted(args)
        if name is None:
            raise CommandError("only root and the daemon's own user may act without --operator NAME")
        claim = claim_of(name, args.credentials)
        return ask(settings.control_socket, request | {"login": claim._asdict()})
    except ControlError as error:
        raise CommandError(str(error), 1 if error.code else 2) from None


def _confirmed(target: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("nobody is there to be asked: --yes says that it is meant", 2)
    print(f"What waits of {printable(target)} will end, and its senders get EXPIRED receipts. This cannot be undone.")
    try:
        return input("End it? Type yes: ").strip().lower() == "yes"
    except EOFError:
        return False


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
