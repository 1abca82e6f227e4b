"""What an operator sees of the relay: the counts for /status and /readyz, and the gauges. This module reads the relay and
changes nothing."""

from __future__ import annotations

from typing import Final, NamedTuple

from prometheus_client import Gauge

from smppd.config import Account as AccountSettings
from smppd.ids import id_time
from smppd.metrics import total
from smppd.protocol.receipt_states import MessageState
from smppd.relay.context import Context
from smppd.relay.state.model import Account, Message, UpstreamState
from smppd.store.api import Store

PEERS: Final = 8
"""How many addresses of an account are shown."""


class AccountPicture(NamedTuple):
    """An account; the fields have the names that they have in /status.

    ``peers``: the addresses of its sessions, the first few of them. ``queued``: messages that wait to be submitted; the
    oldest has waited for ``oldest`` seconds. ``mailbox``: mail that waits to be delivered. ``accepted``, ``delivered``:
    numbers since the start.
    """

    name: str
    sessions: int
    peers: list[str]
    queued: int
    oldest: float
    mailbox: int
    accepted: float
    delivered: float


class UpstreamPicture(NamedTuple):
    """An upstream; the fields have the names that they have in /status.

    ``enabled``: the configuration has it. ``window_used``: requests that wait for the carrier's answer, over all ``links``.
    ``ready``: messages that were released to it and are not sent; ``unknown``: sent and not answered in time. ``submitted``:
    since the start.
    """

    name: str
    address: str
    enabled: bool
    links: int
    window_used: int
    ready: int
    unknown: int
    waiting_receipts: int
    paused: bool
    submitted: float


class Picture(NamedTuple):
    """``entries``: things that memory holds."""

    entries: int
    accounts: list[AccountPicture]
    upstreams: list[UpstreamPicture]


class Readiness(NamedTuple):
    """What /readyz needs to know. ``ready``: all is read back. ``upstreams``: to how many messages can be sent while their
    receipts come in too. ``oldest``: for how many seconds the oldest message has waited to be submitted. ``stopped``: the
    upstreams of the configuration that acts pause."""

    ready: bool
    upstreams: int
    oldest: float
    stopped: tuple[str, ...] = ()


class Load(NamedTuple):
    """What waits here: messages to be submitted, mail to be delivered, messages whose answer did not come."""

    waiting: int
    mail: int
    unknown: int


class Gauges:
    """See the module. ``note_oldest_released`` is called about once a second."""

    def __init__(self, context: Context, store: Store) -> None:
        self._context = context
        self._store = store
        # Since when the oldest message of each waits that an upstream is about to be sent, in epoch seconds.
        self._released: dict[Account, float] = {}
        self._told_forms: dict[tuple[str, str], int] = {}
        self._told_limits: dict[str, AccountSettings] = {}
        self._told_ends: dict[tuple[str, MessageState], int] = {}

    def note_oldest_released(self) -> None:
        """Notes the oldest of each account's messages that were released and not sent."""
        released: dict[Account, float] = {}
        wall = self._context.wall()
        for upstream in self._context.upstreams.values():
            for message in [*upstream.codes.heads(), *upstream.ready.heads()]:
                since = waits_since(message, wall)
                oldest = released.get(message.account)
                if oldest is None or since < oldest:
                    released[message.account] = since
        self._released = released

    def oldest(self, account: Account) -> float:
        """For how many seconds the account's oldest message has waited to be submitted; released ones as of the last look. One
        that has to wait for its hour waits from then on."""
        wall = self._context.wall()
        first = [lane.hot.first() for lane in account.lanes.values()] + [account.pinned_parts.first()]
        since = [waits_since(message, wall) for message in first if message is not None]
        if account in self._released:
            since.append(self._released[account])
        return max(0.0, wall - min(since)) if since else 0.0

    def held_for_hours(self, account: Account) -> int:
        """How many of an account's messages wait for their hour."""
        wall = self._context.wall()
        return sum([len(lane) for lane in account.lanes.values() if lane.gate is not None and lane.is_shut(wall)])

    def readiness(self, ready: bool) -> Readiness:
        """See ``Readiness``. An upstream that takes messages and brings no receipts does not count."""
        context = self._context
        up = sum(1 for one in context.upstreams.values() if one.links and one.receivers)
        oldest = max((self.oldest(account) for account in context.accounts.values()), default=0.0)
        stopped = sorted([one.name for one in context.upstreams.values() if one.act and not one.gone])
        return Readiness(ready, up, oldest, tuple(stopped))

    def load(self) -> Load:
        """See ``Load``."""
        accounts, upstreams = self._context.accounts.values(), self._context.upstreams.values()
        return Load(
            sum([one.queued for one in accounts]),
            sum([len(one.mailbox) for one in accounts]),
            sum([len(one.unknown) for one in upstreams]),
        )

    def links(self) -> dict[str, int]:
        """How many links stand to each upstream that has one."""
        return {one.name: len(one.links) for one in self._context.upstreams.values() if one.links}

    def picture(self) -> Picture:
        """See ``Picture``."""
        context = self._context
        now = context.now()
        return Picture(
            context.ledger.count(),
            [self._account(account) for account in context.accounts.values()],
            [_upstream(upstream, now) for upstream in context.upstreams.values()],
        )

    def _account(self, account: Account) -> AccountPicture:
        peers = sorted({one.address.decode("ascii", "replace") for one in account.sessions})[:PEERS]
        return AccountPicture(
            account.name,
            len(account.sessions),
            peers,
            account.queued,
            self.oldest(account),
            len(account.mailbox),
            total(account.accepted),
            total(account.delivered),
        )

    def _set_limits(self, account: Account) -> None:
        """The limits of an account, when they are new: a thousand accounts are looked at in one turn."""
        name, settings, metrics = account.name, account.settings, self._context.metrics
        if account.closed:
            if self._told_limits.pop(name, None) is not None:
                metrics.forget_limits(name)
        elif self._told_limits.get(name) is not settings:
            self._told_limits[name] = settings
            metrics.sessions_limit.labels(name).set(settings.max_binds)
            metrics.queued_limit.labels(name).set(settings.queue)
            _set_rate(metrics.rate_limit, name, settings.throughput)

    def _count_ended(self, upstream: UpstreamState) -> None:
        """Counts what final receipts said since the last look."""
        for state, number in upstream.ended.items():
            told = self._told_ends.get((upstream.name, state), 0)
            if number != told:
                name = state.name.lower()
                self._context.metrics.ended.labels(upstream.name, name).inc(number - told if number > told else number)
                self._told_ends[upstream.name, state] = number

    def set_gauges(self) -> None:
        """Sets the gauges; called when somebody asks for them."""
        context = self._context
        metrics = context.metrics
        for account in context.accounts.values():
            queued, mailbox, sessions, oldest, held, used, window = account.gauges
            queued.set(account.queued)
            mailbox.set(len(account.mailbox))
            sessions.set(len(account.sessions))
            oldest.set(self.oldest(account))
            held.set(self.held_for_hours(account))
            used.set(sum([one.session.unanswered for one in account.sessions]))
            window.set(account.settings.window * len(account.sessions))
            self._set_limits(account)
        for upstream in context.upstreams.values():
            if (upstream.gone or upstream.act == "drained") and not upstream.links:
                # Nobody expects it to be up: a series with 0 links would raise an alert.
                metrics.forget_upstream(upstream.name)
                continue
            metrics.links.labels(upstream.name).set(len(upstream.links))
            metrics.links_wanted.labels(upstream.name).set(_links_wanted(upstream))
            metrics.upstream_window_limit.labels(upstream.name).set(upstream.capacity)
            _set_rate(metrics.upstream_rate_limit, upstream.name, upstream.settings.throughput)
            metrics.paused.labels(upstream.name).set(int(upstream.failures > 0))
            metrics.window.labels(upstream.name).set(sum(len(link.session.outstanding) for link in upstream.links))
            for form, hits in upstream.matcher.hits.items():
                told = self._told_forms.get((upstream.name, form.value), 0)
                if hits != told:
                    # Where there are fewer than before, a reload gave the upstream another matcher, which counts from 0.
                    metrics.receipt_forms.labels(upstream.name, form.value).inc(hits - told if hits > told else hits)
                    self._told_forms[upstream.name, form.value] = hits
            self._count_ended(upstream)
        metrics.hot.set(context.ledger.count())
        metrics.damaged.set(self._store.damaged)
        metrics.unfiled.set(self._store.unfiled)
        metrics.hot_octets.set(context.ledger.octets)


def _set_rate(gauge: Gauge, name: str, rate: float | None) -> None:
    if rate is None:
        gauge.remove(name)
    else:
        gauge.labels(name).set(rate)


def _links_wanted(upstream: UpstreamState) -> int:
    settings = upstream.settings
    return settings.sessions * (1 if settings.bind == "transceiver" else 2)


def waits_since(message: Message, wall: float) -> float:
    """The epoch second since which nothing but a carrier is waited for."""
    since = id_time(message.id)
    gate = message.lane.gate
    return since if gate is None else max(since, gate.open_since(wall))


def _upstream(one: UpstreamState, now: float) -> UpstreamPicture:
    return UpstreamPicture(
        one.name,
        ", ".join(getattr(one.settings, "address", ())),  # a stand-in for one that left the configuration has none
        not one.gone,
        len(one.links),
        sum(len(link.session.outstanding) for link in one.links),
        len(one.ready) + len(one.codes),
        len(one.unknown),
        len(one.ids) + one.cold_waiting,
        one.paused_until > now or bool(one.act),
        total(one.submitted),
    )
