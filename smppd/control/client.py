"""The control socket, from the side of whoever asks the running daemon: a request, and its answer."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smppd.control.wire import ANSWER_MAX, NAME, WITHIN, ControlError


def ask(directory: Path, request: Mapping[str, object]) -> dict[str, Any]:
    """The running daemon's answer to a request. ControlError when there is none, or it refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(WITHIN)
        try:
            where = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                asking.connect(f"/proc/self/fd/{where}/{NAME}")
            finally:
                os.close(where)
            asking.sendall(json.dumps(request).encode() + b"\n")
            answer = _read(asking)
        except (FileNotFoundError, ConnectionRefusedError):
            raise ControlError(f"no smppd runs on the store {directory}") from None
        except PermissionError:
            raise ControlError("only root and the daemon's own user may ask the daemon") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no answer in time"
            raise ControlError(f"the daemon on the store {directory} cannot be asked: {why}") from None
    if not isinstance(answer, dict):
        raise ControlError(f"what answers on the store {directory} does not speak like smppd")
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer


def _read(asking: socket.socket) -> Any:
    parts = []
    size = 0
    while part := asking.recv(65536):
        parts.append(part)
        size += len(part)
        if size > ANSWER_MAX:
            raise ValueError("too long")
    return json.loads(b"".join(parts))
