"""The control socket, from the side of whoever asks the running daemon: a request, and its answer."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smppd.control.wire import ANSWER_MAX, ANSWERED_WITHIN, NAME, VERSION, WITHIN, ControlError


def ask(place: Path, request: Mapping[str, object], *, within: float = WITHIN + ANSWERED_WITHIN) -> dict[str, Any]:
    """The running daemon's answer to a request. ``place``: the socket, or the directory in which it has its usual name: the
    store's. ``within``: seconds until the answer is whole. ControlError when there is none, with an empty ``code``, or when
    the daemon refuses, with its code."""
    is_store = os.path.isdir(place)
    directory, name = (place, NAME) if is_store else (place.parent, place.name)
    where = f"the store {place}" if is_store else str(place)
    until = time.monotonic() + within
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(within)
        try:
            # A path through the directory's descriptor is short, however long the directory's own is: 107 octets are all
            # that a socket's name may have.
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                asking.connect(f"/proc/self/fd/{opened}/{name}")
            finally:
                os.close(opened)
            asking.sendall(json.dumps({"v": VERSION, **request}).encode() + b"\n")
            answer = _read(asking, until)
        except (FileNotFoundError, ConnectionRefusedError):
            raise ControlError(f"no smppd runs on {where}", "") from None
        except PermissionError:
            raise ControlError(
                "only root, the daemon's own user and the group of its control socket may ask the daemon", ""
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            late = isinstance(error, OSError)
            why = getattr(error, "strerror", None) or ("no answer in time" if late else "its answer is not whole")
            raise ControlError(f"the daemon on {where} cannot be asked: {why}", "") from None
    if not isinstance(answer, dict):
        raise ControlError(f"what answers on {where} does not speak like smppd", "")
    if "error" in answer:
        raise ControlError(str(answer["error"]), str(answer.get("code", "")))
    return answer


def _read(asking: socket.socket, until: float) -> Any:
    parts = []
    size = 0
    while part := _some(asking, until):
        parts.append(part)
        size += len(part)
        if size > ANSWER_MAX:
            raise ValueError("too long")
    return json.loads(b"".join(parts))


def _some(asking: socket.socket, until: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    asking.settimeout(left)
    return asking.recv(65536)
