"""`smppd run`: the daemon in the foreground, until SIGTERM or SIGINT; SIGHUP reloads the configuration."""

from __future__ import annotations

import argparse
import signal
from types import FrameType
from typing import Any

from smppd.admin.commands import CommandError, add_config, load_settings


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "run",
        description="Run the daemon in the foreground. SIGHUP reloads the configuration, SIGTERM drains and stops.",
    )
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Runs until told to stop; 0 after a clean stop, 1 when it could not start, 3 when the store failed."""
    settings = load_settings(args)
    from smppd.net.reactor import install

    # First: what is imported below may import Twisted's.
    reactor = install()
    from smppd.admin.logs import configure, reopen
    from smppd.daemon import Daemon, StartError

    try:
        configure(settings.log)
    except OSError as error:
        raise CommandError(f"cannot start: {settings.log.file}: {error.strerror}") from error
    outcome = {"status": 0}

    def ended(status: int) -> None:
        outcome["status"] = status
        if reactor.running:
            reactor.stop()

    daemon = Daemon(settings, reactor, ended)
    try:
        daemon.start()
    except StartError as error:
        raise CommandError(f"cannot start: {error}") from error
    configure(settings.log, count=daemon.count)

    def on_stop(_number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(daemon.stop)

    def on_reload(_number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(reopen)
        reactor.callFromThread(daemon.reload)

    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGHUP, on_reload)
    reactor.run(installSignalHandlers=False)
    return outcome["status"]
