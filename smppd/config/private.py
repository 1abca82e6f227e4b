"""Files that hold secrets: where systemd puts credentials, and who else may read or write such a file.

A credential is a file below `$CREDENTIALS_DIRECTORY`, which systemd sets for the processes of a unit. A person sets the same
variable to the directory that the unit takes its credentials from, so that one configuration serves both.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

VARIABLE: Final = "CREDENTIALS_DIRECTORY"
_SYSTEM: Final = Path("/run/credentials")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def credential_name(name: str) -> str:
    """`name` itself, where it can be a credential's (systemd.exec(5), LoadCredential=). ValueError otherwise."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ValueError("must be the name of a systemd credential")
    return name


def credential_path(name: str) -> Path:
    """The file of the credential `name`. ValueError, with what to do, where no directory of credentials is set."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        raise ValueError(
            f"credential {name}: {VARIABLE} is not set (not run by systemd?);"
            " set it to the directory that holds the unit's credentials"
        )
    return Path(directory, credential_name(name))


def is_credential(path: Path) -> bool:
    """Whether `path` lies where systemd puts credentials: it decides who may read there, by access lists that show as mode
    bits of the group."""
    directory = os.environ.get(VARIABLE)
    absolute = Path(os.path.abspath(path))
    return (bool(directory) and absolute.is_relative_to(os.path.abspath(directory or ""))) or absolute.is_relative_to(
        _SYSTEM
    )


def exposure(path: Path, mode: int, *, owner_only: bool = False) -> str | None:
    """Who else can get at a secret in the file `path` of these mode bits, as the end of a sentence; None where nobody can.

    A group may read (not write) it, as with keys that several services share, unless `owner_only`.
    """
    if is_credential(path):
        forbidden, wanted = 0o007, "0440"
    elif owner_only:
        forbidden, wanted = 0o077, "0600"
    else:
        forbidden, wanted = 0o027, "0600 or 0640"
    if not mode & forbidden:
        return None
    return f"mode {stat.S_IMODE(mode):04o} lets others at it; it must be {wanted}"
