"""`smppd console`: the web console, a process of its own beside the daemon."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

from pydantic import ValidationError

from smppd.cli.commands import CommandError, add_config, load_settings
from smppd.config import Console
from smppd.control.client import ask as control

_LOOK: Final = 10.0
"""Seconds that the daemon has to answer a question."""

log = logging.getLogger("smppd.console")


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "console",
        help="the web console",
        description="Serve the web console until SIGTERM. It runs as the daemon's user, beside the daemon: it asks the daemon"
        " by the control socket and reads the records in the store. Operators log in with passphrase and code.",
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="where browsers find it, instead of `console.address`")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Runs until told to stop; 0 after a clean stop, 1 when it could not start."""
    settings = load_settings(args)
    console = settings.console if args.address is None else with_address(settings.console, args.address)
    from smppd.daemon.logs import configure
    from smppd.secrecy import forbid_cores

    guarded = forbid_cores()
    # Standard error, whatever the daemon does: two processes do not rotate one file.
    configure(settings.log.model_copy(update={"file": None}))
    if not guarded:
        log.warning("core files are possible: they would hold keys and passphrases")
    from twisted.internet import reactor as installed

    from smppd.console.main import StartError, serve
    from smppd.console.office import offices

    reactor: Any = installed
    directory = settings.store.directory

    def ask(request: Mapping[str, object]) -> dict[str, Any]:
        # A look that takes longer is given up, so that a daemon that hangs does not hold every page.
        if request.get("do") == "act":
            return control(directory, request)
        return control(directory, request, within=_LOOK)

    try:
        server, port = serve(reactor, settings, console, offices(settings), ask, time.time, os.urandom)
    except StartError as error:
        raise CommandError(f"cannot start: {error}") from error

    def on_stop(_number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(stop)

    def stop() -> None:
        server.stop().addBoth(lambda _result: reactor.running and reactor.stop())

    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    scheme = "http" if console.tls is None else "https"
    log.info("the console listens", extra={"fields": {"address": f"{scheme}://{console.address}", "port": port}})
    reactor.run(installSignalHandlers=False)
    return 0


def with_address(console: Console, address: str) -> Console:
    """The settings with another address. CommandError, status 2, where it cannot be used so."""
    try:
        return Console.model_validate({**console.model_dump(), "address": address})
    except ValidationError as error:
        why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise CommandError(f"--address {address}: {why}", 2) from None
