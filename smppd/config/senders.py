"""Settings of senders: who may use which, the names of others, what carriers take as too general, and forms by country.

The shipped facts (`senders.json`) carry source and date for each line. A list of authorised senders may be a CSV file; all its
bad lines are told at once, by their numbers, and then none of it counts: half a list would refuse the senders of the rest.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SkipValidation,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema

from smppd.config.kinds import MANY, Model, Text, context_of, file_problem
from smppd.config.rules import Country, Words
from smppd.pacing import breathe

CSV_MAX: Final = 64 << 20
ENTRIES_MAX: Final = 100_000
_TOLD: Final = 20  # bad lines that are told one by one
COLUMNS: Final = ("account", "country", "sender", "evidence", "expires")
SENDER_MAX: Final = 20
"""Octets of a source address (SMPP 3.4 section 5.2.8)."""

SenderForm = Literal["alphanumeric", "numeric", "national", "short"]
RegisteredKind = Literal["alphanumeric", "numeric", "short"]
Pack = Literal["GB", "IE", "AU", "SG", "IN", "AE"]


@cache
def facts() -> dict[str, Any]:
    """The shipped facts: `generic` names, and `countries` with `forms`, `registered` and `facts`."""
    file = resources.files("smppd.config") / "senders.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _day(value: Any) -> Any:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a day such as 2027-01-31") from None


if TYPE_CHECKING:
    Day = date
else:
    Day = Annotated[
        Any, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date", "examples": ["2027-01-31"]})
    ]


class AuthorisedSender(Model):
    """A sender that an account may use."""

    account: Text = Field(description="The account.")
    country: Annotated[tuple[Country, ...], MANY] = Field(
        default=(), description="Countries of destination, two letters (ISO 3166); none: every country."
    )
    sender: Text = Field(
        min_length=1,
        max_length=SENDER_MAX,
        description="The sender: a name, a phone number, a short code, or digits and `*` for all numbers that begin so.",
    )
    evidence: Text = Field(
        default="", max_length=200, description="Where the proof lies, such as a contract or a registration."
    )
    expires: Day | None = Field(
        default=None, description="The last day on which it counts (UTC); null: it does not end."
    )
    place: SkipJsonSchema[SkipValidation[str]] = Field(
        default="", exclude=True, description="File and line, in a file."
    )


def read_authorised(path: Path) -> tuple[AuthorisedSender, ...]:
    """The entries of a CSV file: a header with `account`, `sender` and any of `country` (several with spaces between),
    `evidence`, `expires`. ValueError that names the file and its bad lines."""
    problem = file_problem(path)
    if problem:
        raise ValueError(problem)
    try:
        with path.open("rb") as file:
            content = file.read(CSV_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > CSV_MAX:
        raise ValueError(f"{path} is longer than {CSV_MAX} octets")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}: line {line} is not UTF-8") from None
    return _entries(path, text)


def _entries(path: Path, text: str) -> tuple[AuthorisedSender, ...]:
    first = text.split("\n", 1)[0]
    header: list[str] | None = None
    found: list[AuthorisedSender] = []
    bad: list[str] = []
    for line, row in _rows(text, ";" if ";" in first and "," not in first else ",", bad):
        breathe()
        if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
            continue
        if header is None:
            header = [cell.strip().lower() for cell in row]
            unknown = [name for name in header if name not in COLUMNS]
            if unknown or "account" not in header or "sender" not in header or len(set(header)) < len(header):
                raise ValueError(f"{path}: line {line} must name the columns: {','.join(COLUMNS)}")
            continue
        try:
            found.append(_entry(f"{path.name}:{line}", dict(zip(header, row, strict=True))))
        except ValueError as error:
            why = str(error) if type(error) is _Wrong else "has not as many fields as there are columns"
            bad.append(f"line {line}: {why}")
        if len(found) > ENTRIES_MAX:
            raise ValueError(f"{path} has more than {ENTRIES_MAX} entries")
    if bad:
        more = f"; and {len(bad) - _TOLD} more" if len(bad) > _TOLD else ""
        raise ValueError(f"{path}: {'; '.join(bad[:_TOLD])}{more}")
    if header is None:
        raise ValueError(f"{path} has no entries")
    return tuple(found)


def _rows(text: str, delimiter: str, bad: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, cells). What the reader cannot take is a bad line. Each is read by itself: a quotation mark that is never closed
    would hide all lines up to the next one."""
    for line, raw in enumerate(io.StringIO(text, newline=""), 1):
        try:
            row = next(csv.reader([raw], delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            bad.append(f"line {line}: {error}")
            continue
        if row:
            yield line, row


class _Wrong(ValueError):
    """A field of an entry."""


def _entry(place: str, cells: dict[str, str]) -> AuthorisedSender:
    cells = {name: cell.strip() for name, cell in cells.items()}
    account, sender = cells["account"], cells["sender"]
    if not account:
        raise _Wrong("names no account")
    if not 0 < len(sender) <= SENDER_MAX:
        raise _Wrong(f"its sender must have 1 to {SENDER_MAX} characters")
    countries = tuple(code.upper() for code in cells.get("country", "").split())
    from smppd.numbering import REGIONS

    for code in countries:
        if code not in REGIONS:
            raise _Wrong("its country must be two letters (ISO 3166), such as GB, or several with spaces between")
    try:
        ends = date.fromisoformat(cells["expires"]) if cells.get("expires") else None
    except ValueError:
        raise _Wrong("its expires must be a day such as 2027-01-31") from None
    return AuthorisedSender.model_construct(
        account=account,
        country=countries,
        sender=sender,
        evidence=cells.get("evidence", "")[:200],
        expires=ends,
        place=place,
    )


def _list_or_csv(value: Any, handler: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, dict):
        return handler(value)
    if value.keys() != {"file"} or not isinstance(value["file"], (str, Path)) or not str(value["file"]):
        raise ValueError("must be a list, or {file: path}")
    context = context_of(info)
    return read_authorised((context.base if context else Path()) / value["file"])


_ENTRY: Final = {
    "type": "object",
    "properties": {
        "account": {"type": "string"},
        "country": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "sender": {"type": "string"},
        "evidence": {"type": "string"},
        "expires": {"type": "string", "format": "date"},
    },
    "required": ["account", "sender"],
    "additionalProperties": False,
}
_FILE: Final = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "path"}},
    "required": ["file"],
    "additionalProperties": False,
}

if TYPE_CHECKING:
    AuthorisedSenders = tuple[AuthorisedSender, ...]
else:
    AuthorisedSenders = Annotated[
        tuple[AuthorisedSender, ...],
        WrapValidator(_list_or_csv),
        WithJsonSchema({"anyOf": [{"type": "array", "items": _ENTRY}, _FILE]}),
    ]


class Senders(Model):
    """What is known of senders. Rules ask for it by `sender_is`."""

    packs: Annotated[tuple[Pack, ...], MANY] = Field(
        default=(),
        description="Countries whose shipped facts count: the forms they take, and which kinds need an entry.",
    )
    authorised: AuthorisedSenders = Field(
        default=(),
        description="Senders that accounts may use: {account, country, sender, evidence, expires} each, or {file: path} of a"
        " CSV with these columns.",
    )
    protected: Words = Field(
        default=(),
        description="Names of others, such as banks, that only accounts authorised for them may use, or {file: path}, one a"
        " line; `name*` for all that begin so.",
    )
    generic: Words | None = Field(
        default=None, description="Names that say nothing of who sends; null: the shipped list."
    )
    forms: dict[Country, Annotated[tuple[SenderForm, ...], MANY]] = Field(
        default_factory=dict,
        description="Country of destination -> forms of sender that it takes: alphanumeric, numeric (any phone number),"
        " national (a phone number of that country), short.",
    )
    registered: dict[Country, Annotated[tuple[RegisteredKind, ...], MANY]] = Field(
        default_factory=dict,
        description="Country of destination -> kinds of sender that need an entry in `authorised`; others: every kind.",
    )

    @field_validator("packs", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        items = (value,) if isinstance(value, str) else value
        return (
            [one.upper() if isinstance(one, str) else one for one in items]
            if isinstance(items, (list, tuple))
            else items
        )

    def taken_forms(self) -> dict[str, frozenset[str]]:
        """Country -> forms that it takes, of packs and settings; the settings win."""
        made = self._packed("forms")
        made.update({country: frozenset(forms) for country, forms in self.forms.items()})
        return made

    def kinds_registered(self) -> dict[str, frozenset[str]]:
        """Country -> kinds that need an entry, likewise."""
        made = self._packed("registered")
        made.update({country: frozenset(kinds) for country, kinds in self.registered.items()})
        return made

    def _packed(self, what: str) -> dict[str, frozenset[str]]:
        countries = facts()["countries"]
        return {country: frozenset(countries[country][what]) for country in self.packs if countries[country][what]}

    def generic_names(self) -> tuple[str, ...]:
        """The names that say nothing."""
        return self.generic if self.generic is not None else tuple(one["name"] for one in facts()["generic"])
