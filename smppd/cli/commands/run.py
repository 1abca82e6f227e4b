"""`smppd run`: the daemon in the foreground, until SIGTERM or SIGINT; SIGHUP reloads the configuration."""

from __future__ import annotations

import argparse
import logging
import signal
from types import FrameType
from typing import Any

from smppd import native
from smppd.cli.commands import CommandError, add_config, load_settings

log = logging.getLogger("smppd.run")


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
    from smppd.secrecy import forbid_cores

    guarded = forbid_cores()
    from smppd.net.reactor import install

    # First: what is imported below may import Twisted's.
    reactor = install()
    from smppd.daemon.daemon import Daemon, StartError
    from smppd.daemon.logs import configure, reopen

    try:
        configure(settings.log)
    except OSError as error:
        raise CommandError(f"cannot start: {settings.log.file}: {error.strerror}") from error
    if not guarded:
        log.warning("core files are possible: they would hold texts, numbers and keys")
    if not native.compiled:
        log.warning("interpreted, at about twice the CPU", extra={"fields": {"reason": native.reason}})
    outcome = {"status": 0}

    def ended(status: int) -> None:
        outcome["status"] = status
        if reactor.running:
            # Behind what was put off until now: closed ports take the control socket's name away.
            reactor.callLater(0, reactor.stop)

    daemon = Daemon(settings, reactor, ended)

    def on_stop(_number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(daemon.stop)

    def on_reload(_number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(reopen)
        reactor.callFromThread(daemon.reload)

    early_reloads: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _frame: early_reloads.append(number))

    def before_ready() -> None:
        # Until then SIGTERM ends the process, which loses nothing; who was told "ready" may reload or drain at once.
        signal.signal(signal.SIGTERM, on_stop)
        signal.signal(signal.SIGINT, on_stop)
        signal.signal(signal.SIGHUP, on_reload)
        configure(settings.log, count=daemon.count)
        if early_reloads:
            reactor.callFromThread(daemon.reload)

    try:
        daemon.start(before_ready)
    except StartError as error:
        raise CommandError(f"cannot start: {error}") from error
    reactor.run(installSignalHandlers=False)
    return outcome["status"]
