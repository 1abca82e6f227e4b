"""`smppd simulate smsc|customer`: a carrier or a customer to try a configuration with, on this machine.

Both stand on smpp.twisted, an SMPP stack that is not ours. They run in the foreground, say once a second what happened, and
print no text, number or password.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

from smppd.cli.commands import CommandError, add_config, load_settings, say
from smppd.cli.commands.send import read_password, target
from smppd.config import is_loopback, split_address
from smppd.config.units import parse_duration, parse_rate

_EVERY: Final = 1.0
_PASSWORD_MAX: Final = 8
_SMSC: Final = (
    ("binds", "binds"),
    ("submits", "submitted to it"),
    ("accepted", "accepted"),
    ("throttled", "throttled"),
    ("refused", "refused"),
    ("receipts", "receipts sent"),
    ("receipts_acked", "acknowledged"),
    ("receipts_refused", "given up"),
)


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "simulate",
        description="Play a carrier's SMSC or a customer, to try a configuration with. For one machine: the SMSC listens on"
        " loopback only.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    smsc = actions.add_parser(
        "smsc",
        description="Listen as an SMSC: take binds of one name, answer submits, send receipts. Ends on Ctrl-C.",
    )
    smsc.add_argument(
        "--address", metavar="HOST:PORT", default="127.0.0.1:2776", help="where to listen (default: %(default)s)"
    )
    smsc.add_argument("--system-id", metavar="ID", default="gateway", help="who may bind (default: %(default)s)")
    _password_option(smsc, "the password of that name")
    smsc.add_argument("--certificate", metavar="F", type=Path, help="PEM file: TLS with this certificate")
    smsc.add_argument("--key", metavar="F", type=Path, help="... and its private key")
    smsc.add_argument("--delay", metavar="TIME", default="0s", help="before each answer (default: %(default)s)")
    smsc.add_argument(
        "--receipt-delay", metavar="TIME", default="1s", help="before each receipt (default: %(default)s)"
    )
    smsc.add_argument("--state", metavar="WORD", default="DELIVRD", help="what receipts say (default: %(default)s)")
    smsc.add_argument(
        "--ids",
        choices=("decimal", "hexdec", "uuid", "zeros"),
        default="decimal",
        help="form of its message ids; hexdec: hexadecimal in answers, decimal in receipts (default: %(default)s)",
    )
    for name, what in (
        ("throttled", "answered ESME_RTHROTTLED"),
        ("refused", "refused for good"),
        ("undelivered", "whose receipt says UNDELIV"),
        ("early", "whose receipt comes before the answer"),
    ):
        smsc.add_argument(
            f"--{name}", metavar="SHARE", type=float, default=0.0, help=f"share of messages {what}, 0 to 1"
        )
    customer = actions.add_parser(
        "customer",
        description="Bind as an account's owner would, send mixed messages between numbers of nobody, wait for the"
        " receipts. Exit status 0 when every message was acknowledged and has its receipt.",
    )
    add_config(customer)
    customer.add_argument("--account", metavar="ID", required=True, help="the system_id to bind as")
    _password_option(customer, "the account's password")
    customer.add_argument("--messages", metavar="N", type=int, default=100, help="how many (default: %(default)s)")
    customer.add_argument("--rate", metavar="RATE", default="10/s", help="at what pace (default: %(default)s)")
    customer.add_argument("--binds", metavar="N", type=int, default=1, help="sessions (default: %(default)s)")
    customer.add_argument("--window", metavar="N", type=int, default=10, help="unanswered submits of each")
    customer.add_argument("--plain", action="store_true", help="no TLS: the first plain listener")
    customer.add_argument(
        "--wait", metavar="TIME", default="60s", help="for a receipt, without news (default: %(default)s)"
    )


def _password_option(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument(
        "--password-file", metavar="F", help=f"file with {whose}, `-` for standard input (default: ask)"
    )


def run(args: argparse.Namespace) -> int:
    """Plays until it is over or interrupted. CommandError when it cannot begin."""
    try:
        import smpp.twisted  # noqa: F401
    except ImportError:
        raise CommandError(
            "the simulators need smpp.twisted3 (requirements/peers.txt); `make venv` installs it"
        ) from None
    from smppd.demo.process import ChildError

    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return _smsc(args) if args.action == "smsc" else _customer(args)
    except ChildError as error:
        raise CommandError(f"the simulator failed: {error}") from None


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# -- the carrier -----------------------------------------------------------------------------------------------------


def _smsc(args: argparse.Namespace) -> int:
    from smppd.demo.process import simulator

    host, port = _address(args.address)
    if (args.certificate is None) != (args.key is None):
        raise CommandError("--certificate and --key are given both or not at all", 2)
    behaviour = {
        "response_delay": _seconds(args.delay, "--delay"),
        "receipt_delay": _seconds(args.receipt_delay, "--receipt-delay"),
        "state": args.state,
        "ids": args.ids,
        **{name: _share(args, name) for name in ("throttled", "refused", "undelivered", "early")},
    }
    config: dict[str, Any] = {
        "system_id": args.system_id,
        "password": _password(args.password_file),
        "port": port,
        "behaviour": behaviour,
    }
    if args.certificate is not None:
        config |= {"certificate": str(args.certificate.absolute()), "key": str(args.key.absolute())}
    with simulator("smsc", config) as smsc:
        port = smsc.expect("listening")["port"]
        tls = ", TLS" if args.certificate is not None else ""
        print(f"A simulated SMSC listens on {host}:{port}{tls} for {args.system_id}; Ctrl-C ends it.", flush=True)
        told: dict[str, Any] = {}
        # An exception in the middle of a question would leave its answer unread. The last counts are asked for after it.
        over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: over.set())
        while True:
            last = over.wait(_EVERY if told else 0)
            stats = smsc.ask("stats")
            if stats != told:
                told = stats
                print(", ".join(f"{stats[key]:,} {word}" for key, word in _SMSC), flush=True)
            if last:
                say("stopped")
                return 0


def _address(text: str) -> tuple[str, int]:
    try:
        host, port = split_address(text)
    except ValueError as error:
        raise CommandError(f"--address: {error}", 2) from None
    if host != "127.0.0.1" and not (is_loopback(host) and host == "localhost"):
        raise CommandError("--address: a simulated SMSC listens on 127.0.0.1 only", 2)
    return host, port


def _password(source: str | None) -> str:
    """CommandError for one that the simulators' stack cannot bring: it keeps to the letter of SMPP."""
    password = read_password(source)
    if len(password) > _PASSWORD_MAX:
        raise CommandError(
            f"the simulators take passwords of at most {_PASSWORD_MAX} octets, SMPP's own limit: use a shorter one for this"
        )
    return password.decode("latin-1")


def _share(args: argparse.Namespace, name: str) -> float:
    value = float(getattr(args, name))
    if not 0 <= value <= 1:
        raise CommandError(f"--{name} is a share, from 0 to 1", 2)
    return value


def _seconds(text: str, option: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}", 2) from None


# -- the customer ----------------------------------------------------------------------------------------------------


def _customer(args: argparse.Namespace) -> int:
    from smppd.demo.process import simulator

    settings = load_settings(args)
    if args.account not in {account.system_id for account in settings.accounts}:
        raise CommandError(f"the configuration has no account {args.account}")
    if not 1 <= args.messages <= 1_000_000 or not 1 <= args.binds <= 64 or not 1 <= args.window <= 1000:
        raise CommandError("--messages lies between 1 and 1000000, --binds between 1 and 64, --window up to 1000", 2)
    try:
        rate = parse_rate(args.rate)
    except ValueError as error:
        raise CommandError(f"--rate: {error}", 2) from None
    host, port, certificate = target(settings, plain=args.plain)
    config = {
        "host": host,
        "port": port,
        "pinned": None if certificate is None else str(certificate),
        "system_id": args.account,
        "password": _password(args.password_file),
        "binds": args.binds,
        "window": args.window,
    }
    with simulator("customer", config) as customer:
        customer.expect("bound")
        print(f"Bound {args.binds} times as {args.account} to {host}:{port}; sending {args.messages:,}.", flush=True)
        customer.order("run", count=args.messages, wait=_seconds(args.wait, "--wait"), rate=rate)
        told = 0.0
        while True:
            news = customer.expect("progress", "done", patience=_seconds(args.wait, "--wait") + 30)
            if news["ev"] == "done" or time.monotonic() - told >= _EVERY:
                told = time.monotonic()
                print(
                    f"{news['acknowledged']:,} acknowledged, {sum(news['refused'].values()):,} refused,"
                    f" {news['receipts']:,} receipts",
                    flush=True,
                )
            if news["ev"] == "done":
                break
        customer.ask("unbind", "unbound")
    states = ", ".join(f"{number:,} {state}" for state, number in sorted(news["states"].items()))
    complete = news["acknowledged"] == args.messages and news["receipts"] == args.messages
    print(f"{'All' if complete else 'NOT all'} acknowledged with a receipt: {states or 'no receipts'}.")
    for status, number in sorted(news["refused"].items()):
        print(f"  {number:,} refused with {status}")
    return 0 if complete else 1
