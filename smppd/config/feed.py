"""Settings of the event feed: what happened to messages, as lines of JSON in a file and on a Unix socket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from smppd.config.kinds import AnyPath, Int, Model, PositiveDuration, RotatedSize, Texts, duration, size

FeedEvent = Literal[
    "accepted", "acknowledged", "deleted", "expired", "not_taken", "opted_in", "opted_out", "receipt", "received", "refused",
    "rejected", "replaced", "replaces", "resent", "resumed", "scheduled", "submitted", "suspended", "unanswered", "unknown",
]  # fmt: skip
_LONGEST = 107  # sun_path, unix(7)


class FeedFile(Model):
    """A file that gets one JSON object a line."""

    path: AnyPath = Field(description="The file; its directory must exist. Mode 0640 less the umask.")
    rotate: RotatedSize = size("64MiB", "Size at which it becomes `PATH.1`, and a new one begins; 0: never.")
    rotate_every: PositiveDuration | None = Field(default=None, description="Age at which it does; null: never.")
    keep: Int = Field(default=10, ge=1, le=10_000, description="So many old files are kept, the oldest is deleted.")


class FeedSocket(Model):
    """A Unix socket on which consumers ask for all that follows a cursor."""

    path: AnyPath = Field(description="The socket; its directory must exist. Mode 0660.")
    group: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="The group that may connect; null: the daemon's own."
    )
    consumers: Int = Field(default=16, ge=1, le=256, description="Consumers at one time.")

    @field_validator("path")
    @classmethod
    def _path(cls, value: Path) -> Path:
        if len(os.fsencode(value)) > _LONGEST:
            raise ValueError(f"is longer than the path of a socket may be ({_LONGEST} octets)")
        return value


class Feed(Model):
    """What happened to messages, for other programs; without `file` and `socket` there is none."""

    file: FeedFile | None = Field(default=None, description="A file, for a collector to pick up.")
    socket: FeedSocket | None = Field(default=None, description="A socket, for consumers that keep a cursor.")
    numbers: Literal["none", "masked"] = Field(
        default="none", description="Whether `from` and `to` are told, as `+44770***0123`; never more than that."
    )
    accounts: Texts = Field(default=(), description="Only what concerns these accounts; empty: all.")
    events: tuple[FeedEvent, ...] = Field(default=(), description="Only these events; empty: all.")
    alarm_after: PositiveDuration = duration("5m", "A file so far behind makes /readyz say `degraded`.")

    @model_validator(mode="after")
    def _apart(self) -> Feed:
        if self.file is not None and self.socket is not None and self.file.path == self.socket.path:
            raise ValueError("`file` and `socket` have the same path")
        return self

    @property
    def on(self) -> bool:
        """Whether there is anybody to tell."""
        return self.file is not None or self.socket is not None
