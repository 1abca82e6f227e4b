"""What the process that sends spans is asked to do: made of the settings, and checked, before it begins."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from typing import Final, NamedTuple

from smppd.config import SecretError, SecretRef, Settings, Store

EXTRA: Final = "opentelemetry.exporter.otlp.proto.http"
"""The module without which nothing can be sent."""
HEADERS: Final = 16
"""Headers at most."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 5.6.2, a token
_VALUE: Final = re.compile(r"[!-~](?:[ -~]{0,4094}[!-~])?")
_OURS: Final = frozenset({"content-type", "content-length", "content-encoding", "host", "transfer-encoding"})


class TracingError(Exception):
    """Tracing cannot begin. setting: the key of the configuration; the text is a sentence without a secret."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting
        self.message = message


class Job(NamedTuple):
    """store: where it is; url: the collector's; ca: a PEM file, empty for the system's; sample: 0 < share <= 1; accounts:
    only these, empty for all; node: this node's number."""

    store: Store
    url: str
    headers: tuple[tuple[str, str], ...]
    ca: str
    sample: float
    accounts: tuple[str, ...]
    node: int

    def __repr__(self) -> str:
        return f"<Job {self.url} ***>"  # the headers are secrets

    def as_json(self) -> str:
        """For `read`."""
        return json.dumps({**self._asdict(), "store": self.store.model_dump(mode="json", exclude_none=True)})

    @classmethod
    def read(cls, line: bytes) -> Job:
        """The inverse of `as_json`."""
        said = json.loads(line)
        said |= {
            "store": Store.model_validate(said["store"]),
            "headers": tuple((name, value) for name, value in said["headers"]),
            "accounts": tuple(said["accounts"]),
        }
        return cls(**said)


def job_of(settings: Settings) -> Job | None:
    """What is to be done by these settings; None where tracing is off. Raises TracingError."""
    tracing = settings.tracing
    if tracing.otlp is None:
        return None
    if not installed():
        raise TracingError(
            "tracing.otlp", "needs packages that are not installed: pip install 'smppd[otel]' (requirements/otel.txt)"
        )
    headers = () if tracing.headers is None else _headers(tracing.headers)
    ca = "" if tracing.ca == "system" else os.fspath(tracing.ca)
    return Job(settings.store, tracing.otlp, headers, ca, tracing.sample, tuple(tracing.accounts), settings.node)


def installed() -> bool:
    """Whether the extra is there. Imports no more than its packages."""
    try:
        return find_spec(EXTRA) is not None
    except ModuleNotFoundError:
        return False


def _headers(place: SecretRef) -> tuple[tuple[str, str], ...]:
    try:
        lines = place.resolve().decode("ascii").splitlines()
    except SecretError as error:
        raise TracingError("tracing.headers", str(error)) from None
    except UnicodeDecodeError:
        raise TracingError("tracing.headers", "has something that is not ASCII") from None
    found: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        value = value.strip()
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise TracingError("tracing.headers", f"line {number} is no header such as `Authorization: Bearer ...`")
        if name.lower() in _OURS or name.lower() in {one.lower() for one, _ in found}:
            raise TracingError("tracing.headers", f"line {number}: this header is smppd's own, or stands there twice")
        found.append((name, value))
    if len(found) > HEADERS:
        raise TracingError("tracing.headers", f"has more than {HEADERS} headers")
    return tuple(found)
