"""Structures for what waits. No step on them takes longer when more things wait.

``Queue``: things in the order of their ids. ``Calendar``: messages by the second in which their validity ends.
``AddressChains``: the waiting messages of one account by their two addresses. ``PinnedParts``: parts of long messages that
wait for one carrier alone. ``Turns``: what may be sent to a carrier, the accounts in turn. Each of them takes one thing out
without looking at the others.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from smppd.relay.state.living import Filed, Living

if TYPE_CHECKING:
    from smppd.policy.content import PartKey

T = TypeVar("T", bound=Living)
M = TypeVar("M", bound=Filed)

# Messages that are released to a carrier and not sent.
AHEAD: Final = 1000
# Things that were taken out leave entries behind. These are cleared when there are more of them than of what is held, and
# more than so many.
_RUBBISH: Final = 1000


class Queue(Generic[T]):
    """Things in the order of their ids. Both ends, a look-up and taking out are one step, however many there are; what belongs
    in the middle goes to a heap beside the line, from which the front is taken where that one is older."""

    __slots__ = ("_between", "_heap", "_highest", "_line", "_top")

    def __init__(self) -> None:
        self._line: OrderedDict[int, T] = OrderedDict()
        self._between: dict[int, T] = {}
        self._heap: list[int] = []  # ids of ``_between``, and of what was taken out of it
        self._top = 0  # no id in ``_line`` is higher
        self._highest = 0  # no id in ``_between`` is higher

    def __len__(self) -> int:
        return len(self._line) + len(self._between)

    def __contains__(self, thing: object) -> bool:
        return isinstance(thing, Living) and self.get(thing.id) is thing

    def __iter__(self) -> Iterator[T]:
        if not self._between:
            return iter(self._line.values())
        both = [*self._line.values(), *self._between.values()]
        both.sort(key=lambda one: one.id)
        return iter(both)

    def get(self, identity: int) -> T | None:
        """The thing with this id, None where it is not here."""
        thing = self._line.get(identity)
        return thing if thing is not None or not self._between else self._between.get(identity)

    def add(self, thing: T) -> None:
        """Puts a thing where its id belongs."""
        line = self._line
        identity = thing.id
        if identity > self._top:
            line[identity] = thing
            self._top = identity
        elif not line or identity > next(reversed(line)):
            line[identity] = thing
        elif identity < next(iter(line)):
            line[identity] = thing
            line.move_to_end(identity, last=False)
        elif identity in line:
            line[identity] = thing
        else:
            self._between[identity] = thing
            self._highest = max(self._highest, identity)
            heapq.heappush(self._heap, identity)
            if len(self._heap) > 2 * len(self._between) + _RUBBISH:
                self._heap = list(self._between)
                heapq.heapify(self._heap)

    def remove(self, thing: T) -> bool:
        """Takes a thing out; whether it was here."""
        if self._line.pop(thing.id, None) is not None:
            return True
        return bool(self._between) and self._between.pop(thing.id, None) is not None

    def first(self) -> T | None:
        """The oldest, None where nothing is here."""
        line = self._line
        if self._between:
            heap = self._heap
            while heap[0] not in self._between:
                heapq.heappop(heap)
            if not line or heap[0] < next(iter(line)):
                return self._between[heap[0]]
        return next(iter(line.values())) if line else None

    def last(self) -> T | None:
        """The youngest, None where nothing is here."""
        line, between = self._line, self._between
        if not between:
            return next(reversed(line.values())) if line else None
        # What lies beside the line was put there between its ends, and the end of the line may have been taken out since.
        if line and next(reversed(line)) > self._highest:
            return next(reversed(line.values()))
        if self._highest not in between:
            self._highest = max(between)
        return (
            between[self._highest]
            if not line or next(reversed(line)) < self._highest
            else next(reversed(line.values()))
        )

    def popleft(self) -> T:
        """Takes the oldest out. KeyError where nothing is here."""
        if not self._between:
            return self._line.popitem(last=False)[1]
        thing = self.first()
        assert thing is not None
        self.remove(thing)
        return thing

    def ids(self) -> list[int]:
        """All ids, oldest first."""
        return sorted([*self._line, *self._between]) if self._between else list(self._line)

    def oldest(self, most: int) -> list[T]:
        """The oldest ones, in their order."""
        found = list(islice(self._line.values(), most))
        if self._between:
            found += [self._between[identity] for identity in heapq.nsmallest(most, self._between)]
            found.sort(key=lambda one: one.id)
            del found[most:]
        return found

    def clear(self) -> None:
        """Forgets all."""
        self._line.clear()
        self._between.clear()
        self._heap.clear()


class Calendar(Generic[M]):
    """Messages by the second in which their validity ends; ``Message.due`` is where one stands, 0 where it does not."""

    __slots__ = ("_seconds", "_times")

    def __init__(self) -> None:
        self._seconds: dict[int, dict[int, M]] = {}
        self._times: list[int] = []  # a heap of the seconds, and of some in which nobody ends any more

    def __len__(self) -> int:
        return sum(len(some) for some in self._seconds.values())

    def __contains__(self, message: object) -> bool:
        return any(message is one for some in self._seconds.values() for one in some.values())

    def add(self, message: M) -> None:
        """Notes a message under ``expires``. Its place before is given up."""
        if message.due:
            self.remove(message)
        second = message.due = message.expires or 1
        some = self._seconds.get(second)
        if some is None:
            some = self._seconds[second] = {}
            heapq.heappush(self._times, second)
            if len(self._times) > 2 * len(self._seconds) + _RUBBISH:
                self._times = list(self._seconds)
                heapq.heapify(self._times)
        some[message.id] = message

    def remove(self, message: M) -> None:
        """Notes it no more, if it stands here."""
        second = message.due
        if not second:
            return
        message.due = 0
        some = self._seconds.get(second)
        if some is None:
            return
        some.pop(message.id, None)
        if not some:
            del self._seconds[second]

    def take_ended(self, wall: float, most: int) -> list[M]:
        """Takes out up to ``most`` messages whose validity ended, ``wall`` in epoch seconds; those that ended first, first."""
        gone: list[M] = []
        times = self._times
        while times and times[0] <= wall and len(gone) < most:
            some = self._seconds.get(times[0])
            if some is None:
                heapq.heappop(times)
                continue
            if len(gone) + len(some) <= most:
                for message in some.values():
                    message.due = 0
                gone.extend(some.values())
                some.clear()
            # From the back: a dict that is emptied from its front is searched through its gaps each time.
            while some and len(gone) < most:
                message = some.popitem()[1]
                message.due = 0
                gone.append(message)
            if not some:
                del self._seconds[times[0]]
        return gone


class AddressChains(Generic[M]):
    """The waiting messages of one account by the addresses their sender used. Those that share them are a chain."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        # The key is a hash, which costs less memory than two addresses; whoever looks compares the addresses.
        self._first: dict[int, Filed] = {}

    def add(self, message: M) -> None:
        """Notes a message, once."""
        if message.key:
            return
        key = message.key = key_of(message)
        first = self._first.get(key)
        self._first[key] = message
        if first is not None:
            message.next = first
            first.before = message

    def remove(self, message: M) -> None:
        """Notes it no more, if it stands here."""
        key = message.key
        if not key:
            return
        before, behind = message.before, message.next
        message.key = 0
        message.before = message.next = None
        if behind is not None:
            behind.before = before
        if before is not None:
            before.next = behind
        elif behind is not None:
            self._first[key] = behind
        else:
            del self._first[key]

    def some(self, key: int, start: M | None, most: int) -> tuple[list[M], M | None]:
        """Up to ``most`` of a chain, youngest first, from ``start`` on, and where to go on; None: nowhere."""
        found: list[M] = []
        message: Filed | None = start if start is not None and start.key == key else self._first.get(key)
        while message is not None and len(found) < most:
            found.append(cast("M", message))
            message = message.next
        return found, cast("M | None", message)


def addresses_key(source: bytes, destination: bytes) -> int:
    """What two addresses (digits as on the wire) are found by. Never 0."""
    return hash((source, destination)) or 1


def key_of(message: Filed) -> int:
    """The key of the addresses its sender used."""
    fields = message.reversed
    end = fields.index(b"\0", 2)
    return addresses_key(fields[end + 3 : -1], fields[2:end])


class _Turn(Generic[M]):
    """What one account has in ``Turns``, in its order. ``here``: what counts of the queue; what was taken out of the middle
    stays in it as an empty place until there are more of these than messages."""

    __slots__ = ("here", "name", "queue")

    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: deque[M] = deque()
        self.here: set[M] = set()

    def first(self) -> M | None:
        queue, here = self.queue, self.here
        while queue and queue[0] not in here:
            queue.popleft()
        return queue[0] if queue else None

    def append(self, message: M) -> None:
        if len(self.queue) > len(self.here) and message in self.queue:
            self._clear()  # its empty place must not become its place
        self.queue.append(message)
        self.here.add(message)

    def remove(self, message: M) -> bool:
        queue, here = self.queue, self.here
        if message not in here:
            return False
        here.discard(message)
        if queue[0] is message:
            queue.popleft()
        elif len(queue) > 2 * len(here):
            self._clear()
        return True

    def every(self) -> list[M]:
        here = self.here
        return list(self.queue) if len(self.queue) == len(here) else [one for one in self.queue if one in here]

    def _clear(self) -> None:
        self.queue = deque(self.every())


class Turns(Generic[M]):
    """What may be sent to one carrier: the accounts in turn, and each account's messages in the order they were released.
    Accounts are told apart by a name."""

    __slots__ = ("_count", "_of", "_order")

    def __init__(self) -> None:
        self._of: dict[str, _Turn[M]] = {}
        self._order: deque[_Turn[M]] = deque()  # the turn is the first one's; some may have nothing any more
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[M]:
        return iter([message for turn in self._order for message in turn.every()])

    def append(self, name: str, message: M) -> None:
        """The last of its account."""
        turn = self._of.get(name)
        if turn is None:
            turn = self._of[name] = _Turn(name)
            self._order.append(turn)
        turn.append(message)
        self._count += 1

    def first(self) -> M:
        """The first of the account whose turn it is. IndexError where nothing is here."""
        order = self._order
        while (message := order[0].first()) is None:
            del self._of[order.popleft().name]
        return message

    def remove(self, name: str, message: M) -> bool:
        """Takes out a message of an account; whether it was here."""
        turn = self._of.get(name)
        if turn is None or not turn.remove(message):
            return False
        self._count -= 1
        return True

    def skip(self) -> None:
        """The next account has the turn."""
        if len(self._order) > 1:
            self._order.rotate(-1)

    def accounts(self) -> int:
        """How many accounts have something here."""
        return sum(1 for turn in self._order if turn.here)

    def of(self, name: str) -> list[M]:
        """What is here of one account, in its order."""
        turn = self._of.get(name)
        return turn.every() if turn is not None else []

    def heads(self) -> list[M]:
        """The first of each account."""
        return [first for turn in self._order if (first := turn.first()) is not None]


class PinnedParts(Generic[M]):
    """Parts of long messages that wait for one carrier alone: in the order of their ids, and by long message, which the name
    of its account and its part's key tell apart."""

    __slots__ = ("_groups", "_queue")

    def __init__(self) -> None:
        self._queue: Queue[M] = Queue()
        self._groups: OrderedDict[tuple[str, PartKey], Queue[M]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[M]:
        return iter(self._queue)

    def add(self, name: str, message: M) -> None:
        """Puts a part aside."""
        assert message.part is not None
        self._queue.add(message)
        key = (name, message.part)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Queue()
        group.add(message)

    def remove(self, name: str, message: M) -> bool:
        """Takes a part out; whether it was here."""
        if message.part is None or not self._queue.remove(message):
            return False
        key = (name, message.part)
        group = self._groups[key]
        group.remove(message)
        if not len(group):
            del self._groups[key]
        return True

    def first(self) -> M | None:
        """The oldest part, None where nothing is here."""
        return self._queue.first()

    def groups(self, most: int) -> list[Queue[M]]:
        """The parts of up to ``most`` long messages; of others with the next call."""
        found = []
        for key in list(islice(self._groups, most)):
            self._groups.move_to_end(key)
            found.append(self._groups[key])
        return found
