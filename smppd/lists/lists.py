"""All lists of a configuration by name. What is compiled of them outlives reloads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from smppd.config import Settings
from smppd.lists.compiler import ListSpec, place_of
from smppd.lists.named import NamedList
from smppd.lists.table import ListFault, open_table

DIRECTORY: Final = "lists"
"""Where compiled lists are, in the store's directory."""


def spec_of(settings: Settings, name: str) -> ListSpec:
    """What the compiled form of a list depends on. KeyError for no such list."""
    source = settings.lists[name]
    return ListSpec(name, source.kind, source.file, source.region, source.column, source.bad_lines == "skip")


class Lists:
    """See the module. ``directory``: the store's. ``key``: the installation's, for lists."""

    def __init__(self, directory: Path, key: bytes) -> None:
        self.directory = directory / DIRECTORY
        self.key = key
        self._lists: Mapping[str, NamedList] = {}

    def __repr__(self) -> str:
        return f"<Lists {', '.join(self._lists)}>"

    @property
    def by_name(self) -> Mapping[str, NamedList]:
        """The lists in force."""
        return self._lists

    def of(self, settings: Settings) -> Mapping[str, NamedList]:
        """The lists of a configuration: those in force that are of the same kind there, and new ones with what is compiled of
        them. Changes nothing that is in use: a reload may still be refused. Reads each new list once in full. Any thread."""
        made = {}
        for name, source in settings.lists.items():
            known = self._lists.get(name)
            if known is None or known.kind != source.kind:
                known = NamedList(name, source.kind, source.when_absent == "refuse")
                try:
                    known.exchange(open_table(place_of(self.directory, name), self.key, source.kind))
                except (ListFault, OSError):
                    pass  # the watcher says so, and compiles it
            made[name] = known
        return made

    def use(self, settings: Settings, lists: Mapping[str, NamedList]) -> None:
        """From now on these, which `of` gave, are in force."""
        for name, source in settings.lists.items():
            lists[name].refuses = source.when_absent == "refuse"
        self._lists = lists

    def numbers(self, name: str) -> NamedList:
        """A list of phone numbers, for screens: ``digits in lists.numbers(name)``, with digits in their normal form
        (`numbering.normalise`). It follows every exchange of what is compiled. KeyError where there is no list of numbers of
        this name."""
        found = self._lists[name]
        if found.kind != "numbers":
            raise KeyError(name)
        return found
