"""Reads the configuration file: `load(path)` gives Settings, or every fault in it with its line and column."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from smppd.config import retention
from smppd.config.kinds import Context
from smppd.config.peers import Account
from smppd.config.references import Loc, references, suggestion
from smppd.config.settings import Settings
from smppd.config.tree import MAX_OCTETS, Node, Tree, TreeError, read_tree

LONGEST_TEXT: Final = 500
PRIVATE_SECTION: Final = "x-"
"""Top-level keys that begin so are the writer's own: anchors stand there."""
DEFAULTS_SECTION: Final = "account_defaults"
OWN_KEYS: Final = frozenset({"system_id", "password_hash", "numbers", "keywords"})


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One mistake: where it stands, which setting it is (`accounts[0].window`), and what is wrong.

    `line` and `column` count from 1; they are 0 when it is about the file as a whole.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __post_init__(self) -> None:
        # Names and keys of the file are quoted in faults: a fault stays one line, and plays no tricks on a terminal.
        for name in ("path", "message"):
            object.__setattr__(self, name, _one_line(getattr(self, name)))

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        if not self.line:
            return f"{self.file}: {path}{self.message}"
        return f"{self.file}:{self.line}:{self.column}: {path}{self.message}"


def _one_line(text: str) -> str:
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= LONGEST_TEXT else shown[:LONGEST_TEXT] + "..."


class ConfigError(Exception):
    """The configuration cannot be used. `faults` has every mistake, in the order of the file."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class ConfigFileError(ConfigError):
    """There is no such file, or it cannot be read."""


def load(path: Path) -> Settings:
    """The settings in the YAML file `path`, with its relative paths taken from the file's directory.

    Raises ConfigFileError when the file cannot be read, else ConfigError with all faults at once.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise ConfigFileError([Fault(str(path), 0, 0, "", f"cannot be read: {error.strerror}")]) from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> Settings:
    """As `load`, of a content already read; `path` is the file's name in faults and the root of relative paths."""
    file = str(path)
    try:
        tree = read_tree(content)
    except TreeError as error:
        raise ConfigError([Fault(file, error.line, error.column, "", error.message)]) from None
    defaults = _spread_defaults(tree.root)
    plain = tree.root.plain()
    faults = {Fault(file, line, column, "", message) for line, column, message in tree.mistakes}
    if not isinstance(plain, dict):
        raise ConfigError([Fault(file, tree.root.line, tree.root.column, "", "must be a mapping of sections")])
    absolute = Path(os.path.abspath(path))
    faults.update(Fault(file, line, column, path, message) for line, column, path, message in defaults)
    for name in [key for key in plain if key.startswith(PRIVATE_SECTION) or key == DEFAULTS_SECTION]:
        del plain[name]
    if "path" in plain:
        entry = tree.root.value["path"]
        faults.add(Fault(file, entry.line, entry.column, "path", "unknown key"))
    settings: Settings | None = None
    try:
        context = Context(absolute.parent)
        settings = Settings.model_validate({**plain, "path": absolute}, context=context)
        settings._read_files = tuple(dict.fromkeys(context.read))
        settings._digest = hashlib.sha256(content).hexdigest()
    except ValidationError as error:
        faults.update(_validation_faults(file, tree, error))
    for loc, message in references(plain):
        place = _locate(tree.root, loc)
        faults.add(Fault(file, place.line, place.column, place.path, message))
    for loc, message in () if settings is None else retention.faults(settings):
        place = _locate(tree.root, loc)
        faults.add(Fault(file, place.line, place.column, place.path, message))
    if faults or settings is None:
        raise ConfigError(_once(faults))
    return settings


def _once(faults: Iterable[Fault]) -> list[Fault]:
    """The faults in the order of the file; one that several accounts share by a default or an alias is told once."""
    seen: dict[tuple[int, int, str], Fault] = {}
    for fault in sorted(faults):
        seen.setdefault((fault.line, fault.column, fault.message), fault)
    return list(seen.values())


def _spread_defaults(root: Node) -> list[tuple[int, int, str, str]]:
    """Puts the keys of `account_defaults` into each account that does not name them itself, with the places where they
    stand, so that a fault in one is told there. Gives (line, column, path, message) of what cannot be a default."""
    if not isinstance(root.value, dict) or DEFAULTS_SECTION not in root.value:
        return []
    section = root.value[DEFAULTS_SECTION]
    if section.node.value is None:
        return []
    if not isinstance(section.node.value, dict):
        return [(section.node.line, section.node.column, DEFAULTS_SECTION, "must be a mapping")]
    faults = []
    given = {}
    for key, entry in section.node.value.items():
        path = f"{DEFAULTS_SECTION}.{key}"
        if key not in Account.model_fields:
            faults.append((entry.line, entry.column, path, f"unknown key{suggestion(key, Account.model_fields)}"))
        elif key in OWN_KEYS:
            faults.append((entry.line, entry.column, path, "is of one account, and no default"))
        else:
            given[key] = entry
    accounts = root.value["accounts"].node.value if "accounts" in root.value else None
    for account in accounts if isinstance(accounts, list) else ():
        # A node may stand for several accounts by an alias: what is given already stays.
        if isinstance(account.value, dict):
            account.value = {
                **{key: entry for key, entry in given.items() if key not in account.value},
                **account.value,
            }
    return faults


def fault_at(path: Path, setting: str, message: str) -> Fault:
    """A fault of a file that could be loaded, found later: `setting` is a path such as `policies.house[0].when`."""
    return faults_at(path, [(setting, message)])[0]


def faults_at(path: Path, found: Iterable[tuple[str, str]]) -> list[Fault]:
    """The same of many at once, (setting, message) each."""
    try:
        with path.open("rb") as file:
            root = read_tree(file.read(MAX_OCTETS + 1)).root
    except (OSError, TreeError):
        return [Fault(str(path), 1, 1, setting, message) for setting, message in found]
    _spread_defaults(root)
    faults = []
    for setting, message in found:
        steps = re.findall(r"\[(\d+)\]|([^.\[\]]+)", setting)
        place = _locate(root, tuple(int(number) if number else name for number, name in steps))
        faults.append(Fault(str(path), place.line, place.column, setting, message))
    return faults


# -- positions -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Place:
    """Where a location ends in the tree: the value's position, its key's, its path, and what could not be followed."""

    line: int
    column: int
    key_line: int
    key_column: int
    path: str
    rest: list[str | int]
    length: int


def _locate(root: Node, loc: Loc) -> _Place:
    """Follows `loc` as far as the tree goes. Steps the tree does not have (a section written in short) are skipped."""
    node, path = root, ""
    rest: list[str | int] = []
    key_line, key_column = root.line, root.column
    for step in loc:
        if isinstance(step, int) and isinstance(node.value, dict) and "rules" in node.value:
            node = node.value["rules"].node  # `policies.house[0]` of a policy written as a mapping
            path += ".rules"
        if isinstance(node.value, dict) and str(step) in node.value:
            entry = node.value[str(step)]
            node, key_line, key_column = entry.node, entry.line, entry.column
            path += f".{step}" if path else str(step)
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            key_line, key_column = node.line, node.column
            path += f"[{step}]"
        else:
            rest.append(step)
    length = len(node.value) if isinstance(node.value, list) else 0
    return _Place(node.line, node.column, key_line, key_column, path, rest, length)


# -- pydantic's errors in our words --------------------------------------------------------------------------------

_MESSAGES: Final = {
    "missing": "required key is missing",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "string_type": "must be text (put it in quotes)",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def _validation_faults(file: str, tree: Tree, error: ValidationError) -> Iterator[Fault]:
    for item in error.errors(include_url=False, include_input=False):
        loc = item["loc"]
        place = _locate(tree.root, loc)
        line, column, path = place.line, place.column, place.path
        context = item.get("ctx", {})
        if item["type"] == "too_short" and place.length >= context["min_length"]:
            continue  # only short because entries that are faults of their own were left out
        message = _message(item["type"], item["msg"], context)
        if item["type"] == "missing":
            path = f"{path}.{loc[-1]}" if path else str(loc[-1])
        elif loc and loc[-1] == "[key]":
            line, column = place.key_line, place.key_column
        elif item["type"] == "extra_forbidden":
            if place.rest == ["name_"]:  # a policy's own `name`, see Settings._named
                place = _locate(tree.root, (*loc[:-1], "name"))
            line, column, path = place.key_line, place.key_column, place.path
            message = f"unknown key{suggestion(str(loc[-1]), known_keys(loc[:-1]))}"
        yield Fault(file, line, column, path, message)


def _message(kind: str, text: str, context: dict[str, Any]) -> str:
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    if kind in ("too_short", "too_long"):
        bound, count = ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
        return f"must have {bound} {context[count]} {'entry' if context[count] == 1 else 'entries'}"
    for start in ("Input should", "String should"):
        if text.startswith(start):
            return "must" + text.removeprefix(start)
    return text


# -- what keys there are -------------------------------------------------------------------------------------------


@functools.cache
def _schema() -> dict[str, Any]:
    return Settings.model_json_schema()


def known_keys(loc: Loc) -> set[str]:
    """The keys that may stand in the mapping at `loc`, by the published JSON Schema."""
    nodes = list(_branches(_schema()))
    for step in loc:
        inner = [child for node in nodes for child in _children(node, step)]
        # A step the schema does not have is one the short form leaves out: `rules` of a policy given as a bare list.
        nodes = inner or nodes
    return {key for node in nodes for key in node.get("properties", {})}


def _branches(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        yield from _branches(_schema()["$defs"][node["$ref"].rsplit("/", 1)[1]])
    for inner in node.get("anyOf", ()):
        yield from _branches(inner)
    if "anyOf" not in node and "$ref" not in node:
        yield node


def _children(node: dict[str, Any], step: str | int) -> Iterator[dict[str, Any]]:
    if isinstance(step, int):
        if isinstance(node.get("items"), dict):
            yield from _branches(node["items"])
        return
    if step in node.get("properties", {}):
        yield from _branches(node["properties"][step])
    else:
        for inner in node.get("patternProperties", {}).values():
            yield from _branches(inner)
        if isinstance(node.get("additionalProperties"), dict):
            yield from _branches(node["additionalProperties"])
