"""Joins the parts of long messages, so that policy sees the texts that a phone may show; it never holds a part back.

A phone joins what comes to it under one reference. Which parts those are is not known here: one may be sent twice with
different texts, be cancelled, or be lost behind us, and phones differ in which of two they keep, and in whether the number
of parts and the size of the reference count. So each part is read with every text that it could stand beside.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from smppd.protocol.gsm import TextError as TextError
from smppd.protocol.longmessage import Concat
from smppd.protocol.text import REPLACEMENT

READINGS: Final = 8
"""Ways to read an unfinished message whose parts came with different texts; beyond it takes no more parts."""
MOST_READ: Final = 256 * 1024
"""Octets of texts that are read for one part, where there are several ways to read it; likewise."""
FINISHED: Final = 2
"""Finished messages under one key whose texts are kept."""

Family = tuple[int, int, bool]
"""Reference, number of parts, whether the reference has 16 bits: what the parts of one message share beside the key."""
Reading = tuple[tuple[str, ...], bool]
"""Runs of neighbouring parts, in order, and whether they are a whole message."""


class JoinerFull(Exception):
    """There is no memory for another unfinished message. Nothing was kept of the part."""


@dataclass(frozen=True, slots=True, repr=False)
class Joined:
    """What is known of a long message after a part came.

    `runs` are the texts of neighbouring parts, in order: a rule that may span parts is tried on each. `known` is all
    of it, with U+FFFD where parts are missing. `complete` when no part is; `refused` when `Joiner.refuse` was told so
    earlier (then both are empty). `others`: what a phone might show instead.
    """

    known: str
    complete: bool
    refused: bool
    runs: tuple[str, ...]
    others: tuple[Reading, ...] = ()

    def __repr__(self) -> str:
        return f"Joined(<{len(self.known)} characters>, complete={self.complete}, refused={self.refused})"


# Memory beside the characters themselves, measured on CPython 3.11 and rounded up: a message's record with its
# dictionaries and key, a part's slot, a refused key.
_MESSAGE_COST: Final = 1024
_FAMILY_COST: Final = 512
_PART_COST: Final = 256
_REFUSED_COST: Final = 512

_REFUSED: Final = Joined("", False, True, ())


class Budget:
    """Octets that all joiners of a process share. Where they are used up, those that have more than `fair` get no more."""

    def __init__(self, most: int = 128 * 1024 * 1024, fair: int = 1024 * 1024) -> None:
        self.most = most
        self.fair = fair
        self.used = 0


@dataclass(slots=True, repr=False)
class _Message:
    """All that came under one key. `open`: texts of each part of messages that are not whole, the latest last.
    `done`: the texts of whole ones. `closed`: too much came, so that nothing more is judged."""

    touched: float
    cost: int = _MESSAGE_COST
    open: dict[Family, dict[int, list[str]]] = field(default_factory=dict)
    done: OrderedDict[Family, dict[int, str]] = field(default_factory=OrderedDict)
    closed: bool = False
    plain: bool = True  # each part came with one text, and all are of one message: there is one way to read it


class Joiner:
    """See the module. Memory is bounded in messages and octets, and nothing is judged without what it bounds:

    At `max_messages` or `max_bytes` the unfinished message touched longest ago is forgotten if that was `keep` seconds ago
    or more; else `add` raises `JoinerFull`. Unfinished ones are forgotten after `ttl` seconds without a part. Finished ones
    are kept for `keep` seconds within `done_bytes`, for parts that come once more. `max_message_bytes` is the limit of one
    message. The time is always the caller's `now` in seconds, of any clock that does not run backwards.
    """

    def __init__(
        self,
        *,
        max_messages: int = 10_000,
        max_bytes: int = 16 * 1024 * 1024,
        max_message_bytes: int = 512 * 1024,
        done_bytes: int = 1024 * 1024,
        ttl: float = 3600.0,
        keep: float = 300.0,
        budget: Budget | None = None,
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_message_bytes = max_message_bytes
        self._done_limit = done_bytes
        self._ttl = ttl
        self._keep = min(keep, ttl)
        self._budget = budget or Budget()
        self._now = 0.0
        self._messages: OrderedDict[Hashable, _Message] = OrderedDict()  # unfinished; the longest untouched first
        self._done: OrderedDict[Hashable, _Message] = OrderedDict()  # nothing unfinished among them; likewise
        self._refused: OrderedDict[tuple[Hashable, Family], float] = OrderedDict()  # -> when; the oldest first
        self._undo: Callable[[], None] | None = None
        self._last: tuple[Hashable, Family] = ((), (0, 0, False))
        self.bytes = 0
        self.done_bytes = 0
        self.forgotten = 0  # unfinished messages dropped, by a limit or by time

    def __len__(self) -> int:
        """Messages that wait for parts; finished and refused ones are counted apart."""
        return len(self._messages)

    @property
    def refused(self) -> int:
        """Messages that are remembered as refused."""
        return len(self._refused)

    # -- parts -----------------------------------------------------------------------------------------------------

    def add(self, key: Hashable, concat: Concat, text: str, now: float) -> Joined:
        """Add a part and say what is known now. `key` names what phones join by at the least: addresses and reference.

        The same part again changes nothing. Raises TextError when the part number is out of range, or where the message
        grows past its limit or has been sent with too many different texts: it takes no more parts then. Raises JoinerFull.
        """
        if not 1 <= concat.seq <= concat.total <= 255:
            raise TextError("part number out of range")
        self.expire(now)
        self._undo = None
        family = (concat.ref, concat.total, concat.wide)
        self._last = (key, family)
        if (key, family) in self._refused:
            return _REFUSED
        message = self._messages.get(key) or self._done.get(key)
        seq = concat.seq
        cost = _PART_COST + sys.getsizeof(text)
        if message is None:
            self._make_room(_MESSAGE_COST + _FAMILY_COST + cost)
            message = _Message(self._now, _MESSAGE_COST + _FAMILY_COST)
            parts = message.open[family] = {}
            self._messages[key] = message
            self._charge(_MESSAGE_COST + _FAMILY_COST)
        else:
            if message.closed:
                self._touch(key, message)
                raise TextError("long message too large to join")
            known = message.open.get(family)
            if known is not None:
                parts = known
                if text not in parts.get(seq, ()):
                    self._make_room(cost, key)
            else:
                whole = message.done.get(family)
                if whole is not None and whole[seq] == text:
                    self._touch(key, message)
                    return self._joined(message, whole, concat, text)
                if message.open:
                    self._make_room(_FAMILY_COST + cost, key)
                else:
                    self._make_room(message.cost + _FAMILY_COST + cost)
                    self._reopen(key, message)
                parts = message.open[family] = {}
                message.plain = False
                self._grow(message, _FAMILY_COST)
            self._touch(key, message)
        before: list[str] = []
        texts = parts.get(seq)
        if texts is None:
            parts[seq] = [text]
            self._grow(message, cost)
        else:
            before = list(texts)
            if text in texts:
                texts.remove(text)
            else:
                self._grow(message, cost)
                message.plain = False
            texts.append(text)
        ways = 1 if message.plain else self._readings(message, seq)
        too_many = ways > READINGS or (ways > 1 and ways * message.cost > MOST_READ)
        if too_many or message.cost > self._max_message_bytes:
            self._close(message)
            raise TextError("long message too large to join")
        joined = self._joined(message, {number: texts[-1] for number, texts in parts.items()}, concat, text)
        if joined.complete:
            self._undo = self._finish(key, message, family, parts, (seq, before))
        else:
            self._undo = lambda: self._take_back(key, message, family, seq, before)
        return joined

    def replace(self, key: Hashable, concat: Concat, old: str, new: str, now: float) -> Joined | None:
        """Exchange the text of a part that is not on its way yet; None if nothing is known of that part with that text, so
        that nobody can say what stands beside it. `undo` takes it back."""
        self.expire(now)
        self._undo = None
        family = (concat.ref, concat.total, concat.wide)
        message = self._messages.get(key) or self._done.get(key)
        if message is None or message.closed or (key, family) in self._refused:
            return None
        seq = concat.seq
        more = sys.getsizeof(new) - sys.getsizeof(old)
        finished = key in self._done
        texts = message.open.get(family, {}).get(seq)
        whole = message.done.get(family)
        if texts is not None and old in texts:
            before = list(texts)
            texts.remove(old)
            if new in texts:
                texts.remove(new)
            texts.append(new)
            latest = {number: found[-1] for number, found in message.open[family].items()}

            def undo() -> None:
                texts[:] = before
                self._grow(message, -more)

        elif whole is not None and whole.get(seq) == old:
            whole[seq] = new
            latest = whole

            def undo() -> None:
                whole[seq] = old
                self._grow(message, -more, finished)

        else:
            return None
        self._grow(message, more, finished)
        self._undo = undo
        return self._joined(message, latest, concat, new)

    def undo(self) -> None:
        """The part that was added or replaced last is not passed on: it is as if it had not come."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def settled(self) -> None:
        """The part added last was passed on: `undo` has nothing to take back."""
        self._undo = None

    def forget(self, key: Hashable, concat: Concat) -> None:
        """None of the parts of an unfinished message was passed on, and none will be: forget their texts."""
        self._undo = None
        message = self._messages.get(key)
        parts = message.open.get((concat.ref, concat.total, concat.wide)) if message is not None else None
        if message is not None and parts is not None:
            for seq in list(parts):
                self._take_back(key, message, (concat.ref, concat.total, concat.wide), seq, [])

    def refuse(self, now: float | None = None) -> None:
        """Remember that the part added last is refused: `add` says so of all other parts of its message for `keep` seconds.

        The text of the part is forgotten. Those of the parts before it, which were passed on, are not: others under the
        same key may still come to stand beside them.
        """
        self._now = self._now if now is None else max(self._now, now)
        self.undo()
        if self._refused.pop(self._last, None) is None:
            self._charge(_REFUSED_COST)
        self._refused[self._last] = self._now
        while len(self._refused) > self._max_messages or (self._refused and self.bytes > self._max_bytes):
            self._forget_refusal()

    def expire(self, now: float) -> None:
        """Forget what is too old. `add` does it too; call it now and then where no parts come."""
        self._now = max(self._now, now)
        while self._messages and next(iter(self._messages.values())).touched <= self._now - self._ttl:
            self._forget_oldest()
        limit = self._now - self._keep
        while self._done and next(iter(self._done.values())).touched <= limit:
            self._forget_done()
        while self._refused and next(iter(self._refused.values())) <= limit:
            self._forget_refusal()

    def clear(self) -> None:
        """Forget everything."""
        self._charge(-self.bytes)
        self.done_bytes = 0
        self._messages.clear()
        self._done.clear()
        self._refused.clear()

    # -- readings --------------------------------------------------------------------------------------------------

    def _readings(self, message: _Message, seq: int) -> int:
        """In how many ways the unfinished texts can stand beside a part."""
        number = 1
        for other, texts in _texts(message.open.values()).items():
            if other != seq:
                number *= len(texts)
                if number > READINGS:
                    break
        return number

    def _joined(self, message: _Message, latest: dict[int, str], concat: Concat, text: str) -> Joined:
        runs = tuple(_runs(latest))
        complete = len(latest) == concat.total
        others: tuple[Reading, ...] = ()
        if not message.plain:
            others = self._others(message, concat, text, runs)
        return Joined(REPLACEMENT.join(runs), complete, False, runs, others)

    def _others(self, message: _Message, concat: Concat, text: str, shown: tuple[str, ...]) -> tuple[Reading, ...]:
        """What a phone might show of which the part is one: each of the unfinished texts of the other parts, alone and laid
        over each finished message; the part alone in each finished message; and every pair of neighbours, whatever they
        were part of."""
        seq = concat.seq
        fresh = _texts(message.open.values())
        fresh.pop(seq, None)
        readings: dict[tuple[str, ...], bool] = {}

        def read(parts: dict[int, str]) -> None:
            runs = tuple(_runs(parts))
            if runs != shown:
                whole = len(runs) == 1 and min(parts) == 1 and max(parts) == concat.total
                readings[runs] = readings.get(runs, False) or whole

        for choice in product(*fresh.values()):
            parts = dict(zip(fresh, choice, strict=True)) | {seq: text}
            read(parts)
            for whole in message.done.values():
                read(whole | parts)
        for whole in message.done.values():
            read(whole | {seq: text})
        every = _texts([*message.open.values(), *({n: [t] for n, t in w.items()} for w in message.done.values())])
        for one in every.get(seq - 1, [""]):
            for other in every.get(seq + 1, [""]):
                around = {seq - 1: one, seq: text, seq + 1: other}
                read({number: words for number, words in around.items() if words})
        return tuple(readings.items())

    # -- memory ----------------------------------------------------------------------------------------------------

    def _charge(self, octets: int) -> None:
        self.bytes += octets
        self._budget.used += octets

    def _grow(self, message: _Message, octets: int, finished: bool = False) -> None:
        message.cost += octets
        self._charge(octets)
        if finished:
            self.done_bytes += octets

    def _touch(self, key: Hashable, message: _Message) -> None:
        message.touched = self._now
        (self._messages if key in self._messages else self._done).move_to_end(key)

    def _make_room(self, octets: int, mine: Hashable = None) -> None:
        """Forgets what is old enough, so that so many more octets of an unfinished message fit."""
        budget = self._budget
        while True:
            if self.bytes + octets > self._max_bytes or (
                budget.used + octets > budget.most and self.bytes + octets > budget.fair
            ):
                if self._done:
                    self._forget_done()
                    continue
            elif mine is not None or len(self._messages) < self._max_messages:
                return
            oldest = next(iter(self._messages.items()), None)
            if oldest is None or oldest[0] == mine or oldest[1].touched > self._now - self._keep:
                raise JoinerFull
            self._forget_oldest()

    def _reopen(self, key: Hashable, message: _Message) -> None:
        """A finished message is begun anew. It may have been forgotten while room was made."""
        if self._done.pop(key, None) is None:
            message.done.clear()
            message.cost = _MESSAGE_COST
            self._charge(_MESSAGE_COST)
        else:
            self.done_bytes -= message.cost
        self._messages[key] = message

    def _finish(
        self,
        key: Hashable,
        message: _Message,
        family: Family,
        parts: dict[int, list[str]],
        last: tuple[int, list[str]],
    ) -> Callable[[], None]:
        """The message is whole: its latest texts are kept for a while. Returns what makes it unfinished again."""
        seq, before = last
        displaced = message.done.pop(family, None)
        del message.open[family]
        message.done[family] = {number: texts[-1] for number, texts in parts.items()}
        dropped = [displaced] if displaced is not None else []
        if len(message.done) > FINISHED:
            dropped.append(message.done.popitem(last=False)[1])
        old = [text for whole in dropped for text in whole.values()]
        old += [text for texts in parts.values() for text in texts[:-1]]
        self._grow(message, -sum(_PART_COST + sys.getsizeof(text) for text in old) - _FAMILY_COST * len(dropped))
        if not message.open:
            del self._messages[key]
            self._done[key] = message
            self.done_bytes += message.cost
            while self.done_bytes > self._done_limit and len(self._done) > 1:
                self._forget_done()

        def undo() -> None:
            whole = message.done.pop(family, None)
            if whole is None or (self._done.get(key) or self._messages.get(key)) is not message:
                return
            if key in self._done:
                self._reopen(key, message)
                self._messages.move_to_end(key)
            message.open[family] = {number: [text] for number, text in whole.items()}
            self._take_back(key, message, family, seq, before[-1:])

        return undo

    def _take_back(self, key: Hashable, message: _Message, family: Family, seq: int, before: list[str]) -> None:
        parts = message.open.get(family)
        if parts is None or self._messages.get(key) is not message:
            return
        now = parts.get(seq, [])
        for text in now:
            if text not in before:
                self._grow(message, -_PART_COST - sys.getsizeof(text))
        for text in before:
            if text not in now:
                self._grow(message, _PART_COST + sys.getsizeof(text))
        if before:
            parts[seq] = list(before)
        else:
            parts.pop(seq, None)
        if not parts:
            del message.open[family]
            self._grow(message, -_FAMILY_COST)
        if message.open:
            return
        del self._messages[key]
        if message.done:
            self._done[key] = message
            self.done_bytes += message.cost
        else:
            self._charge(-message.cost)

    def _close(self, message: _Message) -> None:
        """Nothing more is judged under this key: its texts would be too many."""
        self._grow(message, _MESSAGE_COST - message.cost)
        message.open.clear()
        message.done.clear()
        message.closed = True

    def _forget_oldest(self) -> None:
        _, message = self._messages.popitem(last=False)
        self._charge(-message.cost)
        self.forgotten += 1

    def _forget_done(self) -> None:
        _, message = self._done.popitem(last=False)
        self._charge(-message.cost)
        self.done_bytes -= message.cost

    def _forget_refusal(self) -> None:
        self._refused.popitem(last=False)
        self._charge(-_REFUSED_COST)


def _texts(families: Iterable[dict[int, list[str]]]) -> dict[int, list[str]]:
    """The different texts of each part."""
    found: dict[int, list[str]] = {}
    for parts in families:
        for seq, texts in parts.items():
            known = found.setdefault(seq, [])
            known.extend([text for text in texts if text not in known])
    return found


def _runs(parts: dict[int, str]) -> Iterator[str]:
    """The texts of neighbouring parts, joined, in order."""
    run: list[str] = []
    before = 0
    for seq in sorted(parts):
        if run and seq != before + 1:
            yield "".join(run)
            run = []
        run.append(parts[seq])
        before = seq
    if run:
        yield "".join(run)
