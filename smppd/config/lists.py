"""Settings of the big lists that rules ask by name: numbers, domains and senders kept in files of any length.

The files are not read here: `smppd.lists` compiles them beside the daemon. A file that is missing is no fault of the
configuration, since a list that was compiled once goes on without it; `smppd check` says so.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from smppd.config.kinds import AnyPath, Model, Region

ListKind = Literal["numbers", "domains", "senders"]
ASKED_BY: Final[dict[str, ListKind]] = {
    "destination_in": "numbers",
    "sender_in": "senders",
    "domain_in": "domains",
}
"""The conditions of rules that name lists, and the kind of list each asks."""


def _column(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise ValueError("must be the number of a column, or its name in the first line")
    if isinstance(value, int) and not 1 <= value <= 1000:
        raise ValueError("columns count from 1")
    return value


Column = Annotated[
    int | str,
    BeforeValidator(_column),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1000}, {"type": "string", "minLength": 1}]}),
]


class ListSource(Model):
    """A list, the file it is read from, and what is done where it is not there."""

    file: AnyPath = Field(
        description="A UTF-8 file, one entry a line, `#` begins a comment line; or CSV, see `column`."
    )
    kind: ListKind = Field(description="What its entries are.")
    region: Region | None = Field(
        default=None, description="Country of the national numbers in the file; null: all have their country code."
    )
    column: Column | None = Field(
        default=None,
        description="The file is CSV, and this column is read: by its number from 1, or by its name in the first line.",
    )
    bad_lines: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="One line that is no such entry refuses the whole file, or is left out and counted.",
    )
    when_absent: Literal["refuse", "pass"] = Field(
        default="refuse",
        description="While it was never compiled: messages that a rule asks it about are refused with ESME_RSYSERR, or such"
        " rules do not apply.",
    )

    @model_validator(mode="after")
    def _region_of_numbers(self) -> ListSource:
        if self.region is not None and self.kind == "domains":
            raise ValueError("domains have no `region`")
        return self
