"""Copies all that a store has into another one that is empty, whichever back ends they are (`smppd store copy`).

Rows go as they are: sealed, nothing is opened, and no key is needed. What ties a sealed row to its place (segment and counter
of a block; kind, owner and id of a cold row; the number of a log row) has the same value in both, so nothing is sealed anew:
docs/adr/0029 says what that rests on.

A back end is a `Side`: its rows in the form of `TABLES`, in pages by key, and places for marks. Rows of a page and how far the
table is are one transaction of the destination, so a kill at any moment costs no more than the page that was under way. A
source is frozen while it is read: nobody else writes to it. Two marks say what became of a store (`Mark`): from the moment when
a copy begins no daemon starts on the source; nobody works on the destination before all of it is there and compared; and the
source is told to be over before the destination is opened, so that at no moment both can be used.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from enum import Enum, auto
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

from smppd.store.api import Fault, StoreError

Row = tuple[Any, ...]
Key = tuple[Any, ...]
Progress = Callable[[str, int, int], object]
"""progress(what, rows done, of how many), over all tables."""

PAGE: Final = 2000
OCTETS: Final = 4 << 20
"""Rows of one page and, unless one row has more, their octets."""
_SUM_OCTETS: Final = 32
_MODULUS: Final = 1 << 8 * _SUM_OCTETS


class Type(Enum):
    """Of a column. NUMBER: 64 bits and a sign; SMALL: 32; MAYBE: octets or none; MAYBE_NUMBER likewise."""

    NUMBER = auto()
    SMALL = auto()
    TEXT = auto()
    OCTETS = auto()
    MAYBE = auto()
    MAYBE_NUMBER = auto()


N, S, T, O, M, P = Type.NUMBER, Type.SMALL, Type.TEXT, Type.OCTETS, Type.MAYBE, Type.MAYBE_NUMBER  # noqa: E741


class Table(NamedTuple):
    """Rows of one kind. key: how many of the columns, the first ones, are the key. whole: there are few, and each call writes
    all of them anew: they may have changed since an earlier call."""

    name: str
    columns: tuple[tuple[str, Type], ...]
    key: int = 1
    whole: bool = False


TABLES: Final = (
    Table("keys", (("scope", O), ("wrapped", O))),
    Table("secrets", (("seq", N), ("data", O))),
    Table("held", (("record", N), ("hold", N), ("source", O), ("destination", O), ("sealed", O)), 2),
    Table("log", (("seq", N), ("count", S), ("records", O), ("events", O), ("chain", O), ("secrets", P))),
    Table("seals", (("number", N), ("seq", N), ("signed", O))),
    Table("checkpoints", (("seq", N), ("signed", O))),
    Table("purged", (("seq", N), ("digests", O), ("mac", M))),
    Table(
        "extents",
        (("first", N), ("last", N), ("low", N), ("high", N), ("earliest", N), ("latest", N), ("lead", N)),
    ),
    Table(
        "number_index", (("handle", N), ("first", N), ("last", N), ("bucket", S), ("level", S), ("low", N), ("data", O))
    ),
    Table(
        "event_index", (("handle", N), ("first", N), ("last", N), ("bucket", S), ("level", S), ("low", N), ("data", O))
    ),
    Table("journal", (("segment", S), ("counter", N), ("data", O)), 2),
    Table(
        "cold",
        (("kind", S), ("owner", T), ("key", O), ("id", N), ("expires", N), ("segment", S), ("data", O)),
        4,
    ),
    Table(
        "damaged",
        (
            ("number", N),
            ("kind", T),
            ("owner", T),
            ("id", N),
            ("place", T),
            ("reason", T),
            ("at", N),
            ("until", N),
            ("form", S),
            ("row", N),
            ("segment", S),
            ("data", O),
        ),
    ),
    Table("opt_outs", (("key", O), ("account", T), ("sender", T), ("at", N), ("source", T))),
    Table("doubts", (("record", N), ("key", O), ("account", T), ("sender", T), ("at", N))),
    Table("documents", (("kind", T), ("name", T), ("until", N), ("sealed", O)), 2),
    Table("document_numbers", (("kind", T), ("last", N))),
    Table("erasures", (("number", N), ("facts", T))),
    Table("erased", (("record", N), ("erasure", N), ("parts", S), ("after", N), ("hold", N))),
    Table(
        "consents",
        (
            ("number", N),
            ("digest", O),
            ("account", T),
            ("subject", O),
            ("scopes", O),
            ("withdrawn", N),
            ("until", N),
            ("sealed", O),
        ),
    ),
    # What log, keys and audit trail say of each other; numbers that the relay remembers; numbers that are given once; where
    # the log begins after a purge; what index and purge remember.
    Table("states", (("name", T), ("value", O)), whole=True),
    Table("numbers", (("name", T), ("value", N)), whole=True),
    Table("counters", (("name", T), ("next", N)), whole=True),
    Table("anchors", (("seq", N), ("chain", O)), whole=True),
    Table("facts", (("name", T), ("value", O)), whole=True),
)
"""All that a store has, in the order in which it is copied."""

CHAIN_STATES: Final = ("log", "audit", "audit head")
"""Names of `states`."""
COUNTERS: Final = ("short_id",)
"""Names of `counters` (`store.api.Store.reserve`)."""
INDEXED: Final = ("indexed", "index changes")
"""Names of `facts` that are digits; the others begin with `PURGE` and are JSON (`store.log.PurgeRows.remember`)."""
PURGE: Final = "purge "


# -- marks -------------------------------------------------------------------------------------------------------------


class What(Enum):
    """What became of a store. LEAVING: a copy of it has begun; COMING: it is one that has not ended; GONE: it is over, and the
    copy is what counts; HERE: it is that copy; UNDONE: it was one, and the source counts again."""

    LEAVING = "leaving"
    COMING = "coming"
    GONE = "gone"
    HERE = "here"
    UNDONE = "undone"


class Mark(NamedTuple):
    """What a store says of itself. id: the copy's, 32 hexadecimal digits, the same on both sides. other: the name of the other
    side, for people. Durable when `Side.mark` returns."""

    what: What
    id: str
    other: str

    def pack(self) -> bytes:
        """As it is stored."""
        return json.dumps({"what": self.what.value, "id": self.id, "other": self.other}).encode()

    @classmethod
    def read(cls, data: bytes) -> Mark:
        """The inverse. StoreError where it is none."""
        try:
            found = json.loads(data)
            return cls(What(found["what"]), str(found["id"]), str(found["other"]))
        except (ValueError, KeyError, TypeError):
            raise StoreError("the mark of a copy was altered") from None

    def sentence(self, name: str) -> str:
        """What it says, for people. name: of the store that has the mark."""
        if self.what is What.LEAVING:
            return f"{name}: it is being copied to {self.other}: `smppd store copy` goes on with it, or gives it up with --undo"
        if self.what is What.GONE:
            return f"{name}: it was copied to {self.other}, which is the store now (`smppd store copy --undo` takes that back)"
        if self.what is What.COMING:
            return f"{name}: the copy of {self.other} is not complete: `smppd store copy` goes on with it"
        if self.what is What.HERE:
            return f"{name}: it is the copy of {self.other}"
        return (
            f"{name}: it was a copy of {self.other} and that was undone: empty it before anything else is done with it"
        )


def why_closed(mark: Mark | None, name: str, *, daemon: bool) -> str:
    """A sentence that says why a store must not be used; empty where it may. daemon: by a daemon; commands may look at one of
    which a copy has begun."""
    if mark is None or mark.what is What.HERE or (mark.what is What.LEAVING and not daemon):
        return ""
    return mark.sentence(name)


# -- the sides ---------------------------------------------------------------------------------------------------------


class Side(Protocol):
    """A store as source or destination. For one thread; every method raises StoreError."""

    name: str

    def there(self) -> bool:
        """Whether there is anything in it."""

    def read_mark(self) -> Mark | None:
        """What it says of itself."""

    def write_mark(self, mark: Mark | None) -> None:
        """Says it, durable when this returns; None: nothing. COMING may be the first that is in it."""

    def used(self) -> bool:
        """Whether a daemon has worked on it since it was copied to."""

    def close(self) -> None:
        """Lets it go."""

    # -- of both -------------------------------------------------------------------------------------------------------

    def count(self, table: Table) -> int:
        """How many rows there are."""

    def read(self, table: Table, after: Key | None, limit: int, octets: int) -> list[Row]:
        """The first rows behind a key, in the order of keys: up to ``limit``, and of about so many octets together, but one
        where there is one."""

    # -- of a source ---------------------------------------------------------------------------------------------------

    def frozen(self) -> AbstractContextManager[None]:
        """Nobody else writes to it in here; who tries is told that it is busy. StoreError where somebody does."""

    def refusals(self) -> Iterator[str]:
        """Sentences that say what of it cannot be copied: somebody works on it, or it has what a store of one node has not."""

    def nodes(self) -> set[int]:
        """The nodes that drew the ids of its log (`smppd.ids`)."""

    # -- of a destination ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes what it needs, with nothing in it. Behind the mark that it is COMING, and before all below."""

    def fits(self, table: Table, row: Row) -> Row:
        """A row as this side can have it."""

    def place(self, table: Table) -> tuple[Key | None, bool]:
        """How far a table is: the last key that was put, None for none; whether it is complete."""

    def put(self, table: Table, rows: Sequence[Row], last: Key | None, *, complete: bool) -> None:
        """Puts rows, and remembers how far the table is, in one transaction. The rows of a table that is `whole` take the place
        of all that it had."""

    def settle(self) -> None:
        """Forgets how far each table was, and puts all in order for a daemon, but for the mark. May be done again."""


def key_text(key: Key) -> str:
    """A key as text, for whoever has to remember one."""
    return json.dumps(
        [{"b": b2a_base64(one, newline=False).decode()} if isinstance(one, bytes) else one for one in key]
    )


def read_key(text: str) -> Key:
    """The inverse of `key_text`."""
    return tuple(a2b_base64(one["b"]) if isinstance(one, dict) else one for one in json.loads(text))


def small(value: int) -> int:
    """A number of 32 bits: what is more stands in a row that was altered, and the log's chain tells of it."""
    return max(-(1 << 31), min(value, (1 << 31) - 1))


def octets_of(row: Row) -> int:
    """About how much memory a row takes."""
    return 100 + sum(len(value) for value in row if isinstance(value, (bytes, str)))


# -- copying -----------------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """Of one table: rows of both sides, and whether all are the same. digest: of all rows, whatever their order,
    hexadecimal."""

    table: str
    rows: int
    digest: str


class Different(Fault):
    """The copy is not what the source is."""


class _Sum:
    """A digest of rows that does not depend on their order: the sum of the rows' own. Rows that are there twice count twice."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, row: Row) -> None:
        state = blake2b(digest_size=_SUM_OCTETS, person=b"smppd copy")
        for value in row:
            octets = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
            state.update(
                b"%d %d " % ((value is None) + 2 * isinstance(value, bytes) + 4 * isinstance(value, str), len(octets))
            )
            state.update(octets)
        self.count += 1
        self._sum = (self._sum + int.from_bytes(state.digest(), "big")) % _MODULUS

    @property
    def digest(self) -> str:
        return self._sum.to_bytes(_SUM_OCTETS, "big").hex()


def rows_of(side: Side, table: Table, after: Key | None = None) -> Iterator[list[Row]]:
    """All rows of a table behind a key, in pages."""
    while page := side.read(table, after, PAGE, OCTETS):
        yield page
        after = page[-1][: table.key]


def copy_rows(source: Side, destination: Side, progress: Progress) -> int:
    """Puts what is not there yet; how many rows were put. The source is frozen. A kill at any moment costs nothing: the next
    call goes on. StoreError."""
    counts = {table.name: source.count(table) for table in TABLES}
    total = sum(counts.values())
    done = put = 0
    for table in TABLES:
        if table.whole:
            rows = [destination.fits(table, row) for page in rows_of(source, table) for row in page]
            destination.put(table, rows, None, complete=True)
            done += len(rows)
            continue
        after, complete = destination.place(table)
        if complete:
            done += counts[table.name]
            continue
        if after is not None:
            done += destination.count(table)
        progress(table.name, done, total)
        for page in rows_of(source, table, after):
            fitting = [destination.fits(table, row) for row in page]
            destination.put(table, fitting, page[-1][: table.key], complete=False)
            put += len(page)
            done += len(page)
            progress(table.name, done, total)
        destination.put(table, (), None, complete=True)
    return put


def compare(source: Side, destination: Side, progress: Progress) -> list[Compared]:
    """Reads both sides once more. Raises Different, and StoreError."""
    total = sum(source.count(table) for table in TABLES)
    done = 0
    found = []
    for table in TABLES:
        ours, theirs = _Sum(), _Sum()
        for page in rows_of(source, table):
            for row in page:
                ours.add(destination.fits(table, row))
            done += len(page)
            progress(f"comparing {table.name}", done, total)
        for page in rows_of(destination, table):
            for row in page:
                theirs.add(row)
        if (ours.count, ours.digest) != (theirs.count, theirs.digest):
            raise Different(
                f"{table.name}: {source.name} has {ours.count} rows ({ours.digest[:16]}), {destination.name} has {theirs.count}"
                f" ({theirs.digest[:16]}): something was changed meanwhile: empty the destination and copy again"
            )
        found.append(Compared(table.name, ours.count, ours.digest))
    return found
