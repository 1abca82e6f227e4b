"""The objects that the data path works on, in memory: accounts, upstreams, lanes, messages, mail and parked receipts.

A *message* (MT) passes through phases (`relay.state.phase`), each of which is a list that it stands in; `relay.state.phases`
moves it. A *lane* is the queue of one account towards one list of upstreams; its order is the order of message ids. Each
object has the methods that change its numbers, and nobody else changes them.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from smppd.config import Account as AccountSettings
from smppd.config import Upstream as UpstreamSettings
from smppd.ids import id_time
from smppd.message import Refusal
from smppd.metrics import Metrics
from smppd.protocol.carrier_errors import carrier_error
from smppd.protocol.receipt_states import MessageState
from smppd.protocol.session import Session
from smppd.protocol.text import Alphabet
from smppd.protocol.wire import Sm, known_status, status_name
from smppd.relay.state.addresses import ByAddress, without_number
from smppd.relay.state.awaited import Awaited
from smppd.relay.state.backlog import Backlog
from smppd.relay.state.bucket import Bucket
from smppd.relay.state.living import Filed, Living
from smppd.relay.state.marks import read_route
from smppd.relay.state.phase import FOLLOWS, NAMES, WITH_CARRIER, Phase
from smppd.relay.state.queues import AHEAD, AddressChains, PinnedParts, Queue, Turns
from smppd.store.api import Kind

if TYPE_CHECKING:
    from smppd.consent.register import ConsentScreen
    from smppd.consent.screen import OptOutScreen
    from smppd.policy.hours.windows import Gate
    from smppd.policy.pipeline import Pipeline
    from smppd.policy.screens import Admission, Ear, Screen

ALPHABETS: Final = {
    "gsm": Alphabet.GSM,
    "gsm_packed": Alphabet.GSM_PACKED,
    "latin1": Alphabet.LATIN1,
    "ascii": Alphabet.ASCII,
}
TOLD_UNKNOWN: Final = 4
"""A flag of ``Message.reported``: its carrier has reported it UNKNOWN, and its sender was told."""
TOLD_WORD: Final = 8
"""A flag of ``Message.reported``: its sender was told a state that may be the carrier's last word."""
HEARD_ACCEPTED: Final = 16
"""A flag of ``Message.reported``: its carrier has reported it ACCEPTD, and its sender was not told."""

# Bits and values of registered_delivery, SMPP 3.4 section 5.2.17; 3 is that of SMPP 5.0 section 4.7.21.
_FINAL_RECEIPT: Final = 0x03
_ALWAYS: Final = 1
_ON_FAILURE: Final = 2
_ON_SUCCESS: Final = 3
_INTERMEDIATE: Final = 0x10

_TABLES_FROM: Final = 600
_OWN_STATUSES: Final = 64
_TAIL: Final = 9  # digits by which a number is known
# Octets that a parked receipt costs beside its own, as measured: its places in the ledger and in three indexes, under each
# key.
_PARKED_WEIGHT: Final = 2200
_FIRST_OF: Final = (Phase.STORING, Phase.RESTORED, Phase.SHELVED)


class Peer(Protocol):
    """A customer's or carrier's connection, as the relay sees it."""

    session: Session

    def flush(self) -> None:
        """Writes what the session has to send, and goes on reading if it was blocked."""


class CustomerPeer(Peer, Protocol):
    """A bound customer session."""

    account: Account
    version: int
    address: bytes


class Remembered:
    """What is remembered of a message that its customer may send once more (``deduplicate``). ``shown``: the id that the
    customer knows. ``at``: when it came, in monotonic seconds. ``stored``: it is durable. ``taken``: a carrier has it, or it
    has ended."""

    __slots__ = ("at", "key", "shown", "stored", "taken")

    def __init__(self, key: bytes, shown: bytes, at: float) -> None:
        self.key = key
        self.shown = shown
        self.at = at
        self.stored = False
        self.taken = False


class Fanout:
    """The one answer to a submit_multi. It is given when all its messages have their result, and not before
    ``answer_at``."""

    __slots__ = ("answer_at", "failed", "left", "shown", "total")

    def __init__(self, left: int, shown: bytes) -> None:
        self.left = self.total = left
        self.answer_at = 0.0
        self.shown = shown
        self.failed: list[tuple[bytes, int]] = []


class Message(Filed):
    """One message on its way to a carrier.

    ``frame``: the submit_sm as it will be sent. ``reply_to``: the source field its sender used, where policy exchanged it.
    ``answer_at``: not answered before (throttling). ``wire``: its sequence number on the carrier's link, in the latest
    attempt. ``on_unknown``: what a rule said, empty where the account's counts. ``reported``: what its carrier has reported,
    where that may not be the end (flags above). ``remembered``: what is remembered of it for accounts with ``deduplicate``.
    ``stored``: whether the batch that accepted it is durable. ``erased``: its text and the number of a person are gone, and
    only its receipt is waited for. ``ours``: it is an answer of ours to a handset, and nobody's but its account's name is on
    it. ``agreed``: it leaves by its recipient's consent. ``asked``: the epochs of both registers, added, at which it was last
    asked whether its recipient has opted out or withdrawn, 0 for never.
    ``upstream``: the carrier it goes to or went to.
    """

    __slots__ = (
        "_phase",  # its number
        "account",
        "agreed",
        "answer_at",
        "asked",
        "customer",
        "duplicate",
        "erased",
        "fanout",
        "remembered",
        "lane",
        "on_unknown",
        "ours",
        "read_at",
        "refusal",
        "registered",
        "reply_to",
        "sent_at",
        "sequence",
        "shown",
        "stored",
        "reported",
        "tries",
        "upstream",
        "destination_hash",
        "wire",
    )

    def __init__(
        self,
        identity: int,
        account: Account,
        lane: Lane,
        frame: bytes,
        registered: int,
        expires: int,
        shown: bytes,
        phase: Phase = Phase.STORING,
    ) -> None:
        """``phase``: STORING for a new one; RESTORED for one that was read back, SHELVED if it waits for its receipt as a
        row. AssertionError for any other: messages get there by `relay.state.phases`."""
        super().__init__(identity, frame, expires)
        if phase not in _FIRST_OF:
            raise AssertionError(f"no message begins as {phase.name}")
        self._phase: int = phase
        self.account = account
        self.lane = lane
        self.registered = registered
        self.shown = shown
        self.reply_to: bytes | None = None
        self.duplicate = False
        self.remembered: Remembered | None = None
        self.customer: CustomerPeer | None = None
        self.sequence = 0
        self.read_at = 0.0
        self.sent_at = 0.0
        self.answer_at = 0.0
        self.tries = 0
        self.wire = 0
        self.on_unknown = ""
        self.refusal: Refusal | None = None
        self.fanout: Fanout | None = None
        self.stored = False
        self.erased = False
        self.ours = False
        self.agreed = False
        self.asked = 0
        self.reported = 0
        self.destination_hash = 0
        self.upstream: UpstreamState | None = None

    def __repr__(self) -> str:
        return f"<Message {self.id:016x} {self.phase.name}>"

    @property
    def phase(self) -> Phase:
        """The list it stands in. `relay.state.phases.Phases.move` alone changes it."""
        return NAMES[self._phase]

    def is_in(self, phases: int) -> bool:
        """Whether it is in one of these phases, a set of bits (`relay.state.phase`). Compiled, this costs next to nothing."""
        return bool(phases >> self._phase & 1)

    def follow(self, phase: int) -> int:
        """Takes the number of another phase, returns the one before. AssertionError where the table does not allow it.
        Called by `relay.state.phases` alone."""
        was = self._phase
        if not FOLLOWS[was] >> phase & 1:
            raise AssertionError(f"no way from {NAMES[was].name} to {NAMES[phase].name}")
        self._phase = phase
        return was

    def finish(self) -> int:
        """Ends a message whose handling an error interrupted, whatever the table says; returns the number of the phase
        before. Called by `relay.state.phases` alone."""
        was, self._phase = self._phase, Phase.DONE
        return was

    @property
    def awaits_receipt(self) -> bool:
        """Whether its carrier has it, and its receipt is waited for."""
        return bool(WITH_CARRIER >> self._phase & 1)

    @property
    def destination_digits(self) -> bytes:
        """The digits that its receipts come from; empty where they were erased."""
        fields = self.reversed
        return fields[2 : fields.find(0, 2)]

    def named_in_log(self, upstream_id: bytes) -> bytes:
        """What its carrier calls it, as the log may have it: without its number."""
        digits = self.destination_digits
        if digits and upstream_id.find(digits[-_TAIL:]) < 0:
            return upstream_id
        return without_number(upstream_id, digits)

    @property
    def accepted_at(self) -> float:
        """Epoch seconds at which it was accepted."""
        return id_time(self.id)

    @property
    def wants_success(self) -> bool:
        """Whether the sender asked for a receipt of delivery (registered_delivery, SMPP 3.4 section 5.2.17)."""
        return self.registered & _FINAL_RECEIPT in (_ALWAYS, _ON_SUCCESS)

    @property
    def wants_failure(self) -> bool:
        """Whether the sender asked for a receipt of failure."""
        return self.registered & _FINAL_RECEIPT in (_ALWAYS, _ON_FAILURE)

    @property
    def wants_any(self) -> bool:
        """Whether the sender asked for any receipt or intermediate notification, so that the carrier's are waited for."""
        return bool(self.registered & (_FINAL_RECEIPT | _INTERMEDIATE))

    @property
    def wants_intermediate(self) -> bool:
        """Whether the sender asked for intermediate notifications."""
        return bool(self.registered & _INTERMEDIATE)

    @property
    def resends(self) -> bool:
        """Whether it is sent once more when nobody knows if a carrier has it. A rule's ``on_unknown`` counts before the
        account's."""
        return (self.on_unknown or self.account.settings.on_unknown) == "resend"

    @property
    def via(self) -> bytes:
        """Name of the upstream it was released to, where that is not the first of its lane."""
        upstream, first = self.upstream, self.lane.upstreams
        return b"" if upstream is None or (first and upstream is first[0]) else upstream.name.encode()


class Lane:
    """The queue of one account towards one ordered list of upstreams. ``hot`` is its oldest part, which is in memory.
    ``backlog`` counts the rows on disk, which are all younger. ``name`` is the owner of the rows. ``leaving``: how many
    messages are released in batches that are not durable yet. ``waits_for_batches``: others were put back meanwhile; they
    must not be released again before those batches are durable, since only then it is known which of the messages in them
    are younger. ``awaiting_word``: the messages in ``hot`` whose customer waits for the carrier's word. ``held``: an act goes
    through it (`relay.acting`), and no upstream serves it meanwhile.

    ``code``: its messages are one-time codes, which overtake others. ``gate``: the hours in which its messages may leave, None
    for any; ``gate_key`` is their name. While they may not, the lane has no upstream. ``marks``: what ``route`` says of both.
    """

    __slots__ = (
        "_leaving",
        "_waits",
        "account",
        "active",
        "awaiting_word",
        "backlog",
        "code",
        "gate",
        "gate_key",
        "held",
        "hot",
        "marks",
        "name",
        "name_bytes",
        "route",
        "upstreams",
    )

    def __init__(self, account: Account, route: str, upstreams: tuple[UpstreamState, ...]) -> None:
        self.account = account
        self.route = route
        self.upstreams = upstreams
        self.name = f"{account.name}\n{route}"
        self.name_bytes = self.name.encode()
        self.hot: Queue[Message] = Queue()
        self.awaiting_word: dict[int, Message] = {}
        self.backlog = Backlog(Kind.QUEUE, self.name)
        self._leaving = 0
        self._waits = False
        self.active: UpstreamState | None = None
        self.held = False
        marked = read_route(route)
        self.marks = marked.marks
        self.code = marked.code
        self.gate_key = marked.gate
        self.gate: Gate | None = None

    def __repr__(self) -> str:
        return f"<Lane {self.account.name} {self.route} {len(self.hot)}+{self.cold}>"

    def __len__(self) -> int:
        return len(self.hot) + len(self.backlog)

    @property
    def cold(self) -> int:
        """How many rows are not in memory."""
        return len(self.backlog)

    @property
    def upto(self) -> int:
        """Rows up to this id have been read."""
        return self.backlog.upto

    def is_shut(self, wall: float) -> bool:
        """Whether its messages may not leave now, in epoch seconds, since it is not their hour."""
        gate = self.gate
        return gate is not None and gate.opens(wall) > 0.0

    @property
    def waits_for_batches(self) -> bool:
        """Whether nothing may be released before what is in batches is durable."""
        return self._waits

    # -- rows: counted for the account too -----------------------------------------------------------------------------

    def rows_missing(self, number: int) -> None:
        """So many rows are not there that were counted."""
        self.backlog.miss(number)
        self.account.count_queued(-number)

    def rows_found(self, number: int) -> None:
        """So many rows were found at the start."""
        self.backlog.count_found(number)
        self.account.count_queued(number)

    def row_put(self) -> None:
        """A message of it is in a batch as a row."""
        self.backlog.push()
        self.account.count_queued(1)

    def row_refused(self) -> None:
        """Such a batch was not stored."""
        self.backlog.push_refused()
        self.account.count_queued(-1)

    def row_taken(self) -> None:
        """A row was read into memory, where the message is counted anew, or has ended."""
        self.backlog.take()
        self.account.count_queued(-1)

    # -- releases in batches -------------------------------------------------------------------------------------------

    def release_begins(self) -> None:
        """A release of a message of it is in a batch."""
        self._leaving += 1

    def release_ends(self) -> None:
        """A release is over: it is durable, was refused, or is not needed any more."""
        self._leaving -= 1
        if not self._leaving:
            self._waits = False

    def put_back(self) -> None:
        """Messages were put back into the lane. Those whose release is in a batch may be younger: they are compared when it
        is durable."""
        self._waits = self._leaving > 0

    def overtaken_by(self, message: Message) -> bool:
        """Whether older messages were put back while the release of this one was in a batch, so that it has to go behind
        them."""
        if not self._waits:
            return False
        first = self.hot.first()
        return first is not None and first.id < message.id

    @property
    def gone(self) -> bool:
        """Whether the configuration has none of its upstreams any more."""
        return all(upstream.gone for upstream in self.upstreams)


class Mail(Living):
    """A deliver_sm for a customer, kept until acknowledged. ``about``: id of the record it belongs to: the message it is a
    receipt of, or its own for MO. ``kept``: tried again when there was no space. ``busy``: sent and unanswered.
    ``piece``: which part of a long text goes next to a peer of SMPP 3.3; ``left``: how many follow the one that was sent."""

    __slots__ = ("about", "account", "attempts", "busy", "done", "due", "kept", "left", "piece", "stored")

    def __init__(self, identity: int, account: Account, frame: bytes, about: int, expires: int) -> None:
        super().__init__(identity, frame, expires)
        self.account = account
        self.about = about
        self.attempts = 0
        self.due = 0.0
        self.busy = False
        self.done = False
        self.kept = False
        self.left = 0
        self.piece = 0
        self.stored = False

    def __repr__(self) -> str:
        return f"<Mail {self.id:016x}>"

    def weighed(self, octets: int) -> None:
        """See ``Living``."""
        self.account.mailbox.weighed(octets)


class Parked(Living):
    """A receipt that came before its message was known: kept until the message turns up or it expires. ``keys``: what the
    message may be called, first the id as it came. ``shared``: it is a row that nobody holds, which any node may claim, and is
    only looked at here; ``stored``: that row is durable; ``asked``: it is to be claimed, since its message may be here."""

    __slots__ = ("asked", "done", "keys", "shared", "stored", "upstream")

    def __init__(
        self, identity: int, upstream: UpstreamState, keys: tuple[bytes, ...], frame: bytes, expires: int
    ) -> None:
        super().__init__(identity, frame, expires)
        self.upstream = upstream
        self.keys = keys
        self.done = False
        self.shared = False
        self.stored = False
        self.asked = False

    def __repr__(self) -> str:
        return f"<Parked {self.id:016x}>"

    @property
    def octets(self) -> int:
        """The octets that it is counted with."""
        return len(self.frame) + _PARKED_WEIGHT


class Mailbox:
    """What waits for one customer. ``hot``: in memory, oldest first. ``later``: in memory, waiting for another try, by id;
    ``due`` is a heap of (when, id) of these, and of some that are gone. ``ends``: no mail of ``later`` expires before.
    ``backlog``: rows that are not in memory; ``read``: ids of rows that are. ``elsewhere``: the customer takes mail at
    another node and not here, so it is that node's. ``giving``: rows are being given up, which the store does in steps."""

    __slots__ = ("_octets", "_sent", "account", "backlog", "due", "elsewhere", "ends", "giving", "hot", "later", "read")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.elsewhere = False
        self.giving = False
        self.hot: Queue[Mail] = Queue()
        self.later: dict[int, Mail] = {}
        self.due: list[tuple[float, int]] = []
        self.ends = 0
        self.backlog = Backlog(Kind.MAIL, account.name)
        self.read: set[int] = set()
        self._octets = 0
        self._sent = 0

    def __len__(self) -> int:
        return len(self.hot) + len(self.later) + len(self.backlog) + self._sent

    @property
    def octets(self) -> int:
        """What the mail in memory is counted with."""
        return self._octets

    @property
    def sent(self) -> int:
        """How many mails are unanswered."""
        return self._sent

    @property
    def cold(self) -> int:
        """How many rows are not in memory."""
        return len(self.backlog)

    def weighed(self, octets: int) -> None:
        """Mail in memory takes so many octets more."""
        self._octets += octets

    def rows_given_up(self) -> None:
        """Its rows are given up: none is this node's any more, in memory or not."""
        self.giving = True
        self.backlog = Backlog(Kind.MAIL, self.account.name)
        self.read = set()

    def begin_delivery(self, mail: Mail) -> None:
        """The mail is sent to the customer now, and its answer is waited for."""
        mail.busy = True
        self._sent += 1

    def end_delivery(self, mail: Mail) -> bool:
        """The customer's answer came, or none will come. Returns whether one was waited for."""
        if not mail.busy:
            return False
        mail.busy = False
        self._sent -= 1
        return True

    def put_off(self, mail: Mail, due: float) -> None:
        """It waits for another try, ``due`` in monotonic seconds."""
        mail.due = due
        self.ends = min(self.ends, mail.expires) if self.later else mail.expires
        self.later[mail.id] = mail
        heapq.heappush(self.due, (due, mail.id))

    def resume(self, now: float) -> None:
        """Mail that was put off until now goes back among the waiting mail, in its order."""
        due = self.due
        while due and due[0][0] <= now:
            when, identity = heapq.heappop(due)
            mail = self.later.get(identity)
            if mail is not None and mail.due == when:
                del self.later[identity]
                self.hot.add(mail)

    def take_out(self, mail: Mail) -> bool:
        """Takes a mail out of what waits in memory; whether it was there."""
        return self.later.pop(mail.id, None) is not None or self.hot.remove(mail)


class Account:
    """A customer's account at run time; ``settings`` may be exchanged by a reload. ``addressed``: its waiting messages by their
    addresses; ``pinned_parts``: those that stand aside for one carrier (see ``UpstreamState``). ``sends_codes``: its messages
    are one-time codes, unless a rule says another class."""

    def __init__(self, settings: AccountSettings, metrics: Metrics, now: float) -> None:
        self.name = settings.system_id
        self.name_bytes = self.name.encode()
        self.settings = settings
        self._share = 1.0
        self.bucket = Bucket(settings.throughput, settings.burst or 1, now)
        self.pipeline: Pipeline | None = None
        self.screens: tuple[Screen, ...] = ()
        # Those of ``screens`` that are asked again when a message has waited.
        self.opt_out: OptOutScreen | None = None
        self.consent: ConsentScreen | None = None
        self.admission: Admission | None = None
        self.ear: Ear | None = None
        self.alphabet = ALPHABETS[settings.default_alphabet]
        self.region = settings.region
        self.sessions: list[CustomerPeer] = []
        self.sends_codes = settings.class_ == "one_time_code"
        self.mailbox = Mailbox(self)
        self.lanes: dict[str, Lane] = {}
        self.addressed: AddressChains[Message] = AddressChains()
        self.pinned_parts: Queue[Message] = Queue()
        self._queued = 0
        self._refused = 0
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
            metrics.held_for_hours.labels(self.name),
            metrics.window_used.labels(self.name),
            metrics.window_limit.labels(self.name),
        )

    def __repr__(self) -> str:
        return f"<Account {self.name}>"

    @property
    def epoch(self) -> int:
        """The epochs of the registers that its messages are asked of, added: each of them only rises."""
        opt_out, consent = self.opt_out, self.consent
        return (opt_out.epoch if opt_out is not None else 0) + (consent.register.epoch if consent is not None else 0)

    @property
    def queued(self) -> int:
        """How many of its messages no carrier has yet, in memory and as rows."""
        return self._queued

    @property
    def refused(self) -> int:
        """How many of its messages were refused since the start."""
        return self._refused

    def count_refused(self, number: int) -> None:
        """So many messages more were refused."""
        self._refused += number

    def count_queued(self, number: int) -> None:
        """So many messages more wait for a carrier. Called by `relay.state.phases` for those in memory, by its lanes for
        rows."""
        self._queued += number

    def use(self, settings: AccountSettings, now: float) -> None:
        """Exchanges the settings after a reload; sessions stay."""
        self.settings = settings
        self.sends_codes = settings.class_ == "one_time_code"
        self.alphabet = ALPHABETS[settings.default_alphabet]
        self._use_rate(now)

    def set_share(self, share: float, now: float) -> None:
        """Its customers send so much of its rate here, 0 < share <= 1, and the rest at other nodes."""
        if share != self._share:
            self._share = share
            self._use_rate(now)

    def _use_rate(self, now: float) -> None:
        rate, burst = self.settings.throughput, self.settings.burst or 1
        self.bucket.change(None if rate is None else rate * self._share, burst * self._share, now)


class Early(NamedTuple):
    """A receipt that may have overtaken the answer to its submit. It is kept in memory for a moment, since that answer may
    be on its way.

    ``awaits``: the message without an answer that it fits, for which it waits longer, until ``until``.
    """

    link: Peer
    command: int
    sequence: int
    sm: Sm
    since: float
    awaits: Message | None = None
    until: float = 0.0

    def still_waits(self, now: float) -> bool:
        """Whether there still is an answer to wait for."""
        return self.awaits is not None and now < self.until and self.awaits.phase is Phase.SENT

    def __repr__(self) -> str:
        return f"<Early {self.sequence}>"


class UpstreamState(Awaited["Message"]):
    """A carrier at run time. The messages that wait for its receipts are `Awaited`'s.

    ``links``: sessions to send on, ``receivers``: those that bring receipts; a transceiver is both. ``ready``: messages that
    may be sent; ``codes``: one-time codes that may, which go before them, ``codes_in_row`` of them without another message
    so far. ``lanes``, ``code_lanes``: what waits for it, likewise. ``kept_places``: of a link's window, for codes alone.
    ``reserved``: what may be sent, what is released in a batch, and what was sent and is unanswered. ``capacity``: submits
    that the windows of its links hold. ``retried``: messages that were unknown here and are being sent again.
    ``pinned_parts``: parts of long messages that wait for this carrier alone. ``probe``: the one message that asks whether the
    carrier takes more after it said "later" or nothing at all. ``heard_at``: when it last answered a submit. ``plain``: its
    binds are of SMPP 3.3, which has no TLVs. ``own_statuses``: those of its refusals that the standard does not name and that
    metrics tell apart. ``early``: receipts of the last moment whose message is not known yet, by id; neither durable nor
    acknowledged. ``parked``: receipts that wait for their message, durable, by id, ``parked_keys`` by what the message may be
    called. ``ended``: how many messages final receipts have ended, by what they said. ``gone``: not in the configuration, or
    disabled there. ``act``: what an operator has made of it while smppd runs, `paused`, `draining` or `drained`; no message is
    released to it unless this is empty.
    """

    def __init__(self, settings: UpstreamSettings, metrics: Metrics, now: float) -> None:
        super().__init__(settings)
        self.name = settings.name
        self.settings = settings
        self.gone = not settings.enabled
        self.act = ""
        self._share = 1.0
        self.bucket = Bucket(settings.throughput, settings.burst or (settings.throughput or 1), now)
        self.alphabet = ALPHABETS[settings.default_alphabet]
        self.region = settings.region
        self.detail = self.name.encode() + b"\0"
        self.plain = settings.interface_version == "3.3"
        self.kept_places = _kept_places(settings)
        self.links: list[Peer] = []
        self.receivers: list[Peer] = []
        self.capacity = 0
        self.lanes: OrderedDict[Lane, None] = OrderedDict()
        self.code_lanes: OrderedDict[Lane, None] = OrderedDict()
        self.ready: Turns[Message] = Turns()
        self.codes: Turns[Message] = Turns()
        self.codes_in_row = 0
        self._reserved = 0
        self._codes_reserved = 0
        self.unknown: ByAddress[Message] = ByAddress()
        self.retried: ByAddress[Message] = ByAddress()
        self.pinned_parts: PinnedParts[Message] = PinnedParts()
        self.early: dict[bytes, list[Early]] = {}
        self.parked: dict[int, Parked] = {}
        self.parked_keys: dict[bytes, dict[int, Parked]] = {}
        self._early_octets = 0
        self._parked_octets = 0
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
        self.ended: dict[MessageState, int] = {}
        metrics.ended.labels(self.name, "delivered")  # it is there, at 0, while all of them fail

    def refusal(self, status: int) -> str:
        """The name of a status with which it refuses, for a metric. A carrier may use any number of statuses that the
        standard does not name: only the first ones get a label of their own, beside those of its ``error_table``."""
        if status >= _TABLES_FROM and (named := carrier_error(self.settings.error_table, status)):
            return named
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
        self.kept_places = _kept_places(settings)
        self.alphabet = ALPHABETS[settings.default_alphabet]
        self._use_rate(now)

    def set_share(self, share: float, now: float) -> None:
        """So much of its rate is this node's, 0 < share <= 1, and the rest that of other nodes."""
        if share != self._share:
            self._share = share
            self._use_rate(now)

    def _use_rate(self, now: float) -> None:
        rate = self.settings.throughput
        burst = self.settings.burst or (rate or 1)
        self.bucket.change(None if rate is None else rate * self._share, burst * self._share, now)

    @property
    def reserved(self) -> int:
        """How many messages take a place of its windows, or will."""
        return self._reserved

    def reserve(self, number: int, code: bool) -> None:
        """So many places more are taken, by a one-time code or by another message. Called by `relay.state.phases` alone."""
        self._reserved += number
        if code:
            self._codes_reserved += number

    def turns_for(self, lane: Lane) -> Turns[Message]:
        """Where the messages of a lane stand that may be sent."""
        return self.codes if lane.code else self.ready

    def lanes_like(self, lane: Lane) -> OrderedDict[Lane, None]:
        """Where a lane stands in which something waits for this upstream."""
        return self.code_lanes if lane.code else self.lanes

    def released(self) -> list[Message]:
        """All that may be sent."""
        return [*self.codes, *self.ready]

    # -- receipts without a message ------------------------------------------------------------------------------------

    @property
    def early_octets(self) -> int:
        """Octets of the receipts in ``early``."""
        return self._early_octets

    @property
    def parked_octets(self) -> int:
        """Octets that its parked receipts are counted with."""
        return self._parked_octets

    def put_off(self, name: bytes, early: Early) -> None:
        """A receipt waits a moment for the answer that it may have overtaken."""
        self.early.setdefault(name, []).append(early)
        self._early_octets += len(early.sm.raw)

    def put_off_longer(self, name: bytes, waiting: list[Early]) -> None:
        """Some receipts under one id wait on, behind those of other ids."""
        self.early[name] = waiting
        self._early_octets += sum([len(one.sm.raw) for one in waiting])

    def take_early(self, name: bytes) -> list[Early]:
        """Takes out what waits for the answer with this id."""
        waiting = self.early.pop(name, [])
        self._early_octets -= sum([len(one.sm.raw) for one in waiting])
        return waiting

    def note_parked(self, parked: Parked, keys: tuple[bytes, ...]) -> None:
        """Notes a receipt under what its message may be called."""
        parked.keys = keys
        if parked.id not in self.parked:
            self.parked[parked.id] = parked
            self._parked_octets += parked.octets
        for key in keys:
            self.parked_keys.setdefault(key, {})[parked.id] = parked

    def forget_parked(self, parked: Parked) -> None:
        """Notes a receipt no more, if it stands here."""
        if self.parked.pop(parked.id, None) is not None:
            self._parked_octets -= parked.octets
        for key in parked.keys:
            waiting = self.parked_keys.get(key)
            if waiting is not None:
                waiting.pop(parked.id, None)
                if not waiting:
                    del self.parked_keys[key]

    @property
    def up(self) -> bool:
        """Whether a message could be sent now, apart from rate and window."""
        return bool(self.links)

    @property
    def is_probing(self) -> bool:
        """Whether its probe is sent and not answered. Other messages that are not answered were sent before the pause, and
        do not count."""
        probe = self.probe
        return self.failures > 0 and probe is not None and probe.phase is Phase.SENT and probe.upstream is self

    @property
    def credit(self) -> int:
        """How many more messages may be released to it. Twice what its windows hold, so that sending never waits for a
        commit; not more than ``AHEAD`` that are not sent, since each has to be taken back when the carrier is gone."""
        return min(2 * self.capacity - self._reserved + self._codes_reserved, AHEAD - len(self.ready))

    @property
    def code_credit(self) -> int:
        """The same for one-time codes, of which other messages take nothing."""
        return min(2 * self.capacity - self._codes_reserved, AHEAD - len(self.codes))

    def link_for(self, way: int, now: float) -> Peer:
        """The link for the messages to one destination, so that they keep their order. Where the window of that link is full
        and its oldest message has waited long, another link with room: a session without answers must not hold up the
        messages."""
        link = self.links[way % len(self.links)]
        session = link.session
        if session.room <= 0 and session.outstanding:
            oldest = next(iter(session.outstanding.values()))
            if now - oldest.sent >= self.settings.response / 3:
                return next((one for one in self.links if one.session.room > 0), link)
        return link

    def set_link(self, link: Peer, up: bool) -> None:
        """Adds or removes a session that may be sent on."""
        if up:
            self.links.append(link)
        elif link in self.links:
            self.links.remove(link)
        self.capacity = sum(one.session.outstanding_limit for one in self.links)


def _kept_places(settings: UpstreamSettings) -> int:
    """Places of a link's window that only one-time codes may take; one is left for the others."""
    return min(settings.window - 1, -(-settings.window * settings.reserve_for_codes // 100))
