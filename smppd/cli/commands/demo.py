"""`smppd demo`: smppd between a simulated customer and a simulated SMSC, from certificates to the sealed log.

The three run as child processes and are stopped however the demo ends. The exit status is 0 only when every message was
acknowledged, relayed and got its receipt under the right id, and the sealed log gave one of them back by its number.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from smppd.cli.commands import CommandError
from smppd.cli.demo_parts import BEHAVIOUR, DemoDaemon, find, run_smppd, short, step

if TYPE_CHECKING:
    from smppd.demo.setup import Stage


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        description="Make certificates and keys, start a simulated SMSC and smppd, send messages over TLS, bring the"
        " receipts back, then find one message in the sealed log by its number. Everything stays on this machine.",
    )
    parser.add_argument(
        "--directory", metavar="D", type=Path, default=Path("var/demo"), help="where to work (default: %(default)s)"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave the SMSC and smppd running afterwards, until Ctrl-C, to try things with",
    )
    parser.add_argument("--messages", metavar="N", type=int, help="how many (default: 1000; with --nodes 4000)")
    parser.add_argument(
        "--nodes",
        action="store_true",
        help="two smppd on one PostgreSQL, which has to be on this machine; one is killed under load",
    )


def run(args: argparse.Namespace) -> int:
    """Plays the demo."""
    count = args.messages if args.messages is not None else 4000 if args.nodes else 1000
    if not 1 <= count <= 100_000:
        raise CommandError("--messages must lie between 1 and 100000", 2)
    if args.nodes and args.keep:
        raise CommandError("--keep is not for --nodes", 2)
    try:
        import smpp.twisted  # noqa: F401
    except ImportError:
        raise CommandError("the demo needs smpp.twisted3 (requirements/peers.txt); `make demo` installs it") from None
    # A terminal that closes, or a supervisor that stops us, must not leave the children behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    console = Console(highlight=False)
    with ExitStack() as stack:
        if args.nodes:
            from smppd.cli.demo_nodes import play

            return play(args.directory.absolute(), count, console, stack)
        return _play(args.directory.absolute(), count, console, stack, keep=args.keep)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _play(directory: Path, count: int, console: Console, stack: ExitStack, *, keep: bool) -> int:
    from smppd.demo.process import ChildError, simulator
    from smppd.demo.setup import ACCOUNT, DemoError, prepare
    from smppd.demo.texts import mixed
    from smppd.demo.view import View, scrape

    began = time.monotonic()
    try:
        stage = prepare(directory)
    except DemoError as error:
        raise CommandError(str(error)) from None
    shown = short(directory)
    step(console, f"certificates, secrets and a configuration in {shown}")
    run_smppd("keys", "init", "--config", str(stage.config))
    step(console, "the key-encryption key and the key store")
    try:
        smsc = stack.enter_context(
            simulator(
                "smsc",
                {
                    "system_id": "gateway",
                    "password": stage.upstream_password,
                    "port": stage.smsc_port,
                    "certificate": str(stage.certificates / "server.pem"),
                    "key": str(stage.certificates / "server.key"),
                    "behaviour": BEHAVIOUR,
                },
            )
        )
        smsc.expect("listening")
        step(
            console,
            f"a simulated SMSC on port {stage.smsc_port}: slow, sometimes busy, early receipts, ids in two forms",
        )
        daemon = stack.enter_context(DemoDaemon(stage.config, stage.log, stage.http_port))
        daemon.wait_ready()
        step(console, f"smppd on port {stage.tls_port} (TLS), bound to the SMSC; log in {short(stage.log)}")
        customer = stack.enter_context(
            simulator(
                "customer",
                {
                    "port": stage.tls_port,
                    "ca": str(stage.certificates / "ca.pem"),
                    "system_id": ACCOUNT,
                    "password": stage.password,
                    "binds": 4,
                    "window": 25,
                },
            )
        )
        customer.expect("bound")
        step(console, "a simulated customer, 4 binds over TLS, the server's certificate verified")
        console.print()
        pace = max(250.0, count / 60)
        customer.order("run", count=count, wait=20, rate=pace)
        with View(console, f"{count:,} messages over TLS, sent at a pace of {pace:,.0f} a second") as view:
            while True:
                news = customer.expect("progress", "done")
                view.update(news, scrape(stage.http_port), last=news["ev"] == "done")
                if news["ev"] == "done":
                    break
        stats = smsc.ask("stats")
        faults = _faults(count, news, stats)
        customer.ask("unbind", "unbound")
    except ChildError as error:
        raise CommandError(f"the demo failed: {error}; see {short(stage.log)}") from None
    console.print()
    _told(console, count, news, stats, faults)
    number = mixed(min(count, 50))[min(count, 50) // 2].destination[2]
    found, more = find(console, stage.config, number)
    faults += more
    if keep and not faults:
        _kept(console, stage, daemon)
    status = daemon.stop()
    if status:
        faults.append(f"smppd ended with status {status}, see {short(stage.log)}")
    for fault in faults:
        console.print(f"[red]not as promised:[/] {fault}", soft_wrap=True)
    if not faults:
        took = time.monotonic() - began
        console.print(f"All as promised, {took:.0f} s from beginning to end. To go on:\n")
        _farewell(console, short(stage.config), found, number)
    return 1 if faults else 0


def _faults(count: int, customer: dict[str, Any], smsc: dict[str, Any]) -> list[str]:
    """What is not as promised, in words."""
    faults = []
    if customer["acknowledged"] != count:
        faults.append(
            f"{customer['acknowledged']} of {count} were acknowledged; refused: {customer['refused'] or 'none'}"
        )
    if smsc["accepted"] != count:
        faults.append(f"the SMSC accepted {smsc['accepted']} of {count}")
    if customer["receipts"] != count or not customer["complete"]:
        faults.append(f"{customer['receipts']} of {count} receipts came back")
    for key, what in (
        ("duplicate_ids", "ids were given twice"),
        ("duplicate_receipts", "receipts came twice"),
        ("unknown_receipts", "receipts had an id that was never given"),
        ("lost", "binds were lost"),
    ):
        if customer[key]:
            faults.append(f"{customer[key]} {what}")
    return faults


def _told(console: Console, count: int, customer: dict[str, Any], smsc: dict[str, Any], faults: list[str]) -> None:
    if not faults:
        states = ", ".join(f"{number:,} {state}" for state, number in sorted(customer["states"].items()))
        step(
            console,
            f"{count:,} acknowledged, {smsc['accepted']:,} relayed, {customer['receipts']:,} receipts: {states}",
        )
        step(console, f"{smsc['throttled']:,} times the SMSC said throttled: sent again, nothing lost, nothing twice")


def _program() -> str:
    """How to call smppd from here."""
    own = Path(sys.argv[0]).absolute()
    return short(own) if own.name == "smppd" and shutil.which("smppd") != str(own) else "smppd"


def _farewell(console: Console, config: str, found: str, number: str) -> None:
    """What to try next."""
    smppd = _program()
    for command, what in (
        (
            f"{smppd} log show {found} --reason support --note 'a first look' --reveal --config {config}",
            "the whole message; the look goes on the audit trail",
        ),
        (f"{smppd} audit show --config {config}", "who looked at what"),
        (
            f"{smppd} explain --config {config} --account demo --from Acme --to +{number} --text 'see example.com'",
            "what policy would do with a message",
        ),
        ("config/README.md", "from here to a configuration for your own SMSC"),
    ):
        console.print(f"  {command}\n      {what}", soft_wrap=True, markup=False)


def _kept(console: Console, stage: Stage, daemon: DemoDaemon) -> None:
    """Leaves all of it running until Ctrl-C, and says how to use it."""
    smppd, config = _program(), short(stage.config)
    secret = short(stage.directory / "secrets" / "customer")
    step(console, f"still running: smppd on ports {stage.tls_port} (TLS) and {stage.plain_port}, until Ctrl-C. Try:\n")
    for command, what in (
        (
            f"{smppd} send --config {config} --account demo --password-file {secret} --from Acme --to +447700900123"
            " --text Hello --receipt",
            "one message and its receipt",
        ),
        (
            f"{smppd} simulate customer --config {config} --account demo --password-file {secret} --rate 100/s"
            " --messages 1000",
            "more of them",
        ),
        (f"{smppd} status --config {config}", "how it does"),
        (
            f"{smppd} show sessions --watch --config {config}",
            "who is connected; `show --help` has what else can be seen",
        ),
        (
            f"{smppd} act pause simulated --reason test --config {config}",
            "messages wait, until `act unpause simulated`",
        ),
        (f"http://127.0.0.1:{stage.http_port}/metrics", "what Prometheus would see"),
        (f"127.0.0.1:{stage.plain_port}, system_id demo, password in {secret}", "for an SMPP client of your own"),
    ):
        console.print(f"  {command}\n      {what}", soft_wrap=True, markup=False)
    try:
        while daemon.running:
            time.sleep(0.2)
    except KeyboardInterrupt:
        console.print()
