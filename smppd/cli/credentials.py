"""Where a command gets passphrase, code and session from: the terminal, a file, the token of `smppd login`; and from where it
is run."""

from __future__ import annotations

import argparse
import getpass
import os
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from smppd.cli.commands import CommandError
from smppd.operators.login import Claim

_LINE: Final = 4096
_TOKEN: Final = 64
_PROC: Final = Path("/proc/self")
_STALE: Final = 86400.0
_TTY_FIELD: Final = 4  # of /proc/self/stat, counted behind the name of the command (proc(5))


def claim_of(name: str, file: str | None) -> Claim:
    """Passphrase and code of an operator: from a file (`-`: standard input), else asked at the terminal without echo."""
    if file is None:
        passphrase = secret_from_terminal(f"Passphrase of {name}: ")
        return Claim(name, passphrase, secret_from_terminal("Code: "))
    if file == "-":
        lines = [sys.stdin.buffer.readline(_LINE), sys.stdin.buffer.readline(_LINE)]
    else:
        lines = _read_private(Path(file)).split(b"\n")[:2]
    try:
        passphrase, code = (line.removesuffix(b"\n").removesuffix(b"\r").decode() for line in lines)
    except ValueError:  # no two lines, or not UTF-8
        raise CommandError("the credentials need two lines: the passphrase, then the code", 2) from None
    if not passphrase or not code.strip():
        raise CommandError("the credentials need two lines: the passphrase, then the code", 2)
    return Claim(name, passphrase, code)


def secret_from_terminal(prompt: str) -> str:
    """What is typed at the terminal, without echo. CommandError, status 2, where there is none."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        raise CommandError("there is no terminal to ask at: see --help for how a script does it", 2) from None
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise CommandError("nothing was typed") from None


def first_line() -> str:
    """The next line of standard input. CommandError where it is no text."""
    try:
        return sys.stdin.buffer.readline(_LINE).removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise CommandError("standard input is not UTF-8") from None


def _read_private(path: Path) -> bytes:
    """A file that nobody but its owner can read. CommandError, status 2."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise CommandError(f"{path} is no file", 2)
            if stat.S_IMODE(about.st_mode) & 0o077 or about.st_uid not in (os.geteuid(), 0):
                raise CommandError(f"{path} must be yours and have mode 0600: others can read or change it", 2)
            return file.read(2 * _LINE)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", 2) from None


# -- where the command runs --------------------------------------------------------------------------------------------


def claimed_address(environ: Mapping[str, str] | None = None) -> str:
    """The client's address as the environment says (SSH_CONNECTION), which the caller may have set to anything; empty for this
    host."""
    connection = (os.environ if environ is None else environ).get("SSH_CONNECTION", "").split()
    return connection[0] if connection else ""


def place(proc: Path = _PROC) -> str:
    """Where a session may be used: the user, the kernel's login session, and the terminal that controls the process (whatever
    its standard input is)."""
    values = [str(os.getuid()), str(os.geteuid())]
    for name in ("loginuid", "sessionid"):
        try:
            values.append((proc / name).read_text().strip()[:20])
        except OSError:
            values.append("")
    try:
        values.append((proc / "stat").read_text().rpartition(")")[2].split()[_TTY_FIELD])
    except (OSError, IndexError):
        values.append("")
    return ":".join(values)


# -- the token of a session --------------------------------------------------------------------------------------------


class TokenFile:
    """The file with the token of an open session, in the user's own directory."""

    def __init__(self, installation: str, environ: Mapping[str, str] | None = None) -> None:
        """installation: names it, so that each installation, and each place, has its own."""
        self.path = _directory(os.environ if environ is None else environ) / f"{installation}.session"

    def read(self) -> str | None:
        """The token, None where there is none. CommandError where others can read the file, or put it there."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError as error:
            raise CommandError(f"{self.path}: {error.strerror}", 2) from None
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
                raise CommandError(f"{self.path} must be yours and have mode 0600: delete it and log in again", 2)
            text = file.read(_TOKEN + 2).decode("ascii", "replace").strip()
        return text if len(text) == _TOKEN else None

    def write(self, token: str) -> None:
        """Keeps a token. CommandError where that is not possible."""
        fresh = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = self.path.parent.stat()
            if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o022:
                raise CommandError(f"{self.path.parent} must be yours, and others must not write to it", 2)
            with suppress(FileNotFoundError):
                fresh.unlink()
            handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(token + "\n")
            fresh.replace(self.path)
            for old in self.path.parent.glob("*.session"):  # of terminals that are closed by now
                if time.time() - old.lstat().st_mtime > _STALE:
                    old.unlink()
        except OSError as error:
            raise CommandError(f"the session cannot be kept: {self.path}: {error.strerror}", 2) from None

    def remove(self) -> None:
        """Deletes the file."""
        with suppress(OSError):
            self.path.unlink()


def _directory(environ: Mapping[str, str]) -> Path:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime:
        try:
            # After `sudo -u` or `su` it may be another user's.
            if Path(runtime).is_absolute() and Path(runtime).stat().st_uid == os.geteuid():
                return Path(runtime) / "smppd"
        except OSError:
            pass
    try:
        return Path.home() / ".smppd"
    except RuntimeError:
        raise CommandError("you have no home directory to keep a session in", 2) from None


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """Adds `--credentials`."""
    parser.add_argument(
        "--credentials",
        metavar="FILE",
        help="passphrase (line 1) and code (line 2) from a file of mode 0600; `-`: from standard input",
    )
