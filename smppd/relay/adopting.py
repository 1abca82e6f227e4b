"""Takes over what nobody holds: rows that another node gave up, or that were made of the journal of one that is gone.

Which (kind, owner) has such rows is announced, and asked of the store every half a minute. Rows are claimed in pages, each
when the one before is durable: what waits for a carrier where one takes it here and memory has room; mail where its customer
is bound here; what has to be judged at once, by any node. A message that is claimed is written into this node's journal, and
goes on from there as after a start; until that is durable it is a row of this node's, which a start finds. Mail stays a row
until its customer has it.

Rows that nobody holds end with their validity like any others: whoever looks first ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from smppd.message import State
from smppd.relay.accept.parts import HeldParts
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import ROWS
from smppd.relay.ledger.joined import BLOCK, ENTRY, phase_of
from smppd.relay.ledger.journal import HEAD, Entry
from smppd.relay.ledger.payload import StoredMessage
from smppd.relay.receipts.parking import Parking
from smppd.relay.restore import restored_message
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.state.backlog import FIRST_ROWS, PAGE, rows_for
from smppd.relay.state.living import Living
from smppd.relay.state.model import Lane, Message
from smppd.relay.state.phase import Phase
from smppd.store.api import ColdRow, Kind

LOOK: Final = 30.0
"""Seconds between two looks at what nobody holds."""
_MANY: Final = 1 << 40  # rows, where nobody says how many: until the next look


class _Hint:
    """Of one (kind, owner): nobody holds some rows. ``rows``: of a page. ``again``: told once more since it was asked."""

    __slots__ = ("again", "asking", "rows")

    def __init__(self) -> None:
        self.rows = FIRST_ROWS
        self.asking = False
        self.again = False


class Adopting:
    """See the module. ``remembered(messages)`` is told of messages that came to this node. ``has_inherited``: there were some
    that had to be judged."""

    def __init__(
        self,
        context: Context,
        dispatch: Dispatch,
        mailroom: Mailroom,
        held_parts: HeldParts,
        parking: Parking,
        remembered: Callable[[list[Living]], None],
    ) -> None:
        self._context = context
        self._dispatch = dispatch
        self._lanes = dispatch.lanes
        self._mailroom = mailroom
        self._held_parts = held_parts
        self._parking = parking
        self._remembered = remembered
        self._hints: dict[tuple[int, str], _Hint] = {}
        self.has_inherited = False
        self._looked = 0.0
        self._looking = False
        self._told: set[tuple[int, str]] = set()  # since the look that is under way began

    # -- what is there -------------------------------------------------------------------------------------------------

    def begin(self, counts: dict[tuple[int, str], int]) -> None:
        """At the start: looks what nobody holds. What this node had claimed of kinds that have no queue of their own, when it
        ended, it gives up first, and claims again."""
        ledger, batch = self._context.ledger, self._context.store.batch
        for kind, owner in counts:
            if kind in (Kind.PARKED, Kind.INHERITED):
                ledger.hand_over(kind, owner)
                batch.then.append(partial(self.rows_unheld, kind, owner, ()))
        self._look(self._context.now())

    def rows_unheld(self, kind: int, owner: str, ids: Sequence[int]) -> None:
        """Nobody holds some rows: these, or (empty) some."""
        if self._looking:
            self._told.add((kind, owner))
        if kind == Kind.WAITING:
            upstream = self._context.upstream(owner)
            upstream.note_unheld(len(ids) or _MANY)
            self._parking.search_again(upstream)
        elif kind == Kind.PARKED:
            self._parking.announced(self._context.upstream(owner), ids)
        elif kind in (Kind.QUEUE, Kind.INHERITED, Kind.MAIL):
            self.has_inherited = self.has_inherited or kind == Kind.INHERITED
            hint = self._hints.setdefault((kind, owner), _Hint())
            hint.again = True
            self._step(kind, owner, hint)

    def _look(self, now: float) -> None:
        if self._looking:
            return
        self._looking = True
        self._looked = now
        self._told.clear()
        self._parking.look_begins()
        self._context.store.unheld(self._found)

    def _found(self, counts: dict[tuple[int, str], int]) -> None:
        self._looking = False
        guard = self._context.guard
        for place in [place for place in self._hints if place not in counts and place not in self._told]:
            if not self._hints[place].asking:
                del self._hints[place]
        for upstream in list(self._context.upstreams.values()):
            if (Kind.WAITING, upstream.name) not in self._told:
                upstream.note_unheld(0, exactly=True)
        for (kind, owner), count in counts.items():
            if kind == Kind.WAITING:
                guard.call_guarded(ROWS, partial(self._waiting, owner, count))
            elif kind != Kind.PARKED:
                guard.call_guarded(ROWS, partial(self.rows_unheld, kind, owner, ()))
            if kind == Kind.MAIL:
                guard.call_guarded(ROWS, partial(self._limit_mail, owner, count))
        parked = {owner: count for (kind, owner), count in counts.items() if kind == Kind.PARKED}
        guard.call_guarded(ROWS, lambda: self._parking.looked(parked))
        self._context.flush()

    def _limit_mail(self, owner: str, count: int) -> None:
        account = self._context.accounts.get(owner)
        if account is not None:
            self._mailroom.limit_unheld(account, count)

    def _waiting(self, owner: str, count: int) -> None:
        upstream = self._context.upstream(owner)
        new = not upstream.may_be_row
        upstream.note_unheld(count, exactly=True)
        if new:
            self._parking.search_again(upstream)

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Once a second."""
        if now - self._looked >= LOOK:
            self._look(now)
        for (kind, owner), hint in list(self._hints.items()):
            self._step(kind, owner, hint)

    def customer_bound(self, account: str) -> None:
        """A customer has bound who takes mail."""
        hint = self._hints.get((Kind.MAIL, account))
        if hint is not None:
            self._step(Kind.MAIL, account, hint)

    # -- claiming ------------------------------------------------------------------------------------------------------

    def _step(self, kind: int, owner: str, hint: _Hint) -> None:
        """Claims a page, where this node can do something with it."""
        context = self._context
        if hint.asking or self._dispatch.draining or not context.store.takes or not self._wants(kind, owner):
            return
        hint.asking, hint.again = True, False
        limit = hint.rows
        claimed = partial(self._claimed, kind, owner, hint, limit)
        context.store.claim(Kind(kind), owner, None, limit, context.guarded_rows(claimed))

    def _wants(self, kind: int, owner: str) -> bool:
        context = self._context
        if kind == Kind.MAIL:
            account = context.accounts.get(owner)
            return account is not None and self._mailroom.has_room(account)
        if kind == Kind.INHERITED:
            return not context.crowded
        return not context.half_full and self._serves(owner)

    def _serves(self, owner: str) -> bool:
        """Whether what waits in a lane goes on from here: an upstream takes messages, or the routes have changed, and it goes
        to another lane. Where neither is so it is left to the others; its hour too is the same everywhere."""
        context = self._context
        name, found, route = owner.partition("\n")
        if not found:
            return True  # it is no lane's, whoever altered it: it is set aside
        lane = context.lane(context.account(name), route)
        if lane.held or len(lane.hot) >= PAGE:
            return False
        if lane.gone:
            return True
        now = context.now()
        if lane.is_shut(context.wall()):
            return False
        return any(self._lanes.takes_messages(one, now) and not one.is_probing for one in lane.upstreams)

    def _claimed(self, kind: int, owner: str, hint: _Hint, limit: int, rows: list[ColdRow]) -> None:
        context = self._context
        hint.asking = False
        if rows:
            hint.rows = rows_for(rows, PAGE)
            if kind == Kind.MAIL:
                self._mailroom.take_over(context.account(owner), rows)
            else:
                self._messages(rows)
        if len(rows) < limit and not hint.again:
            self._hints.pop((kind, owner), None)
        elif rows:
            # The next page when this one is durable, so that no batch grows too large.
            context.store.batch.then.append(partial(self._step, kind, owner, hint))
        context.store.kick()
        context.flush()

    def adopt(self, rows: list[ColdRow]) -> None:
        """Messages that somebody here has claimed, or whose time is over, to be judged."""
        self._messages(rows)

    def _messages(self, rows: list[ColdRow]) -> None:
        context = self._context
        now = context.now()
        came: list[Living] = []
        lanes: dict[Lane, None] = {}
        for row in sorted(rows, key=lambda one: one.id):
            try:
                message, was = self._restored(row)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._set_aside(row, error)
                continue
            try:
                self._lanes.place_restored(message, was, now)
                context.ledger.rewrite(message)
                came.append(message)
                lanes[message.lane] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(ROWS, error, message)
        self._remembered(came)
        parts = [one for one in came if isinstance(one, Message) and one.phase is Phase.HELD]
        if parts:
            self._held_parts.judge_adopted(parts, now)
        for lane in lanes:
            try:
                self._lanes.serve_lane(lane, now)
            except Exception as error:  # noqa: BLE001  the edge of a lane
                context.guard.caught(ROWS, error, owner=lane.name)
        for one in came:
            if isinstance(one, Message) and one.phase is Phase.UNKNOWN and one.upstream is not None:
                self._parking.became_unknown(one.upstream, [one], now)

    def _restored(self, row: ColdRow) -> tuple[Message, Phase]:
        """A message, and where it stood."""
        context = self._context
        name, found, route = row.owner.partition("\n")
        if not found:
            raise ValueError("no message of a lane")
        stored = StoredMessage(row.id, row.data)
        message = restored_message(context, stored, context.lane(context.account(name), route))
        message.cold = (row.kind, row.owner, row.key)
        return message, phase_of(stored) if row.kind == Kind.INHERITED else Phase.QUEUED

    def _set_aside(self, row: ColdRow, error: Exception) -> None:
        """Sets a row aside that makes no message. What could not be read in the journal it was made of is such a row
        (`relay.inheritance`): it says so by its owner, and is kept as what it was."""
        context = self._context
        if row.kind == Kind.QUEUE:
            self._lanes.set_row_aside(row, error)
            return
        identity = row.id
        if row.owner in (ENTRY, BLOCK):
            kind, identity = row.data[0], 0
            if row.owner == ENTRY:
                kind, _length, identity = HEAD.unpack_from(row.data)
            context.guard.keep_damaged(ROWS, error, row.owner, "", identity, row.data)
            context.ledger.drop_row(row.kind, row.owner, row.key, row.id)
            known = row.owner == ENTRY and kind == Entry.ACCEPT and context.ledger.get(identity) is None
        else:
            context.set_row_aside(row, error, "message")
            known = True
        if known:
            # A carrier may have it: that is why it had to be judged.
            context.append_event(identity, State.UNKNOWN)
