"""Settings of the web console, a process of its own (`smppd console`)."""

from __future__ import annotations

from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from smppd.config.kinds import (
    Address,
    Addressed,
    FilePath,
    HostNames,
    Model,
    PositiveDuration,
    PrivateFile,
    duration,
    is_loopback,
    split_address,
)

DEFAULT_CONSOLE: Final = "127.0.0.1:9181"
LONGEST_SESSION: Final = 3600.0
"""Seconds that somebody may stay logged in."""


class ConsoleTls(Model):
    """The console's own certificate."""

    certificate: FilePath = Field(description="PEM file with the console's certificate and its chain.")
    key: PrivateFile = Field(description="PEM file with its private key, mode 0600 or 0640.")


class Console(Addressed):
    """The web console, a process of its own: `smppd console`."""

    address: Address = Field(default=DEFAULT_CONSOLE, description="host:port where browsers find it.")
    tls: ConsoleTls | None = Field(
        default=None, validate_default=True, description="Its certificate; without one, on loopback only."
    )
    hosts: HostNames = Field(
        default=(), description="Names it may be asked by (Host), besides loopback's and its own address."
    )
    session: PositiveDuration = duration("15m", "How long a login lasts at most, whatever is done; 1h at most.")
    idle: PositiveDuration = duration("5m", "After how long without a click a login ends.")

    @field_validator("tls")
    @classmethod
    def _loopback(cls, value: ConsoleTls | None, info: ValidationInfo) -> ConsoleTls | None:
        if value is None and "address" in info.data:
            host, _ = split_address(info.data["address"])
            if not is_loopback(host):
                raise ValueError(f"{host} is not loopback: give it tls")
        return value

    @field_validator("session")
    @classmethod
    def _session(cls, value: float) -> float:
        if value > LONGEST_SESSION:
            raise ValueError("must be 1h at most")
        return value
