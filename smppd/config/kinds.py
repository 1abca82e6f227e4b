"""The value types that settings are made of: units, addresses, files, patterns, names.

Each type turns what stands in the YAML file into one Python shape, or raises ValueError with a sentence that never
repeats a secret. `pydantic` calls them; a validation context (`Context`) says which file the values came from, so that
relative paths are taken from there and files that must exist are looked for. Built in code (tests, `smppd demo`)
without a context, numbers are taken as they are and no file is touched.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import re2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from smppd.config import private, units
from smppd.config.hosts import is_host
from smppd.config.stamps import ReadFile
from smppd.numbering import REGIONS
from smppd.pacing import breathe


class Model(BaseModel):
    """Base of every section: frozen, unknown keys are errors, input never shown in an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
        arbitrary_types_allowed=True,
    )

    shorthand: ClassVar[JsonSchemaValue | None] = None
    """JSON Schema of what may stand in the file instead of a mapping, such as a bare name."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        inner = handler.resolve_ref_schema(handler(schema))
        if cls.shorthand is None:
            return inner
        return {"anyOf": [cls.shorthand, inner], "description": inner.get("description", "")}


@dataclass(frozen=True, slots=True)
class Context:
    """Where the values come from: `base` is the directory of the configuration file. `read` gets the files that are read
    beside it."""

    base: Path
    read: list[ReadFile] = field(default_factory=list)


def context_of(info: ValidationInfo) -> Context | None:
    return info.context if isinstance(info.context, Context) else None


# -- units ---------------------------------------------------------------------------------------------------------


def _unit(parse: Callable[[str], float], what: str, example: str) -> Callable[[Any, ValidationInfo], Any]:
    def validate(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"must be a {what} such as {example}")
        if value != 0 and context_of(info) is not None:
            raise ValueError(f"a {what} needs its unit: write {value}{example.lstrip('0123456789')}, for example")
        return value

    return validate


def _schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Duration = Annotated[
    float,
    BeforeValidator(_unit(units.parse_duration, "duration", "30s")),
    Field(ge=0),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": units.DURATION_PATTERN}, {"type": "integer", "const": 0}],
            "examples": ["30s"],
        }
    ),
]
"""Seconds, from `30s`, `500ms`, `72h`; zero allowed."""

PositiveDuration = Annotated[
    float,
    BeforeValidator(_unit(units.parse_duration, "duration", "30s")),
    Field(gt=0),
    _schema(units.DURATION_PATTERN, "30s"),
]
Rate = Annotated[
    float, BeforeValidator(_unit(units.parse_rate, "rate", "100/s")), Field(gt=0), _schema(units.RATE_PATTERN, "100/s")
]
"""Events a second, from `100/s` or `3000/m`."""
Size = Annotated[
    int, BeforeValidator(_unit(units.parse_size, "size", "64KiB")), Field(ge=0), _schema(units.SIZE_PATTERN, "64KiB")
]
"""Octets, from `64KiB`, `10kB`."""
_LEAST_ROTATED: Final = 64 * 1024


def _rotated(value: int) -> int:
    if value and value < _LEAST_ROTATED:
        raise ValueError("must be 0 or at least 64KiB")
    return value


RotatedSize = Annotated[Size, AfterValidator(_rotated)]
"""Octets of a file at which another one begins; 0: never."""


def _percent(value: Any, info: ValidationInfo) -> Any:
    match = re.fullmatch(r"([0-9]{1,2})\s*%", value) if isinstance(value, str) else None
    if match is not None:
        return int(match[1])
    if value == 0 or (context_of(info) is None and isinstance(value, int)):
        return value
    raise ValueError("must be a share such as 10%, below 100%")


Percent = Annotated[
    int,
    BeforeValidator(_percent),
    Field(ge=0, le=99),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^[0-9]{1,2} ?%$"}, {"type": "integer", "const": 0}]}),
]
"""A share in percent, from `10%`; zero allowed."""


def duration(default: str, description: str) -> Any:
    """A field whose default is a duration, shown in the JSON Schema as an operator writes it."""
    return _with_unit(units.parse_duration(default), default, description)


def rate(default: str, description: str) -> Any:
    """A field whose default is a rate (see `duration`)."""
    return _with_unit(units.parse_rate(default), default, description)


def size(default: str, description: str) -> Any:
    """A field whose default is a size (see `duration`)."""
    return _with_unit(units.parse_size(default), default, description)


def _with_unit(value: float, shown: str, description: str) -> Any:
    return Field(default=value, description=description, json_schema_extra={"default": shown})


# -- text and lists ------------------------------------------------------------------------------------------------


def _as_text(value: Any) -> Any:
    """A number where text is meant: `system_id: 12345` or `destination: 44`. Leading zeros never become numbers."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_as_text)]


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


Int = Annotated[int, BeforeValidator(_whole)]
"""A whole number; neither `true` nor a number in quotes is one."""


class _Many:
    """Lets one value stand for a list of one, in the file and in the JSON Schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self._wrap, handler(source))

    @staticmethod
    def _wrap(value: Any) -> Any:
        return (value,) if isinstance(value, (str, int, float)) else value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        inner = handler(schema)
        return {"anyOf": [inner["items"], inner]} if "items" in inner else inner


MANY: Final = _Many()
Texts = Annotated[tuple[Text, ...], MANY]


def _host_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(is_host, value)):
        raise ValueError("must be host names or addresses, without a port")
    return value


HostNames = Annotated[Texts, AfterValidator(_host_names)]
"""By which a server on HTTP may be asked (`config.hosts`)."""


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}", value):
        raise ValueError(
            "must be 1 to 63 lower-case letters, digits, '-', '_' or '.', beginning with a letter or digit"
        )
    return value


Name = Annotated[
    Text, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]{0,62}$"})
]
"""A name that may become a metric label: upstream, policy, rule, tag, route."""
Names = Annotated[tuple[Name, ...], MANY]


def _prefix(value: str) -> str:
    digits = re.sub(r"[ ()-]", "", value).removeprefix("+")
    if not re.fullmatch(r"[0-9]{1,20}", digits):
        raise ValueError("must be the digits a number begins with, such as +44 or 447700")
    return digits


Prefix = Annotated[Text, AfterValidator(_prefix)]
"""The digits that a phone number begins with; `+` and spaces are taken away."""
Prefixes = Annotated[tuple[Prefix, ...], MANY]


def _region(value: str) -> str:
    if value.upper() not in REGIONS:
        raise ValueError("must be a country of two letters (ISO 3166), such as GB")
    return value.upper()


Region = Annotated[
    str, AfterValidator(_region), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z]{2}$", "examples": ["GB"]})
]
"""The country that a national number belongs to."""


def _number_or_prefix(value: str) -> str:
    star = "*" if value.endswith("*") else ""
    return _prefix(value.removesuffix("*")) + star


NumberOrPrefix = Annotated[Text, AfterValidator(_number_or_prefix)]


def checked_pattern(value: str) -> str:
    """The pattern, if RE2 takes it; else ValueError."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        re2.compile(value, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else error
        raise ValueError(f"not an RE2 pattern: {reason}") from None
    return value


Pattern = Annotated[Text, AfterValidator(checked_pattern), WithJsonSchema({"type": "string", "format": "regex"})]
"""An RE2 pattern (no look-around, no back-references: matching time stays linear)."""
Patterns = Annotated[tuple[Pattern, ...], MANY]


# -- networks and addresses ----------------------------------------------------------------------------------------

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(value: Any) -> IPNetwork:
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a network such as 192.0.2.0/24")
    return _network_of(value)


@lru_cache(1024)
def _network_of(value: str) -> IPNetwork:
    # Kept: a thousand accounts often name the same few.
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("must be a network such as 192.0.2.0/24 or 2001:db8::/32") from None
    raise ValueError(f"has bits set behind its mask (did you mean {loose}?)")


def _any(value: Any, handler: Callable[[Any], Any]) -> Any:
    breathe()  # once for each account
    if value == "any":
        return value
    try:
        given = len(value)
    except TypeError:
        given = 1
    if not given:
        raise ValueError("must name at least one network, or be the word any")
    return handler(value)


_NETWORK_SCHEMA: Final = {"type": "string", "examples": ["192.0.2.0/24"]}

if TYPE_CHECKING:
    Network = IPNetwork
    NetworksOrAny = tuple[IPNetwork, ...] | Literal["any"]
else:
    # The annotations pydantic sees: a union would report one mistake once for each of its branches.
    Network = Annotated[Any, AfterValidator(_network), WithJsonSchema(_NETWORK_SCHEMA)]
    NetworksOrAny = Annotated[
        tuple[Network, ...],
        MANY,
        WrapValidator(_any),
        WithJsonSchema({"anyOf": [{"const": "any"}, _NETWORK_SCHEMA, {"type": "array", "items": _NETWORK_SCHEMA}]}),
    ]


def split_address(value: str) -> tuple[str, int]:
    """(`host`, port) of `host:port`, where an IPv6 host stands in brackets. ValueError otherwise."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", value)
    if match is None:
        raise ValueError("must be host:port, such as 0.0.0.0:3550 or [::1]:2775")
    port = int(match[3])
    if port > 65535:
        raise ValueError("has a port above 65535")
    if match[1] is not None:
        try:
            ipaddress.IPv6Address(match[1])
        except ValueError:
            raise ValueError("must have an IPv6 address between the brackets") from None
    return match[1] or match[2], port


def _address(value: str) -> str:
    split_address(value)
    return value


Address = Annotated[
    str, AfterValidator(_address), WithJsonSchema({"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.%]+\]|[^:\s]+):\d+$"})
]


def _source_address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("must be an IP address of this host, without a port") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError("must be one address of this host")
    return value


SourceAddress = Annotated[
    str,
    AfterValidator(_source_address),
    WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f:.%]+$", "examples": ["192.0.2.10"]}),
]
"""An IP address that our connections come from."""


def is_loopback(host: str) -> bool:
    """Whether the host can only be this machine. A name other than `localhost` counts as elsewhere."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Addressed(Model):
    """A section with an `address: host:port`; gives its two halves."""

    address: Address = Field(description="host:port; an IPv6 host in brackets.")

    @property
    def host(self) -> str:
        return split_address(self.address)[0]

    @property
    def port(self) -> int:
        return split_address(self.address)[1]


# -- files and secrets ---------------------------------------------------------------------------------------------


def _path(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and not value:
        raise ValueError("must be a path, and is empty")
    if not isinstance(value, (str, Path)) or "\0" in str(value):
        raise ValueError("must be a path")
    context = context_of(info)
    return Path(os.path.abspath(context.base / value)) if context is not None else Path(value)


def _credential(value: Any, info: ValidationInfo) -> Any:
    """`{credential: NAME}` is the file of that systemd credential; anything else is a path."""
    if not isinstance(value, dict):
        return _path(value, info)
    if value.keys() != {"credential"} or not isinstance(value["credential"], str):
        raise ValueError("must be a path, or {credential: NAME}")
    return private.credential_path(private.credential_name(value["credential"]))


def _existing(value: Path, info: ValidationInfo) -> Path:
    if context_of(info) is not None:
        problem = file_problem(value)
        if problem:
            raise ValueError(problem)
    return value


def _private(value: Path, info: ValidationInfo) -> Path:
    if context_of(info) is not None:
        problem = file_problem(value) or private.exposure(value, value.stat().st_mode)
        if problem:
            raise ValueError(problem if str(value) in problem else f"{value}: {problem}")
    return value


def file_problem(path: Path) -> str | None:
    """Why `path` cannot be read as a file, in a sentence with the path, or None."""
    try:
        if not path.exists():
            return f"{path} does not exist"
        if not path.is_file():
            return f"{path} is not a file"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None if os.access(path, os.R_OK) else f"{path} cannot be read: permission denied"


_PATH_SCHEMA: Final = WithJsonSchema({"type": "string", "format": "path"})
AnyPath = Annotated[Path, BeforeValidator(_path), _PATH_SCHEMA]
"""A path, absolute when it came from a file."""
_FILE_SCHEMA: Final = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "format": "path"},
            {
                "type": "object",
                "properties": {"credential": {"type": "string"}},
                "required": ["credential"],
                "additionalProperties": False,
            },
        ]
    }
)
FilePath = Annotated[Path, BeforeValidator(_credential), AfterValidator(_existing), _FILE_SCHEMA]
"""A file that exists and can be read when the configuration is loaded: its path, or {credential: NAME} (systemd)."""
PrivateFile = Annotated[Path, BeforeValidator(_credential), AfterValidator(_private), _FILE_SCHEMA]
"""A `FilePath` that holds a secret: one that others can read, or that others can write to, is refused."""

if TYPE_CHECKING:
    FileOrSystem = Path | Literal["system"]
else:
    FileOrSystem = Annotated[
        FilePath,
        WrapValidator(lambda value, handler: value if value == "system" else handler(value)),
        WithJsonSchema({"anyOf": [{"const": "system"}, {"type": "string", "format": "path"}]}),
    ]
