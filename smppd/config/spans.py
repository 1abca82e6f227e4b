"""Settings of tracing, the section `tracing`: a sample of the messages' lives as OpenTelemetry spans, sent to a collector.

The section `traces` is something else, the PDUs that `smppd act trace` kept: `config.tracing`.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from smppd.config.kinds import FileOrSystem, Model, Texts, is_loopback
from smppd.config.secrets import SecretRef

_LONGEST = 2000


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("must be a share such as 0.001")
    return value


class Tracing(Model):
    """A sample of the messages' lives as OpenTelemetry spans (OTLP over HTTP); without `otlp` there is none. Needs the extra
    `smppd[otel]`. `traces` is something else: PDUs."""

    otlp: str | None = Field(
        default=None,
        description="The collector's URL, as https://collector.example:4318/v1/traces; plain http on loopback only.",
    )
    sample: Annotated[float, BeforeValidator(_number)] = Field(
        default=0.001, gt=0, le=1, description="The share of messages that are traced, above 0 and at most 1."
    )
    headers: SecretRef | None = Field(
        default=None, description="Where further headers stand, a line each: `Authorization: Bearer ...`."
    )
    accounts: Texts = Field(default=(), description="Only messages of these accounts; empty: of all.")
    ca: FileOrSystem = Field(default="system", description="`system`, or a PEM file of the CAs to trust.")

    @field_validator("otlp")
    @classmethod
    def _otlp(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            host, _port = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        plain = value.isascii() and value.isprintable() and " " not in value and len(value) <= _LONGEST
        if not plain or parts.scheme not in ("http", "https") or not host:
            raise ValueError("must be a URL such as https://collector.example:4318/v1/traces")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("must be a URL without user, password, query and fragment: secrets go into `headers`")
        if parts.scheme == "http" and not is_loopback(host):
            raise ValueError(f"{host} is not loopback: use https")
        return value

    @property
    def on(self) -> bool:
        """Whether there is anybody to send to."""
        return self.otlp is not None
