"""Parks receipts whose message is not known yet: they are kept on disk and in memory for 72 hours, and found again by the
ids that they name.

Their message may be found among the cold rows, or be known when the carrier's answer names its id, or be an unknown one
whose addresses fit. Their number and octets are bounded, and so is how many of them are looked at for one message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Final

from smppd.protocol.receipt_ids import canonical, readings
from smppd.protocol.wire import Sm
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import LINK, RECEIPT, START, SWEEP
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
# Parked receipts that are tried at the start before others get a turn.
_STEP: Final = 500


class Parking:
    """See the module. ``settle(upstream, message, sm, reading)`` passes a receipt on. ``most``: receipts of one upstream."""

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
        if (named and not upstream.cold_waiting) or not read_receipt(Sm(frame)).ids:
            self._context.metrics.receipts.labels(upstream.name, "erased").inc()
            return
        self._park(upstream, frame, sm, reading, named)

    def _park(self, upstream: UpstreamState, frame: bytes, sm: Sm, reading: Reading, named: bool) -> None:
        """``frame``: what is kept of the receipt ``sm``. ``named``: not beyond the search among the cold rows."""
        context = self._context
        parked = Parked(context.new_id(), upstream, (), frame, int(context.wall()) + PARK)
        try:
            self._into_memory(parked, Sm(frame), reading)
            context.ledger.open(parked, kept=True)
        except Exception:
            upstream.forget_parked(parked)
            raise
        context.metrics.receipts.labels(upstream.name, "parked").inc()
        context.log_counts.count(log_counts.PARKED, upstream.name)
        if upstream.cold_waiting > 0:
            self._search(parked, sm, reading, named)
        while upstream.parked and (len(upstream.parked) > self.most or upstream.parked_octets > context.parked_limit):
            self._give_up(next(iter(upstream.parked.values())), log_counts.GIVEN_UP_LIMIT)

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
        self._context.guard.keep_damaged(place, error, "frame", upstream.name, parked.id, parked.frame)
        if not parked.done or upstream.parked.get(parked.id) is parked:
            self._unpark(parked)

    # -- their message turns up ----------------------------------------------------------------------------------------

    def _pass_on(self, parked: Parked, message: Message, sm: Sm, reading: Reading) -> bool:
        """Settles a message with a parked receipt; whether that was possible."""
        try:
            self._settle(parked.upstream, message, sm, reading)
            self._unpark(parked)
        except Exception as error:  # noqa: BLE001  the item's edge
            self.set_aside(parked, error)
            return False
        parked.upstream.matched.inc()
        return True

    def _search(self, parked: Parked, sm: Sm, reading: Reading, named: bool = False) -> None:
        """Looks for its message among the cold rows, by all that the carrier wrote (``sm``). ``named``: see ``_park``."""
        upstream = parked.upstream
        wanted = row_keys(upstream, reading)
        if wanted:
            context = self._context
            context.store.find(
                Kind.WAITING,
                upstream.name,
                wanted,
                context.guarded_rows(lambda rows: self._found(parked, rows, sm, reading, named)),
            )

    def _found(self, parked: Parked, rows: list[ColdRow], sm: Sm, reading: Reading, named: bool) -> None:
        if parked.done:
            return
        upstream = parked.upstream
        try:
            message = self.message_of_rows(upstream, reading, sm, rows) or find_message(upstream, reading, sm)
            # It is about no message that is known: then it may be about an unknown one.
            message = message or self.unknown_message_of(upstream, sm, reading, self._context.now())
        except Exception as error:  # noqa: BLE001  the item's edge
            self.set_aside(parked, error)
            return
        if message is not None and not parked.done:
            self._pass_on(parked, message, sm, reading)
            self._context.flush()
        elif named and not parked.done:
            self._unpark(parked)
            self._context.metrics.receipts.labels(upstream.name, "erased").inc()

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
        waiting = [parked for upstream in self._context.upstreams.values() for parked in upstream.parked.values()]

        def some(begin: int) -> None:
            for parked in waiting[begin : begin + _STEP]:
                if not parked.done:
                    try:
                        self._resume(parked)
                    except Exception as error:  # noqa: BLE001  the item's edge
                        self.set_aside(parked, error, START)
            if begin + _STEP < len(waiting):
                self._context.later(0.0, lambda: some(begin + _STEP))
            self._context.store.kick()

        some(0)

    def _resume(self, parked: Parked) -> None:
        upstream = parked.upstream
        sm = Sm(parked.frame)
        reading = read_receipt(sm)
        message = find_message(upstream, reading, sm, sure=upstream.cold_waiting > 0)
        if message is not None:
            self._pass_on(parked, message, sm, reading)
        elif upstream.cold_waiting > 0:
            self._search(parked, sm, reading)

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Once a second: gives up parked receipts whose time is over."""
        wall = self._context.wall()
        for upstream in list(self._context.upstreams.values()):
            for parked in list(islice(upstream.parked.values(), _STEP)):
                if parked.expires > wall:
                    break
                try:
                    self._give_up(parked, log_counts.GIVEN_UP_AGE)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self.set_aside(parked, error, SWEEP)
