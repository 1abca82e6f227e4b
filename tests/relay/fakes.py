"""A world for the relay: clocks that stand still, a store in memory, customers and carriers on real sessions without sockets.

Tests read as transcripts: ``world.customer().submits(b"hello")``, ``world.commits()``, ``world.carrier().answers(b"id-1")``,
``world.passes(61)``, ``world.restarts()``. Nothing is committed unless the test says so.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from smppd.config import Settings
from smppd.consent.suppression import Hashes, Register
from smppd.daemon.screens import Screens
from smppd.ids import Ids
from smppd.metrics import Metrics
from smppd.policy.pipeline import pipelines
from smppd.policy.screens import Screen
from smppd.protocol.receipt import MessageState, parse, write
from smppd.protocol.session import Role, Session, Timers
from smppd.protocol.wire import (
    Command,
    Fields,
    Sm,
    Splitter,
    Tag,
    address_field,
    build_sm,
    id_response,
    pdu,
    refusal,
    tlv,
)
from smppd.relay.receipts.opt_outs import Change
from smppd.relay.relay import Relay, Routing
from smppd.relay.state.model import Account, Mail, Message, Parked, UpstreamState
from smppd.relay.state.phase import Phase
from smppd.store.api import Kind
from tests.relay.invariants import filed, weighs
from tests.store.memory import MemoryStore
from tests.vault.rows import NOON, MemoryRows, ring

FROM = address_field(1, 1, b"447700900001")
TO = b"447700900123"
_PATIENT = Timers(control_burst=1000.0, enquire_link=1e9, inactivity=1e9)
HASH = "$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM"


def settings(**sections: Any) -> Settings:
    """A configuration: account acme, upstreams a and b (``routes`` to a, then b), changed by ``sections``. ``acme``, ``a``
    and ``b`` add to those."""
    acme = {"system_id": "acme", "password_hash": HASH, "networks": "any", "window": 1000, "throughput": None}
    acme |= {"receipts": {"window": 1000}, **sections.pop("acme", {})}
    upstreams = [
        {"name": name, "address": "127.0.0.1:2776", "system_id": "gw", "password": {"env": "PW"}, "window": 1000}
        | sections.pop(name, {})
        for name in ("a", "b")
    ]
    return Settings.model_validate(
        {
            "listeners": [{"address": "127.0.0.1:0"}],
            "accounts": [acme, *sections.pop("more", [])],
            "upstreams": upstreams,
            "routes": [{"upstreams": ["a", "b"]}],
            "store": {"path": Path("var"), "hot": sections.pop("hot", 100_000)},
            "keys": {"file": "kek"},
            **sections,
        }
    )


class FakeCustomer:
    """A bound customer. ``heard``: frames it got, answered to only by ``takes``."""

    def __init__(self, world: World, account: Account, command: int, version: int, window: int) -> None:
        self.world = world
        self.account = account
        self.version = version
        self.address = b"192.0.2.1"
        self.session = Session(Role.SMSC, _PATIENT, world.now)
        self.session.receive(pdu(command, 0, 1, b"x\0y\0\0\x34\0\0\0"), world.now)
        self.session.accept_bind(command, window=1000, outstanding_limit=window)
        self.heard: list[bytes] = []
        self.gone = False
        self._resuming = False
        self.taken = 0
        self._numbers = count(2)
        self._cut = Splitter(1 << 20)
        world.relay.customer_bound(self, world.now)
        world.relay.flush()

    def flush(self) -> None:
        out = self.session.take()
        if not self.gone:
            self.heard.extend(self._cut.feed(out))
            if self.session.blocked and self.session.unanswered < self.session.window and not self._resuming:
                self._resuming = True
                self._receive(b"")
                self._resuming = False

    def sends(self, *frames: bytes) -> list[int]:
        """Sends requests in one chunk; their sequence numbers."""
        numbers = [next(self._numbers) for _ in frames]
        stream = b"".join(f[:12] + n.to_bytes(4, "big") + f[16:] for f, n in zip(frames, numbers, strict=True))
        self._receive(stream)
        return numbers

    def submits(
        self, *texts: bytes, to: bytes = TO, registered: int = 1, tlvs: bytes = b"", **fields: Any
    ) -> list[int]:
        """Submits texts in one chunk."""
        field = Fields(registered=registered, **fields)
        destination = address_field(1, 1, to)
        return self.sends(*[build_sm(Command.SUBMIT_SM, 0, FROM, destination, text, field, tlvs) for text in texts])

    def _receive(self, data: bytes) -> None:
        world = self.world
        got = self.session.receive(data, world.now)
        world.relay.customer_sent(self, got.answers, got.messages, got.others, world.now)
        self.flush()
        world.relay.flush()
        world.turns()

    def answered(self) -> list[tuple[int, int, bytes]]:
        """(sequence, status, message id or body) of responses since last asked."""
        out = [f for f in self.heard if f[4] & 0x80]
        self.heard = [f for f in self.heard if not f[4] & 0x80]
        return [(int.from_bytes(f[12:16], "big"), int.from_bytes(f[8:12], "big"), f[16:].rstrip(b"\0")) for f in out]

    def statuses(self) -> list[int]:
        return [status for _, status, _ in self.answered()]

    def ids(self) -> list[bytes]:
        """Ids of accepted messages since last asked; all must have been accepted."""
        answers = self.answered()
        assert all(status == 0 for _, status, _ in answers), answers
        return [body for _, _, body in answers]

    def takes(self, status: int = 0, most: int = 1 << 30) -> list[Sm]:
        """Answers the deliver_sm that came, and returns them."""
        mails = [f for f in self.heard if f[4:8] == b"\0\0\0\5"][:most]
        self.heard = [f for f in self.heard if f not in mails]
        self._receive(
            b"".join(pdu(Command.DELIVER_SM_RESP, status, int.from_bytes(f[12:16], "big"), b"\0") for f in mails)
        )
        self.taken += len(mails) if not status else 0
        return [Sm(f) for f in mails]

    def acknowledges(self, response: bytes) -> None:
        """Sends a response of its own making."""
        self._receive(response)

    def receipts(self, status: int = 0) -> list[tuple[bytes, str]]:
        """(our id, stat) of the receipts that came, acknowledged."""
        out = []
        for sm in self.takes(status):
            receipt = parse(sm.short_message)
            assert receipt is not None
            assert sm.tlv(Tag.RECEIPTED_MESSAGE_ID) in (None, receipt.id + b"\0")
            out.append((receipt.id, receipt.stat.decode()))
        return out

    def silent(self) -> None:
        """The response timer runs out on what it holds."""
        expired = self.session.sweep(self.world.now)
        self.world.relay.customer_silent(self, expired, self.world.now)

    def leaves(self) -> None:
        """The connection ends."""
        self.gone = True
        self.world.relay.customer_left(self, self.session.abandon(), self.world.now)


class FakeLink:
    """A bound session to a carrier, played by the test. ``waiting``: submit_sm that have no answer; ``attempts``: of each that
    came, whose record it is, whether that is flagged as a possible duplicate, and its sequence number."""

    def __init__(self, world: World, state: UpstreamState, window: int, command: int) -> None:
        self.world = world
        self.state = state
        self.session = Session(Role.ESME, _PATIENT, world.now, window=1000, outstanding_limit=window)
        self.session.bind(pdu(command, 0, 0, b"x\0y\0\0\x34\0\0\0"), None, world.now)
        self.session.take()
        self.session.receive(pdu(command | 0x80000000, 0, 1, b"x\0"), world.now)
        self.session.bound_as(command)
        self.waiting: list[Sm] = []
        self.sent: list[Sm] = []
        self.attempts: list[tuple[int, bool, int]] = []
        self.responses: list[tuple[int, int]] = []
        self.gone = False
        self._numbers = count(1)
        self._cut = Splitter(1 << 20)
        world.relay.carrier_bound(state, self, world.now)

    def flush(self) -> None:
        for frame in self._cut.feed(self.session.take()):
            if self.gone:
                continue
            if frame[4] & 0x80:
                self.responses.append((int.from_bytes(frame[12:16], "big"), int.from_bytes(frame[8:12], "big")))
            elif frame[7] != 0x15:
                sm = Sm(frame)
                self.waiting.append(sm)
                self.sent.append(sm)
                entry = self.session.outstanding.get(sm.sequence)
                if entry is not None and isinstance(entry.token, Message):
                    self.attempts.append((entry.token.id, entry.token.duplicate, sm.sequence))

    def texts(self) -> list[bytes]:
        """Texts of what waits for an answer, in order."""
        return [sm.short_message for sm in self.waiting]

    def _receive(self, data: bytes) -> None:
        world = self.world
        got = self.session.receive(data, world.now)
        world.relay.carrier_sent(self.state, self, got.answers, got.messages, world.now)
        self.flush()
        world.relay.flush()

    def answers(self, *ids: bytes, status: int = 0) -> None:
        """Answers the oldest ones, with these ids or a status."""
        frames = []
        for name in ids or (b"",):
            sm = self.waiting.pop(0)
            frames.append(
                refusal(sm.command, status, sm.sequence) if status else id_response(sm.command, sm.sequence, name)
            )
        self._receive(b"".join(frames))

    def answers_late(self, sm: Sm, name: bytes = b"", status: int = 0) -> None:
        """Answers one that is not waited for any more."""
        self._receive(
            refusal(sm.command, status, sm.sequence) if status else id_response(sm.command, sm.sequence, name)
        )

    def answers_with(self, frame: bytes) -> None:
        """Sends a response of its own making."""
        self._receive(frame)

    def delivers(self, *frames: bytes) -> None:
        """Brings deliver_sm in one chunk."""
        self._receive(b"".join(f[:12] + next(self._numbers).to_bytes(4, "big") + f[16:] for f in frames))

    def reports(self, *names: bytes, state: MessageState = MessageState.DELIVERED, **more: Any) -> None:
        """Brings receipts."""
        self.delivers(*[receipt(name, state, **more) for name in names])

    def acknowledged(self) -> list[int]:
        """Statuses of our answers to what it brought, since last asked."""
        out, self.responses = self.responses, []
        return [status for _, status in out]

    def silent(self) -> None:
        """The response timer runs out on what waits here, if it is time."""
        expired = self.session.sweep(self.world.now)
        self.world.relay.carrier_silent(self.state, expired, self.world.now)

    def cut(self) -> None:
        """The connection ends."""
        self.gone = True
        self.waiting = []
        self.world.relay.carrier_left(self.state, self, self.session.abandon(), self.world.now)


def receipt(
    name: bytes,
    state: MessageState = MessageState.DELIVERED,
    *,
    to: bytes = TO,
    tlv_id: bytes | None = None,
    esm: int = 4,
    command: int = Command.DELIVER_SM,
) -> bytes:
    """A carrier's receipt."""
    text = write(name, state, submitted=NOON, done=NOON)
    tlvs = tlv(Tag.RECEIPTED_MESSAGE_ID, tlv_id + b"\0") if tlv_id is not None else b""
    return build_sm(command, 0, address_field(1, 1, to), FROM, text, Fields(esm_class=esm), tlvs)


class World:
    """See the module."""

    def __init__(
        self,
        configuration: Settings | None = None,
        *,
        segments: int = 6,
        seconds: float = 120.0,
        screens: dict[str, tuple[Screen, ...]] | None = None,
        store: MemoryStore | None = None,
        node: int = 0,
    ) -> None:
        self.settings = configuration or settings()
        self.given = screens
        self._segments = segments, seconds
        self.now = 1000.0
        self.wall = float(NOON)
        self.store = MemoryStore() if store is None else store
        self.ids = Ids(lambda: self.wall, node)
        self.ring = ring(MemoryRows())
        self.broken: list[str] = []
        self.relay: Relay
        self._begin()

    def _begin(self) -> None:
        self.customers: list[FakeCustomer] = []
        self.links: list[FakeLink] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = count()
        self.metrics = Metrics()
        self.register = Register(Hashes(b"suppression key of this world..."))
        self.opted: list[Change] = []
        self.screens = Screens(self.register).of(self.settings, {}) if self.given is None else self.given
        self.store.restart()
        self.relay = Relay(
            self.settings,
            self.store,
            self.ring,
            self.metrics,
            pipelines=pipelines(self.settings),
            screens=self.screens,
            ids=self.ids,
            wall=lambda: self.wall,
            now=lambda: self.now,
            later=self._later,
            random=Random(7),
            broken=self.broken.append,
            register=self.register,
            opted_out=self.opted.append,
            reply_secret=b"r" * 32,
            erased_secret=b"e" * 32,
        )
        self.living = self.relay.begin()
        self.store.segments.most, self.store.segments.seconds = self._segments
        self.store.answer()

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now + seconds, next(self._tie), function))

    def turns(self) -> None:
        """The turns of the reactor that were asked for: what one chunk was too much for."""
        while self._timers and self._timers[0][0] <= self.now:
            heapq.heappop(self._timers)[2]()

    # -- who is there --------------------------------------------------------------------------------------------------

    def account(self, name: str = "acme") -> Account:
        return self.relay.context.accounts[name]

    def upstream(self, name: str = "a") -> UpstreamState:
        return self.relay.context.upstreams[name]

    def customer(
        self, name: str = "acme", *, command: int = Command.BIND_TRANSCEIVER, version: int = 0x34, window: int = 1000
    ) -> FakeCustomer:
        """A new bind."""
        customer = FakeCustomer(self, self.account(name), command, version, window)
        self.customers.append(customer)
        return customer

    def carrier(self, name: str = "a", window: int = 1000, *, command: int = Command.BIND_TRANSCEIVER) -> FakeLink:
        """A new link to an upstream."""
        link = FakeLink(self, self.upstream(name), window, command)
        self.links.append(link)
        return link

    # -- what happens --------------------------------------------------------------------------------------------------

    def commits(self, most: int = 50) -> int:
        """The writer commits until nothing is left, and so slowly that early receipts are early; how often."""
        self.relay.receipts.settle_early(self.now, 0.0)
        for done in range(most):
            self.turns()
            if not self.store.commit():
                self.store.answer()
                if not self.store.batch:
                    return done
        return most

    def commits_once(self) -> None:
        self.store.commit()

    def fills(self) -> None:
        """The disk is full: the batch fails, and so do others until ``frees``."""
        self.store.room = False
        self.store.fail()

    def frees(self) -> None:
        self.store.room = True

    def passes(self, seconds: float, step: float = 1.0, *, commit: bool = True) -> None:
        """Time passes, with ticks, timers and commits."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            ahead = min(step, end - self.now)
            self.now += ahead
            self.wall += ahead
            self.turns()
            self.relay.tick(self.now)
            if not commit:
                continue
            if self.store.room:
                self.commits()
            else:
                self.store.answer()
                self.store.fail()

    def restarts(self, configuration: Settings | None = None) -> None:
        """The process dies; another begins with what was committed."""
        self.settings = configuration or self.settings
        self._begin()

    def reloads(self, configuration: Settings) -> None:
        """The daemon takes another configuration."""
        self.screens = Screens(self.register).of(configuration, {}) if self.given is None else self.given
        self.relay.take_configuration(configuration, Routing.of(configuration), pipelines(configuration), self.screens)

    def spills(self) -> None:
        """Enough time for everything that lives in the journal to have been moved out of its segment."""
        for _ in range(9):
            self.passes(121, step=121)
            self.passes(2)

    # -- what is true --------------------------------------------------------------------------------------------------

    def states(self, message_id: bytes) -> list[int]:
        """The states in the record of a message, in order."""
        identity = int(message_id, 16)
        return [event.state for event in self.store.events if event.id == identity]

    def total(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"smppd_{name}_total", labels) or 0.0

    def check(self) -> None:
        """Every count is what it would be if counted anew."""
        context = self.relay.context
        uncommitted = [self.store.batch, *(batch for batch, _ in self.store.under_way)]
        put = [row for batch in uncommitted for row in batch.put + batch.moves]
        dropped = {key for batch in uncommitted for key in batch.drop}
        rows = {(r.kind, r.owner, r.key, r.id): r for r in [*self.store.cold.values(), *put] if not r.shared}
        for key in dropped:
            rows.pop(key, None)
        living = context.ledger.living()
        assert len({thing.id for thing in living}) == len(living)
        assert not {thing.id for thing in living} & {row.id for row in rows.values()}, "in the spool and a row"
        filed(context, context.phases.calendar)
        weighs(context)
        for account in context.accounts.values():
            lanes = account.lanes.values()
            held = [m for m in living if isinstance(m, Message) and m.account is account and m.phase is Phase.HELD]
            hot = [m for lane in lanes for m in lane.hot]
            aside = [m for u in context.upstreams.values() for m in u.pinned_parts if m.account is account]
            moving = [
                m
                for m in living
                if isinstance(m, Message)
                and m.account is account
                and m.phase in (Phase.RELEASING, Phase.READY, Phase.SENT, Phase.UNKNOWN)
            ]
            assert all(m.phase is Phase.QUEUED for m in hot) and all(m.phase is Phase.PINNED for m in aside)
            assert account.queued == len(hot) + len(aside) + len(held) + len(moving) + sum(x.cold for x in lanes)
            for lane in lanes:
                assert list(lane.hot) == sorted(lane.hot, key=lambda m: m.id)
                memory = {m.id for m in [*lane.hot, *aside]}
                unread = [
                    r for r in rows.values() if (r.kind, r.owner) == (Kind.QUEUE, lane.name) and r.id not in memory
                ]
                assert lane.cold == len(unread), (lane.cold, len(unread))
            box = account.mailbox
            mine = [r for r in rows.values() if (r.kind, r.owner) == (Kind.MAIL, account.name)]
            assert box.cold == sum(1 for row in mine if row.id not in box.read), (box.cold, len(mine), len(box.read))
            assert box.read <= {row.id for row in mine}
            busy = [
                e.token for c in account.sessions for e in c.session.outstanding.values() if isinstance(e.token, Mail)
            ]
            assert box.sent == sum(1 for mail in busy if mail.busy)
        for upstream in context.upstreams.values():
            reserved = [
                m
                for m in living
                if isinstance(m, Message)
                and m.upstream is upstream
                and m.phase in (Phase.RELEASING, Phase.READY, Phase.SENT)
            ]
            assert upstream.reserved == len(reserved), (upstream.name, upstream.reserved, len(reserved))
            unknown = [
                m for m in living if isinstance(m, Message) and m.phase is Phase.UNKNOWN and m.upstream is upstream
            ]
            assert {m.id for m in unknown} == set(upstream.unknown)
            waiting = [
                r
                for r in rows.values()
                if (r.kind, r.owner) == (Kind.WAITING, upstream.name)
                and (r.kind, r.owner, r.key, r.id) not in self.store.untold
            ]
            assert upstream.cold_waiting == len(waiting), (upstream.cold_waiting, len(waiting))
            assert all(m.awaits_receipt for many in upstream.alike.values() for m in many)
            assert upstream.parked_octets == sum(len(p.frame) + 2200 for p in upstream.parked.values())
            assert upstream.early_octets == sum(len(e.sm.raw) for many in upstream.early.values() for e in many)
            parked = {p.id for p in living if isinstance(p, Parked) and p.upstream is upstream}
            assert parked == {p.id for p in upstream.parked.values() if p.home}


def drained(world: World, link: FakeLink, most: int = 60) -> list[bytes]:
    """All that comes to a carrier while time passes, each answered; in order."""
    for _ in range(most):
        world.passes(0.1, step=0.1)
        while link.waiting:
            link.answers(*[b"id-%d-%d" % (len(link.sent), n) for n in range(len(link.waiting))])
            world.commits()
    world.check()
    return [sm.short_message for sm in link.sent]
