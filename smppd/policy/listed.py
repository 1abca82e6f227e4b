"""Conditions that ask a big list by its name: which of them hold for a value.

The lists themselves (`smppd.lists`) are made elsewhere, and exchanged while messages flow; here they are asked, and it is
decided what holds while one of them is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from smppd.numbering import normalise
from smppd.policy.links import canonical

ABSENT: Final = "list-absent"
"""What refuses a message that a list has to be asked about which is not there."""
REMEMBERED: Final = 4096
"""Senders, and hosts of links, of which it is known on which lists they are. Destinations seldom come again."""
MOST_LABELS: Final = 16
"""Labels of a domain on a list, and the last labels of a link's host that are asked for."""


class Listed(Protocol):
    """A list as conditions see it."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def refuses(self) -> bool:
        """Whether messages are refused that it is asked about while it is absent; else such rules do not apply."""

    @property
    def absent(self) -> bool:
        """Whether it was never compiled, so that nobody knows what is on it."""

    @property
    def version(self) -> int:
        """Another number whenever other entries are on it."""

    def has(self, form: bytes) -> bool:
        """Whether an entry is on it, in its normal form. Never while it is absent."""


class ListAbsent(Exception):
    """A condition asks a list that is not there, and messages are refused for it. ``name``: the list's."""

    def __init__(self, name: str) -> None:
        super().__init__(f"list {name} is not compiled")
        self.name = name


class AbsentList:
    """A list that cannot be asked, for who has none: commands that only look at rules."""

    __slots__ = ("_name", "_refuses")

    def __init__(self, name: str, refuses: bool) -> None:
        self._name = name
        self._refuses = refuses

    @property
    def name(self) -> str:
        """See `Listed`."""
        return self._name

    @property
    def refuses(self) -> bool:
        """See `Listed`."""
        return self._refuses

    @property
    def absent(self) -> bool:
        """See `Listed`."""
        return True

    @property
    def version(self) -> int:
        """See `Listed`."""
        return 0

    def has(self, form: bytes) -> bool:
        """See `Listed`."""
        raise AssertionError("an absent list was asked")


class ListIndex:
    """The lists that conditions of one kind ask, each with the mask of these conditions.

    A condition that asks several lists holds when the value is on any. ``exceptions``: conditions of an ``unless``;
    ``strict``: those whose rule acts. While a list is absent, a condition that it decides refuses the message (`ListAbsent`) if
    it is strict and the list says so; else its rule does not apply: a ``when`` does not hold, an ``unless`` does.
    """

    __slots__ = ("_all", "_entries", "_exceptions", "_hosts", "_senders", "_strict", "_version")

    def __init__(
        self, names: Sequence[tuple[str, int]], lists: Mapping[str, Listed], exceptions: int, strict: int
    ) -> None:
        """names: of a list, and the bit of a condition that asks it. One that is not in ``lists`` is absent and refuses
        nothing."""
        masks: dict[str, int] = {}
        for name, bit in names:
            masks[name] = masks.get(name, 0) | bit
        self._entries: list[tuple[Listed, int]] = []
        for name, mask in masks.items():
            found = lists.get(name)
            self._entries.append((AbsentList(name, False) if found is None else found, mask))
        self._exceptions = exceptions
        self._strict = strict
        self._all = 0
        for _listed, mask in self._entries:
            self._all |= mask
        self._version = -1
        self._senders: dict[tuple[bytes, int, str | None], int] = {}
        self._hosts: dict[str, int] = {}

    def of(self, form: bytes, alive: int) -> int:
        """Those of the conditions ``alive`` that a value satisfies. Raises `ListAbsent`."""
        found = 0
        unknown = 0
        for listed, mask in self._entries:
            if mask & alive:
                if listed.absent:
                    unknown |= mask
                elif listed.has(form):
                    found |= mask
        if unknown:
            found |= self.settle(unknown & ~found & alive)
        return found

    def of_sender(self, digits: bytes, ton: int, region: str | None, alive: int) -> int:
        """The same of a message's sender. ``region``: the country of national numbers."""
        key = (digits, ton, region)
        if self._is_current():
            known = self._senders.get(key)
            if known is None:
                if len(self._senders) >= REMEMBERED:
                    self._senders.clear()
                known = self._senders[key] = self.of(sender_form(digits, ton, region), self._all)
            return known
        return self.of(sender_form(digits, ton, region), alive)

    def of_host(self, host: str, alive: int) -> int:
        """The same of a link's host (`links.find`): it, or a domain above it, is on the list."""
        if self._is_current():
            known = self._hosts.get(host)
            if known is None:
                if len(self._hosts) >= REMEMBERED:
                    self._hosts.clear()
                known = self._hosts[host] = self._of_forms(domain_forms(host), self._all)
            return known
        return self._of_forms(domain_forms(host), alive)

    def _is_current(self) -> bool:
        """Whether what is remembered may be taken: no list is absent. What was of lists that have changed is forgotten."""
        version = 0
        for listed, _mask in self._entries:
            if listed.absent:
                return False
            version += listed.version
        if version != self._version:
            self._version = version
            self._senders.clear()
            self._hosts.clear()
        return True

    def _of_forms(self, forms: list[bytes], alive: int) -> int:
        found = 0
        unknown = 0
        for listed, mask in self._entries:
            if mask & alive:
                if listed.absent:
                    unknown |= mask
                else:
                    for form in forms:
                        if listed.has(form):
                            found |= mask
                            break
        if unknown:
            found |= self.settle(unknown & ~found & alive)
        return found

    def settle(self, unknown: int) -> int:
        """Those of the conditions that nobody can decide which hold all the same. Raises `ListAbsent`."""
        if unknown & self._strict:
            for listed, mask in self._entries:
                if mask & unknown & self._strict and listed.absent and listed.refuses:
                    raise ListAbsent(listed.name)
        return unknown & self._exceptions

    def leniently(self) -> ListIndex:
        """The same lists, where none refuses: for explanations."""
        other = ListIndex([], {}, self._exceptions, 0)
        other._entries, other._all = self._entries, self._all
        return other


def domain_forms(host: str) -> list[bytes]:
    """The host and the domains above it, of at least two labels, as lists of domains have them; the longest first. Of a host
    with more than `MOST_LABELS` labels the last ones count: no list has longer entries."""
    if host.count(".") >= MOST_LABELS:
        host = ".".join(host.split(".")[-MOST_LABELS:])
    name = host.encode("utf-8", "replace")
    forms: list[bytes] = []
    while name.find(b".") >= 0:
        forms.append(name)
        name = name.partition(b".")[2]
    return forms


def sender_form(digits: bytes, ton: int = 0, region: str | None = None) -> bytes:
    """A sender as lists of senders have it: numbers in their normal form (`numbering.normalise`), names with letter case and
    runs of spaces folded. Names come in Latin-1 or UTF-8, as senders of rules do."""
    if digits.isascii():
        form = normalise(digits, ton, 0, region)
        return form if form.isdigit() else b" ".join(digits.lower().split())
    try:
        text = digits.decode("utf-8")
    except UnicodeDecodeError:
        text = digits.decode("latin-1")
    return " ".join(text.casefold().split()).encode("utf-8")


def domain_form(text: str) -> bytes | None:
    """A domain as lists of domains have it; None for what is no domain name."""
    name = canonical(text.strip())
    labels = name.split(".")
    if not 2 <= len(labels) <= MOST_LABELS or len(name) > 253:
        return None
    for label in labels:
        if not label or not label.isascii() or not label.replace("-", "").replace("_", "").isalnum():
            return None
    return name.encode("ascii")
