"""What an operator sees of the relay: accounts, upstreams, what waits and why, messages, limits. This module changes nothing.

Each view gives its items one after another, each made when it is asked for, so whoever writes them can rest in between. What
is walked through is copied first where it may change meanwhile; that is a list of objects, never of messages.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from smppd.ids import id_time
from smppd.message import masked
from smppd.metrics import total
from smppd.policy.content import place_of
from smppd.policy.hours.windows import NEVER
from smppd.protocol.wire import BodyError, Sm
from smppd.relay.context import Context
from smppd.relay.flow import FlowMeter
from smppd.relay.gauges import Gauges, waits_since
from smppd.relay.restore import restored_row
from smppd.relay.state.model import Account, Lane, Message, UpstreamState
from smppd.relay.state.phase import Phase
from smppd.store.api import ColdRow

SCAN: Final = 20_000
"""Messages that one look at the messages passes over at the most, because they are other accounts'."""
ROW_LANES: Final = 16
"""Lanes whose rows on disk are looked at, where memory has too few messages to show."""
FOUND_LANES: Final = 500
"""Lanes whose rows on disk are searched for one message."""

View = dict[str, Any]
Names = Container[str] | None
"""Of accounts that may be seen; None: all."""


class MessageQuery(NamedTuple):
    """Which messages: those of some accounts, that are at an upstream or wait for it first, one by its id, and how many."""

    accounts: Names = None
    upstream: str | None = None
    identity: int | None = None
    limit: int = 100


class LimitView(NamedTuple):
    """How much of a limit is used. ``of``: an account or an upstream, None for the daemon."""

    name: str
    of: str | None
    limit: float
    used: float
    share: float


class Views:
    """See the module. The fields of each item are those of docs/control.md."""

    def __init__(self, context: Context, counts: Gauges, flow: FlowMeter) -> None:
        self._context = context
        self._counts = counts
        self._flow = flow

    # -- accounts ------------------------------------------------------------------------------------------------------

    def accounts(self, names: Names) -> Iterator[View]:
        """The accounts, and those that left the configuration while something of theirs waits."""
        released = self._released()
        for account in list(self._context.accounts.values()):
            if names is not None and account.name not in names:
                continue
            if account.closed and not (account.queued or len(account.mailbox) or account.sessions):
                continue
            yield self._account(account, released.get(account))

    def _released(self) -> dict[Account, Message]:
        """The oldest message of each account that is released to a carrier and not sent."""
        found: dict[Account, Message] = {}
        for upstream in self._context.upstreams.values():
            for message in [*upstream.codes.heads(), *upstream.ready.heads()]:
                other = found.get(message.account)
                if other is None or message.id < other.id:
                    found[message.account] = message
        return found

    def _account(self, account: Account, released: Message | None) -> View:
        wall = self._context.wall()
        settings, mailbox = account.settings, account.mailbox
        first = [lane.hot.first() for lane in account.lanes.values()] + [account.pinned_parts.first(), released]
        waiting = [(waits_since(one, wall), one.id) for one in first if one is not None]
        oldest = min(waiting, default=None)
        mail = mailbox.hot.first() or next(iter(mailbox.later.values()), None)
        return {
            "name": account.name,
            "sessions": len(account.sessions),
            "max_binds": settings.max_binds,
            "window": settings.window,
            "throughput": settings.throughput,
            "rate": self._flow.account_rate(account.name),
            "queued": account.queued,
            "queue_max": settings.queue,
            "oldest": None if oldest is None else _age(wall, oldest[0]),
            "oldest_id": None if oldest is None else f"{oldest[1]:016x}",
            "held": self._counts.held_for_hours(account),
            "mailbox": len(mailbox),
            "oldest_mail": None if mail is None else _age(wall, id_time(mail.id)),
            "accepted": int(total(account.accepted)),
            "refused": account.refused,
            "delivered": int(total(account.delivered)),
            "suspended": None,
            "configured_suspended": bool(settings.suspended) and not account.closed,
        }

    # -- upstreams -----------------------------------------------------------------------------------------------------

    def upstreams(self) -> Iterator[View]:
        """The upstreams, and those that left the configuration while something waits for them or for their receipts."""
        context = self._context
        first = self._first_choices()
        for one in list(context.upstreams.values()):
            waiting = first.get(one.name, 0)
            left = one.gone and getattr(one.settings, "enabled", True)
            known = bool(getattr(one.settings, "address", ""))
            if (left or not known) and not (
                waiting or len(one.ids) or one.cold_waiting or len(one.unknown) or one.links
            ):
                continue
            yield self._upstream(one, waiting)

    def _first_choices(self) -> dict[str, int]:
        """How many messages wait for each upstream first."""
        found: dict[str, int] = {}
        for account in self._context.accounts.values():
            if account.queued:
                for lane in account.lanes.values():
                    if lane.upstreams and (number := len(lane)):
                        name = lane.upstreams[0].name
                        found[name] = found.get(name, 0) + number
        return found

    def _upstream(self, one: UpstreamState, waiting: int) -> View:
        now, wall = self._context.now(), self._context.wall()
        pause = one.paused_until - now
        awaited = next(iter(one.ids.values()), None)
        settings = one.settings
        state = "down" if not one.links else "backing off" if pause > 0 or one.failures else "bound"
        return {
            "name": one.name,
            "address": ", ".join(getattr(settings, "address", ())) or None,
            "enabled": not one.gone,
            "state": state,
            "links": len(one.links),
            "sessions": 0 if one.gone else settings.sessions,
            "window": one.capacity,
            "window_used": sum(len(link.session.outstanding) for link in one.links),
            "throughput": settings.throughput,
            "rate": self._flow.upstream_rate(one.name),
            "ready": len(one.ready) + len(one.codes),
            "unknown": len(one.unknown),
            "waiting": waiting,
            "waiting_receipts": len(one.ids) + one.cold_waiting,
            "oldest_receipt": None if awaited is None else _age(wall, id_time(awaited.id)),
            "failures": one.failures,
            "again_in": round(pause, 1) if one.links and pause > 0 else None,
            "last_error": None,
            "submitted": int(total(one.submitted)),
            "act": None,
        }

    # -- queues --------------------------------------------------------------------------------------------------------

    def queues(self, names: Names, upstream: str | None, stopped: Collection[str]) -> Iterator[View]:
        """The lanes in which something waits. ``stopped``: upstreams that an act has paused."""
        lanes = [
            lane
            for account in self._context.accounts.values()
            if account.queued and (names is None or account.name in names)
            for lane in account.lanes.values()
            if upstream is None or any(one.name == upstream for one in lane.upstreams)
        ]
        for lane in lanes:
            if len(lane):
                yield self._queue(lane, stopped)

    def _queue(self, lane: Lane, stopped: Collection[str]) -> View:
        wall = self._context.wall()
        first = lane.hot.first()
        opens = lane.gate.opens(wall) if lane.gate is not None else 0.0
        return {
            "account": lane.account.name,
            "upstreams": [one.name for one in lane.upstreams],
            "waiting": len(lane),
            "memory": len(lane.hot),
            "disk": lane.cold,
            "oldest": None if first is None else _age(wall, waits_since(first, wall)),
            "oldest_id": None if first is None else f"{first.id:016x}",
            "code": lane.code,
            "opens": int(opens) if 0 < opens < NEVER else None,
            "why": "hour" if opens > 0 else self._why(lane, stopped),
        }

    def _why(self, lane: Lane, stopped: Collection[str]) -> str:
        """Why what waits in a lane does not leave at this moment."""
        now = self._context.now()
        there = [one for one in lane.upstreams if not one.gone]
        if not there:
            return "no route"
        up = [one for one in there if one.links]
        if not up:
            return "no link"
        if all(one.name in stopped or one.paused_until > now or one.is_probing for one in up):
            return "paused"
        serving = lane.active
        if serving is None or serving.name in stopped:
            return "flowing"
        used = sum(len(link.session.outstanding) for link in serving.links)
        if used >= serving.capacity:
            return "window full"
        return "rate" if serving.bucket.ready_in(now) > 0 else "flowing"

    # -- messages ------------------------------------------------------------------------------------------------------

    def messages(self, query: MessageQuery, then: Callable[[list[View], bool], None]) -> None:
        """What is on its way, oldest first; ``then(messages, more)``, later perhaps: ``more``, whether there may be others.
        What waits for its receipt comes in the order of the carriers' answers; where it is a row it is not shown."""
        if query.identity is not None:
            self._one(query.identity, query.accounts, then)
            return
        looked = [SCAN]
        sources = [iter(one) for one in self._sources(query, looked)]
        found = list(islice(_once(heapq.merge(*sources, key=_id_of)), query.limit + 1))
        more = len(found) > query.limit or looked[0] <= 0
        wall = self._context.wall()
        views = [self._message(one, wall) for one in found[: query.limit]]
        lanes = [lane for lane in self._lanes(query) if lane.cold] if len(found) < query.limit else []
        if not lanes:
            then(views, more or any(lane.cold for lane in self._lanes(query)))
            return
        self._rows(lanes, query.limit, views, more, then)

    def _lanes(self, query: MessageQuery) -> Iterator[Lane]:
        for account in self._context.accounts.values():
            if account.queued and (query.accounts is None or account.name in query.accounts):
                for lane in account.lanes.values():
                    if query.upstream is None or (lane.upstreams and lane.upstreams[0].name == query.upstream):
                        yield lane

    def _sources(self, query: MessageQuery, looked: list[int]) -> Iterator[Iterable[Message]]:
        """Lists of messages, each oldest first; as much of each as can be shown. ``looked[0]``: how many more may be passed
        over."""
        most = query.limit + 1
        for lane in self._lanes(query):
            if len(lane.hot):
                yield lane.hot.oldest(most)
        accounts, upstream = query.accounts, query.upstream
        for account in self._context.accounts.values():
            if (accounts is None or account.name in accounts) and len(account.pinned_parts):
                waiting = account.pinned_parts.oldest(most)
                yield [one for one in waiting if upstream is None or _at(one, upstream)]
        if upstream is None:
            for held in self._context.phases.held.accounts.values():
                if accounts is None or held.account.name in accounts:
                    groups = islice(held.groups.values(), most)
                    yield sorted((one for group in groups for one in group.messages), key=_id_of)[:most]
        for one in self._context.upstreams.values():
            if upstream is None or one.name == upstream:
                sent = (entry.token for link in one.links for entry in list(link.session.outstanding.values()))
                yield self._mine((token for token in sent if isinstance(token, Message)), accounts, most, looked)
                yield self._mine(one.codes, accounts, most, looked)
                yield self._mine(one.ready, accounts, most, looked)
                yield self._mine(iter(one.unknown.values()), accounts, most, looked)
                yield self._mine(iter(one.ids.values()), accounts, most, looked)

    @staticmethod
    def _mine(messages: Iterable[Message], accounts: Names, most: int, looked: list[int]) -> list[Message]:
        found: list[Message] = []
        for one in messages:
            if len(found) == most or looked[0] <= 0:
                break
            if accounts is None or one.account.name in accounts:
                found.append(one)
            else:
                looked[0] -= 1
        found.sort(key=_id_of)
        return found

    def _rows(
        self, lanes: list[Lane], limit: int, views: list[View], more: bool, then: Callable[[list[View], bool], None]
    ) -> None:
        """Adds rows that stand on disk only, of some lanes, and then answers."""
        context = self._context
        some = lanes[:ROW_LANES]
        left = [len(some)]
        rows: list[tuple[int, View]] = []
        shown = {one["id"] for one in views}

        def arrived(lane: Lane, found: list[ColdRow]) -> None:
            for row in found:
                view = self._row(row, lane)
                if view is not None and view["id"] not in shown:
                    rows.append((row.id, view))
            left[0] -= 1
            if not left[0]:
                merged = sorted([*((int(one["id"], 16), one) for one in views), *rows], key=lambda pair: pair[0])
                then([one for _, one in merged[:limit]], more or len(merged) > limit or len(lanes) > len(some))

        for lane in some:
            lane.backlog.peek(context.store, 0, limit, context.guarded_rows, partial(arrived, lane))

    def _row(self, row: ColdRow, lane: Lane) -> View | None:
        try:
            return self._message(restored_row(self._context, row, lane), self._context.wall(), memory=False)
        except Exception:  # noqa: BLE001  whoever reads the row to send it sets it aside and says so
            return None

    def _one(self, identity: int, accounts: Names, then: Callable[[list[View], bool], None]) -> None:
        context = self._context
        wall = context.wall()
        thing: object = context.ledger.get(identity)
        mine = [one for one in context.accounts.values() if accounts is None or one.name in accounts]
        if not isinstance(thing, Message):
            # Read back from a row, and not written anew yet.
            places = (place for one in mine for place in [*(lane.hot for lane in one.lanes.values()), one.pinned_parts])
            thing = next((found for found in (place.get(identity) for place in places) if found is not None), None)
        if isinstance(thing, Message):
            seen = accounts is None or thing.account.name in accounts
            then([self._message(thing, wall)] if seen else [], False)
            return
        cold = [lane for one in mine if one.queued for lane in one.lanes.values() if lane.cold and lane.upto < identity]
        some = cold[:FOUND_LANES]
        if not some:
            then([], False)
            return
        left, views = [len(some)], []

        def arrived(lane: Lane, found: list[ColdRow]) -> None:
            left[0] -= 1
            if found and found[0].id == identity:
                view = self._row(found[0], lane)
                if view is not None:
                    views.append(view)
            if not left[0]:
                then(views, not views and len(cold) > len(some))

        for lane in some:
            lane.backlog.peek(context.store, identity - 1, 1, context.guarded_rows, partial(arrived, lane))

    def _message(self, message: Message, wall: float, memory: bool = True) -> View:
        lane = message.lane
        upstream = message.upstream or (lane.upstreams[0] if lane.upstreams else None)
        source, destination, part = "", "", None
        try:
            sm = Sm(message.frame)
            # Before its sender was exchanged it may have been a person's number.
            source = masked(sm.source_digits)
            destination = "***" if message.erased else masked(sm.destination_digits)
            concat = place_of(sm)
            part = None if concat is None else [concat.seq, concat.total]
        except BodyError:
            pass  # it can be seen that it is there
        accepted = id_time(message.id)
        return {
            "id": f"{message.id:016x}",
            "account": message.account.name,
            "phase": message.phase.name.lower() if memory else Phase.ROW.name.lower(),
            "upstream": None if upstream is None else upstream.name,
            "accepted": round(accepted, 3),
            "age": _age(wall, accepted),
            "expires": message.expires or None,
            "tries": message.tries,
            "from": source,
            "to": destination,
            "part": part,
            "duplicate": message.duplicate,
            "memory": memory,
        }

    # -- limits --------------------------------------------------------------------------------------------------------

    def limits(self, names: Names) -> list[LimitView]:
        """What is used of each limit of accounts, upstreams and memory, in no order. Upstreams and memory only for who sees
        all accounts."""
        context = self._context
        found: list[LimitView] = []

        def add(name: str, of: str | None, limit: float | None, used: float) -> None:
            if limit:
                found.append(LimitView(name, of, limit, used, round(used / limit, 4)))

        for account in context.accounts.values():
            if account.closed or (names is not None and account.name not in names):
                continue
            settings = account.settings
            add("binds", account.name, settings.max_binds, len(account.sessions))
            add("queue", account.name, settings.queue, account.queued)
            add("mailbox", account.name, settings.receipts.limit, len(account.mailbox))
            add("throughput", account.name, settings.throughput, self._flow.account_rate(account.name))
        if names is not None:
            return found
        for one in context.upstreams.values():
            if one.gone:
                continue
            add("window", one.name, one.capacity, sum(len(link.session.outstanding) for link in one.links))
            add("throughput", one.name, one.settings.throughput, self._flow.upstream_rate(one.name))
            add("parked receipts, octets", one.name, context.parked_limit, one.parked_octets)
        add("memory, things", None, context.hot_limit, context.ledger.count())
        add("memory, octets", None, context.hot_octets, context.ledger.octets)
        return found


def _age(wall: float, since: float) -> float:
    return round(max(0.0, wall - since), 1)


def _id_of(message: Message) -> int:
    return message.id


def _at(message: Message, upstream: str) -> bool:
    return message.upstream is not None and message.upstream.name == upstream


def _once(messages: Iterable[Message]) -> Iterator[Message]:
    """Each message once: a link that has just ended may still name what another list has."""
    last = -1
    for message in messages:
        if message.id != last:
            last = message.id
            yield message
