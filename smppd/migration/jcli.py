"""What was typed at Jasmin's console: `smppccm -a`, `user -a`, `mtrouter -a` and the lines behind them.

A file of the commands, or what a terminal showed: prompts (`jcli : `, `> `) are taken away, and what the console
answered is passed over. Only what was saved counts: `ok` saves, `ko` or another command throws away. Keys: Jasmin's
`protocols/cli/*.py`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from smppd.migration.draft import MAX_THINGS, Draft, MigrationError, Place, Source

_COMMANDS: Final = frozenset(
    "smppccm user group filter mtrouter morouter mtinterceptor mointerceptor httpccm persist load stats quit help".split()
)
_PROMPT: Final = re.compile(r"^\s*(?:jcli\s*:\s*|>+\s?)+")
_OPTION: Final = re.compile(r"^(?:-([a-z01]|--[a-z-]+)|--([a-z-]+))(?:[\s=]+(\S+))?")
_LONG: Final = {"add": "a", "update": "u", "remove": "r", "show": "s", "list": "l", "enable": "e", "disable": "d"}
MAX_KEYS: Final = 1_000
"""Keys of one thing; Jasmin has fewer than a hundred. An update copies them."""


class Entry(NamedTuple):
    """Something that was saved. keys: name -> value; of `mt_messaging_cred` and `smpps_cred` all but the last word."""

    kind: str
    place: Place
    keys: dict[str, str]
    places: dict[str, Place]


class Console:
    """Everything that the files say, in the order in which it was said. Removed things are gone."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Entry]] = {}
        self.stopped: set[str] = set()

    def of(self, kind: str) -> list[Entry]:
        """The entries of a manager."""
        return list(self._named(kind).values())

    def find(self, kind: str, name: str) -> Entry | None:
        """The entry of this name."""
        return self._named(kind).get(name)

    def put(self, name: str, entry: Entry) -> None:
        """An entry is saved: behind all others, in the place of the one of this name."""
        named = self._named(entry.kind)
        named.pop(name, None)
        named[name] = entry

    def remove(self, kind: str, name: str | None) -> None:
        """The entry of this name is gone; None: all of the manager."""
        if name is None:
            self._named(kind).clear()
        else:
            self._named(kind).pop(name, None)

    def count(self) -> int:
        """How many entries there are."""
        return sum(map(len, self._entries.values()))

    def _named(self, kind: str) -> dict[str, Entry]:
        return self._entries.setdefault(kind, {})


# What names an entry of a manager, when it is updated or removed.
_NAMED_BY: Final = {
    "smppccm": "cid",
    "user": "uid",
    "group": "gid",
    "filter": "fid",
    "httpccm": "cid",
    "mtrouter": "order",
    "morouter": "order",
    "mtinterceptor": "order",
    "mointerceptor": "order",
}


def read_console(source: Source, console: Console, draft: Draft) -> None:
    """Adds what a file says. MigrationError beyond the limits."""
    reader = _Reader(console, draft, source.name)
    for number, raw in enumerate(source.lines(), 1):
        # What a terminal adds: colours and the cursor's moves.
        line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][0-9A-Za-z]", "", raw)
        reader.take(Place(source.name, number), _PROMPT.sub("", line).strip())
    reader.end()


class _Reader:
    """One file."""

    def __init__(self, console: Console, draft: Draft, name: str) -> None:
        self._console = console
        self._draft = draft
        self._name = name
        self._open: Entry | None = None
        self._saved = True

    def take(self, place: Place, line: str) -> None:
        """One line."""
        if not line or line.startswith("#"):
            return
        word, _, rest = line.partition(" ")
        if word in _COMMANDS and (
            not rest or rest.lstrip().startswith("-") or word in ("persist", "load", "quit", "help")
        ):
            self.end()
            self._command(place, word, rest.strip())
        elif self._open is not None:
            self._key(place, word.lower(), rest.strip())

    def end(self) -> None:
        """What was begun and not saved is told."""
        if self._open is not None and not self._saved:
            self._draft.leave(self._open.place, f"{self._open.kind}: begun, but not saved by `ok`; it is passed over")
        self._open, self._saved = None, True

    def _command(self, place: Place, manager: str, options: str) -> None:
        match = _OPTION.match(options)
        if match is None or manager not in _NAMED_BY:
            return
        option, name = match[1] or _LONG.get(match[2], match[2]), match[3] or ""
        if option == "a":
            self._begin(Entry(manager, place, {}, {}))
        elif option in ("u", "s") and name:
            found = self._console.find(manager, name)
            keys = {} if option == "s" or found is None else dict(found.keys)
            places = {} if found is None else dict(found.places)
            self._begin(Entry(manager, place, {**keys, _NAMED_BY[manager]: name}, places))
            # `-s` shows what is there, line by line, and needs no `ok`.
            self._saved = option == "s"
            if option == "s" and manager in ("smppccm", "user"):
                self._save()
        elif option in ("r", "f"):
            self._console.remove(manager, None if option == "f" else name)
        elif option in ("0", "d") and name:
            self._console.stopped.add(f"{manager} {name}")
        elif option in ("1", "e") and name:
            self._console.stopped.discard(f"{manager} {name}")
        elif option == "l" and manager in ("mtrouter", "morouter"):
            self._draft.leave(
                place,
                f"{manager} -l: a list shows too little of the routes: give the store's files, or the lines that made them",
            )

    def _begin(self, entry: Entry) -> None:
        self._open, self._saved = entry, False

    def _key(self, place: Place, word: str, rest: str) -> None:
        assert self._open is not None
        if word == "ok" and not rest:
            if not self._saved:
                self._save()
            self._open = None
        elif word == "ko" and not rest:
            self._open, self._saved = None, True
        elif re.fullmatch(r"[a-z_]{1,40}", word) and (rest or word in ("systype", "addr_range", "src_addr")):
            if word in ("mt_messaging_cred", "smpps_cred"):
                inner = rest.lower().split(None, 2)
                if len(inner) < 3:
                    return
                word, rest = f"{word} {inner[0]} {inner[1]}", rest.split(None, 2)[2]
            if len(self._open.keys) >= MAX_KEYS and word not in self._open.keys:
                raise MigrationError(f"{place}: more than {MAX_KEYS:,} keys of one thing")
            self._open.keys[word] = rest
            self._open.places[word] = place

    def _save(self) -> None:
        assert self._open is not None
        entry, self._saved = self._open, True
        name = entry.keys.get(_NAMED_BY[entry.kind], "")
        if entry.kind.endswith("router") and entry.keys.get("type", "").lower() == "defaultroute":
            name = entry.keys["order"] = "0"
        if not name:
            self._draft.leave(entry.place, f"{entry.kind}: saved without a name, so Jasmin refused it")
            return
        self._console.put(name, entry)
        if self._console.count() > MAX_THINGS:
            raise MigrationError(f"{self._name}: more than {MAX_THINGS:,} things are added in it")


def call_of(text: str) -> tuple[str, str] | None:
    """`smppc(carrier_a)` -> its two words; None when it is not of that form."""
    match = re.fullmatch(r"\s*([A-Za-z]+)\(([^()]{1,64})\)\s*", text)
    return (match[1].lower(), match[2]) if match else None
