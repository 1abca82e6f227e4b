"""Settings of how long what is kept, on which basis, and between which bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from smppd.config import units
from smppd.config.kinds import Model, PositiveDuration, Text, duration

UNFOUNDED: Final = 86_400.0
"""Seconds for which the text of a message is kept at most, where an account names no basis for keeping it."""
HOURS: Final = 48 * 3_600.0
"""What is kept for longer than these seconds has keys of days or months (`vault.keys.period_of`)."""
PARTS: Final = ("body", "numbers", "billing")
"""The parts of a record that are kept for times of their own."""

Reference = Annotated[Text, Field(min_length=1, max_length=200)]


class Basis(Model):
    """Why the texts of an account's messages may be kept, and looked at by rules."""

    shorthand = {"const": "contract"}

    purpose: Literal["contract", "legal-duty", "instruction"] = Field(
        description="`contract`: the contract with the customer needs it; `legal-duty`: a law does; `instruction`: the "
        "customer asked for it."
    )
    reference: Reference | None = Field(
        default=None,
        validate_default=True,
        description="Which contract, law or instruction: text without personal data. Needed but for `contract`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"purpose": value} if isinstance(value, str) else value

    @field_validator("reference")
    @classmethod
    def _which(cls, value: str | None, info: ValidationInfo) -> str | None:
        purpose = info.data.get("purpose", "contract")
        if value is None and purpose != "contract":
            what = "law" if purpose == "legal-duty" else "instruction"
            raise ValueError(f"is needed: say which {what}, {{purpose: {purpose}, reference: TEXT}}")
        return value

    def __str__(self) -> str:
        return self.purpose if self.reference is None else f"{self.purpose}: {self.reference}"


class Bounds(Model):
    """Times for some parts of a record; a part that is left out has no bound."""

    body: PositiveDuration | None = Field(default=None, description="Text or payload and TLVs.")
    numbers: PositiveDuration | None = Field(default=None, description="Both addresses.")
    billing: PositiveDuration | None = Field(default=None, description="Time, account, upstream, state, parts.")

    def given(self) -> Iterator[tuple[str, float]]:
        """(part, seconds) of those that are given."""
        for part in PARTS:
            seconds = getattr(self, part)
            if seconds is not None:
                yield part, seconds


class Ceiling(Bounds):
    """No account keeps anything for longer."""

    reference: Reference | None = Field(default=None, description="What says so: text without personal data.")


class Floor(Bounds):
    """Kept at least for this time: an erasure waits until it is over."""

    reference: Reference = Field(description="What says so, the law or order: text without personal data.")


class Retain(Model):
    """How long each part of a record is kept, in seconds."""

    shorthand = {"type": "string", "pattern": units.DURATION_PATTERN, "examples": ["30d"]}

    body: PositiveDuration = duration("30d", "Text or payload and TLVs; without a `basis` 24 h at most.")
    numbers: PositiveDuration = duration("30d", "Both addresses.")
    billing: PositiveDuration = duration("30d", "Time, account, upstream, state, parts: what invoices need.")
    at_least: Floor | None = Field(
        default=None, description="Before this time an erasure destroys nothing of it: a duty of this account."
    )

    @model_validator(mode="before")
    @classmethod
    def _same_for_all(cls, value: Any) -> Any:
        if isinstance(value, (dict, Retain)):
            return value
        return {"body": value, "numbers": value, "billing": value}

    @field_validator("at_least")
    @classmethod
    def _above(cls, value: Floor | None, info: ValidationInfo) -> Floor | None:
        for part, least in () if value is None else value.given():
            kept = info.data.get(part)
            if kept is not None and kept < least:
                raise ValueError(
                    f"{part} is kept for {units.format_duration(kept)} only: shorter than"
                    f" {units.format_duration(least)}, which is asked for here"
                )
        return value


class Kept(Retain):
    """How long each part is kept really. `new_body`: seconds for a body that is sealed now. `limit`: seconds for a body that
    lies under the key of an hour, where no basis is named. Bodies under the key of a day or a month were sealed before that was
    asked, or on a basis: these stay for `body`, so that neither an upgrade nor a basis that is withdrawn destroys anything
    early."""

    new_body: PositiveDuration
    limit: PositiveDuration | None = None

    @classmethod
    def of(cls, retain: Retain, content: str, basis: Basis | None) -> Kept:
        """What an account's `retain`, `content` and `basis` come to."""
        body = retain.body
        new, limit = body, None
        if basis is None and body > UNFOUNDED:
            if content == "encrypt":
                new = limit = UNFOUNDED
            elif body > HOURS:  # whose own keys are of days: what lies under that of an hour was sealed without a basis
                limit = UNFOUNDED
        return cls(
            body=body,
            numbers=retain.numbers,
            billing=retain.billing,
            at_least=retain.at_least,
            new_body=new,
            limit=limit,
        )


class Retention(Model):
    """Bounds for all accounts: an account whose `retain` does not keep to them is a fault."""

    at_least: Floor | None = Field(
        default=None, description="Each account keeps this at least, and no erasure destroys it before."
    )
    at_most: Ceiling | None = Field(default=None, description="No account keeps more than this.")
