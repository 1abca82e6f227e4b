"""Settings of quiet hours: when messages of a class may leave for a country, where smppd's own data is not to count."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from smppd.config.dlt import MessageClass
from smppd.config.kinds import MANY, Model, Region, Text

DAY: Final = 1440
Spans = tuple[tuple[int, int], ...]
"""Minutes of a local day in which a message may leave: (first, one behind the last), in order, none touching the next."""
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "holiday")
CALENDARS: Final = ("FR", "FR-ALSACE", "FR-GP", "FR-MQ", "FR-GF", "FR-RE", "FR-YT")
"""The countries whose public holidays `policy.hours.holidays` knows."""
_SPAN: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})")
_HOURS_PATTERN: Final = r"^(all|none|\d{1,2}:\d{2}\s*-\s*\d{1,2}:\d{2}(\s*,\s*\d{1,2}:\d{2}\s*-\s*\d{1,2}:\d{2})*)$"


def read_hours(text: str) -> Spans:
    """The spans of `08:00-21:00`, `08:00-12:00, 14:00-20:00`, `all`, `none`. One that ends before it begins goes over
    midnight: it is the end and the beginning of the same date. ValueError."""
    word = text.strip().lower()
    if word in ("all", "none"):
        return ((0, DAY),) if word == "all" else ()
    spans: list[tuple[int, int]] = []
    for part in word.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise ValueError("must be hours such as 08:00-21:00, or all, or none")
        first, last = (int(match[1]) * 60 + int(match[2])), (int(match[3]) * 60 + int(match[4]))
        if int(match[2]) > 59 or int(match[4]) > 59 or first >= DAY or last > DAY:
            raise ValueError("must be times from 00:00 to 24:00")
        if first == last:
            raise ValueError("must end at another time than they begin (all: the whole day; none: never)")
        spans += [(first, last)] if first < last else [(0, last), (first, DAY)]
    joined: list[tuple[int, int]] = []
    for first, last in sorted(one for one in spans if one[0] < one[1]):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return tuple(joined)


def _hours(value: str) -> str:
    read_hours(value)
    return value


def zone_problem(name: str) -> str:
    """Why there is no such zone of the tz database; empty where there is."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "must be a zone of the tz database, such as America/Sao_Paulo"
    return ""


def _zone(value: str) -> str:
    problem = zone_problem(value)
    if problem:
        raise ValueError(problem)
    return value


def _holiday(value: str) -> str:
    if value.upper() in CALENDARS:
        return value.upper()
    match = re.fullmatch(r"(?:([0-9]{4})-)?([0-9]{2})-([0-9]{2})", value)
    try:
        if match is None:
            raise ValueError
        date(int(match[1] or 2024), int(match[2]), int(match[3]))
    except ValueError:
        known = ", ".join(CALENDARS)
        raise ValueError(f"must be a date (2027-04-05), a day of every year (12-25), or one of {known}") from None
    return value


Hours = Annotated[
    Text,
    AfterValidator(_hours),
    WithJsonSchema({"type": "string", "pattern": _HOURS_PATTERN, "examples": ["08:00-21:00"]}),
]
Zone = Annotated[Text, AfterValidator(_zone), WithJsonSchema({"type": "string", "examples": ["America/Sao_Paulo"]})]
Holiday = Annotated[
    Text, AfterValidator(_holiday), WithJsonSchema({"type": "string", "examples": ["12-25", "2027-04-05", "FR"]})
]


class Allowed(Model):
    """When messages of some classes may leave for a country."""

    shorthand = {"type": "string", "pattern": _HOURS_PATTERN}

    classes: Annotated[tuple[MessageClass, ...], MANY] = Field(
        default=("promotional",), min_length=1, description="The classes that these hours are for."
    )
    hours: Hours = Field(description="Local hours of every day in which they may leave: `08:00-21:00`, `all`, `none`.")
    days: dict[
        Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "holiday"], Hours
    ] = Field(default_factory=dict, description="Other hours of some days: `{sunday: none, holiday: none}`.")
    holidays: Annotated[tuple[Holiday, ...], MANY] = Field(
        default=(), description="What `holiday` means: dates, days of every year, calendars that smppd knows (`FR`)."
    )
    zone: Zone | None = Field(
        default=None, description="The one zone of the country's numbers, instead of all that a number may be in."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"hours": value} if isinstance(value, str) else value

    @field_validator("holidays")
    @classmethod
    def _few(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > 1000:
            raise ValueError("must be at most 1000")
        return value

    @model_validator(mode="after")
    def _both(self) -> Self:
        # Either alone would say nothing, and nobody would notice before the holiday.
        if self.holidays and "holiday" not in self.days:
            raise ValueError("holidays without their hours: add holiday to days, such as {holiday: none}")
        if "holiday" in self.days and not self.holidays:
            raise ValueError("hours of a holiday, and no holidays: name them under holidays, such as [12-25]")
        return self


class _Hourly:
    """Lets `off` stand for none, and one value for a list of one, in the file and in the JSON Schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._wrap, handler(source))

    @staticmethod
    def _wrap(value: Any) -> Any:
        if value == "off":
            return ()
        return value if isinstance(value, (list, tuple)) else (value,)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> JsonSchemaValue:
        inner = handler(schema)
        return {"anyOf": [{"const": "off"}, inner["items"], inner]}


class QuietHours(Model):
    """When messages of some classes may not leave, beside what smppd knows of countries' laws and customs."""

    unknown: Literal["allow", "hold", "refuse"] = Field(
        default="allow",
        description="A number whose country nobody knows: it passes; it has the hours of the account's `region`; or it is"
        " refused.",
    )
    practice: Literal["apply", "ignore"] = Field(
        default="apply", description="Hours that providers keep to where no law says it, in smppd's own data."
    )
    countries: dict[Region, Annotated[tuple[Allowed, ...], _Hourly()]] = Field(
        default_factory=dict,
        description="By country, instead of smppd's own data: hours, a mapping, a list of mappings, or `off`.",
    )
    zones: dict[Text, Zone] = Field(
        default_factory=dict,
        description="The one zone of numbers that begin with these digits: `{1850: America/Chicago}`.",
    )

    @field_validator("countries")
    @classmethod
    def _once(cls, value: dict[str, tuple[Allowed, ...]]) -> dict[str, tuple[Allowed, ...]]:
        for country, entries in value.items():
            named = [one for entry in entries for one in entry.classes]
            if len(named) != len(set(named)):
                raise ValueError(f"{country} gives one class twice")
        return value

    @field_validator("zones")
    @classmethod
    def _digits(cls, value: dict[str, str]) -> dict[str, str]:
        stripped = {key.removeprefix("+"): zone for key, zone in value.items()}
        if any(not re.fullmatch(r"[1-9][0-9]{0,14}", key) for key in stripped):
            raise ValueError("must be the digits that international numbers begin with, such as 1850")
        return stripped
