"""The store of one installation for whoever opens parts of it: commands, the console, the daemon, the processes beside it.

Which back end has it, they do not know: `store.opening` makes an `Installation` of the settings, and each part is one of the
protocols beside this file. A part is opened on connections of its own, for one thread, and closed by whoever opened it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from smppd.store.api import Doubt, Kind, OptOut, Store
from smppd.store.consents import Consents
from smppd.store.copying import Side
from smppd.store.damaged import DamagedItems
from smppd.store.documents import Documents
from smppd.store.erasures import ErasureRows, Waiting
from smppd.store.holds import HeldRows
from smppd.store.log import IndexRows, PurgeRows, Records, States
from smppd.store.nodes import Nodes
from smppd.store.seals import TakenUp
from smppd.store.tidy import DONE, Compacted, Entries
from smppd.store.underway import Underway
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing, KeyRows

OPT_OUTS: Final = "opt-outs"
CONSENTS: Final = "consents"
SUSPENSIONS: Final = "suspensions"
ACTS: Final = "acts"
"""Topics of what nodes tell each other that they share (`Installation.tell`, `store.nodes.Nodes.tell`)."""
AUDIT_FILE: Final = "audit.db"
"""In `Installation.directory`: the audit trail, a file of this node whatever back end has the store."""
RESTORED: Final = "restored"
"""Name in `Store.meta` of the highest id that an older copy of the store knew, which was put back (`Installation.restored`)."""
TIDIED: Final = DONE
"""Name in `Store.meta` of the last request to tidy (`Installation.ask_tidy`) that the daemon has done."""


class StoredKeys(KeyRows, Protocol):
    """The wrapped keys of an installation, each call durable when it returns."""

    def close(self) -> None:
        """Lets the keys go."""


class OptOutRows(Protocol):
    """The register of opt-outs as it is stored, and what waits for a person. For one thread; every method raises StoreError."""

    def count(self) -> int:
        """How many entries there are."""

    def get(self, key: bytes) -> OptOut | None:
        """The entry under a key."""

    def all(self) -> Iterator[OptOut]:
        """All entries in order of their keys, in short reads."""

    def version(self) -> str:
        """Another one with each change that another node, or a command beside it, has made. Cheap."""

    def doubts(self) -> list[Doubt]:
        """What waits for a person, oldest first."""

    def write(self, changes: Sequence[OptOut], decided: Sequence[int]) -> None:
        """Writes changes, durable when this returns. Only where no daemon runs: it has the register in memory."""

    def close(self) -> None:
        """Lets the register go."""


class OtherNode(NamedTuple):
    """Another node of the store. epoch: another one after each start and take-over; at_work: a daemon has its place; holds: it
    has something on its way, which nobody else has. heir: the node that took it over, None for none."""

    number: int
    epoch: int
    at_work: bool
    holds: bool
    heir: int | None = None


class StoreLock(Protocol):
    """What only one process has, the daemon or a command in its place. Released when the process ends, however it ends."""

    def release(self) -> None:
        """Lets the store go."""


# -- the store of a daemon -----------------------------------------------------------------------------------------------


class LogSeals(Protocol):
    """The seals of the log in one run."""

    @property
    def row(self) -> int:
        """The newest row that is durable."""


class LongStart(NamedTuple):
    """For a start that may take long. entries(): the grammar of the journal, with which what is over is taken out before the
    replay; still(): called again and again while the journal and the register are read."""

    entries: Callable[[], Entries]
    still: Callable[[], object]


class MainStore(Store, Protocol):
    """The store in the one process that writes it. For the reactor thread.

    Its life: made by `Installation.store`, `use`, all that `Spool` and `Store` say is for the start-up only, `open`, `close`.
    on_commit_time(seconds, records): told of each batch that was stored. on_damage(kind, owner, id, why): of each cold row
    that does not open, once; on_start_damage(what, id, why): of what was set aside at the start. lifetime(owner): seconds for
    which what is damaged may be kept, by the account, lane or upstream it belongs to; called in any thread. chain_keys, named
    (the highest seal that the audit trail names): set before `open`, by who wants the log sealed.
    """

    on_commit_time: Callable[[float, int], None]
    on_damage: Callable[[Kind, str, int, str], None]
    on_start_damage: Callable[[str, int, str], None]
    lifetime: Callable[[str], float]
    chain_keys: ChainKeys | None
    named: int

    @property
    def keys(self) -> KeyRows:
        """The wrapped keys; what is new among them is durable before anything that is handed to the store after it."""

    @property
    def commits(self) -> int:
        """How many batches were stored."""

    @property
    def busy(self) -> bool:
        """Whether something is not durable yet."""

    @property
    def alive(self) -> bool:
        """Whether what writes it is at work."""

    @property
    def taken_up(self) -> TakenUp:
        """What `open` found."""

    @property
    def seals(self) -> LogSeals | None:
        """None where the log is not sealed."""

    @property
    def sealed(self) -> tuple[int, bytes]:
        """(number, hash) of the newest durable seal of the log; (0, zeros) for none."""

    def use(self, ring: KeyRing) -> None:
        """The keys to open and seal the spool with; before the replay. Raises StoreError."""

    def compact(self, entries: Entries, most: int | None = ...) -> Compacted:
        """See `tidy.compact`; after `use`, and before `open` or at the end. most: cold rows that are sealed anew for it, None
        for all. Raises StoreError."""

    def seal_when_due(self) -> None:
        """Called about once a second: where no commit carries a seal, one is made without."""

    def close(self, entries: Entries | None = None) -> None:
        """Ends after what was handed to it. entries: takes out what is over first."""


# -- the whole -----------------------------------------------------------------------------------------------------------


class Installation(Protocol):
    """See the module. What opens a part raises StoreError where there is no store, or where it cannot be used.

    Commands see what the daemon has acknowledged, though it may not be filed yet: what opens the log, what is on its way or the
    keys to be changed calls `settled` first, where the installation was opened for commands (`store.opening`).
    """

    @property
    def name(self) -> str:
        """What sentences to people call the store: a path, or a URL, never with a password in it."""

    @property
    def directory(self) -> Path:
        """What stays on this machine whatever has the store: audit trail, control socket, certificates, compiled lists,
        traces, the places up to which feed and shipping have come."""

    @property
    def keys_name(self) -> str:
        """The same of what has the keys."""

    # -- whether it is there -------------------------------------------------------------------------------------------

    def has_keys(self) -> bool:
        """Whether there is a key store: `smppd keys init` has run."""

    def has_log(self) -> bool:
        """Whether a daemon has run on it."""

    def has_documents(self) -> bool:
        """Whether it may have documents: it is of a version that keeps some. Raises StoreError."""

    def keys_lost(self) -> str:
        """A sentence that says what to do where there is a log and the keys are gone; empty where they are not."""

    def being_shredded(self) -> bool:
        """Whether `smppd keys shred` has begun: nothing of the store is what it was."""

    def closed(self, *, daemon: bool) -> str:
        """A sentence that says why nobody may use it, since it was copied elsewhere or is a copy that is not complete
        (`store.copying`); empty where it may be used. daemon: by a daemon. Raises StoreError."""

    def side(self) -> Side:
        """The whole of it, for who copies it. Raises StoreError."""

    def check(self) -> None:
        """Raises StoreError where there is a log that this version cannot read, or where the store cannot be reached. Changes
        nothing."""

    def was_used(self) -> bool:
        """Whether a daemon of this machine was ever started on it."""

    def in_use(self) -> bool:
        """Whether a daemon of this machine uses it."""

    def others(self) -> list[OtherNode]:
        """The other nodes of the store, in order. Cheap."""

    def tell(self, topic: str) -> None:
        """Tells the daemons of the other nodes that something they share has changed (`store.nodes.Nodes.tell`). Where it
        cannot be told they find out by themselves."""

    def lock(self) -> StoreLock:
        """Keeps a daemon of this machine from starting. Raises StoreError where one runs."""

    def settled(self) -> bool:
        """Waits for a daemon that runs until whoever reads finds all that was acknowledged before. False where it does not get
        to it, or where none runs and one that was killed has left something (`file_rest`). Not on the daemon's reactor thread.
        Raises StoreError."""

    def file_rest(self, kek: Kek) -> None:
        """Brings what a killed daemon has acknowledged to where it is read. The caller has the `lock`. Raises StoreError and
        VaultError."""

    def restored(self, highest: int, skipped: int) -> None:
        """Where no daemon runs: what is stored is an older copy of it, in which no id is above ``highest``. Messages up to it
        that are on their way may have been sent since, and so many short ids may have been given out: they are skipped."""

    # -- keys ----------------------------------------------------------------------------------------------------------

    def keys(self) -> StoredKeys:
        """The wrapped keys; makes the key store where there is none."""

    def read_only_keys(self) -> StoredKeys:
        """The same, only to be read."""

    # -- the log -------------------------------------------------------------------------------------------------------

    @property
    def node(self) -> int:
        """The number of this node, whose chain and whose log it is where nothing else is said."""

    def records(self, of: int | None = None) -> Records:
        """The sealed log, only to be read: of all nodes or, ``of`` a node, what that one wrote."""

    def index(self) -> IndexRows:
        """The log for who builds its indexes."""

    def purge(self) -> PurgeRows:
        """The log and its keys for who destroys what is over."""

    def erasures(self) -> ErasureRows:
        """The erasure journal, and the log for who erases."""

    def waiting_erasures(self) -> list[Waiting]:
        """What of the erasure journal still waits, in order; none where the store is of a version before there was one."""

    def states(self, of: int | None = None) -> States:
        """What the parts of the store say of each other, of this node or another one. Opens nothing before it is asked."""

    def witness(self, keys: ChainKeys, number: int, digest: bytes) -> None:
        """Tells the store that the audit trail has this entry (number and hash), so that a trail without it is found out."""

    # -- what is on its way --------------------------------------------------------------------------------------------

    def underway(self, ring: KeyRing) -> Underway:
        """What is on its way, only to be read. ring: over `read_only_keys`, since the daemon makes new ones."""

    def damaged(self, *, read_only: bool) -> DamagedItems:
        """What could not be handled and was set aside."""

    # -- what stands beside messages -----------------------------------------------------------------------------------

    def documents(self) -> Documents:
        """Sealed documents: operators, holds, what is suspended."""

    def held(self) -> HeldRows:
        """What holds keep."""

    def consents(self) -> Consents:
        """The register of consents."""

    def opt_outs(self, *, read_only: bool = True) -> OptOutRows:
        """The register of opt-outs. read_only: False only where no daemon runs."""

    # -- the daemon's --------------------------------------------------------------------------------------------------

    def store(
        self,
        *,
        notify: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], Any],
        soon: Callable[[Callable[[], None]], object],
        reserve: int = 0,
        start: LongStart | None = None,
    ) -> MainStore:
        """Opens it to be written, by one process alone: StoreError where another has it. ``notify(function)`` runs a function
        on the reactor thread; ``later(seconds, function)`` runs one there after a time, ``soon(function)`` at the end of this
        turn. reserve: octets of its disk to be left free, where the disk is this machine's. start: None where there is nobody
        to be told that it takes long; nothing is taken out of the spool then."""

    def nodes(self, store: MainStore, ring: KeyRing, notify: Callable[[Callable[[], None]], object]) -> Nodes | None:
        """The nodes that work on the same store, as this one has them; None where there can be no other. store: as `store` made
        it; ring: what it uses; notify: as for the store. Nothing is connected before `Nodes.start`, which comes soon after
        `MainStore.open`; `Nodes.leave` and `stop` come after `MainStore.close`."""

    def ask_tidy(self, seconds: float) -> bool:
        """Asks the daemon that uses the store to tidy its spool, and waits so long for it; whether it has."""

    def tidy_thread(
        self, stop: threading.Event, wanted: Callable[[int], object], failed: Callable[[str], object]
    ) -> threading.Thread:
        """The daemon's side of it, not started: calls ``wanted(token)`` in this thread when somebody asks, with 0 now and then
        unasked. The daemon answers by putting (`TIDIED`, token) into a batch. failed(reason): what is wrong; it goes on. Set
        ``stop``, then join."""

    def leave_whole(self) -> None:
        """After the daemon's end: nothing of the store lies beside its files any more. Raises StoreError and OSError."""
