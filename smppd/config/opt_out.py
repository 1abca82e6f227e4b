"""Settings of opt-outs: the words by which people say STOP, what is answered, and what is done with messages to them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, model_validator

from smppd.config.kinds import MANY, Model, Names, NumberOrPrefix, Text

Told = Literal["refuse", "receipt", "shadow", "off"]
Scope = Literal["sender", "account"]
ANSWER_CHARACTERS = 160


def _language(value: str) -> str:
    if not re.fullmatch(r"[a-z]{2}", value):
        raise ValueError("must be a language of two letters (ISO 639-1), such as en")
    return value


Language = Annotated[
    Text, AfterValidator(_language), WithJsonSchema({"type": "string", "pattern": "^[a-z]{2}$", "examples": ["fr"]})
]
Word = Annotated[Text, StringConstraints(min_length=1, max_length=60)]
Words = Annotated[tuple[Word, ...], MANY]
Answer = Annotated[Text, StringConstraints(min_length=1, max_length=ANSWER_CHARACTERS)]


class OwnWords(Model):
    """Further words, beside those that are shipped. They count for numbers of every country."""

    stop: Words = Field(default=(), description="Whole messages that mean STOP.")
    stop_all: Words = Field(default=(), description="... that mean STOP for every sender of the account.")
    start: Words = Field(default=(), description="... that mean START: messages are wanted again.")
    help: Words = Field(default=(), description="... that mean HELP.")


class Answers(Model):
    """What a handset is answered, once, from the number that it wrote to: a text of one message each. Without one nothing is
    sent."""

    stop: Answer | None = Field(default=None, description="After STOP: the one confirmation.")
    start: Answer | None = Field(default=None, description="After START.")
    help: Answer | None = Field(default=None, description="To HELP.")


class Hearing(Model):
    """Which words are heard, and what is answered. What stands closer to a number counts before what stands further away; words
    are added up."""

    languages: Annotated[tuple[Language, ...], MANY] | None = Field(
        default=None, description="Languages whose shipped words count. Default: all there are."
    )
    words: OwnWords = Field(default_factory=OwnWords, description="Further words.")
    without: Words = Field(default=(), description="Shipped words that do not count, such as END.")
    answers: Answers = Field(default_factory=Answers, description="What is answered.")


class NumberHearing(Hearing):
    """The same for one number, or for those with a prefix."""

    number: NumberOrPrefix = Field(description="A number of an account, or a prefix with `*`.")


class OptOut(Hearing):
    """Opt-outs, for all accounts."""

    numbers: tuple[NumberHearing, ...] = Field(
        default=(), description="Numbers with words or answers of their own; the first that fits counts."
    )


class AccountOptOut(Hearing):
    """Opt-outs of one account. A bare word is its `told`."""

    shorthand = {"enum": ["refuse", "receipt", "shadow", "off"]}

    told: Told = Field(
        default="refuse",
        description="A message to somebody who opted out: `refuse` (ESME_RINVDSTADR), `receipt` (ESME_ROK, then a receipt"
        " REJECTD), `shadow` (only counted), or `off`: no word is heard, and nothing is asked.",
    )
    scope: Scope = Field(
        default="sender",
        description="What STOP ends: messages from the number that it was sent to, or from every sender of the account.",
    )
    lists: Names = Field(
        default=(),
        description="Lists of numbers that nobody of the account may write to: names of `lists`, kind `numbers`.",
    )
    review: bool = Field(default=True, description="Whether what only looks like a refusal is put down for a person.")

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"told": value} if isinstance(value, str) else value
