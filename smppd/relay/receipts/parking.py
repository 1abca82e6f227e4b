"""Parks receipts whose message is not known yet: they are kept on disk and in memory for 72 hours, and found again by the
ids that they name.

Their message may be found among the cold rows, or be known when the carrier's answer names its id, or be an unknown one
whose addresses fit. Their number and octets are bounded, and so is how many of them are looked at for one message.

Where several nodes share the store their message may be at another one. So they are rows that nobody holds, and each node looks
at those of the others. A node that has a message for one claims it first: whoever gets it settles, the others forget it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final

from smppd.protocol.receipt_ids import canonical, readings
from smppd.protocol.wire import Sm
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import LINK, RECEIPT, ROWS, START, SWEEP
from smppd.relay.ledger.ledger import parked_row
from smppd.relay.ledger.payload import read_parked
from smppd.relay.receipts.matching import YES, Reading, believed, best_match, find_message, read_receipt, row_keys
from smppd.relay.receipts.rewrite import NOBODY, bare_receipt, check_rewritable
from smppd.relay.restore import restored_waiting
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.unanswered import only_unknown
from smppd.relay.state.addresses import address_pairs, address_tail, names_number
from smppd.relay.state.model import Message, Parked, UpstreamState
from smppd.relay.state.phase import Phase
from smppd.store.api import ColdRow, Kind

PARK: Final = 72 * 3600
# So many receipts of one upstream may be parked. At the limit the oldest is given up, which is counted and logged.
PARKED: Final = 100_000
# Parked receipts of one id, or between two addresses, that are looked at for one message.
_LOOKED_AT: Final = 64
# Stands in the record for the upstream id of a message whose carrier named none. No carrier's id looks like this.
NAMELESS: Final = b"(no id)"
# Rows under one id that are read back whole for one receipt.
_REVIVED: Final = 32
# Seconds for which a receipt is left to the node that knows its id, be it dead and not taken over yet, before an unknown
# message may have it that fits by its addresses alone.
ELSEWHERE: Final = 15
# Parked receipts that are tried at the start before others get a turn.
_STEP: Final = 500
# Rows that nobody holds which are looked at in one step.
_PEEKED: Final = 200
# Rows beyond the limit that are ended in one sweep.
EXCESS: Final = 10_000


class _Peek:
    """A look at the rows of one upstream that nobody holds. ``after``: those with ids above it are to be looked at. ``due``:
    there are some. ``before``, ``seen``: in a look at all of them, those that were known when it began, and those that are
    there."""

    __slots__ = ("after", "asking", "before", "due", "seen")

    def __init__(self) -> None:
        self.after = 0
        self.asking = False
        self.due = False
        self.before: list[Parked] | None = None
        self.seen: set[int] = set()


class Parking:
    """See the module. ``settle(upstream, message, sm, reading)`` passes a receipt on. ``most``: receipts of one upstream.
    ``excess``: of those beyond that which are rows, how many are ended with a sweep. ``alone``: no other node is there.
    ``has_rows``: there was a receipt as a row."""

    def __init__(
        self,
        context: Context,
        dispatch: Dispatch,
        settle: Callable[[UpstreamState, Message, Sm, Reading], None],
    ) -> None:
        self._context = context
        self._dispatch = dispatch
        self._settle = settle
        self.most = PARKED
        self.excess = EXCESS
        self.alone = True
        self.has_rows = False
        self._sharing = False
        self._peeks: dict[UpstreamState, _Peek] = {}
        self._known: dict[UpstreamState, list[Parked]] = {}
        self._searching: dict[UpstreamState, bool] = {}
        self._young: deque[Parked] = deque()  # looked at since less than that
        self._over: dict[UpstreamState, list[int]] = {}  # rows that nobody holds, beyond the limit

    # -- in and out ----------------------------------------------------------------------------------------------------

    def park_receipt(self, upstream: UpstreamState, sm: Sm, reading: Reading) -> None:
        """Parks a receipt whose message is not in memory: the message is older, or not known yet, or there is none. The
        receipt is stored first and its message searched afterwards, so that the acknowledgement does not wait for the
        search. Errors that its content can cause are provoked before it becomes durable (``check_rewritable``)."""
        check_rewritable(sm, reading)
        self._park(upstream, sm.raw, sm, reading, False)

    def park_bare(self, upstream: UpstreamState, sm: Sm, reading: Reading, source: bool, destination: bool) -> None:
        """Parks a receipt from or to a person who was erased, without both addresses and without what it says of the text: a
        message that was sent since then may still get its id, and what says nothing of addresses is matched by its id alone.
        One whose id is made of the number is kept for a search among the cold rows only, and given up if that finds nothing.
        ``source``, ``destination``: which of them was erased."""
        check_rewritable(sm, reading)
        erased = [one for one, gone in ((sm.source_digits, source), (sm.destination_digits, destination)) if gone]
        named = any(names_number(name, digits) for name in reading.ids for digits in erased)
        frame = bare_receipt(sm, NOBODY, NOBODY)
        if (named and not upstream.may_be_row) or not read_receipt(Sm(frame)).ids:
            self._context.metrics.receipts.labels(upstream.name, "erased").inc()
            return
        self._park(upstream, frame, sm, reading, named)

    def _park(self, upstream: UpstreamState, frame: bytes, sm: Sm, reading: Reading, named: bool) -> None:
        """``frame``: what is kept of the receipt ``sm``. ``named``: not beyond the search among the cold rows."""
        context = self._context
        parked = Parked(context.new_id(), upstream, (), frame, int(context.wall()) + PARK)
        try:
            self._into_memory(parked, Sm(frame), reading)
            if self.alone:
                context.ledger.open(parked, kept=True)
            else:
                self._share(parked)
        except Exception:
            upstream.forget_parked(parked)
            raise
        context.metrics.receipts.labels(upstream.name, "parked").inc()
        context.log_counts.count(log_counts.PARKED, upstream.name)
        if upstream.may_be_row:
            self._search(parked, sm, reading, named)
        self._keep_to_limits(upstream)

    def _keep_to_limits(self, upstream: UpstreamState) -> None:
        while upstream.parked and self._is_full(upstream):
            oldest = next(iter(upstream.parked.values()))
            if oldest.shared:
                self._forget(oldest)
                if oldest.stored:  # else when it is
                    self._over.setdefault(upstream, []).append(oldest.id)
            else:
                self._give_up(oldest, log_counts.GIVEN_UP_LIMIT)

    def _is_full(self, upstream: UpstreamState, more: int = 0) -> bool:
        """Whether there are more than so many receipts of an upstream, or would be with ``more`` of them."""
        return len(upstream.parked) + more > self.most or upstream.parked_octets > self._context.parked_limit

    def restore_parked(self, parked: Parked) -> None:
        """Takes a receipt into memory that was read back from the journal. Raises what reading it raises."""
        sm = Sm(parked.frame)
        self._into_memory(parked, sm, read_receipt(sm))

    def _into_memory(self, parked: Parked, sm: Sm, reading: Reading) -> None:
        upstream = parked.upstream
        found: dict[bytes, None] = {}
        for named in reading.ids:
            if upstream.matcher.alike:
                found.update(dict.fromkeys((named, *readings(named))))
            else:
                found.update(dict.fromkeys(key for _, key in upstream.matcher.candidates(named)))
        if sm.source_digits or sm.destination_digits:
            # It is found by its addresses too. Their keys begin with NUL, which no id contains.
            found.update(dict.fromkeys(b"\0" + pair for pair in address_pairs(sm)))
        upstream.note_parked(parked, tuple(found))

    def _unpark(self, parked: Parked) -> None:
        context = self._context
        parked.done = True
        parked.upstream.forget_parked(parked)
        context.ledger.close(parked)
        context.store.kick()

    def remove(self, parked: Parked) -> None:
        """A parked receipt is not to be kept any longer."""
        self._unpark(parked)

    def _give_up(self, parked: Parked, why: log_counts.LogLine) -> None:
        self._unpark(parked)
        self._context.metrics.receipts.labels(parked.upstream.name, "unmatched").inc()
        self._context.log_counts.count(why, parked.upstream.name)

    def set_aside(self, parked: Parked, error: Exception, place: str = RECEIPT) -> None:
        """Sets a parked receipt aside that cannot be handled."""
        upstream = parked.upstream
        if parked.shared and parked.stored:
            self._forget(parked)
            self._claim_aside(upstream, parked.id, error)
            return
        self._context.guard.keep_damaged(place, error, "frame", upstream.name, parked.id, parked.frame)
        if not parked.done or upstream.parked.get(parked.id) is parked:
            self._unpark(parked)

    # -- their message turns up ----------------------------------------------------------------------------------------

    def _pass_on(self, parked: Parked, message: Message, sm: Sm, reading: Reading) -> bool:
        """Settles a message with a parked receipt; whether that was possible. One that nobody holds is claimed first."""
        if parked.shared:
            self._want(parked)
            return False
        try:
            self._settle(parked.upstream, message, sm, reading)
            self._unpark(parked)
        except Exception as error:  # noqa: BLE001  the item's edge
            self.set_aside(parked, error)
            return False
        parked.upstream.matched.inc()
        return True

    def find_rows(self, upstream: UpstreamState, keys: list[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        """The rows of messages that wait for a receipt, under these keys. What nobody held is this node's, and counted."""
        context = self._context

        def found(rows: list[ColdRow]) -> None:
            for row in rows:
                if row.shared:
                    upstream.claimed()
            then(rows)

        context.store.find(Kind.WAITING, upstream.name, keys, context.guarded_rows(found))

    def _search(self, parked: Parked, sm: Sm, reading: Reading, named: bool = False, claimed: bool = False) -> None:
        """Looks for its message among the cold rows, by all that the carrier wrote (``sm``). ``named``: see ``_park``.
        ``claimed``: it goes back to nobody where there is no message."""
        upstream = parked.upstream
        wanted = row_keys(upstream, reading)
        if wanted:
            self.find_rows(upstream, wanted, lambda rows: self._found(parked, rows, sm, reading, named, claimed))
        elif claimed:
            self._share_again(parked)

    def _found(
        self, parked: Parked, rows: list[ColdRow], sm: Sm, reading: Reading, named: bool, claimed: bool = False
    ) -> None:
        if parked.done:
            return
        upstream = parked.upstream
        try:
            message = self.message_of_rows(upstream, reading, sm, rows) or find_message(upstream, reading, sm)
            if parked.shared and message is None and self._may_be_unknown(parked, sm):
                self._want(parked)
                return
            # It is about no message that is known: then it may be about an unknown one.
            if message is None and not parked.shared and self._is_nobodys(parked):
                message = self.unknown_message_of(upstream, sm, reading, self._context.now())
        except Exception as error:  # noqa: BLE001  the item's edge
            self.set_aside(parked, error)
            return
        if message is not None and not parked.done:
            self._pass_on(parked, message, sm, reading)
            self._context.flush()
        elif named and not parked.done:
            self._unpark(parked)
            self._context.metrics.receipts.labels(upstream.name, "erased").inc()
        elif claimed and not parked.done:
            self._share_again(parked)

    def message_of_rows(
        self, upstream: UpstreamState, reading: Reading, sm: Sm, rows: list[ColdRow], but: int = 0
    ) -> Message | None:
        """The message among cold rows that a receipt is about, but not the one with the id ``but``."""
        messages = []
        alive = [row for row in self._context.ledger.alive(rows) if row.id != but]
        if len(alive) > _REVIVED:
            # A carrier that gives one id to many messages: only rows whose octets hold both addresses are read.
            one, other = address_tail(sm.source_digits), address_tail(sm.destination_digits)
            times = 2 if one == other else 1
            alive = [row for row in alive if other in row.data and row.data.count(one) >= times] or alive
        del alive[_REVIVED:]
        for row in alive:
            try:
                messages.append(restored_waiting(self._context, row))
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.set_waiting_row_aside(row, error)
        for given, number in Counter([message.upstream_id for message in messages]).items():
            if number > 1:
                upstream.note_reused_id(given)
        return best_match(upstream, reading, sm, messages)

    def upstream_id_known(self, message: Message) -> None:
        """A message has just got its upstream id. Receipts that wait for it are passed on, in the order in which they
        came."""
        upstream = message.upstream
        assert upstream is not None
        waiting: dict[int, Parked] = {}
        for key in dict.fromkeys((message.upstream_id, canonical(message.upstream_id))):
            waiting.update(islice(upstream.parked_keys.get(key, {}).items(), _LOOKED_AT))
        for parked in sorted(waiting.values(), key=lambda one: one.id):
            if not message.awaits_receipt:
                return
            try:
                sm = Sm(parked.frame)
                reading = read_receipt(sm)
                sure = any(believed(upstream, named, sm, message)[0] == YES for named in reading.ids)
            except Exception as error:  # noqa: BLE001  the item's edge
                self.set_aside(parked, error)
                continue
            if sure:
                self._pass_on(parked, message, sm, reading)

    def unknown_message_of(self, upstream: UpstreamState, sm: Sm, reading: Reading, now: float) -> Message | None:
        """The unknown message that a receipt is about, where its id was never seen and its addresses fit exactly one: the
        carrier took that message after all, and this is its upstream id. None where there is no such message, or where
        nobody asked for its receipt."""
        if not upstream.unknown or not (sm.source_digits or sm.destination_digits):
            return None
        message = only_unknown(upstream, sm)
        if message is None:
            return None
        self._dispatch.carrier_took(upstream, message, reading.ids[0] if reading.ids else NAMELESS, now)
        return None if message.phase is Phase.DONE else message  # DONE: nobody asked for its receipt

    def became_unknown(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """Messages became unknown. The receipt of one of them may be parked already."""
        for unknown in messages:
            if unknown.id not in upstream.unknown or not upstream.parked:
                continue
            waiting: dict[int, Parked] = {}
            try:
                for pair in address_pairs(Sm(unknown.frame)):
                    near = upstream.parked_keys.get(b"\0" + pair)
                    if near:
                        waiting.update(islice(reversed(near.items()), _LOOKED_AT))
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(LINK, error, unknown)
                continue
            for parked in sorted(waiting.values(), key=lambda one: -one.id):
                if parked.id < unknown.id:
                    break  # from here on all came before it was sent
                try:
                    sm = Sm(parked.frame)
                    reading = read_receipt(sm)
                    if parked.shared:
                        if self._may_be_unknown(parked, sm):
                            self._want(parked)
                        continue
                    message = self.unknown_message_of(upstream, sm, reading, now)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self.set_aside(parked, error)
                    continue
                if message is not None and not parked.done:
                    self._pass_on(parked, message, sm, reading)
                if unknown.id not in upstream.unknown:
                    break

    def resume_searches(self) -> None:
        """After a restart: searches the messages of parked receipts again, some hundreds at a time."""
        self._resume_all([one for upstream in self._context.upstreams.values() for one in upstream.parked.values()])

    def _resume_all(self, waiting: list[Parked], then: Callable[[], None] = lambda: None) -> None:
        def some(begin: int) -> None:
            for parked in waiting[begin : begin + _STEP]:
                if not parked.done:
                    try:
                        self._resume(parked)
                    except Exception as error:  # noqa: BLE001  the item's edge
                        self.set_aside(parked, error, START)
            if begin + _STEP < len(waiting):
                self._context.later(0.0, lambda: some(begin + _STEP))
            else:
                then()
            self._context.store.kick()

        some(0)

    def _resume(self, parked: Parked) -> None:
        upstream = parked.upstream
        sm = Sm(parked.frame)
        reading = read_receipt(sm)
        message = find_message(upstream, reading, sm, sure=upstream.may_be_row)
        if message is not None:
            self._pass_on(parked, message, sm, reading)
        elif upstream.may_be_row:
            self._search(parked, sm, reading)
        elif parked.shared and self._may_be_unknown(parked, sm):
            self._want(parked)

    def _is_nobodys(self, parked: Parked) -> bool:
        """Whether no other node has said in time that it knows the id of a receipt."""
        return self.alone or self._context.wall() >= parked.expires - PARK + ELSEWHERE

    def _may_be_unknown(self, parked: Parked, sm: Sm) -> bool:
        """Whether a receipt is about an unknown message of this node, as far as its addresses say."""
        upstream = parked.upstream
        return (
            bool(upstream.unknown)
            and bool(sm.source_digits or sm.destination_digits)
            and self._is_nobodys(parked)
            and only_unknown(upstream, sm) is not None
        )

    def search_again(self, upstream: UpstreamState) -> None:
        """More rows may have the messages of the receipts that are parked: they are searched for again."""
        if upstream in self._searching:
            self._searching[upstream] = True
            return
        if not upstream.parked:
            return
        self._searching[upstream] = False

        def over() -> None:
            if self._searching.pop(upstream):
                self.search_again(upstream)

        self._context.later(0.0, lambda: self._resume_all(list(upstream.parked.values()), over))

    # -- several nodes -------------------------------------------------------------------------------------------------

    def set_alone(self, alone: bool) -> None:
        """Whether other nodes are there. Where they are, what is parked here is theirs to look at too, from the next sweeps
        on."""
        self.alone = alone
        self._sharing = not alone

    def _share(self, parked: Parked) -> None:
        """A receipt is a row that nobody holds with the current batch, and is looked at here."""
        self.has_rows = True
        parked.shared = True
        self._young.append(parked)
        self._context.ledger.to_row(parked, parked_row(parked))
        self._context.store.batch.then.append(partial(self._shared, parked))

    def _share_again(self, parked: Parked) -> None:
        """A row of this node is one that nobody holds again."""
        parked.shared = True
        parked.stored = False
        self._context.ledger.rewrite_row(parked, parked_row(parked))
        self._context.store.batch.then.append(partial(self._shared, parked))

    def _shared(self, parked: Parked) -> None:
        parked.stored = True
        if parked.done:
            self._over.setdefault(parked.upstream, []).append(parked.id)
        elif parked.asked:
            self._claim(parked)

    def _want(self, parked: Parked) -> None:
        """A receipt that nobody holds may be about a message that is here. It is claimed, once it is durable."""
        if not parked.asked:
            parked.asked = True
            if parked.stored:
                self._claim(parked)

    def _claim(self, parked: Parked) -> None:
        context = self._context
        context.store.claim(
            Kind.PARKED, parked.upstream.name, [parked.id], 1, context.guarded_rows(partial(self._claimed, parked))
        )

    def _claimed(self, parked: Parked, rows: list[ColdRow]) -> None:
        context = self._context
        parked.asked = False
        if parked.done:
            for row in context.ledger.alive(rows):
                context.ledger.drop_row(row.kind, row.owner, row.key, row.id)
        elif not rows:
            self._forget(parked)  # another node has it
        else:
            parked.shared = False
            try:
                self._settle_claimed(parked)
            except Exception as error:  # noqa: BLE001  the item's edge
                self.set_aside(parked, error)
        context.store.kick()
        context.flush()

    def _settle_claimed(self, parked: Parked) -> None:
        upstream = parked.upstream
        sm = Sm(parked.frame)
        reading = read_receipt(sm)
        message = find_message(upstream, reading, sm, sure=upstream.may_be_row)
        if message is None and upstream.may_be_row:
            self._search(parked, sm, reading, claimed=True)
            return
        if message is None and self._is_nobodys(parked):
            message = self.unknown_message_of(upstream, sm, reading, self._context.now())
        if message is not None:
            self._pass_on(parked, message, sm, reading)
        else:
            self._share_again(parked)

    def _forget(self, parked: Parked) -> None:
        """It is not looked at here any more."""
        parked.done = True
        parked.cold = None
        parked.upstream.forget_parked(parked)

    def announced(self, upstream: UpstreamState, ids: Sequence[int]) -> None:
        """Another node has parked receipts, these or (empty) some."""
        self._look_from(upstream, min(ids) - 1 if ids else 0)

    def _look_from(self, upstream: UpstreamState, after: int) -> None:
        self.has_rows = True
        peek = self._peeks.get(upstream)
        if peek is None:
            peek = self._peeks[upstream] = _Peek()
        peek.after = min(peek.after, after) if peek.due else after
        peek.due = True
        self._peek(upstream, peek)

    def _peek(self, upstream: UpstreamState, peek: _Peek) -> None:
        if peek.asking or not peek.due:
            return
        peek.asking, peek.due = True, False
        context = self._context
        arrived = context.guarded_rows(partial(self._peeked, upstream, peek))
        context.store.peek(Kind.PARKED, upstream.name, peek.after, _PEEKED, arrived)

    def _peeked(self, upstream: UpstreamState, peek: _Peek, rows: list[ColdRow]) -> None:
        context = self._context
        peek.asking = False
        for row in context.ledger.alive(rows):
            if peek.before is not None:
                peek.seen.add(row.id)
            if row.id not in upstream.parked:
                try:
                    self._look_at(upstream, row)
                except Exception as error:  # noqa: BLE001  the item's edge
                    context.guard.caught(ROWS, error, kind="parked", owner=upstream.name, identity=row.id)
                    self._claim_aside(upstream, row.id, error)
        if len(rows) == _PEEKED:
            peek.after = min(peek.after, rows[-1].id) if peek.due else rows[-1].id
            peek.due = True
        elif peek.before is not None and not peek.due:
            for parked in peek.before:
                if parked.shared and not parked.done and not parked.asked and parked.id not in peek.seen:
                    self._forget(parked)
            peek.before = None
            peek.seen = set()
        if peek.due:
            context.later(0.0, lambda: self._peek(upstream, peek))
        context.store.kick()
        context.flush()

    def _look_at(self, upstream: UpstreamState, row: ColdRow) -> None:
        """A receipt of another node is looked at from now on, unless there are enough that are younger. Raises what reading it
        raises."""
        if upstream.parked and self._is_full(upstream, 1) and row.id < next(iter(upstream.parked)):
            self._over.setdefault(upstream, []).append(row.id)
            return
        expires, _name, frame = read_parked(row.data)
        parked = Parked(row.id, upstream, (), frame, expires)
        parked.shared = parked.stored = True
        parked.cold = (row.kind, row.owner, row.key)
        self.restore_parked(parked)
        if not self._is_nobodys(parked):
            self._young.append(parked)
        self._resume(parked)
        self._keep_to_limits(upstream)

    def _claim_aside(self, upstream: UpstreamState, identity: int, error: Exception) -> None:
        """Sets a row aside that nobody holds, and that cannot be handled: one of the nodes does it."""
        context = self._context

        def claimed(rows: list[ColdRow]) -> None:
            for row in rows:
                context.set_row_aside(row, error, "parked")

        context.store.claim(Kind.PARKED, upstream.name, [identity], 1, context.guarded_rows(claimed))

    def look_begins(self) -> None:
        """The store is asked what nobody holds."""
        self._known = {}
        for upstream in self._context.upstreams.values():
            known = [one for one in upstream.parked.values() if one.shared and one.stored]
            if known:
                self._known[upstream] = known

    def looked(self, counts: dict[str, int]) -> None:
        """The answer, by upstream. All of it is looked at, so that what others have settled is not kept here."""
        known, self._known = self._known, {}
        for name in counts:
            known.setdefault(self._context.upstream(name), [])
        for upstream, before in known.items():
            if not counts.get(upstream.name):
                for parked in before:
                    if parked.shared and not parked.done and not parked.asked:
                        self._forget(parked)
            elif len(upstream.parked) < self.most:
                self._look_from(upstream, 0)
                peek = self._peeks[upstream]
                peek.before, peek.seen = before, set()

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Ends rows of receipts whose time is over: no node found their message."""
        context = self._context
        for row in rows:
            parked = context.upstream(row.owner).parked.get(row.id)
            if parked is not None:
                self._forget(parked)
            self._give_up_row(row, log_counts.GIVEN_UP_AGE)

    def _give_up_row(self, row: ColdRow, why: log_counts.LogLine) -> None:
        """Ends a row that this node has claimed."""
        context = self._context
        context.ledger.drop_row(row.kind, row.owner, row.key, row.id)
        context.metrics.receipts.labels(row.owner, "unmatched").inc()
        context.log_counts.count(why, row.owner)

    def _give_up_excess(self) -> None:
        """Ends rows that are beyond the limit, or a carrier could fill the store with receipts of nothing. Each node names the
        oldest that it knows, and of those that two name one of them gets each."""
        context = self._context

        def claimed(rows: list[ColdRow]) -> None:
            for row in context.ledger.alive(rows):
                self._give_up_row(row, log_counts.GIVEN_UP_LIMIT)
            context.store.kick()
            context.flush()

        for upstream, ids in list(self._over.items()):
            some, self._over[upstream] = ids[: self.excess], ids[self.excess :]
            if not self._over[upstream]:
                del self._over[upstream]
            if some:
                context.store.claim(Kind.PARKED, upstream.name, some, len(some), context.guarded_rows(claimed))

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Once a second: gives up parked receipts whose time is over, and those in the journal to all nodes."""
        wall = self._context.wall()
        self._try_by_addresses()
        self._give_up_excess()
        if self._sharing:
            more = [self._share_some(upstream) for upstream in self._context.upstreams.values()]
            self._sharing = any(more)
        for upstream in list(self._context.upstreams.values()):
            for parked in list(islice(upstream.parked.values(), _STEP)):
                if parked.expires > wall:
                    break
                try:
                    if parked.shared:
                        self._forget(parked)  # whoever looks first ends its row
                    else:
                        self._give_up(parked, log_counts.GIVEN_UP_AGE)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self.set_aside(parked, error, SWEEP)

    def _try_by_addresses(self) -> None:
        """Receipts whose ids no node knew in time may be about unknown messages."""
        while self._young and (self._young[0].done or self._is_nobodys(self._young[0])):
            parked = self._young.popleft()
            if not parked.done and parked.shared and parked.upstream.unknown:
                try:
                    self._resume(parked)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self.set_aside(parked, error, SWEEP)

    def _share_some(self, upstream: UpstreamState) -> bool:
        """What was parked while no other node was there; whether there may be more."""
        own = [one for one in upstream.parked.values() if one.home]
        for parked in own[:_STEP]:
            try:
                self._share(parked)
            except Exception as error:  # noqa: BLE001  the item's edge
                self.set_aside(parked, error, SWEEP)
        if own:
            self._context.store.kick()
        return len(own) > _STEP
