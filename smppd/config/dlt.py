"""India's registries of commercial messages (DLT, by TRAI's TCCCPR 2018): who may send which texts under which name.

An operator exports its registry from the portals of the carriers into CSV files of one form, which are read here, when the
configuration is loaded: all of a registry or nothing. Each line that is wrong is told with its number.

Types of variables and their signs as four portals use them since January 2026 (msg91.com, *Variable tagging on DLT SMS
templates*, and fast2sms.com, *DLT new rules 2026*, both read 2026-11). Of what a value of a type may consist the sources say
little and not the same; `VARIABLES` says how it is read here.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from smppd.config.kinds import MANY, FilePath, Int, Model, Name, Text, Texts, context_of
from smppd.pacing import breathe

MessageClass = Literal["transactional", "service", "promotional", "one_time_code", "government"]
Status = Literal["active", "inactive", "blacklisted"]
Finding = Literal[
    "ok",
    "no_entity",
    "entity_mismatch",
    "entity_inactive",
    "entity_blacklisted",
    "chain_mismatch",
    "no_header",
    "header_mismatch",
    "header_inactive",
    "header_blacklisted",
    "no_template",
    "template_mismatch",
    "template_inactive",
    "template_blacklisted",
    "template_header",
    "link_in_variable",
    "class_mismatch",
]

FILE_MAX: Final = 256 << 20
ROWS_MAX: Final = 1_000_000
TEXT_MAX: Final = 2000
"""Characters of a template: what the portals take (techtonetworks.com, *Template ID*, read 2026-11)."""
VARIABLES_MAX: Final = 50
TOLD: Final = 5
"""Bad lines that a fault shows; of the others it says how many."""
NOT_SHORT: Final = 255
"""Characters of a link or mail address in a variable. No source gives these a limit of their own."""
COLUMNS: Final = ("kind", "id", "entity", "header", "class", "status", "text", "note")
STATUSES: Final[dict[str, Status]] = {
    "": "active",
    "active": "active",
    "inactive": "inactive",
    "suspended": "inactive",
    "blacklisted": "blacklisted",
}
CLASSES: Final[dict[str, MessageClass]] = {
    "promotional": "promotional",
    "service": "service",
    "service implicit": "service",
    "service explicit": "service",
    "transactional": "transactional",
    "government": "government",
    "one_time_code": "one_time_code",
}
LETTERS: Final[dict[str, str]] = {
    "promotional": "P",
    "service": "S",
    "transactional": "T",
    "government": "G",
    "one_time_code": "TS",
}
"""The suffixes of a header that fit a class of template (TCCCPR, second amendment of 12 February 2025)."""
VARIABLES: Final[dict[str, str]] = {
    "var": r".",
    "numeric": r"[0-9]",
    "number": r"[0-9]",
    "alpha": r"[^\x00-\x1f0-9!-,/:-@\[-`{-\x7f]",
    "alphanumeric": r'[^\x00-\x1f!"$%;<=>?@\[\\\]^`{|}~\x7f]',
    "url": r"\S",
    "urlott": r"\S",
    "email": r"\S",
    "cbn": r"[-+0-9 ]",
}
"""The characters a value of each type may have, as a class of `re`. `alphanumeric` has the signs of dates, names and
addresses beside letters and digits; letters are those of every script."""
LINKS: Final = frozenset({"url", "urlott", "email"})

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEADER: Final = re.compile(r"([A-Za-z0-9]{1,11})(?:-([PSTGpstg]))?")
_VARIABLE: Final = re.compile(r"\{#\s*([A-Za-z]+)\s*#\}")


class Variable(NamedTuple):
    """One variable, or several of a kind in a row: from ``least`` to ``most`` characters of its kind."""

    kind: str
    least: int
    most: int


class Template(NamedTuple):
    """A text: ``literals`` with ``variables`` between them. ``headers``: those it may go under, none for all of its
    entity."""

    id: str
    entity: str
    headers: frozenset[str]
    message_class: MessageClass
    status: Status
    literals: tuple[str, ...]
    variables: tuple[Variable, ...]

    def __repr__(self) -> str:
        return f"<Template {self.id}>"


class Header(NamedTuple):
    """A sender. ``letters``: its suffixes, none where the registry does not say."""

    name: str
    entity: str
    letters: str
    status: Status


class Content(NamedTuple):
    """What a registry says: entities by PE-ID with their status, headers by name, templates in the order of the files."""

    entities: dict[str, Status]
    headers: dict[str, Header]
    templates: tuple[Template, ...]

    def __repr__(self) -> str:
        return f"<Content of {len(self.templates)} templates>"


class BadLine(NamedTuple):
    """A line of a file that is wrong, and why; with nothing of its text."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


def plain(text: str) -> str:
    """A text as it is compared: runs of blanks and ends of lines are one space."""
    return " ".join(text.split())


def read_template(text: str, longest: int, untyped: bool) -> tuple[tuple[str, ...], tuple[Variable, ...]]:
    """The literals and variables of a template's text. ``longest``: characters of one variable; ``untyped``: `{#var#}` may
    stand in it. ValueError says what is wrong."""
    if len(text) > TEXT_MAX:
        raise ValueError(f"a text of more than {TEXT_MAX} characters")
    pieces = _VARIABLE.split(plain(_VARIABLE.sub(lambda found: "{#" + found[1] + "#}", text)))
    literals = [pieces[0]]
    variables: list[Variable] = []
    for name, literal in zip(pieces[1::2], pieces[2::2], strict=True):
        kind = name.lower()
        if kind not in VARIABLES:
            known = ", ".join(f"{{#{one}#}}" for one in VARIABLES)
            raise ValueError(f"an unknown variable: there are {known}")
        if kind == "var" and not untyped:
            raise ValueError("{#var#} names no type: say `untyped: true` if the carriers still take it")
        most = NOT_SHORT if kind in LINKS else longest
        if variables and not literals[-1] and variables[-1].kind == kind:
            before = variables.pop()
            literals.pop()
            variables.append(Variable(kind, before.least + 1, before.most + most))
        else:
            variables.append(Variable(kind, 1, most))
        literals.append(literal)
    if len(variables) > VARIABLES_MAX:
        raise ValueError(f"more than {VARIABLES_MAX} variables")
    if any("{#" in literal or "#}" in literal for literal in literals):
        raise ValueError("a variable that is not closed, or is not {#type#}")
    if not any(char.isalnum() for literal in literals for char in literal):
        raise ValueError("no word that is always there")
    return tuple(literals), tuple(variables)


class _Reader:
    """Collects the lines of one registry's files. Pieces that many templates have are kept once."""

    def __init__(self, longest: int, untyped: bool) -> None:
        self._longest = longest
        self._untyped = untyped
        self.entities: dict[str, Status] = {}
        self.headers: dict[str, Header] = {}
        self.templates: dict[str, Template] = {}
        self.bad: list[BadLine] = []
        self.rows = 0
        self._pieces: dict[str, str] = {}
        self._variables: dict[tuple[Variable, ...], tuple[Variable, ...]] = {}
        self._headers: dict[frozenset[str], frozenset[str]] = {}
        self._places: list[tuple[str, int, str, frozenset[str]]] = []

    def read(self, path: Path) -> None:
        """Takes the lines of one file."""
        file = path.name
        try:
            with path.open("rb") as opened:
                octets = opened.read(FILE_MAX + 1)
            if len(octets) > FILE_MAX:
                raise ValueError(f"is longer than {FILE_MAX} octets")
            rows = csv.reader(io.StringIO(octets.decode("utf-8-sig"), newline=""), strict=True)
            columns = [name.strip().lower() for name in next(rows, [])]
        except OSError as error:
            self.bad.append(BadLine(file, 0, f"cannot be read: {error.strerror}"))
            return
        except UnicodeDecodeError:
            self.bad.append(BadLine(file, 0, "is not UTF-8"))
            return
        except (ValueError, csv.Error) as error:
            self.bad.append(BadLine(file, 1, str(error)))
            return
        if "kind" not in columns or len(set(columns)) < len(columns) or not set(columns) <= set(COLUMNS):
            self.bad.append(BadLine(file, 1, f"its first line must name columns, of {', '.join(COLUMNS)}"))
            return
        self._lines(file, rows, columns)

    def _lines(self, file: str, rows: Any, columns: list[str]) -> None:
        while True:
            breathe()
            try:
                row = next(rows, None)
                if row is None:
                    return
                if any(cell.strip() for cell in row):
                    self.rows += 1
                    if self.rows > ROWS_MAX:
                        raise ValueError(f"more than {ROWS_MAX} lines")
                    if len(row) > len(columns):
                        raise ValueError("more cells than columns (a text with a comma needs quotes)")
                    self._row(file, rows.line_num, dict(zip(columns, (cell.strip() for cell in row), strict=False)))
            except csv.Error as error:
                self.bad.append(BadLine(file, rows.line_num, f"is no CSV: {error}"))
                return  # what follows an open quote is not known
            except ValueError as error:
                self.bad.append(BadLine(file, rows.line_num, str(error)))
                if self.rows > ROWS_MAX:
                    return

    def _row(self, file: str, line: int, row: dict[str, str]) -> None:
        kind = row["kind"].lower()
        state = row.get("status", "").lower()
        if state not in STATUSES:
            raise ValueError("status must be active, inactive, suspended or blacklisted")
        status = STATUSES[state]
        if kind == "entity":
            identity = _identity(row, "id")
            if identity in self.entities:
                raise ValueError("this entity is given twice")
            self.entities[identity] = status
        elif kind == "header":
            header = self._header(row, status)
            self._places.append((file, line, header.entity, frozenset()))
        elif kind == "template":
            template = self._template(row, status)
            if template.id in self.templates:
                raise ValueError("this template is given twice")
            self.templates[template.id] = template
            self._places.append((file, line, template.entity, template.headers))
        else:
            raise ValueError("kind must be entity, header or template")

    def _header(self, row: dict[str, str], status: Status) -> Header:
        name, letter = header_of(row.get("header", ""))
        if not name:
            raise ValueError("header must be a sender of letters and digits, with or without -P, -S, -T or -G")
        if row.get("class"):
            letters = LETTERS[_class(row)]
            if letter and letter not in letters:
                raise ValueError("class and suffix of the header are not the same")
            letter = letter or letters
        entity = _identity(row, "entity")
        before = self.headers.get(name)
        if before is not None:
            # One name with several suffixes is several lines.
            if before.entity != entity or before.status != status or not letter or letter in before.letters:
                raise ValueError("this header is given twice")
            letter = before.letters + letter
        made = self.headers[name] = Header(name, entity, letter, status)
        return made

    def _template(self, row: dict[str, str], status: Status) -> Template:
        headers = []
        for cell in re.split(r"[|;,]", row.get("header", "")):
            if cell.strip():
                name, _ = header_of(cell.strip())
                if not name:
                    raise ValueError("header must be senders of letters and digits, with | between them")
                headers.append(name)
        literals, variables = read_template(row.get("text", ""), self._longest, self._untyped)
        keep, names = self._pieces.setdefault, frozenset(headers)
        entity = _identity(row, "entity")
        return Template(
            _identity(row, "id"),
            keep(entity, entity),
            self._headers.setdefault(names, names),
            _class(row),
            status,
            tuple([keep(one, one) for one in literals]),
            self._variables.setdefault(variables, variables),
        )

    def settle(self) -> None:
        """When all files are read: what names entities and headers that are nowhere."""
        for file, line, entity, headers in self._places:
            breathe()
            if entity not in self.entities:
                self.bad.append(BadLine(file, line, "its entity is in no line"))
            for name in headers:
                header = self.headers.get(name)
                if header is None or header.entity != entity:
                    self.bad.append(BadLine(file, line, "a header of the template is in no line of its entity"))
                    break


def _identity(row: dict[str, str], column: str) -> str:
    value = row.get(column, "")
    if not _ID.fullmatch(value):
        raise ValueError(f"{column} must be an id of digits (a spreadsheet may have made another number of it)")
    return value


def _class(row: dict[str, str]) -> MessageClass:
    name = row.get("class", "").lower().replace("-", " ")
    if name not in CLASSES:
        raise ValueError(f"class must be one of {', '.join(CLASSES)}")
    return CLASSES[name]


def header_of(sender: str) -> tuple[str, str]:
    """(name, suffix letter) of a header such as `ACMEBK-S`; empty where it is none."""
    found = _HEADER.fullmatch(sender)
    return (found[1].upper(), (found[2] or "").upper()) if found else ("", "")


def read_registry(paths: tuple[Path, ...], longest: int, untyped: bool) -> tuple[Content, list[BadLine]]:
    """A registry from its files, and all lines that are wrong, which are not in it."""
    reader = _Reader(longest, untyped)
    for path in paths:
        reader.read(path)
    reader.settle()
    return Content(reader.entities, reader.headers, tuple(reader.templates.values())), reader.bad


EMPTY: Final = Content({}, {}, ())


class Registry(Model):
    """One registry: entities, headers and templates, from CSV files."""

    file: Annotated[tuple[FilePath, ...], MANY] = Field(
        min_length=1, description=f"CSV files whose first line names the columns, of {', '.join(COLUMNS)}."
    )
    variable_length: Int = Field(default=30, ge=1, le=NOT_SHORT, description="Characters of a variable: 30 or 40.")
    untyped: bool = Field(default=False, description="Whether templates may have `{#var#}`, which names no type.")
    if TYPE_CHECKING:
        content: Content = EMPTY
    else:
        content: SkipJsonSchema[Any] = Field(default=None, validate_default=True, exclude=True, repr=False)

    @field_validator("content", mode="before")
    @classmethod
    def _content(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Content):
            return value
        if value is not None:
            raise ValueError("unknown key")
        if context_of(info) is None or not {"file", "variable_length", "untyped"} <= info.data.keys():
            return EMPTY
        content, bad = read_registry(info.data["file"], info.data["variable_length"], info.data["untyped"])
        if bad:
            raise ValueError(told(bad))
        return content


def told(bad: list[BadLine]) -> str:
    """The first bad lines, and how many there are."""
    more = f"; and {len(bad) - TOLD} more bad lines: `smppd dlt check` has all" if len(bad) > TOLD else ""
    return "; ".join(map(str, bad[:TOLD])) + more


class Dlt(Model):
    """India's registries. An account names the one that its messages are compared with."""

    registries: dict[Name, Registry] = Field(default_factory=dict, description="Registries by name.")


class AccountDlt(Model):
    """An account in India's registry."""

    registry: Name = Field(description="The registry, of `dlt.registries`.")
    entity: Text | None = Field(
        default=None, description="Its PE-ID (TLV 0x1400). Without one each message must bring its own."
    )
    telemarketers: Texts = Field(
        default=(), description="TM-IDs of the chain from the entity to us, us included, in order (TLV 0x1402)."
    )
    separator: Text = Field(default=",", max_length=3, description="Between the ids of the chain when it is hashed.")
    set_: bool = Field(
        default=False,
        alias="set",
        description="Adds PE-ID, Template-ID and the chain's hash where a message to India does not bring them.",
    )

    @field_validator("entity")
    @classmethod
    def _entity(cls, value: str | None) -> str | None:
        if value is not None and not _ID.fullmatch(value):
            raise ValueError("must be an id of digits")
        return value

    @field_validator("telemarketers")
    @classmethod
    def _telemarketers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not _ID.fullmatch(one) for one in value):
            raise ValueError("must be ids of digits")
        return value
