"""The daemon of the package in a Debian root without systemd: `python -m tools.debroot prepare|accept|kept ROOT [COUNT]`.

`prepare` gives the package's configuration a customer, free ports and a carrier that nobody is. `accept` starts the package's
unit as the package's user, has COUNT messages acknowledged and stops it; `kept` starts it again and finds them still waiting.
tools/deb-steps.sh uses it.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smppd.passwords import generate, hashed
from tools.unit import Unit, UnitError

_SYSTEM_ID: Final = "acme"
_SMPPD: Final = "/usr/bin/smppd"


class Packaged(Unit):
    """The package's unit below a root, its processes in that root and of the package's user."""

    def __init__(self, root: Path) -> None:
        places = [root / one / "systemd/system/smppd.service" for one in ("usr/lib", "lib")]
        super().__init__(root, Path("/usr/lib/smppd/bin/smppd"), next(one for one in places if one.exists()))
        lines = (root / "etc/passwd").read_text().splitlines()
        entry = pwd.struct_passwd(next(line for line in lines if line.startswith("smppd:")).split(":"))
        self.uid, self.gid = int(entry.pw_uid), int(entry.pw_gid)

    def prepare(self) -> None:
        """The credentials and the notification socket. The store is left as the package and `keys init` made it."""
        self.credentials.mkdir(parents=True, exist_ok=True)
        for value in self.values["LoadCredential"]:
            name, _, source = value.partition(":")
            file = self.credentials / name
            file.write_bytes(Path(self.place(source)).read_bytes())
            file.chmod(0o440)
            os.chown(file, 0, self.gid)
        os.chown(self.credentials, 0, self.gid)
        self.credentials.chmod(0o550)
        (self.root / "notify").unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self.root / "notify"))
        os.chmod(self.root / "notify", 0o777)

    def run(self, command: str) -> subprocess.Popen[bytes]:
        """One of the unit's commands, in the root."""
        environment = {
            **self.environment,
            "CREDENTIALS_DIRECTORY": "/run/credentials/smppd.service",
            "STATE_DIRECTORY": "/var/lib/smppd",
            "NOTIFY_SOCKET": "/notify",
        }
        words = [f"{name}={value}" for name, value in environment.items()]
        inside = ["chroot", f"--userspec={self.uid}:{self.gid}", str(self.root), "/usr/bin/env", "-i", *words]
        return subprocess.Popen(
            [*inside, *shlex.split(command)], stdin=subprocess.DEVNULL, umask=int(self.values["UMask"][0], 8)
        )


def prepare(root: Path) -> None:
    """The configuration: free ports, a customer whose password is beside the root, a carrier that answers nobody."""
    password = generate()
    (root.parent / "password").write_text(password)
    config = root / "etc/smppd/smppd.yaml"
    text = config.read_text()
    text = text.replace("0.0.0.0:3550", f"127.0.0.1:{_free_port()}").replace("smsc.example.net:3550", "127.0.0.1:9")
    begin = text.index("password_hash: ")
    text = (
        text[:begin] + f"password_hash: {hashed(password, secrets.token_bytes(16))}" + text[text.index("\n", begin) :]
    )
    text = text.replace("[192.0.2.0/24]", "[127.0.0.0/8]")
    config.write_text(f"{text}\nhttp: {{address: '127.0.0.1:{_free_port()}'}}\ndrain: 2s\n")


def accept(root: Path, count: int) -> None:
    """Has messages acknowledged: nobody takes them, so they wait."""
    with open(root.parent / "password") as file:
        password = file.read()
    for number in range(count):
        done = subprocess.run(
            [*_inside(root), _SMPPD, "send", "--account", _SYSTEM_ID, "--from", "Acme", "--to", f"+4477009{number:05d}"]
            + ["--text", "Kept over an upgrade", "--password-file", "-"],
            input=password.encode(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise UnitError(f"a message was not acknowledged: {done.stderr.decode()}")


def waiting(root: Path) -> int:
    """How many messages wait, as `smppd status` says."""
    done = subprocess.run([*_inside(root), _SMPPD, "status", "--json"], capture_output=True, check=False)
    found = json.loads(done.stdout)
    return int(sum(one["queued"] for one in found["accounts"]))


def _inside(root: Path) -> list[str]:
    return [
        "chroot",
        str(root),
        "/usr/bin/env",
        "-i",
        "CREDENTIALS_DIRECTORY=/etc/smppd/credentials",
        "PATH=/usr/bin:/bin",
    ]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when it was as it should be."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    what, root, count = words[0], Path(words[1]), int(words[2]) if len(words) > 2 else 0
    if what == "prepare":
        prepare(root)
        return 0
    unit = Packaged(root)
    unit.prepare()
    try:
        unit.start()
        unit.reload()
        if what == "accept":
            accept(root, count)
        found = waiting(root)
        unit.stop()
    except UnitError as error:
        print(f"debroot: {error}", file=sys.stderr)
        return 1
    finally:
        unit.close()
    print(f"debroot: {what}: {found} messages wait, the daemon started, reloaded and stopped as user {unit.uid}")
    return 0 if found == count else 1


if __name__ == "__main__":
    raise SystemExit(main())
