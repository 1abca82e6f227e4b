"""Tells the service manager how the daemon does, by systemd's notification protocol (sd_notify(3)): a datagram of
`NAME=value` lines to the socket named in NOTIFY_SOCKET. Without one, nothing happens.

For a unit with `Type=notify-reload` or `Type=notify`, `NotifyAccess=main` and, for the watchdog, `WatchdogSec=`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Final

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_MAX_STATUS: Final = 200


class Notifier:
    """The connection to the service manager.

    Every method gives True when the datagram was handed over; a service manager that is away or slow is no reason to
    stop relaying messages, so nothing is raised and nothing waits.
    """

    def __init__(
        self,
        environ: MutableMapping[str, str] | None = None,
        *,
        pid: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes the variables out of `environ` (default: the process's), so that child processes do not speak for us."""
        variables = os.environ if environ is None else environ
        values = {name: variables.pop(name, "") for name in _VARIABLES}
        self._address = _address(values["NOTIFY_SOCKET"])
        self._monotonic = monotonic
        mine = values["WATCHDOG_PID"] in ("", str(os.getpid() if pid is None else pid))
        self._watchdog = _microseconds(values["WATCHDOG_USEC"]) if mine and self._address is not None else None

    @property
    def enabled(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """Start-up, or a reload, is done."""
        return self._send("READY=1", status)

    def reloading(self) -> bool:
        """A reload began; `ready` must follow, whether it succeeded or changed nothing."""
        # systemd compares this with its own CLOCK_MONOTONIC to tell this reload from an earlier one.
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._monotonic() * 1_000_000)}")

    def stopping(self, status: str = "") -> bool:
        """The daemon drains and ends."""
        return self._send("STOPPING=1", status)

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", text)

    def extend(self, seconds: float) -> bool:
        """Start-up (a long replay) or the drain needs up to so many more seconds from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={max(1, int(seconds * 1_000_000))}")

    def watchdog(self, alive: bool = True) -> bool:
        """Tells the service manager that the daemon is alive. Where it is not, nothing is sent, and the service manager
        restarts it after its time."""
        return self._watchdog is not None and alive and self._send("WATCHDOG=1")

    def _send(self, lines: str, status: str = "") -> bool:
        if self._address is None:
            return False
        if status:
            # A line break would begin another assignment.
            clean = "".join(c if c.isprintable() else " " for c in status[:_MAX_STATUS])
            lines = f"{lines}\nSTATUS={clean}".lstrip("\n")
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            ) as sender:
                sender.sendto(lines.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def _address(value: str) -> bytes | None:
    """The socket's address: an absolute path, or `@name` in the abstract name space. Others (vsock) are not for us."""
    if len(value) < 2 or value[0] not in "/@":
        return None
    raw = os.fsencode(value)
    return b"\0" + raw[1:] if value[0] == "@" else raw


def _microseconds(value: str) -> float | None:
    """Seconds; None for what is no positive number of microseconds."""
    return int(value) / 1_000_000 if value.isascii() and value.isdigit() and int(value) else None
