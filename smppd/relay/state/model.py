"""What the data path works on: accounts, upstreams, lanes and messages, as they live in memory.

A *message* (MT) passes through ``Phase``; ``_PHASES`` says which may follow which. A *lane* is the queue of one account
towards one list of upstreams; its order is the order of message ids.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from smppd.config import Account as AccountSettings
from smppd.config import Upstream as UpstreamSettings
from smppd.ids import id_time
from smppd.ids import shown as shown_form
from smppd.message import Refusal, State
from smppd.metrics import Metrics
from smppd.protocol.session import Session
from smppd.protocol.text import Alphabet
from smppd.protocol.wire import Sm, known_status, status_name
from smppd.relay.ledger.journal import HEAD, Entry, Living
from smppd.relay.ledger.payload import (
    ACCEPT,
    FLAG_DUPLICATE,
    FLAG_HELD,
    FLAG_MORE,
    FLAG_RELEASED,
    FLAG_REPLY,
    FLAG_SHOWN,
    FLAG_SUBMITTED,
    FLAG_VIA,
    MORE_HOLD,
    MORE_RESEND,
)
from smppd.relay.state.addresses import ByAddress
from smppd.relay.state.awaited import Awaited
from smppd.relay.state.bucket import Bucket
from smppd.relay.state.post import FIRST_ROWS, Mailbox
from smppd.relay.state.queues import AHEAD, Addressed, Aside, Queue, Turns

if TYPE_CHECKING:
    from smppd.policy.content import PartKey
    from smppd.policy.pipeline import Pipeline
    from smppd.relay.accept.answers import Fanout
    from smppd.relay.accept.duplicates import Known

ALPHABETS: Final = {
    "gsm": Alphabet.GSM,
    "gsm_packed": Alphabet.GSM_PACKED,
    "latin1": Alphabet.LATIN1,
    "ascii": Alphabet.ASCII,
}


class Phase(IntEnum):
    """Where a message is on its way."""

    STORING = 0
    QUEUED = 1
    READY = 2
    SENT = 3
    UNKNOWN = 4
    SUBMITTED = 5
    DONE = 6
    HELD = 7


_OWN_STATUSES: Final = 64
_PHASES: Final[dict[Phase, frozenset[Phase]]] = {
    Phase.STORING: frozenset((Phase.QUEUED, Phase.READY, Phase.HELD, Phase.DONE)),
    Phase.HELD: frozenset((Phase.QUEUED, Phase.DONE)),
    # From QUEUED and READY to SUBMITTED: the carrier's answer to an earlier attempt came very late.
    Phase.QUEUED: frozenset((Phase.READY, Phase.SUBMITTED, Phase.DONE)),
    Phase.READY: frozenset((Phase.SENT, Phase.QUEUED, Phase.SUBMITTED, Phase.DONE)),
    Phase.SENT: frozenset((Phase.SUBMITTED, Phase.UNKNOWN, Phase.QUEUED, Phase.READY, Phase.DONE)),
    Phase.UNKNOWN: frozenset((Phase.QUEUED, Phase.READY, Phase.SUBMITTED, Phase.DONE)),
    Phase.SUBMITTED: frozenset((Phase.DONE,)),
    Phase.DONE: frozenset(),
}


class Peer(Protocol):
    """A customer's or carrier's connection, as the relay sees it."""

    session: Session

    def flush(self) -> None:
        """Writes what the session has to send, and goes on reading if it was blocked."""


class Customer(Peer, Protocol):
    """A bound customer session."""

    account: Account
    version: int
    address: bytes


class Message(Living):
    """One message on its way to a carrier.

    ``frame``: the submit_sm as it will be sent. ``reply_to``: the source field its sender used, where policy exchanged it.
    ``reversed``: its addresses as its receipts carry them, destination field first. ``expires``: epoch seconds.
    ``home``: journal segment, 0 when it lives as ``cold`` row (kind, owner, key). ``answer_at``: not answered before
    (throttling). ``part``: what it shares with the other parts of a long message. ``wire``: its sequence number on the
    carrier's link, in the latest attempt. ``on_unknown``: what a rule said, empty where the account's counts.
    ``leaving``: its release is in a batch. ``told``: flags of ``payload`` for what its carrier has reported that may be the
    last word, or not. ``due``: its place in ``waiting.Calendar``; ``key``, ``before``, ``next``: that in
    ``waiting.Addressed``. ``known``: what is remembered of it for accounts with ``deduplicate``.
    """

    __slots__ = (
        "account",
        "answer_at",
        "before",
        "cold",
        "customer",
        "deadline",
        "due",
        "duplicate",
        "expires",
        "fanout",
        "key",
        "known",
        "lane",
        "leaving",
        "next",
        "on_unknown",
        "part",
        "phase",
        "read_at",
        "refusal",
        "registered",
        "reply_to",
        "reversed",
        "sent_at",
        "sequence",
        "shown",
        "stored",
        "told",
        "tries",
        "upstream",
        "upstream_id",
        "way",
        "wire",
    )

    def __init__(
        self, identity: int, account: Account, lane: Lane, frame: bytes, registered: int, expires: int, shown: bytes
    ) -> None:
        self.id = identity
        self.frame = frame
        self.home = 0
        self.weight = 0
        self.account = account
        self.lane = lane
        self.registered = registered
        self.expires = expires
        self.shown = shown
        self.reply_to: bytes | None = None
        self.reversed = b""
        self.phase = Phase.STORING
        self.duplicate = False
        self.due = 0
        self.key = 0
        self.before: Message | None = None
        self.next: Message | None = None
        self.known: Known | None = None
        self.cold: tuple[int, str, bytes] | None = None
        self.customer: Customer | None = None
        self.sequence = 0
        self.read_at = 0.0
        self.sent_at = 0.0
        self.answer_at = 0.0
        self.deadline = 0.0
        self.tries = 0
        self.part: PartKey | None = None
        self.wire = 0
        self.on_unknown = ""
        self.refusal: Refusal | None = None
        self.fanout: Fanout | None = None
        self.stored = False
        self.leaving = False
        self.told = 0
        self.way = 0
        self.upstream: UpstreamState | None = None
        self.upstream_id = b""

    def __repr__(self) -> str:
        return f"<Message {self.id:016x} {self.phase.name}>"

    def enter(self, phase: Phase) -> None:
        """The one place where a message changes its phase."""
        if phase not in _PHASES[self.phase]:
            raise AssertionError(f"no way from {self.phase.name} to {phase.name}")
        self.phase = phase

    @property
    def accepted_at(self) -> float:
        """Epoch seconds at which it was accepted."""
        return id_time(self.id)

    @property
    def wants_success(self) -> bool:
        """Whether the sender asked for a receipt of delivery (registered_delivery, SMPP 3.4 section 5.2.17)."""
        return self.registered & 3 in (1, 3)

    @property
    def wants_failure(self) -> bool:
        """Whether the sender asked for a receipt of failure."""
        return self.registered & 3 in (1, 2)

    @property
    def wants_any(self) -> bool:
        """Whether any receipt has to be waited for."""
        return bool(self.registered & 0x13)

    @property
    def resends(self) -> bool:
        """Whether it goes once more when nobody knows if a carrier has it; a rule's word stands before the account's."""
        return (self.on_unknown or self.account.settings.on_unknown) == "resend"

    @property
    def via(self) -> bytes:
        """Name of the upstream it was released to, where that is not the first of its lane."""
        upstream, first = self.upstream, self.lane.upstreams
        return b"" if upstream is None or (first and upstream is first[0]) else upstream.name.encode()

    def payload(self) -> bytes:
        """What the spool keeps of it: enough to go on after a restart."""
        flags = (
            (FLAG_RELEASED if self.phase in (Phase.READY, Phase.SENT, Phase.UNKNOWN) else 0)
            | (FLAG_DUPLICATE if self.duplicate else 0)
            | (FLAG_SUBMITTED if self.phase is Phase.SUBMITTED else 0)
            | (FLAG_HELD if self.phase is Phase.HELD else 0)
        )
        tail = b""
        if self.on_unknown or self.told:
            flags |= FLAG_MORE
            more = self.told
            if self.on_unknown:
                more |= MORE_RESEND if self.on_unknown == "resend" else MORE_HOLD
            tail = bytes((more,))
        if len(self.shown) != 16 or self.shown != shown_form(self.id):
            flags |= FLAG_SHOWN
            tail += bytes((len(self.shown),)) + self.shown
        if self.reply_to is not None:
            flags |= FLAG_REPLY
            tail += bytes((len(self.reply_to),)) + self.reply_to
        if self.phase is Phase.SUBMITTED:
            name = self.upstream.name.encode() if self.upstream else b""
            tail += bytes((len(name),)) + name + bytes((len(self.upstream_id),)) + self.upstream_id
        elif flags & FLAG_RELEASED and (via := self.via):
            flags |= FLAG_VIA
            tail += bytes((len(via),)) + via
        names = self.lane.name_bytes
        return ACCEPT.pack(self.expires, flags, len(names)) + names + tail + self.frame

    def entry(self) -> bytes:
        """The spool entry that opens it."""
        payload = self.payload()
        return HEAD.pack(Entry.ACCEPT, HEAD.size + len(payload), self.id) + payload


class Lane:
    """The queue of one account towards one ordered list of upstreams. ``hot`` is its oldest part, in memory; ``cold`` counts
    the rows that are not, all younger, of which ``unstored`` are in a batch. ``name`` is the owner of its cold rows.
    ``leaving``: how many are released in batches that are not durable yet; ``waits`` for them: others were put back meanwhile,
    and must not be released again before it is known which of these are younger. ``asking``: those in ``hot`` whose customer
    waits for the carrier's word. ``rows``: how many cold rows are read at once, after the size of the last ones."""

    __slots__ = (
        "account",
        "active",
        "asking",
        "cold",
        "hot",
        "leaving",
        "name",
        "name_bytes",
        "paging",
        "route",
        "rows",
        "unstored",
        "upstreams",
        "upto",
        "waits",
    )

    def __init__(self, account: Account, route: str, upstreams: tuple[UpstreamState, ...]) -> None:
        self.account = account
        self.route = route
        self.upstreams = upstreams
        self.name = f"{account.name}\n{route}"
        self.name_bytes = self.name.encode()
        self.hot: Queue[Message] = Queue()
        self.asking: dict[int, Message] = {}
        self.rows = FIRST_ROWS
        self.cold = 0
        self.unstored = 0
        self.leaving = 0
        self.waits = False
        self.upto = 0
        self.paging = False
        self.active: UpstreamState | None = None

    def __repr__(self) -> str:
        return f"<Lane {self.account.name} {self.route} {len(self.hot)}+{self.cold}>"

    def __len__(self) -> int:
        return len(self.hot) + self.cold

    def left(self, message: Message) -> bool:
        """A release in a batch is over, durable or lost: whether older ones were put back meanwhile, so that this one has to
        stand behind them."""
        message.leaving = False
        self.leaving -= 1
        if not self.waits:
            return False
        if not self.leaving:
            self.waits = False
        first = self.hot.first()
        return first is not None and first.id < message.id

    @property
    def gone(self) -> bool:
        """Whether the configuration has none of its upstreams any more."""
        return all(upstream.gone for upstream in self.upstreams)


class Account:
    """A customer's account at run time; ``settings`` may be exchanged by a reload. ``addressed``: its waiting messages by their
    addresses; ``aside``: those that stand aside for one carrier (see ``UpstreamState``)."""

    def __init__(self, settings: AccountSettings, metrics: Metrics, now: float) -> None:
        self.name = settings.system_id
        self.name_bytes = self.name.encode()
        self.settings = settings
        self.bucket = Bucket(settings.throughput, settings.burst or 1, now)
        self.pipeline: Pipeline | None = None
        self.alphabet = ALPHABETS[settings.default_alphabet]
        self.region = settings.region
        self.sessions: list[Customer] = []
        self.mailbox = Mailbox(self)
        self.lanes: dict[str, Lane] = {}
        self.addressed = Addressed()
        self.aside: Queue[Message] = Queue()
        self.queued = 0
        self.turn = 0
        self.closed = False
        self.accepted = metrics.accepted.labels(self.name)
        self.answer_time = metrics.answer.labels(self.name)
        self.delivered = metrics.delivered.labels(self.name)
        self.gauges = (
            metrics.queued.labels(self.name),
            metrics.mailbox.labels(self.name),
            metrics.sessions.labels(self.name),
            metrics.oldest.labels(self.name),
        )

    def __repr__(self) -> str:
        return f"<Account {self.name}>"

    def use(self, settings: AccountSettings, now: float) -> None:
        """Exchanges the settings after a reload; sessions stay."""
        self.settings = settings
        self.alphabet = ALPHABETS[settings.default_alphabet]
        self.bucket.change(settings.throughput, settings.burst or 1, now)


class Early(NamedTuple):
    """A receipt that overtook the answer it belongs to: kept in memory for a moment, in case that answer is on its way.

    ``awaits``: the message without an answer that it fits, for which it waits longer, until ``until``.
    """

    link: Peer
    command: int
    sequence: int
    sm: Sm
    since: float
    awaits: Message | None = None
    until: float = 0.0

    def waits(self, now: float) -> bool:
        """Whether there is an answer to wait for still."""
        return self.awaits is not None and now < self.until and self.awaits.phase is Phase.SENT

    def __repr__(self) -> str:
        return f"<Early {self.sequence}>"


class UpstreamState(Awaited):
    """A carrier at run time. The messages that wait for its receipts are `Awaited`'s.

    ``links``: sessions to send on, ``receivers``: those that bring receipts; a transceiver is both. ``ready``: messages that
    may be sent. ``reserved``: those, the ones whose release is in a batch, and the ones sent and unanswered. ``capacity``:
    submits that the windows of its links hold. ``retried``: messages that were unknown here and are being sent again.
    ``aside``: parts of long messages that wait for this carrier alone. ``probe``: the one message that asks whether the
    carrier takes more after it said "later" or nothing at all. ``heard_at``: when it last answered a submit. ``plain``: its
    binds are of SMPP 3.3, which has no TLVs. ``own_statuses``: those of its refusals that the standard does not name and that
    metrics tell apart. ``gone``: not in the configuration, or disabled there.
    """

    def __init__(self, settings: UpstreamSettings, metrics: Metrics, now: float) -> None:
        super().__init__(settings)
        self.name = settings.name
        self.settings = settings
        self.gone = not settings.enabled
        self.bucket = Bucket(settings.throughput, settings.burst or (settings.throughput or 1), now)
        self.alphabet = ALPHABETS[settings.default_alphabet]
        self.region = settings.region
        self.detail = self.name.encode() + b"\0"
        self.plain = settings.interface_version == "3.3"
        self.links: list[Peer] = []
        self.receivers: list[Peer] = []
        self.capacity = 0
        self.lanes: OrderedDict[Lane, None] = OrderedDict()
        self.ready = Turns()
        self.reserved = 0
        self.unknown = ByAddress()
        self.retried = ByAddress()
        self.aside = Aside()
        self.paused_until = 0.0
        self.failures = 0
        self.probe: Message | None = None
        self.heard_at = now
        self.turn = 0
        self.wake_at = 0.0
        self.own_statuses: set[int] = set()
        self.submitted = metrics.submitted.labels(self.name)
        self.answer_time = metrics.upstream_answer.labels(self.name)
        self.receipt_age = metrics.receipt_age.labels(self.name)
        self.matched = metrics.receipts.labels(self.name, "matched")

    def refusal(self, status: int) -> str:
        """The name of a status that it refuses with, for a metric: a carrier may make up as many as it likes, so of those that
        the standard does not name the first ones are told apart."""
        if known_status(status) or status in self.own_statuses:
            return status_name(status)
        if len(self.own_statuses) >= _OWN_STATUSES:
            return "other"
        self.own_statuses.add(status)
        return status_name(status)

    def __repr__(self) -> str:
        return f"<Upstream {self.name}>"

    def use(self, settings: UpstreamSettings, now: float) -> None:
        """Exchanges the settings after a reload; sessions that still fit stay."""
        self.read_receipts_as(settings)
        self.settings = settings
        self.gone = not settings.enabled
        self.plain = settings.interface_version == "3.3"
        self.alphabet = ALPHABETS[settings.default_alphabet]
        self.bucket.change(settings.throughput, settings.burst or (settings.throughput or 1), now)

    @property
    def up(self) -> bool:
        """Whether a message could be sent now, rate and window aside."""
        return bool(self.links)

    @property
    def asking(self) -> bool:
        """Whether its probe is on its way. What was sent before the pause and is silent still says nothing."""
        probe = self.probe
        return self.failures > 0 and probe is not None and probe.phase is Phase.SENT and probe.upstream is self

    @property
    def credit(self) -> int:
        """How many more messages may be released to it: twice what its windows hold, so that a commit is never waited for.
        Not more than ``AHEAD`` beside those that are sent: each has to be taken back when the carrier is gone."""
        return min(2 * self.capacity - self.reserved, AHEAD - len(self.ready))

    def link_for(self, way: int, now: float) -> Peer:
        """The link of a destination, so that its messages keep their order; another with room where that one's window is full
        and its oldest message has waited long: a session nobody answers on must not hold up the others."""
        link = self.links[way % len(self.links)]
        session = link.session
        if session.room <= 0 and session.outstanding:
            oldest = next(iter(session.outstanding.values()))
            if now - oldest.sent >= self.settings.response / 3:
                return next((one for one in self.links if one.session.room > 0), link)
        return link

    def link(self, link: Peer, up: bool) -> None:
        """Adds or removes a session that may be sent on."""
        if up:
            self.links.append(link)
        elif link in self.links:
            self.links.remove(link)
        self.capacity = sum(one.session.outstanding_limit for one in self.links)


def customer_state(phase: Phase) -> State:
    """What query_sm tells of a message that is still on its way."""
    return State.ACCEPTED if phase is Phase.SUBMITTED else State.ENROUTE
