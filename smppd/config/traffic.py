"""Settings of what is unusual in an account's traffic (`smppd.traffic`), of its caps, and of when it may submit no more."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from smppd.config.kinds import MANY, Int, Model, PositiveDuration, Rate, Text, context_of, duration, rate
from smppd.numbering import REGIONS

SIGNALS: Final = ("cap", "new_countries", "runs", "velocity", "same_text", "receipts")
"""What traffic is judged by; each is the last word of the refusal's name `traffic/SIGNAL`."""
SCREENS: Final = ("traffic", "opt-out", "consent")
"""What refuses messages beside policies, and may be named in `suspend_after.rules`."""
DEFAULT: Final = "default"

SignalAction = Literal["alert", "limit", "block", "shadow", "off"]
_ACTIONS: Final = ["alert", "limit", "block", "shadow", "off"]
_PER_DAY: Final = r"^[1-9][0-9]{0,11}/d$"


def _per_day(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and re.fullmatch(_PER_DAY, value.strip()):
        return int(value.strip()[:-2])
    if isinstance(value, int) and not isinstance(value, bool) and value > 0 and context_of(info) is None:
        return value
    raise ValueError("must be messages a day, such as 10000/d")


PerDay = Annotated[
    int, BeforeValidator(_per_day), WithJsonSchema({"type": "string", "pattern": _PER_DAY, "examples": ["10000/d"]})
]
"""Messages a day, from `10000/d`."""


class Signal(Model):
    """One thing that traffic is judged by, and what is done about it."""

    shorthand = {"enum": _ACTIONS}

    action: SignalAction = Field(
        default="alert",
        description="`alert`: told; `limit`: slowed down to `limit`; `block`: refused; `shadow`: only counted; `off`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"action": value} if isinstance(value, str) else value


class Runs(Signal):
    """Numbers one after another: n, n+1, n+2 ..."""

    least: Int = Field(default=10, ge=3, le=100_000, description="Messages of a minute within runs of four or more.")


class Velocity(Signal):
    """More to one prefix, or to one country, than is usual there at this hour."""

    factor: float = Field(default=5.0, ge=1.5, le=1000, description="Times the usual number.")
    minute: Int = Field(default=15, ge=5, le=1_000_000, description="Never fewer messages of a minute than this.")
    hour: Int = Field(default=300, ge=5, le=10_000_000, description="... of an hour.")
    day: Int = Field(default=2_000, ge=5, le=100_000_000, description="... of 24 hours.")


class SameText(Signal):
    """One text, digits aside, to many who are not written to usually."""

    least: Int = Field(default=200, ge=10, le=1_000_000, description="Different numbers of an hour.")


class ReceiptSignal(Signal):
    """Far fewer are delivered than usual, or they are reported sooner than a handset answers."""

    least: Int = Field(default=30, ge=10, le=1_000_000, description="Receipts of a minute.")
    ratio: float = Field(default=0.7, gt=0, lt=1, description="Share of the usual ratio under which it is too low.")


class Traffic(Model):
    """What is unusual in an account's traffic, and what is done about it. Whatever is left out only alerts."""

    caps: dict[str, PerDay] = Field(
        default_factory=dict,
        description="Messages a day (UTC) to a country (ISO 3166); `default`: to each other one. What is over is refused.",
    )
    new_countries: Signal = Field(default_factory=Signal, description="First messages to a country.")
    runs: Runs = Field(default_factory=Runs, description="Numbers one after another.")
    velocity: Velocity = Field(default_factory=Velocity, description="Much more to a prefix or a country than usual.")
    same_text: SameText = Field(default_factory=SameText, description="One text to many strangers.")
    receipts: ReceiptSignal = Field(default_factory=ReceiptSignal, description="Receipts that are bad, or too good.")
    learn: PositiveDuration = duration(
        "3d", "Time in which what is usual is only learned: no country is new, nothing fast."
    )
    for_: PositiveDuration = Field(
        default=3600.0,
        alias="for",
        description="How long something stays limited or blocked, unless an operator releases it.",
        json_schema_extra={"default": "1h"},
    )
    limit: Rate = rate("10/m", "What passes of it under `limit`; ESME_RTHROTTLED beyond.")

    @field_validator("caps", mode="before")
    @classmethod
    def _countries(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        caps: dict[Any, Any] = {}
        for country, cap in value.items():
            known = country if country == DEFAULT else str(country).upper()
            if known != DEFAULT and known not in REGIONS:
                raise ValueError("must name countries by two letters (ISO 3166), or be `default`")
            caps[known] = cap
        return caps


RuleName = Annotated[
    Text, WithJsonSchema({"type": "string", "pattern": r"^[a-z0-9][a-z0-9_.-]{0,62}(/[a-z0-9][a-z0-9_.-]{0,62})?$"})
]


class SuspendAfter(Model):
    """So many refusals within a time end an account's right to submit, until an operator lifts it."""

    hits: Int = Field(default=10, ge=1, le=1000, description="Refused messages.")
    within: PositiveDuration = duration("1h", "Time in which they count.")
    rules: Annotated[tuple[RuleName, ...], MANY] = Field(
        min_length=1,
        description="What counts: POLICY or POLICY/RULE, `traffic` or `traffic/SIGNAL`, or another screen's name.",
    )

    @field_validator("rules")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}(/[a-z0-9][a-z0-9_.-]{0,62})?", name):
                raise ValueError("must be POLICY, POLICY/RULE, or a screen such as traffic or traffic/velocity")
            screen, _, signal = name.partition("/")
            if screen == "traffic" and signal and signal not in SIGNALS:
                raise ValueError(f"traffic has no signal of this name; there are: {', '.join(SIGNALS)}")
        return value
