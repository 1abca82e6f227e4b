"""Does what handsets say with STOP, START and HELP: the register is changed in the batch that stores the message, so before its
carrier is acknowledged; and the handset is answered once, where an answer is configured.

What commands change goes the same way. A batch that is not stored changes nothing: the carrier sends the message again, the
command is told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from smppd.consent.suppression import ANY, Register
from smppd.consent.words import Heard, Meaning, Station, WordTable
from smppd.ids import shown
from smppd.message import State, Verdict
from smppd.numbering import normalise
from smppd.policy.countries import country_of
from smppd.protocol.text import Alphabet, TextError, encode
from smppd.protocol.wire import Command, Fields, Sm, build_sm
from smppd.relay.context import Context
from smppd.relay.guard import COMMIT, DELIVER
from smppd.relay.record import Recorder
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.state.model import Account, Message, UpstreamState
from smppd.store.api import OPT_OUTS, Batch, Doubt, OptOut
from smppd.vault.seal import Direction

ANSWER_WITHIN: Final = 300.0
"""Seconds after which an answer is not worth sending any more (47 CFR 64.1200(a)(12): within five minutes)."""
AGAIN: Final = 60.0
"""Seconds for which a handset gets no second answer of a kind from a number."""
REMEMBERED: Final = 10_000
"""Answers that are remembered for that."""
DOUBTS: Final = 10_000
"""Messages that may wait for a person."""
_NUMBER: Final = 7
"""Digits that a number has at least: a shorter one is a service, which nobody answers."""
_UCS2: Final = Fields(data_coding=8)
_PLAIN: Final = Fields()
_WORD: Final = "word "


class Change(NamedTuple):
    """A change that a word made, for the audit trail: once it is durable. sender: its label; word: of the list."""

    account: str
    sender: str
    number: bytes
    word: str
    stands: bool

    def __repr__(self) -> str:
        return f"<Change {self.account} ***>"


class OptOuts:
    """See the module. ``words`` says how each number is listened to; a reload exchanges it. ``route(account, sm, verdict)``
    gives the names of a message's upstreams, empty where no route leads. ``told`` hears of changes by words,
    on the reactor's thread."""

    def __init__(
        self,
        context: Context,
        dispatch: Dispatch,
        recorder: Recorder,
        route: Callable[[str, Sm, Verdict | None], str],
        register: Register,
        words: WordTable,
        told: Callable[[Change], object],
    ) -> None:
        self._context = context
        self._dispatch = dispatch
        self._recorder = recorder
        self._route = route
        self._told = told
        self._answered: OrderedDict[bytes, float] = OrderedDict()
        self.register = register
        self.words = words
        self.doubts = 0

    # -- handsets ------------------------------------------------------------------------------------------------------

    def hear(self, account: Account, upstream: UpstreamState, sm: Sm, record: int, *, answers: bool = True) -> bool:
        """A message from a handset to a number of an account, which is in the current batch. record: its id in the log, 0 for
        none. answers: whether the handset may be answered. Returns whether it was a word to which an answer is due here. An
        error stops nothing: the message itself is passed on."""
        try:
            return self._hear(account, upstream, sm, record, answers)
        except Exception as error:  # noqa: BLE001  the item's edge
            self._context.guard.caught(DELIVER, error, owner=account.name)
            return False

    def meaning(self, account: Account, upstream: UpstreamState, sm: Sm) -> Meaning | None:
        """Which word a message is, by those of an account; None for none."""
        heard = self._listen(account, upstream, sm)[1]
        return heard.meaning if heard is not None and heard.meaning is not Meaning.REVIEW else None

    def _listen(self, account: Account, upstream: UpstreamState, sm: Sm) -> tuple[Station | None, Heard | None]:
        at = normalise(sm.destination_digits, sm.destination_ton, 0, upstream.region)
        station = self.words.station(account.name, at)
        if station is None:
            return None, None
        number = _handset(sm, account, upstream)
        return station, station.hear(sm, upstream.alphabet, country_of(number) or "")

    def _hear(self, account: Account, upstream: UpstreamState, sm: Sm, record: int, answers: bool) -> bool:
        station, heard = self._listen(account, upstream, sm)
        if station is None or heard is None:
            return False
        number = _handset(sm, account, upstream)
        to, ton = sm.destination_digits, sm.destination_ton
        # In the notation of the carrier, and in that of the customer, where the two have other countries.
        forms = dict.fromkeys(normalise(to, ton, 0, region) for region in (upstream.region, account.region))
        senders = list(forms)
        meaning = heard.meaning
        if meaning is Meaning.REVIEW:
            self._doubt(account, senders[0], number, record)
            return False
        answer = station.answers.help
        if meaning is Meaning.STOP or meaning is Meaning.STOP_ALL:
            if meaning is Meaning.STOP_ALL or account.settings.opt_out.scope == "account":
                senders = [ANY]
            changed = self._change(account, senders, number, heard.word, True)
            answer = station.answers.stop if changed else None
            if changed:
                self._tell(account, record, State.OPTED_OUT)
        elif meaning is Meaning.START:
            # The last word counts: it lifts what was said to this number, and to all of them.
            lifted = self._change(account, [*senders, ANY], number, heard.word, False)
            answer = station.answers.start if lifted else None
            if lifted:
                self._tell(account, record, State.OPTED_IN)
        self._count(account, meaning.value)
        if answer is not None and answers:
            self._answer(account, upstream, sm, answer, meaning, number)
        return answer is not None

    def _tell(self, account: Account, record: int, state: State) -> None:
        """Puts the change into the log, in the batch that makes it: an event of the message. A word that was said to an account
        which did not get the message itself has no record there: its event has an id of its own, and names the account."""
        if record:
            self._context.append_event(record, state)
        else:
            identity = self._context.new_id()
            self._context.store.batch.recorded.append(identity)
            self._context.append_event(identity, state, detail=account.name.encode())

    def _change(self, account: Account, senders: list[bytes], number: bytes, word: str, stands: bool) -> bool:
        """Puts the changes into the batch. False where all of it was so already: said twice, or delivered twice."""
        changed = False
        now = int(self._context.wall())
        for sender in senders:
            one = self.register.entry(account.name, sender, number, now, _WORD + word, stands)
            if self._put(one):
                self._context.store.batch.heard.append(Change(account.name, one.sender, number, word, stands))
                changed = True
        return changed

    def _put(self, change: OptOut) -> bool:
        if not self.register.change(change):
            return False
        batch = self._context.store.batch
        batch.opt_outs.append(change)
        # Other nodes that have not heard of it see by this that they lack something.
        batch.meta.append((OPT_OUTS, self._context.new_id()))
        self._gauge()
        return True

    def _doubt(self, account: Account, sender: bytes, number: bytes, record: int) -> None:
        if not account.settings.opt_out.review or not record:
            return
        scope = ANY if account.settings.opt_out.scope == "account" else sender
        one = self.register.entry(account.name, scope, number, int(self._context.wall()), "review")
        if self.register.has(one.key):
            return
        if self.doubts >= DOUBTS:
            self._count(account, "review full")
            return
        self.doubts += 1
        self._context.store.batch.doubts.append(Doubt(record, one.key, one.account, one.sender, one.at))
        self._count(account, "review")
        self._gauge()

    def _count(self, account: Account, outcome: str) -> None:
        self._context.metrics.opt_out_words.labels(account.name, outcome).inc()

    def _gauge(self) -> None:
        self._context.metrics.opt_outs.set(len(self.register))
        self._context.metrics.opt_out_review.set(self.doubts)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _answer(
        self, account: Account, upstream: UpstreamState, sm: Sm, text: str, meaning: Meaning, number: bytes
    ) -> None:
        """Sends a text from the number that was written to: one message, durable with the batch. Never to a service, which
        might answer, and not twice within a minute."""
        context = self._context
        now = context.now()
        if not (number.isdigit() and len(number) >= _NUMBER) or number == sm.destination_digits:
            return
        key = self.register.hashes.key(account.name, sm.destination_digits, number) + meaning.encode()
        if now < self._answered.get(key, 0.0):
            return
        wall = context.wall()
        made = _message(sm, text, account.alphabet)
        route = self._route(account.name, made, None)
        if not route:
            self._count(account, "no route")
            return
        identity = context.new_id()
        lane = context.lane(account, route)
        message = Message(identity, account, lane, made.raw, 0, int(wall + ANSWER_WITHIN), shown(identity))
        message.ours = True
        message.read_at = now
        message.destination_hash = hash(made.destination_digits)
        message.reversed = made.destination_field + made.source_field
        self._recorder.record(identity, account, made, Direction.MT, b"", upstream.region)
        context.store.batch.accepted.append(message)
        self._dispatch.admit_message(message, now)
        self._answered[key] = now + AGAIN
        self._answered.move_to_end(key)
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)
        self._count(account, "answered")

    # -- commands ------------------------------------------------------------------------------------------------------

    def ask(self, changes: Iterable[OptOut], decided: Iterable[int], then: Callable[[bool], None]) -> None:
        """Makes changes that a command asks for, and takes messages out of the review; then(whether they are stored)."""
        batch = self._context.store.batch
        for change in changes:
            self._put(change)
        batch.decided.extend(decided)
        batch.asked.append(then)
        self._context.store.kick()

    # -- the store's words ---------------------------------------------------------------------------------------------

    def load(self, entries: Iterable[OptOut], doubts: int) -> None:
        """What is stored, at the start."""
        self.register.load(entries)
        self.doubts = doubts
        self._gauge()

    def batch_committed(self, batch: Batch) -> None:
        """A batch with changes is durable."""
        self.register.committed(batch.opt_outs)
        self.doubts = max(0, self.doubts - len(batch.decided))
        self._gauge()
        guarded = self._context.guard.call_guarded
        for change in batch.heard:
            guarded(COMMIT, partial(self._told, change))
        for then in batch.asked:
            guarded(COMMIT, partial(then, True))

    def batch_refused(self, batch: Batch) -> None:
        """A batch with changes was not stored: nothing of them is so."""
        self.register.refused(batch.opt_outs)
        self.doubts = max(0, self.doubts - len(batch.doubts))
        self._answered.clear()  # what was to be sent was not
        self._gauge()
        for then in batch.asked:
            self._context.guard.call_guarded(COMMIT, partial(then, False))


def _handset(sm: Sm, account: Account, upstream: UpstreamState) -> bytes:
    """Who sent a message, in the normal form; where nobody knows the carrier's country, by that of the account."""
    return normalise(sm.source_digits, sm.source_ton, 0, upstream.region or account.region)


def _message(sm: Sm, text: str, alphabet: Alphabet) -> Sm:
    """A submit_sm with a text, from the number that a message was sent to, to where it came from."""
    fields = _PLAIN
    try:
        octets = encode(text, 0, alphabet)
    except TextError:
        fields = _UCS2
        octets = text.encode("utf-16-be")
    return Sm(build_sm(Command.SUBMIT_SM, 0, sm.destination_field, sm.source_field, octets, fields))
