"""What the relay asks of a store: batches that become durable as one, cold rows in pages, and a replay after a restart.

Life of a batch: the relay fills ``Store.batch`` on the reactor thread and calls ``kick``, or ``nudge`` where nobody is kept
waiting; the store commits it whenever it is free, key material first; then exactly one of ``Sink.batch_committed``,
``Sink.batch_refused`` and ``Sink.store_broken`` is called on the reactor thread. What arrives meanwhile is the next batch.

All of it is said so that a database which several nodes share can serve it too:

- a row has a holder, the node that put it; the asker is given its own rows. Of what nobody holds it claims some, which are its
  own until it drops them (``Spool.claim``). Rows of kinds that are only looked up, REPLY and ERASED, are everybody's;
- counts are hints: another node may have put or taken rows since;
- numbers that nobody else may have are reserved, not remembered (``Store.reserve``);
- a key that somebody else made first is the one that counts (``vault.keys.KeyRows.put_new``);
- whether a store can be written to is one of three states (``Availability``), whatever the reason is.

Errors are ``StoreError``; what a back end is made of raises nothing of its own through here. What only one back end has
(files, segments) is its own affair. ``store.committer`` says when a batch is committed, for all of them;
``tests/store/test_interface.py`` holds each to what is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, IntEnum, auto
from typing import Any, Final, NamedTuple, Protocol


class Kind(IntEnum):
    """What a cold row is: a message waiting for an upstream, one waiting for its receipt, mail for a customer that is not
    taking it, a receipt whose message is not known yet, the sender that replies of a handset are to reach, the keyed hash
    of a number that was erased, or a message that its heir has to judge: of a node that is gone, which had released it and
    heard no answer, or kept it as a part of a long one."""

    QUEUE = 1
    WAITING = 2
    MAIL = 3
    PARKED = 4
    REPLY = 5
    ERASED = 6
    INHERITED = 7


class Fault(Exception):
    """The store cannot be used or is not what it should be: nothing may go on as if it were. Every other error is one of the
    thing that was being handled, and stops no more than that."""


class StoreError(Fault):
    """The store cannot be used; the text says why and names the file or the server."""


class StoreBusy(StoreError):
    """Somebody else is writing just now: the same may succeed a moment later."""


class StoreFull(StoreError):
    """There is no space left for it."""


class Availability(Enum):
    """Whether a store can be written to. OK: it can. FULL: it has no space, or no more than its reserve. AWAY: it cannot be
    reached. Out of OK nothing new is taken; what has happened already is kept and tried again."""

    OK = auto()
    FULL = auto()
    AWAY = auto()


class ColdRow(NamedTuple):
    """One thing kept on disk instead of in memory.

    ``owner``: lane, upstream or account it belongs to. ``key``: upstream id to find it by, empty where rows are taken in
    the order of ``id``. ``expires``: epoch seconds. ``data``: sealed on disk, clear here. ``shared``: as it is put: nobody
    holds it, any node may claim it (``Spool.claim``); the others are told of it. As it is given by ``find``, ``expired`` and
    ``claim``: nobody held it until now, so this node has not counted it. A store of one node knows no such rows.
    """

    kind: int
    owner: str
    key: bytes
    id: int
    expires: int
    data: bytes
    shared: bool = False

    def __repr__(self) -> str:
        return f"ColdRow({Kind(self.kind).name}, {self.owner!r}, id={self.id})"


Place = tuple[str, bytes, int]
"""Where a row stands among those of its kind: owner, key, id."""
Walked = Callable[[list[ColdRow], Place | None], None]


class Damaged(NamedTuple):
    """Something that could not be handled and is set aside, so that it stops nothing else (`store.sqlite.damaged`).

    ``kind``: what ``data`` is: ``message``, ``mail`` and ``parked`` are payloads as the spool has them, ``frame`` a PDU,
    ``entry`` an entry of the spool, ``block`` what is left of a block of them. ``owner``: account or upstream, empty where
    nobody can tell; ``id``: the thing's, or 0. ``place``: where it was met; ``reason``: the type of the error. ``at``,
    ``until``: epoch seconds, from and to which it is kept. ``data``: sealed on disk, clear here.
    """

    kind: str
    owner: str
    id: int
    place: str
    reason: str
    at: int
    until: int
    data: bytes

    def __repr__(self) -> str:
        return f"<Damaged {self.kind} {self.id:016x} {self.place}>"


class OptOut(NamedTuple):
    """One entry of the register of opt-outs, or the end of one.

    ``key``: 16 octets, a keyed hash of account, sender and number. ``sender``: ``#`` and a keyed hash of it, or ``*`` for any
    sender of the account. ``at``: epoch seconds. ``source``: by what it came. ``stands``: False where it
    is lifted.
    """

    key: bytes
    account: str
    sender: str
    at: int
    source: str
    stands: bool = True

    def __repr__(self) -> str:
        return f"<OptOut {self.account} {'stands' if self.stands else 'lifted'}>"


OPT_OUTS: Final = "opt-outs"
"""Name in `Batch.meta` of a number that is another one with each change of the register of opt-outs."""


class Doubt(NamedTuple):
    """A message of a handset that looks like a refusal. ``record``: its record's id; the rest: what would be suppressed."""

    record: int
    key: bytes
    account: str
    sender: str
    at: int

    def __repr__(self) -> str:
        return f"<Doubt {self.record:016x}>"


class Batch:
    """Everything that becomes durable in one commit, and whom to tell.

    ``records``/``secrets``: sealed log records in id order and the 64 octets of secrets each was sealed with. ``accepts``:
    spool entries whose loss is answered (a refused message, an unacknowledged receipt); they are dropped when the disk is
    full. ``marks``: spool entries about things that have happened; they are kept and tried again. ``events``: log events.
    ``recorded``: the ids of the records, and of events that belong to no record and say what only this batch makes so; with a
    batch that is refused their events are dropped too. ``put``/``drop``: cold rows; ``put`` belongs to accepts, ``moves`` are
    puts that replace spool entries (kept and tried again). ``segments``: spool segments that are no longer needed. ``meta``:
    numbers to remember, ``damaged``: what is set aside; both kept and tried again. ``opt_outs``: changes of the register, in
    order; ``doubts`` and ``decided``: what waits for a person, and the records of which that was decided. These three are
    dropped with a batch that is refused: whoever asked for them is told (``asked``), and asks again. ``handed``: (kind, owner)
    of which this node gives up all rows that it holds: from this commit on nobody holds them, and the others are told; kept and
    tried again. The rest is the relay's: handed back untouched.
    """

    __slots__ = (
        "accepted",
        "accepts",
        "acks",
        "asked",
        "damaged",
        "decided",
        "doubts",
        "drop",
        "events",
        "handed",
        "heard",
        "mails",
        "marks",
        "meta",
        "moves",
        "opt_outs",
        "put",
        "recorded",
        "records",
        "released",
        "secrets",
        "segments",
        "seq",
        "then",
    )

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.recorded: list[int] = []
        self.secrets: list[bytes] = []
        self.accepts: list[bytes] = []
        self.marks: list[bytes] = []
        self.events: list[bytes] = []
        self.put: list[ColdRow] = []
        self.moves: list[ColdRow] = []
        self.drop: list[tuple[int, str, bytes, int]] = []
        self.segments: list[int] = []
        self.meta: list[tuple[str, int]] = []
        self.damaged: list[Damaged] = []
        self.opt_outs: list[OptOut] = []
        self.doubts: list[Doubt] = []
        self.decided: list[int] = []
        self.asked: list[Callable[[bool], None]] = []
        self.handed: list[tuple[int, str]] = []
        self.heard: list[Any] = []
        self.seq = 0
        self.accepted: list[Any] = []
        self.released: list[Any] = []
        self.mails: list[Any] = []
        self.acks: list[Any] = []
        self.then: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(
            self.accepts
            or self.marks
            or self.events
            or self.put
            or self.moves
            or self.drop
            or self.records
            or self.segments
            or self.then
            or self.acks
            or self.meta
            or self.damaged
            or self.opt_outs
            or self.doubts
            or self.decided
            or self.asked
            or self.handed
        )


class Renewed(NamedTuple):
    """What ``Tenant.renew`` did: how many things moved, how many octets they are counted with, and whether nothing is left in
    the place."""

    things: int
    octets: int
    complete: bool


class Tenant(Protocol):
    """Who lives in the spool: what a store may ask of him that keeps what is opened in places, and wants to leave old ones.
    Places are numbers that rise. A store that keeps each thing by itself has one place and never asks."""

    def places(self) -> list[int]:
        """The places in which something lives or may, oldest first."""

    def alive_in(self, place: int) -> int:
        """How many things live in a place."""

    def opened(self) -> int:
        """How many things were opened since the place began."""

    def begin(self, place: int) -> None:
        """What is opened from now on lives in this place."""

    def leave(self, place: int) -> None:
        """A place is no more; nothing lives in it."""

    def renew(self, place: int, most: int, octets: int, *, rows: bool) -> Renewed:
        """Writes up to ``most`` things of a place anew, oldest first, of ``octets`` together: into the present place or, where
        ``rows`` is true and they only wait, as rows. What is not durable yet stays."""


class Sink(Protocol):
    """Who hears how a batch ended. Called on the reactor thread."""

    def batch_committed(self, batch: Batch) -> None:
        """The batch is on stable storage."""

    def batch_refused(self, batch: Batch, reason: str) -> None:
        """The store is full or away: nothing of the batch is stored. Its marks, drops, moves and the events of
        older records are already in the next batch."""

    def store_broken(self, reason: str) -> None:
        """An I/O error: nothing may be acknowledged any more; the daemon has to end."""


class Spool(Protocol):
    """The durable side of the relay."""

    @property
    def batch(self) -> Batch:
        """The batch that is being filled. Another one after each commit, so ask for it each time."""

    @property
    def takes(self) -> bool:
        """Whether messages may be taken: the store is OK."""

    def kick(self) -> None:
        """Commits ``batch`` as soon as the store is free."""

    def nudge(self) -> None:
        """Commits ``batch`` with the next one that is kicked, or within some milliseconds."""

    def page(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """The first ``limit`` cold rows of one owner with an id above ``after`` and no key, in id order, given to ``then``: of
        those that this node holds. It may ask again and is given the same rows."""

    def find(self, kind: Kind, owner: str, keys: list[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        """The cold rows of one owner under these keys, in no order, some hundreds at the most. What nobody holds is found too,
        and is this node's from then on."""

    def expired(self, kind: Kind, now: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """Up to ``limit`` cold rows of one kind that expired before ``now`` (epoch seconds), oldest first. What nobody holds is
        claimed with them."""

    def walk(self, kind: Kind, after: Place, limit: int, then: Walked) -> None:
        """Up to ``limit`` cold rows of one kind behind a place, whoever owns them and whatever their key is, in an order of the
        store's own; ``then(rows, following)``: the place to go on from, None at the end. To begin with it is ("", b"", 0)."""

    def claim(
        self, kind: Kind, owner: str, ids: list[int] | None, limit: int, then: Callable[[list[ColdRow]], None]
    ) -> None:
        """Takes up to ``limit`` rows of one owner that nobody holds, these or the oldest: they are this node's from then on,
        and no other's. ``then`` gets those that it got. Where this node ends before it has done anything with them, they are
        its rows as others are. A store of one node has none."""

    def peek(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """Looks at rows of one owner that nobody holds, with ids above ``after``, in id order. They stay nobody's."""

    def unheld(self, then: Callable[[dict[tuple[int, str], int]], None]) -> None:
        """How many rows nobody holds, of each (kind, owner) that has some."""

    def count(self, kind: Kind, then: Callable[[dict[str, int]], None]) -> None:
        """How many cold rows of one kind each owner has. Takes some milliseconds for each 100,000."""

    def counts(self) -> dict[tuple[int, str], int]:
        """How many cold rows there are of each (kind, owner) that has some. Start-up only. A hint: where nodes share the rows,
        0 does not mean that there is nothing to ask for, nor another number that there still is."""

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """(segment, entries of one batch) in the order of commitment. A block that does not open is set aside, and told.
        Start-up only."""

    def highest_id(self) -> int:
        """The highest message id ever stored. Start-up only."""

    def opt_outs(self) -> Iterator[OptOut]:
        """The entries of the register, in order of their keys. Start-up only."""

    def doubts(self) -> int:
        """How many messages wait for a person. Start-up only."""


class Store(Spool, Protocol):
    """A store as the relay's housekeeping sees it."""

    @property
    def availability(self) -> Availability:
        """Whether it can be written to, as of the last commit or ``watch``."""

    def watch(self) -> None:
        """Called about once a second: looks whether the store can be written to, and commits what was refused once it can."""

    def open(self, sink: Sink, tenant: Tenant, new_id: Callable[[], int]) -> None:
        """Begins to commit, and tells ``sink`` how each batch ended; ``tenant`` lives in the spool. Once, when all is read
        back: ids come after the highest that was found. StoreError (a ``Fault``) where it cannot."""

    def tick(self, now: float) -> None:
        """The store's own housekeeping of the spool; about ten times a second. ``now``: monotonic seconds."""

    def tidy(self, then: Callable[[bool], None]) -> None:
        """Takes out what is over, and destroys the keys that nothing needs any more: what lives is written anew, in steps.
        then(complete) on the reactor thread: nothing that was over can be opened any more; False: there was no space."""

    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        """A number remembered by ``Batch.meta``; ``damaged`` (or the default) where what is stored is no number, which is set
        aside. Start-up only."""

    def begin_counter(self, counter: str, damaged: int) -> None:
        """Makes a counter ready for ``reserve``: it goes on where it stood, from 0 where it is new, from ``damaged`` where what
        is stored is no number, which is set aside. Start-up only."""

    def reserve(self, counter: str, count: int) -> int:
        """The first of ``count`` numbers in a row that nobody else is given, neither this node nor another, whatever is killed.
        That is durable with the current batch or before it, so what speaks of such a number belongs in that batch or a later
        one. A store that has to ask somebody else keeps a supply."""

    @property
    def unfiled(self) -> int:
        """Octets that are durable and that those who read the log from outside do not see yet."""

    @property
    def damaged(self) -> int:
        """How many items are set aside."""

    def look_at_damaged(self) -> None:
        """Counts what is set aside anew: an operator or a purge may have removed some."""
