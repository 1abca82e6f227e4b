"""Settings of the shipping: where the audit trail and the log's checkpoints go, away from the store, as they are made."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from smppd.config.kinds import Addressed, AnyPath, Int, Model, PositiveDuration, RotatedSize, duration, size
from smppd.config.peers import Allowed, UpstreamTls, plaintext_rule

Facility = Literal[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip


class ShippedFile(Model):
    """A file that gets one JSON object a line."""

    path: AnyPath = Field(
        description="The file; its directory must exist. Mode 0640 less the umask where smppd makes it."
    )
    rotate: RotatedSize = size("64MiB", "Size at which it becomes `PATH.1`, and a new one begins; 0: never.")
    keep: Int = Field(default=10, ge=1, le=10_000, description="So many old files are kept, the oldest is deleted.")


class SyslogTls(UpstreamTls):
    """TLS towards a syslog server (RFC 5425). The certificate's name is always checked."""


class SyslogServer(Addressed):
    """A syslog server: RFC 5424 over TLS or, on loopback, over TCP."""

    tls: SyslogTls | None = Field(default=None, description="TLS; needed beyond loopback.")
    plaintext: Allowed | None = Field(
        default=None,
        validate_default=True,
        description="`allowed` lets it go without TLS off loopback; the trail then crosses the network readable.",
    )
    facility: Facility = Field(default="authpriv", description="The facility of each message.")
    app_name: str = Field(default="smppd", description="APP-NAME: 1 to 48 printable ASCII characters.")

    _plaintext = field_validator("plaintext")(plaintext_rule)

    @field_validator("app_name")
    @classmethod
    def _app_name(cls, value: str, _info: ValidationInfo) -> str:
        if not re.fullmatch(r"[!-~]{1,48}", value):
            raise ValueError("must be 1 to 48 printable ASCII characters without blanks")
        return value


class Shipping(Model):
    """Where the audit trail and the log's checkpoints go as they are made; without a target they stay in the store."""

    file: ShippedFile | None = Field(default=None, description="A file, for a collector to pick up.")
    syslog: SyslogServer | None = Field(default=None, description="A syslog server.")
    alarm_after: PositiveDuration = duration("5m", "A target so far behind makes /readyz say `degraded`.")
