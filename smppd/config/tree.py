"""YAML text -> a tree of plain values that knows the line and column of every key and value.

Safe by construction: it is built from parser events, so that no tag ever makes an object, and text, depth, aliases and
what aliases expand to are bounded. Scalars follow YAML 1.2's core rules where 1.1's surprise people: `off`, `no` and
`12:30` are text, and numbers with leading zeros or a `+` (phone numbers) stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from smppd.pacing import breathe

MAX_OCTETS: Final = 4 << 20
MAX_DEPTH: Final = 50
MAX_ALIASES: Final = 10_000
MAX_ALIASED_NODES: Final = 100_000

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,15}")
_FLOAT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
_WORDS: Final[dict[str, Any]] = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_STR_TAGS: Final = {"!", "tag:yaml.org,2002:str"}
_HALF: Final = re.compile("[\ud800-\udfff]")
_NOT_PRINTABLE: Final = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"  # YAML 1.2, c-printable less BOM
)


class Hex(int):
    """A number written in hexadecimal. It keeps its ``digits``: as octets `0x0001` is not `0x01`."""

    digits: str

    @classmethod
    def of(cls, text: str) -> Hex:
        """Of a text that begins with ``0x``."""
        made = cls(text, 16)
        made.digits = text[2:]
        return made


@dataclass(slots=True)
class Node:
    """A value at `line`, `column` (from 1) of `file`. `value`: scalar, list of nodes, or dict of key -> `Entry`."""

    line: int
    column: int
    value: Any
    size: int = 1
    open: bool = False
    file: str = ""

    def plain(self) -> Any:
        """The value without positions: scalars, lists and dicts with text keys."""
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        if isinstance(self.value, dict):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        return self.value


@dataclass(slots=True)
class Entry:
    """One key of a mapping, where the key stands, and its value."""

    line: int
    column: int
    node: Node


class TreeError(Exception):
    """The text is no tree at all. `line` and `column` count from 1; the message has nothing of the text in it."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line, self.column, self.message = line, column, message


@dataclass(slots=True)
class Tree:
    """The root, and the mistakes that did not stop the reading: (line, column, message)."""

    root: Node
    mistakes: list[tuple[int, int, str]] = field(default_factory=list)


def read_tree(content: bytes, file: str = "") -> Tree:
    """The tree of one YAML document; ``file`` is what its nodes say where they stand. TreeError for bad syntax, wrong encoding,
    or anything beyond the bounds."""
    if len(content) > MAX_OCTETS:
        raise TreeError(1, 1, f"is longer than {MAX_OCTETS >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TreeError(line, 1, "is not UTF-8 here") from None
    bad = _NOT_PRINTABLE.search(text)
    if bad:
        start = bad.start()
        line = text.count("\n", 0, start) + 1
        raise TreeError(line, start - text.rfind("\n", 0, start), "has a control character here")
    try:
        return _Composer(yaml.parse(text, Loader=_LOADER), file).compose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise TreeError(*where, f"not YAML: {_in_words(text, error, *where)}") from None
    except yaml.YAMLError:
        raise TreeError(1, 1, "not YAML") from None


# What the parser says -> what a person does about it. The parser's own sentences speak of its insides.
_PROBLEMS: Final = (
    ("tab character", "a tab stands here: indent with spaces only"),
    (
        "mapping values are not allowed",
        "a `:` where none can stand: this line is indented further than the one it belongs with, or a text with `: ` in it"
        " needs quotes",
    ),
    ("did not find expected '-' indicator", "an entry of this list has no `- `, or this line's indentation is wrong"),
    ("block sequence entries are not allowed", "a list cannot begin here: put its first `- ` on a line of its own"),
    ("could not find expected ':'", "the line above is a key without its `:`, or is indented too little"),
    ("did not find expected ',' or '}'", "a `{` is not closed, or a comma is missing between its entries"),
    ("did not find expected ',' or ']'", "a `[` is not closed, or a comma is missing between its entries"),
    ("unexpected end of stream", "a quote is not closed"),
    (
        "unknown escape character",
        "an unknown escape: within double quotes write `\\\\` for a backslash, or use single quotes",
    ),
    ("did not find expected node content", "a value is missing here"),
    ("did not find expected comment or line break", "nothing but a comment can stand behind `|` or `>`"),
    (
        "did not find expected alphabetic or numeric character",
        "`&` and `*` need a name; a text that begins with one needs quotes",
    ),
    (
        "did not find expected key",
        "a key is expected here: this line's indentation fits none above it, or a bracket or quote is not in its place",
    ),
)


def _in_words(text: str, error: yaml.MarkedYAMLError, line: int, column: int) -> str:
    """What is wrong at `line` and `column` in words for who wrote the file, with nothing of the file in them."""
    problem = error.problem or "cannot be read"
    lines = text.splitlines()
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    indentation = here[: len(here) - len(here.lstrip(" \t"))]
    if "\t" in indentation:
        return "a tab stands here: indent with spaces only"
    if "cannot start any token" in problem:
        return "a text cannot begin with this character unless it stands in quotes"
    for words, sentence in _PROBLEMS:
        if words in problem:
            return sentence
    # Quoted words in the parser's sentence may come from the file, and from a secret that got there by mistake.
    return re.sub(r"(?<!\S)'[^'<\s]{2,}'", "...", problem)


class _Composer:
    """Builds nodes from events, with the bounds kept as it goes."""

    def __init__(self, events: Iterator[Any], file: str) -> None:
        self._events = events
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._aliases = 0
        self._aliased_nodes = 0
        self._mistakes: list[tuple[int, int, str]] = []

    def compose(self) -> Tree:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _error(event, "has a second document; one is read")
                root = self._node(next(self._events), 1)
        if root is None:
            raise TreeError(1, 1, "is empty")
        return Tree(root, self._mistakes)

    def _node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _error(event, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        breathe()
        node = Node(*_position(event), None, file=self._file)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        if isinstance(event, yaml.ScalarEvent):
            node.value = self._scalar(event)
            return node
        if event.tag is not None:
            self._mistakes.append((node.line, node.column, "YAML tags are not used here"))
        node.open = True
        if isinstance(event, yaml.SequenceStartEvent):
            node.value = list(self._items(depth))
            node.size += sum(item.size for item in node.value)
        else:
            node.value = self._mapping(depth)
            node.size += sum(entry.node.size for entry in node.value.values())
        node.open = False
        return node

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _error(event, "a key must be plain text")
            if event.anchor is not None:
                self._anchors[event.anchor] = Node(*_position(event), event.value, file=self._file)
            key, (line, column) = event.value, _position(event)
            node = self._node(next(self._events), depth + 1)
            if key == "<<" and event.style in (None, ""):
                self._merge(merged, node)
            elif key in entries:
                self._mistakes.append((line, column, f"{key}: key given twice (first in line {entries[key].line})"))
            else:
                entries[key] = Entry(line, column, node)
        return entries | {key: entry for key, entry in merged.items() if key not in entries}

    def _merge(self, merged: dict[str, Entry], node: Node) -> None:
        sources = node.value if isinstance(node.value, list) else [node]
        for source in sources:
            if not isinstance(source.value, dict):
                self._mistakes.append((node.line, node.column, "`<<` takes a mapping or a list of mappings"))
                return
            for key, entry in source.value.items():
                merged.setdefault(key, entry)

    def _alias(self, event: Any) -> Node:
        target = self._anchors.get(event.anchor)
        if target is None:
            raise _error(event, "alias of nothing: no such anchor above")
        if target.open:
            raise _error(event, "alias within what it stands for")
        self._aliases += 1
        self._aliased_nodes += target.size
        if self._aliases > MAX_ALIASES or self._aliased_nodes > MAX_ALIASED_NODES:
            raise _error(event, f"too many aliases: at most {MAX_ALIASES}, and {MAX_ALIASED_NODES} values by them")
        return target

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if _HALF.search(text):
            raise _error(event, "has half a character here")
        if event.tag is not None:
            if event.tag not in _STR_TAGS:
                line, column = _position(event)
                self._mistakes.append((line, column, "YAML tags are not used here"))
            return text
        if event.style not in (None, ""):
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text)
        if _HEX.fullmatch(text):
            return Hex.of(text)
        return float(text) if _FLOAT.fullmatch(text) else text


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _error(event: Any, message: str) -> TreeError:
    return TreeError(*_position(event), message)
