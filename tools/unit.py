"""Starts smppd as its systemd unit says, on a machine without systemd: `python -m tools.unit --root DIR --smppd FILE`.

What a process can see of systemd is imitated: the user, the credentials directory, the state directory, the working directory,
the environment, the umask and the notification socket. DIR stands for `/`: DIR/etc/smppd holds smppd.yaml, server.pem and
credentials/, as docs/operations.md installs them. The daemon is started, told to reload and to stop, and has to say each.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
UNIT: Final = ROOT / "deploy" / "smppd.service"
NOBODY: Final = 61_184  # the first of the users that systemd makes for DynamicUser=
_PLACES: Final = ("/etc/smppd", "/var/lib/smppd")
_WAIT: Final = 60.0


class UnitError(Exception):
    """The unit does not start, reload or stop as it says."""


def service(text: str) -> dict[str, list[str]]:
    """The [Service] section: each name with its values in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


class Unit:
    """The unit under `root`, with `smppd` in place of /opt/smppd/bin/smppd."""

    def __init__(self, root: Path, smppd: Path, unit: Path = UNIT) -> None:
        self.root = root.resolve()
        self.smppd = smppd
        self.values = service(unit.read_text())
        self.said: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        # Only root can become another user, and that user must get at the interpreter, wherever that is installed.
        self.user = NOBODY if os.geteuid() == 0 and _runs_for_others(smppd) else None
        self.credentials = self.root / "run/credentials/smppd.service"
        self.state = self.root / "var/lib/smppd"

    def place(self, text: str) -> str:
        """A command or path of the unit, on this machine."""
        text = text.replace("/opt/smppd/bin/smppd", str(self.smppd))
        for one in _PLACES:
            text = text.replace(one, f"{self.root}{one}")
        return text

    def prepare(self) -> None:
        """What systemd does before it starts anything."""
        self.credentials.mkdir(parents=True)
        self.state.mkdir(parents=True, exist_ok=True)
        self.state.chmod(int(self.values["StateDirectoryMode"][0], 8))
        for value in self.values["LoadCredential"]:
            name, _, source = value.partition(":")
            file = self.credentials / name
            file.write_bytes(Path(self.place(source)).read_bytes())
            file.chmod(0o440)
        if self.user is not None:
            for one in (self.state, *self.state.rglob("*")):
                os.chown(one, self.user, self.user)
            for one in (self.credentials, *self.credentials.iterdir()):
                os.chown(one, 0, self.user)
        self.credentials.chmod(0o550)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self.root / "notify"))
        os.chmod(self.root / "notify", 0o777)

    @property
    def environment(self) -> dict[str, str]:
        """What the unit's processes find in their environment, which is not ours."""
        values = dict(pair.split("=", 1) for pair in shlex.split(" ".join(self.values["Environment"])))
        return {
            **values,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "STATE_DIRECTORY": str(self.state),
            "NOTIFY_SOCKET": str(self.root / "notify"),
            "WATCHDOG_USEC": str(int(self.values["WatchdogSec"][0]) * 1_000_000),
        }

    def run(self, command: str) -> subprocess.Popen[bytes]:
        """Starts one of the unit's commands."""
        return subprocess.Popen(
            shlex.split(self.place(command)),
            env=self.environment,
            cwd=self.state,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user is not None else None,
            umask=int(self.values["UMask"][0], 8),
            stdin=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Every ExecStartPre=, then ExecStart=; back when the daemon says that it is ready."""
        for command in self.values["ExecStartPre"]:
            if status := self.run(command).wait(_WAIT):
                raise UnitError(f"{command} ended with status {status}")
        [command] = self.values["ExecStart"]
        self.process = self.run(command)
        self.wait_for("READY=1")

    def wait_for(self, *lines: str) -> None:
        """Reads notifications until each of `lines` has come, in this order."""
        wanted = list(lines)
        deadline = time.monotonic() + _WAIT
        self._notify.settimeout(0.2)
        while wanted:
            assert self.process is not None
            if time.monotonic() > deadline:
                raise UnitError(f"the daemon did not say {wanted[0]}")
            ended = self.process.poll() is not None
            try:
                said = self._notify.recv(4096).decode().splitlines()
            except TimeoutError:
                # What it said before it ended has been read by now.
                if ended:
                    status = self.process.returncode
                    raise UnitError(f"the daemon ended with status {status} before it said {wanted[0]}") from None
                continue
            self.said += said
            for line in said:
                if wanted and line == wanted[0]:
                    wanted.pop(0)

    def reload(self) -> None:
        """What systemd does for Type=notify-reload."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        self.wait_for("RELOADING=1", "READY=1")

    def stop(self) -> None:
        """SIGTERM, and the end in good order."""
        assert self.process is not None
        self.process.terminate()
        self.wait_for("STOPPING=1")
        if status := self.process.wait(float(self.values["TimeoutStopSec"][0])):
            raise UnitError(f"the daemon ended with status {status}")

    def close(self) -> None:
        """Ends what is left."""
        self._notify.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _runs_for_others(smppd: Path) -> bool:
    try:
        done = subprocess.run(
            [smppd, "--version"], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False
        )
    except (PermissionError, FileNotFoundError):
        return False
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts, reloads and stops the unit; 0 when the daemon said all of it."""
    parser = argparse.ArgumentParser(description="Start smppd as its systemd unit says, without systemd.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--smppd", type=Path, required=True)
    args = parser.parse_args(arguments)
    unit = Unit(args.root, args.smppd)
    unit.prepare()
    try:
        unit.start()
        unit.reload()
        unit.stop()
    except UnitError as error:
        print(f"unit: {error}", file=sys.stderr)
        return 1
    finally:
        unit.close()
    print(f"unit: started, reloaded and stopped as {'another user' if unit.user is not None else 'this user'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
