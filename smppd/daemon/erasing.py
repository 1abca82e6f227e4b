"""Takes a person out of what is on its way, for commands: the running daemon is asked over its control socket; where none
runs, the relay is started without any connection, does the same, and ends.
"""

from __future__ import annotations

import heapq
import queue
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from itertools import count
from math import inf
from pathlib import Path
from random import Random
from threading import Event
from typing import Any, Final, NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.config import Settings
from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.daemon.answers import Listing
from smppd.daemon.control import RequestHandler
from smppd.daemon.errands import Answer, ErrandError, Handler, all_at_work, ask_all
from smppd.ids import Ids
from smppd.metrics import Metrics
from smppd.policy.pipeline import pipelines
from smppd.records.consistency import named_seals
from smppd.relay.erasing import Found, Kept
from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.relay.relay import Relay
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE, Installation
from smppd.store.opening import installation
from smppd.vault.chain import ChainKeys
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import Kek
from smppd.vault.keys import ERASED, REPLIES, KeyRing, load_install

PATIENCE: Final = 600.0
"""Seconds that a command waits for the daemon."""
FORMS: Final = 64
RECORDS: Final = 150
"""Ids in one request."""
ROUNDS: Final = 5
"""How often all nodes are asked at the most, until none finds anything more."""
BRIEF: Final = 60.0
"""Seconds that the purge of a daemon waits for the others; then it goes on, and asks again."""
_TICK: Final = 0.05
_KEPT: Final = 4


class Underway(NamedTuple):
    """What was found on its way. counts: by kind (`relay.erasing.Found`); records: ids that it belongs to; complete: nothing
    of it can be opened any more; holds: those that keep some of it as it is; reply_keys: of what is remembered for replies."""

    counts: dict[str, int]
    records: frozenset[int]
    complete: bool
    holds: frozenset[int] = frozenset()
    reply_keys: frozenset[bytes] = frozenset()


# -- the daemon's side -------------------------------------------------------------------------------------------------


def erase_requests(relay: Relay) -> dict[str, RequestHandler]:
    """The requests with which a command has the daemon erase: `erase` begins and gives a number, `erase state` says how far it
    is, `erase records` lists the records that were concerned, `erase replies` the keys of what was remembered for
    replies. The newest few are remembered."""
    jobs: dict[int, Found | None] = {}
    numbers = count(1)

    def begin(request: dict[str, Any], _uid: int) -> dict[str, object]:
        number = next(numbers)

        def over(found: Found) -> None:
            jobs[number] = found

        act = _act_of(relay, request)
        jobs[number] = None
        for old in sorted(jobs)[:-_KEPT]:
            if jobs[old] is not None:
                del jobs[old]
        act(over)
        return {"job": number}

    def found_of(request: dict[str, Any]) -> Found | None:
        number = request.get("job")
        if not isinstance(number, int) or number not in jobs:
            raise ControlError("the daemon does not know this erasure: it was started again; run the command again")
        return jobs[number]

    def state(request: dict[str, Any], _uid: int) -> dict[str, object]:
        found = found_of(request)
        if found is None:
            return {"over": False}
        return {"over": True, "complete": found.complete, "counts": found.counts(), "holds": sorted(found.holds)}

    def records(request: dict[str, Any], _uid: int) -> Listing:
        found = found_of(request)
        return Listing("records", (f"{one:016x}" for one in (found.records if found is not None else ())))

    def replies(request: dict[str, Any], _uid: int) -> Listing:
        found = found_of(request)
        return Listing("replies", (one.hex() for one in (found.reply_keys if found is not None else ())))

    return {"erase": begin, "erase state": state, "erase records": records, "erase replies": replies}


def erase_errands(relay: Relay) -> dict[str, Handler]:
    """The same for a command, or a purge, at another node's machine (`daemon.errands`)."""

    def erase(what: dict[str, Any], answer: Answer) -> None:
        _act_of(relay, what)(lambda found: answer(_said(found)))

    return {"erase": erase}


def _act_of(relay: Relay, request: dict[str, Any]) -> Callable[[Callable[[Found], None]], None]:
    """What a request asks for, to be called with who hears of the end. ControlError where it is none."""
    forms, accounts, records = request.get("forms"), request.get("accounts"), request.get("records")
    try:
        if records is not None:
            ids = [int(one, 16) for one in records]
            if not isinstance(records, list) or not 0 < len(records) <= RECORDS:
                raise ValueError
            return lambda over: relay.erase_records(ids, over)
        if not isinstance(forms, list) or not 0 < len(forms) <= FORMS:
            raise ValueError
        if accounts is not None and not (isinstance(accounts, list) and all(isinstance(a, str) for a in accounts)):
            raise ValueError
        octets = [bytes.fromhex(form) for form in forms]
        held = [_kept(one) for one in request.get("held", ())]
    except (TypeError, ValueError):
        raise ControlError("this is no request to erase") from None
    acts = request.get("acts") is True
    return lambda over: relay.erase_person(octets, accounts, over, acts=acts, held=held)


def _said(found: Found) -> dict[str, Any]:
    return {
        "counts": found.counts(),
        "records": [f"{one:x}" for one in found.records],
        "complete": found.complete,
        "holds": sorted(found.holds),
        "replies": [one.hex() for one in found.reply_keys],
    }


def _kept(said: object) -> Kept:
    """Out of a request. TypeError or ValueError where it is none."""
    if not isinstance(said, list):
        raise TypeError
    forms, account, since, until, hold = said
    if not isinstance(account, str) or not isinstance(hold, int):
        raise TypeError
    return Kept(
        frozenset(bytes.fromhex(form) for form in forms),
        account,
        float(since),
        inf if until is None else float(until),
        hold,
    )


# -- the command's side ------------------------------------------------------------------------------------------------


def erase_underway(
    settings: Settings,
    kek: Kek,
    forms: Collection[bytes],
    accounts: Collection[str] | None,
    *,
    acts: bool,
    held: Sequence[Kept] = (),
) -> Underway:
    """Takes a person out of what is on its way, or only looks (`acts`). held: what stays, because of holds.
    Raises ControlError, StoreError and VaultError: then
    it is to be run again."""
    store = installation(settings)
    if not store.has_log():
        return Underway({}, frozenset(), True)
    request = _person(forms, accounts, acts, held)

    def act(relay: Relay, over: Callable[[Found], None]) -> None:
        relay.erase_person(forms, accounts, over, acts=acts, held=held)

    def here() -> Underway:
        try:
            store.lock().release()
        except StoreError:
            return _asked(store.directory, request)
        return offline(settings, store, kek, act)

    return _everywhere(store, kek, request, here, acts=acts)


def _everywhere(
    store: Installation, kek: Kek, request: dict[str, Any], here: Callable[[], Underway], *, acts: bool
) -> Underway:
    """At every node: things move between nodes while it lasts, so it is done until no node finds anything, and none has begun
    or ended meanwhile."""
    if not store.others():
        return here()
    sealer = _sealer(store, kek)
    found: Underway | None = None
    for _ in range(ROUNDS):
        nodes = all_at_work(store)
        answers = (here(), *map(_underway, ask_all(store, sealer, nodes, request, PATIENCE).values()))
        nothing = not any(number for one in answers for name, number in one.counts.items() if name != "kept")
        same = all_at_work(store) == nodes
        found = _joined(found, answers)
        if same and (nothing or not acts):
            return found
    raise ErrandError("nodes begin and end all the time, or what is to be erased comes again and again: run it again")


def _sealer(store: Installation, kek: Kek) -> DocumentSealer:
    with closing(store.read_only_keys()) as rows:
        return DocumentSealer(load_install(kek, rows))


def _joined(before: Underway | None, answers: Sequence[Underway]) -> Underway:
    """What all nodes have found in this round, and in those before it."""
    every = answers if before is None else (before, *answers)
    counts: Counter[str] = Counter()
    for one in every:
        counts.update(one.counts)
    if any("kept" in one.counts for one in every):
        counts["kept"] = sum(one.counts.get("kept", 0) for one in answers)  # they stay, and are found in each round
    return Underway(
        dict(counts),
        frozenset().union(*[one.records for one in every]),
        all(one.complete for one in answers),
        frozenset().union(*[one.holds for one in every]),
        frozenset().union(*[one.reply_keys for one in every]),
    )


def _underway(said: dict[str, Any]) -> Underway:
    """What another node has answered."""
    return Underway(
        {str(name): int(number) for name, number in said["counts"].items()},
        frozenset(int(one, 16) for one in said["records"]),
        said["complete"] is True,
        frozenset(map(int, said["holds"])),
        frozenset(map(bytes.fromhex, said["replies"])),
    )


def erase_underway_of(settings: Settings, store: Installation, kek: Kek, records: Collection[int]) -> Underway:
    """The same of what belongs to some records, in a store that no daemon uses."""
    return offline(settings, store, kek, lambda relay, over: relay.erase_records(records, over))


def finish_underway(settings: Settings, kek: Kek, records: Sequence[int]) -> bool:
    """Takes out of what is on its way what belongs to records that no hold keeps any longer; whether nothing of it can be
    opened now. Raises as `erase_underway`."""
    store = installation(settings)

    def here(some: Sequence[int]) -> Underway:
        try:
            store.lock().release()
        except StoreError:
            return _asked(store.directory, _of_records(some))
        return erase_underway_of(settings, store, kek, some)

    def everywhere(some: Sequence[int]) -> bool:
        return _everywhere(store, kek, _of_records(some), lambda: here(some), acts=True).complete

    pages = [list(records[at : at + RECORDS]) for at in range(0, len(records), RECORDS)]
    done = [everywhere(some) for some in pages]  # each is asked for, whatever the one before said
    return all(done)


class Finisher:
    """The same inside the daemon, for its purge: asked again until it says that it is done. `relay` is on the reactor's
    thread, to which `call` hands a function."""

    def __init__(
        self,
        relay: Relay,
        call: Callable[[Callable[[], None]], object],
        store: Installation | None = None,
        sealer: DocumentSealer | None = None,
    ) -> None:
        """store, sealer: with which the other nodes are asked too; None where there are none."""
        self._relay = relay
        self._call = call
        self._store = store
        self._sealer = sealer
        self._asked: dict[int, bool] = {}
        """Number of an erasure -> whether it is done."""

    def __call__(self, number: int, records: Sequence[int]) -> bool:
        if self._asked.get(number):
            del self._asked[number]
            return self._at_others(records)
        if number not in self._asked:
            self._asked[number] = False
            self._call(lambda: self._relay.erase_records(records, lambda found: self._over(number, found)))
        return False

    def _at_others(self, records: Sequence[int]) -> bool:
        """In the purge's thread."""
        if self._store is None or self._sealer is None or not self._store.others():
            return True
        try:
            nodes = all_at_work(self._store, 0.0)
            for at in range(0, len(records), RECORDS):
                request = _of_records(records[at : at + RECORDS])
                answers = ask_all(self._store, self._sealer, nodes, request, BRIEF)
                if not all(_underway(one).complete for one in answers.values()):
                    return False
            return all_at_work(self._store, 0.0) == nodes
        except ErrandError:
            return False  # it is asked again

    def _over(self, number: int, found: Found) -> None:
        if found.complete:
            self._asked[number] = True
        else:
            self._asked.pop(number, None)  # there was no space: the purge asks again


def _finite(at: float) -> float | None:
    return None if at == inf else at


def _of_records(records: Sequence[int]) -> dict[str, Any]:
    return {"do": "erase", "records": [f"{one:x}" for one in records]}


def _person(
    forms: Collection[bytes], accounts: Collection[str] | None, acts: bool, held: Sequence[Kept]
) -> dict[str, Any]:
    return {
        "do": "erase",
        "forms": [form.hex() for form in forms],
        "accounts": None if accounts is None else sorted(accounts),
        "acts": acts,
        "held": [
            (sorted(form.hex() for form in one.forms), one.account, one.since, _finite(one.until), one.hold)
            for one in held
        ],
    }


def _asked(directory: Path, request: dict[str, Any]) -> Underway:
    job = {"job": ask(directory, request)["job"]}
    deadline, wait = time.monotonic() + PATIENCE, Event()
    while not (told := ask(directory, {"do": "erase state", **job}))["over"]:
        if time.monotonic() > deadline:
            raise ControlError(
                f"the daemon did not erase what is on its way within {PATIENCE:.0f} s: run the command again"
            )
        wait.wait(_TICK)
    records = ask(directory, {"do": "erase records", **job})["records"]
    replies = ask(directory, {"do": "erase replies", **job})["replies"] if told["counts"].get("replies") else []
    return Underway(
        told["counts"],
        frozenset(int(one, 16) for one in records),
        told["complete"],
        frozenset(told["holds"]),
        frozenset(map(bytes.fromhex, replies)),
    )


def offline(
    settings: Settings, installed: Installation, kek: Kek, act: Callable[[Relay, Callable[[Found], None]], None]
) -> Underway:
    """Starts the relay on a store without any connection, has it erase, and ends it as the daemon ends. Raises StoreError and
    VaultError."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    timers: list[tuple[float, int, Callable[[], None]]] = []
    order = count()

    def later(seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(timers, (time.monotonic() + seconds, next(order), call))

    store = installed.store(notify=calls.put, later=later, soon=calls.put)
    try:
        install = load_install(kek, store.keys)
        ring = KeyRing(kek, store.keys)
        store.use(ring)
        store.chain_keys = ChainKeys(install.audit, install.checkpoint)
        trail_file = installed.directory / AUDIT_FILE
        if trail_file.exists():
            with AuditTrail(trail_file, install.audit) as trail:
                store.named = max((number for number, _digest in named_seals(trail)), default=0)
        broken: list[str] = []
        relay = Relay(
            settings,
            store,
            ring,
            Metrics(),
            pipelines=pipelines(settings),
            ids=Ids(time.time, settings.node, store.highest_id()),
            wall=time.time,
            now=time.monotonic,
            later=later,
            random=Random(1),  # jitter of pauses, of which there is none
            broken=broken.append,
            reply_secret=install.for_purpose(REPLIES),
            erased_secret=install.for_purpose(ERASED),
        )
        store.lifetime = relay.lifetime
        relay.begin()
        found: list[Found] = []
        act(relay, found.append)
        deadline = time.monotonic() + PATIENCE
        while not found and not broken and time.monotonic() < deadline:
            while timers and timers[0][0] <= time.monotonic():
                heapq.heappop(timers)[2]()
            store.tick(time.monotonic())
            if store.takes:
                store.kick()
            try:
                calls.get(timeout=_TICK)()
                while True:
                    calls.get_nowait()()
            except queue.Empty:
                pass
        if broken or not found:
            why = broken[0] if broken else "it takes too long"
            raise StoreError(f"{installed.name}: what is on its way could not be erased: {why}")
        done = found[0]
    finally:
        store.close(LivingEntries(readable))
    return Underway(done.counts(), frozenset(done.records), done.complete, done.holds, frozenset(done.reply_keys))
