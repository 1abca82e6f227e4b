"""Settings of policies: named lists of rules, each a condition and one action.

Keyword and domain lists kept in files are read here, when the configuration is loaded, so that a policy never
touches a file and a missing list is a fault with a position.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from smppd.config.dlt import Finding, MessageClass
from smppd.config.kinds import (
    MANY,
    Int,
    Model,
    Name,
    Names,
    Patterns,
    PositiveDuration,
    Prefixes,
    Size,
    Text,
    Texts,
    context_of,
    file_problem,
)
from smppd.config.stamps import ReadFile, stamp_of
from smppd.config.statuses import STATUSES
from smppd.config.tlvs import TlvTests, TlvValues

LIST_MAX: Final = 4 * 1024 * 1024
RSUBMITFAIL: Final = 0x45
SERVICE_TYPE: Final = 5


# -- conditions ----------------------------------------------------------------------------------------------------


def read_list(path: Path, read: list[ReadFile] | None = None) -> tuple[str, ...]:
    """The entries of a UTF-8 list file: one a line, blank lines and `#` comments left out. ``read`` gets the file and its
    stamp. ValueError with the path."""
    problem = file_problem(path)
    if problem:
        raise ValueError(problem)
    try:
        with path.open("rb") as file:
            stamp = stamp_of(file.fileno())
            content = file.read(LIST_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if read is not None and stamp is not None:
        read.append(ReadFile(path, stamp))
    if len(content) > LIST_MAX:
        raise ValueError(f"{path} is longer than {LIST_MAX} octets")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    entries = tuple(line for line in lines if line)
    if not entries:
        raise ValueError(f"{path} has no entries")
    return entries


def _list_or_file(value: Any, handler: Any, info: ValidationInfo) -> Any:
    if isinstance(value, dict):
        if value.keys() != {"file"} or not isinstance(value["file"], (str, Path)) or not str(value["file"]):
            raise ValueError("must be a list, or {file: path}")
        context = context_of(info)
        path = (context.base if context else Path()) / value["file"]
        value = read_list(path, context.read if context else None)
    return handler(value)


def _word(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return " ".join(value.split())


def _domain(value: str) -> str:
    domain = value.strip().rstrip(".").lower()
    try:
        domain.encode("idna")
    except UnicodeError:
        raise ValueError("must be a domain name such as example.net") from None
    if not re.fullmatch(r"[^\s/:@*.]+(\.[^\s/:@*.]+)+", domain):
        raise ValueError("must be a domain name such as example.net")
    return domain


def _country(value: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS  # slow to import, and only needed here

    code = value.upper()
    if code not in SUPPORTED_REGIONS:
        raise ValueError("must be a country by its two letters (ISO 3166), such as GB")
    return code


_LIST_SCHEMA: Final = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}},
            {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "path"}},
                "required": ["file"],
                "additionalProperties": False,
            },
        ]
    }
)

if TYPE_CHECKING:
    Words = tuple[str, ...]
    Domains = tuple[str, ...]
else:
    Words = Annotated[
        tuple[Annotated[Text, AfterValidator(_word)], ...], MANY, WrapValidator(_list_or_file), _LIST_SCHEMA
    ]
    Domains = Annotated[
        tuple[Annotated[Text, AfterValidator(_domain)], ...], MANY, WrapValidator(_list_or_file), _LIST_SCHEMA
    ]

Country = Annotated[Text, AfterValidator(_country), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z]{2}$"})]


def _service(value: str) -> str:
    if len(value) > SERVICE_TYPE or not value.isascii():
        raise ValueError(f"must be at most {SERVICE_TYPE} ASCII characters (SMPP 3.4, 5.2.11)")
    return value


Service = Annotated[Text, AfterValidator(_service)]
Byte = Annotated[Int, Field(ge=0, le=255)]
Tag16 = Annotated[Int, Field(ge=0, le=0xFFFF)]
SenderKind = Literal["alphanumeric", "numeric", "short"]
Family = Literal["phishing_link", "credential_lure", "callback", "marketing", "card_number", "one_time_code"]
FAMILIES: Final = ("phishing_link", "credential_lure", "callback", "marketing", "card_number", "one_time_code")
SenderStanding = Literal["unauthorised", "expired", "generic", "protected", "lookalike", "wrong_form"]


class Condition(Model):
    """What a message must be for a rule to apply: all keys that are given hold; of a list, any entry."""

    sender: Texts = Field(default=(), description="Senders, exact or `prefix*`, case ignored.")
    sender_kind: Annotated[tuple[SenderKind, ...], MANY] = Field(default=(), description="Kinds of sender.")
    sender_pattern: Patterns = Field(default=(), description="RE2 patterns searched in the sender.")
    sender_is: Annotated[tuple[SenderStanding, ...], MANY] = Field(
        default=(),
        description="How the sender stands by `senders`: unauthorised (the account has no entry for it in the destination's"
        " country, or one that has ended), expired (one that has ended), generic, protected (a name of others), lookalike (as"
        " that, or looks like it or like a sender of another account), wrong_form (the country does not take it).",
    )
    destination: Prefixes = Field(default=(), description="Prefixes of the destination.")
    country: Annotated[tuple[Country, ...], MANY] = Field(
        default=(), description="Countries of the destination, two letters (ISO 3166)."
    )
    text: Patterns = Field(default=(), description="RE2 patterns searched in the joined, decoded text.")
    keywords: Words = Field(
        default=(), description="Whole words or phrases, case and accents ignored; or {file: path}, one a line."
    )
    family: Annotated[tuple[Family, ...], MANY] = Field(
        default=(), description="Shipped families of content that the text belongs to (docs/families.md)."
    )
    links: bool | None = Field(default=None, description="Whether the text has a URL or a bare domain.")
    domains: Domains = Field(
        default=(), description="A link's domain is one of these or below one; or {file: path}, one a line."
    )
    destination_in: Names = Field(default=(), description="The destination is on one of these `lists` of numbers.")
    sender_in: Names = Field(default=(), description="The sender is on one of these `lists` of senders.")
    domain_in: Names = Field(
        default=(), description="A link's domain, or one above it, is on one of these `lists` of domains."
    )
    data_coding: Annotated[tuple[Byte, ...], MANY] = Field(default=(), description="data_coding values.")
    binary: bool | None = Field(default=None, description="Whether the body is binary, not text.")
    longer_than: Int | None = Field(default=None, ge=0, description="The joined text has more characters than this.")
    size_over: Size | None = Field(default=None, description="The body of one PDU has more octets than this.")
    has_tlv: Annotated[tuple[Tag16, ...], MANY] = Field(default=(), description="Tags of TLVs, such as 0x1400.")
    tlv: TlvTests = Field(
        default=(),
        description="TLVs by tag with the values they may have, text or octets (`0x0102`): exact, `prefix*`,"
        " {matches: RE2}, or a list of these. All tags that are named hold.",
    )
    service_type: Annotated[tuple[Service, ...], MANY] = Field(
        default=(), description="service_type values, exact, case ignored."
    )
    dlt: Annotated[tuple[Finding, ...], MANY] = Field(
        default=(),
        description="What the account's DLT registry says of a message to India: `ok`, or what failed first.",
    )
    tag: Names = Field(default=(), description="Tags that an earlier rule gave.")

    @model_validator(mode="before")
    @classmethod
    def _kind_of_sender(cls, value: Any) -> Any:
        if isinstance(value, dict):
            sender = value.get("sender")
            if isinstance(sender, dict) and sender.keys() == {"kind"} and "sender_kind" not in value:
                value = {key: item for key, item in value.items() if key != "sender"}
                return {**value, "sender_kind": sender["kind"]}
            if not value:
                raise ValueError("must have at least one key (leave it out to match every message)")
        return value


# -- actions -------------------------------------------------------------------------------------------------------


class Refuse(Model):
    """The message is refused with this status."""

    status: Annotated[
        Int, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"enum": sorted(STATUSES)}]})
    ] = Field(
        default=RSUBMITFAIL,
        ge=1,
        le=0xFFFFFFFF,
        description="command_status: a number or its ESME_ name.",
        json_schema_extra={"default": "ESME_RSUBMITFAIL"},
    )
    reason: Text = Field(default="", max_length=100, description="A short text for the customer, where SMPP has room.")

    @field_validator("status", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value.upper() not in STATUSES:
                raise ValueError("must be a number or one of the ESME_ names of SMPP, such as ESME_RSUBMITFAIL")
            return STATUSES[value.upper()]
        return value


class ReplaceSender(Model):
    """The message leaves with another sender."""

    shorthand = {"type": "string"}

    address: Text = Field(min_length=1, max_length=20, description="The new sender.")
    ton: Byte | None = Field(default=None, description="Type of number; null: by the form of the address.")
    npi: Byte | None = Field(default=None, description="Numbering plan; null: by the form of the address.")
    restore: bool = Field(
        default=False,
        description="A reply to the new sender reaches the account at the sender that it used for that handset last.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, (str, int)) and not isinstance(value, bool) else value


ActionKind = Literal[
    "pass",
    "refuse",
    "replace_sender",
    "drop_tlv",
    "set_tlv",
    "tag",
    "route",
    "expire_after",
    "on_unknown",
    "content",
    "class",
]
_ACTIONS: Final[tuple[str, ...]] = get_args(ActionKind)


class Action(Model):
    """What a rule does: exactly one thing. `pass` and `refuse` end the policy, the others go on to the next rule."""

    shorthand = {"enum": ["pass", "refuse"]}

    pass_: bool = Field(default=False, alias="pass", description="Accepted by this policy, no further rule is asked.")
    refuse: Refuse | None = Field(default=None, description="Refused: {status, reason}.")
    replace_sender: ReplaceSender | None = Field(
        default=None, description="Another sender: {address, ton, npi, restore}."
    )
    drop_tlv: Annotated[tuple[Tag16, ...], MANY] = Field(default=(), description="Tags of TLVs to leave out.")
    set_tlv: TlvValues = Field(
        default=(), description="TLVs by tag with the value they get, text or octets (`0x0102`): replaced, or added."
    )
    tag: Name | None = Field(default=None, description="A tag for later rules and for routes.")
    route: Name | None = Field(default=None, description="The upstream that must take it.")
    expire_after: PositiveDuration | None = Field(
        default=None, description="Expires after this time at the latest, whatever validity it names."
    )
    on_unknown: Literal["resend", "hold"] | None = Field(
        default=None, description="As the account's `on_unknown`, which then does not count."
    )
    content: Literal["hide"] | None = Field(
        default=None, description="Recorded without a trace of its text, as with the account's `content: hide`."
    )
    class_: MessageClass | None = Field(
        default=None,
        alias="class",
        description="What kind of message it is; the account's `class` then does not count.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        if value == "pass":
            return {"pass": True}
        if value == "refuse":
            return {"refuse": {}}
        if isinstance(value, str):
            raise ValueError("must be pass, refuse, or a mapping with one of " + ", ".join(_ACTIONS[1:]))
        if isinstance(value, dict):
            known = value.keys() & {*_ACTIONS, "pass_", "class_"}
            if len(known) > 1 or (not known and len(value) != 1):
                raise ValueError("must be exactly one of " + ", ".join(_ACTIONS))
            if "refuse" in value and value["refuse"] is None:
                return {**value, "refuse": {}}
        return value

    @field_validator("drop_tlv")
    @classmethod
    def _some(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("must name at least one tag")
        return value

    @property
    def kind(self) -> ActionKind:
        """Which of its fields is the action."""
        if self.refuse is not None:
            return "refuse"
        if self.replace_sender is not None:
            return "replace_sender"
        if self.drop_tlv:
            return "drop_tlv"
        if self.set_tlv:
            return "set_tlv"
        if self.tag is not None:
            return "tag"
        if self.route is not None:
            return "route"
        if self.expire_after is not None:
            return "expire_after"
        if self.content is not None:
            return "content"
        if self.class_ is not None:
            return "class"
        return "on_unknown" if self.on_unknown is not None else "pass"


# -- rules and policies --------------------------------------------------------------------------------------------


class Rule(Model):
    """One decision of a policy."""

    name: Name = Field(description="Its name in records, metrics and explanations; unique in its policy.")
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce", description="`shadow` counts what it would have done, and does nothing."
    )
    when: Condition | None = Field(default=None, description="The rule applies when this holds; none: always.")
    unless: Condition | None = Field(default=None, description="... and this does not.")
    do: Action = Field(description=f"pass, refuse, or one of {', '.join(_ACTIONS[1:])} as a mapping.")


class ProtectedBrand(Model):
    """A name that lures borrow: what texts call it, and the domains that are its owner's."""

    names: Words = Field(
        min_length=1, description="As texts write it; all its forms. Case and look-alikes are ignored."
    )
    domains: Domains = Field(min_length=1, description="Its own domains; what lies below one is its own too.")


class Policy(Model):
    """An ordered list of rules. `name` is its key under `policies`."""

    name: str = Field(description="Set from the key.")
    hold_parts: bool = Field(
        default=False, description="Wait for all parts of a long message before the first is relayed."
    )
    rules: tuple[Rule, ...] = Field(description="The rules, in order.")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """In the file a policy is a bare list of rules, or a mapping without `name`."""
        inner = handler.resolve_ref_schema(handler(schema))
        properties = {key: item for key, item in inner["properties"].items() if key != "name"}
        mapping = {**inner, "properties": properties, "required": ["rules"]}
        return {"anyOf": [properties["rules"], mapping], "description": inner.get("description", "")}
