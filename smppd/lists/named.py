"""A list by its name, as rules and screens ask it: the compiled table in force, which is exchanged while messages flow."""

from __future__ import annotations

from smppd.lists.table import Table
from smppd.policy.listed import ListAbsent


class NamedList:
    """One list of the configuration. It outlives reloads, and what is compiled of it. Asked and exchanged on one thread.

    ``refuses``: see `policy.listed.Listed`.
    """

    __slots__ = ("_table", "kind", "name", "refuses", "version")

    def __init__(self, name: str, kind: str, refuses: bool, table: Table | None = None) -> None:
        self.name = name
        self.kind = kind
        self.refuses = refuses
        self.version = 0 if table is None else 1
        """Another number after each exchange; 0 while it is absent."""
        self._table = table

    def __repr__(self) -> str:
        return f"<NamedList {self.name}: {self._table!r}>"

    def __contains__(self, form: object, /) -> bool:
        """Whether an entry is on it, in its normal form: of a number `numbering.normalise`. While it is absent: False, or
        `ListAbsent` where it refuses."""
        table = self._table
        if table is None:
            if self.refuses:
                raise ListAbsent(self.name)
            return False
        return isinstance(form, bytes) and table.has(form)

    def __len__(self) -> int:
        return 0 if self._table is None else len(self._table)

    @property
    def absent(self) -> bool:
        """Whether there is nothing compiled of it."""
        return self._table is None

    @property
    def table(self) -> Table | None:
        """What is in force."""
        return self._table

    def has(self, form: bytes) -> bool:
        """Whether an entry is on it. Only while it is not absent."""
        table = self._table
        return table is not None and table.has(form)

    def exchange(self, table: Table) -> Table | None:
        """From now on this table is asked. Returns the one before, which nobody asks any more, for the caller to close."""
        before, self._table = self._table, table
        self.version += 1
        return before
