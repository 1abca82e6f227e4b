"""Puts the console together: settings, people, daemon, pages, and the port."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.error import CannotListenError

from smppd.config import Console as ConsoleSettings
from smppd.config import Settings
from smppd.console.app import App
from smppd.console.asking import Ask, Daemon
from smppd.console.gate import Gate
from smppd.console.office import OfficeError, Offices
from smppd.console.pages import pages
from smppd.console.server import ConsoleServer


class StartError(Exception):
    """The console cannot start; the text says why, in a sentence."""


def serve(
    reactor: Any,
    settings: Settings,
    console: ConsoleSettings,
    offices: Offices,
    ask: Ask,
    now: Callable[[], float],
    draw: Callable[[int], bytes],
) -> tuple[ConsoleServer, int]:
    """A console that listens, and its port. console: `settings.console`, or what the command line made of it. ask: the daemon's
    control socket. now: epoch seconds. draw(n): n random octets. StartError."""
    try:
        with offices() as office:
            if not office.people.any():
                raise StartError("there are no operators yet, so nobody could log in: `smppd operators add`")
    except OfficeError as error:
        raise StartError(str(error)) from None
    gate = Gate(offices, console.session, console.idle, now, draw)
    app = App(settings, offices, gate, Daemon(ask, time.monotonic), pages(gate), now, draw)
    server = ConsoleServer(reactor, console, app)
    try:
        return server, server.start()
    except CannotListenError as error:
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        raise StartError(f"{console.address} cannot be listened on: {reason}") from None
    except (OSError, ValueError) as error:
        raise StartError(f"the certificate cannot be used: {error}") from None
