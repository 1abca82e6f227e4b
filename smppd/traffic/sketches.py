"""Counts of very many different things in little, fixed memory. All are approximate in one direction that is known.

What is counted is a keyed hash. Of numbers and texts it is Python's own of octets: SipHash under 128 random bits that
this process drew and that die with it (PEP 456), so nothing of them outlives the process. Of prefixes, which are no
numbers, it is `Cells`: its key is the installation's, so that what is usual is known again after a restart.
"""

from __future__ import annotations

import math
from array import array
from bisect import insort
from typing import Final

WIDTH: Final = 2048
"""Cells of a row. Two prefixes share both of their cells once in four million pairs."""
CELLS: Final = 2 * WIDTH
HOURS: Final = 24
DAY: Final = 86400.0
WEEK: Final = 7 * DAY
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_STEPS: Final = 20.0
"""Steps of a logarithmic octet for each factor of e: 5 % each, 255 of them reach 344,000."""
_VALUES: Final = [math.expm1(step / _STEPS) for step in range(256)]
_FORGETS: Final = 0.25
"""The weight of a new day in an hour's average, once some days are known."""
_HEAVY: Final = 1e6
_GONE: Final = 100_000  # minutes after which nothing is left to fade; a clock may jump by more than a float holds
_VERSION: Final = 1
_PRIME: Final = (1 << 31) - 1


class Cells:
    """Where the prefixes stand: two cells for each, by a universal hash (Carter, Wegman 1979) under the installation's key."""

    def __init__(self, key: bytes) -> None:
        """``key``: 16 octets."""
        self._a = 1 + int.from_bytes(key[0:4], "big") % (_PRIME - 1)
        self._b = int.from_bytes(key[4:8], "big") % _PRIME
        self._c = 1 + int.from_bytes(key[8:12], "big") % (_PRIME - 1)
        self._d = int.from_bytes(key[12:16], "big") % _PRIME

    def __repr__(self) -> str:
        return "<Cells ***>"

    def of(self, prefix: bytes) -> int:
        """Both cells, the second one times 4,096. ``prefix``: 9 digits at most, so that nothing here needs more than 62
        bits."""
        number = int(prefix)
        first = (self._a * number + self._b) % _PRIME & (WIDTH - 1)
        second = WIDTH + ((self._c * number + self._d) % _PRIME & (WIDTH - 1))
        return first | second << 12


def to_octet(value: float) -> int:
    """A count in one octet, on a logarithmic scale; 344,000 and more are the same."""
    return min(255, int(math.log1p(value) * _STEPS + 0.5)) if value > 0 else 0


def from_octet(octet: int) -> float:
    """The count that an octet means, within 2.5 % of what it was."""
    return _VALUES[octet]


def beside(share: float, others: float) -> float:
    """How much belongs to so many others, where it usually has this share in all; without end where there are no others."""
    return share / (1.0 - share) * others if share < 0.999 else math.inf


class PrefixCounts:
    """How many messages went to each prefix: in this minute, hour, day and week, and at this hour on past days.

    A count-min sketch of two rows (Cormode, Muthukrishnan 2005): each prefix has one cell in either row, which it shares with
    others, so a count is never too low, and the smaller of both is close. Chosen since no list of prefixes is kept that
    somebody could fill: 10 prefixes and 10 million take the same memory. Changes are looked for cell by cell against what is
    usual in the same cell (Krishnamurthy et al. 2003, sketch-based change detection), so that what shares a cell is in both.

    Minute and hour are counted in turn, with the last one as far as it still lies within the window; day and week fade
    (exponentially, with these times), and the usual number of each hour of the day is an average over past days in an octet.
    Memory: 180 KiB.
    """

    def __init__(self) -> None:
        self._minute = array("I", bytes(4 * CELLS))
        self._last_minute = array("I", bytes(4 * CELLS))
        self._hour = array("I", bytes(4 * CELLS))
        self._last_hour = array("I", bytes(4 * CELLS))
        self._day = array("f", bytes(4 * CELLS))
        self._week = array("f", bytes(4 * CELLS))
        self._usual = bytearray(HOURS * CELLS)
        self._days = [0] * HOURS
        self._touched: list[int] = []
        self._was_touched: list[int] = []
        self._day_weight = 1.0
        self._week_weight = 1.0
        self._in_minute = 0
        self._in_last_minute = 0
        self._in_hour = 0
        self._in_last_hour = 0
        self._in_day = 0.0
        self._in_week = 0.0
        self._minute_left = 1.0  # how much of the last minute, or hour, is still within the window
        self._hour_left = 1.0
        self._hour_of_day = 0

    def add(self, first: int, second: int) -> None:
        """A message to the prefix of these two cells."""
        minute = self._minute
        count: int = minute[first]
        if not count:
            self._touched.append(first)
        minute[first] = count + 1
        count = minute[second]
        if not count:
            self._touched.append(second)
        minute[second] = count + 1
        self._in_minute += 1

    def take_back(self, first: int, second: int) -> None:
        """The message that was added last was none."""
        minute = self._minute
        if minute[first] and minute[second] and self._in_minute:
            minute[first] -= 1
            minute[second] -= 1
            self._in_minute -= 1

    # -- time ----------------------------------------------------------------------------------------------------------

    def set_left(self, minute: float, hour: float, hour_of_day: int) -> None:
        """How much of the last minute and of the last hour still lies within the window (1 to 0), and which hour it is."""
        self._minute_left = minute
        self._hour_left = hour
        self._hour_of_day = hour_of_day

    def end_minute(self, minutes: int) -> None:
        """The minute is over, and ``minutes`` - 1 further ones in which nothing came."""
        minute, hour, day, week = self._minute, self._hour, self._day, self._week
        faded = min(minutes, _GONE)
        fades = math.exp(-faded * _MINUTE / DAY)
        if self._day_weight > _HEAVY:
            self._lighten()
        day_weight = self._day_weight
        week_weight = self._week_weight
        for cell in self._touched:
            count: int = minute[cell]
            hour[cell] += count
            day[cell] += count * day_weight
            week[cell] += count * week_weight
        total = self._in_minute
        self._in_hour += total
        self._in_day = (self._in_day + total) * fades
        self._in_week = (self._in_week + total) * math.exp(-faded * _MINUTE / WEEK)
        # What fades is not touched: what comes weighs more (forward decay, Cormode et al. 2009).
        self._day_weight = day_weight / fades
        self._week_weight = week_weight * math.exp(faded * _MINUTE / WEEK)
        for cell in self._was_touched:
            self._last_minute[cell] = 0
        self._was_touched.clear()
        self._in_last_minute = 0
        if minutes == 1:
            self._minute, self._last_minute = self._last_minute, minute
            self._touched, self._was_touched = self._was_touched, self._touched
            self._in_last_minute = total
        else:
            for cell in self._touched:
                minute[cell] = 0
            self._touched.clear()
        self._in_minute = 0

    def end_hour(self, hours: int) -> None:
        """The hour is over (after its last minute), and ``hours`` - 1 further ones in which nothing came."""
        self._learn(self._hour_of_day, self._hour)
        nothing = array("I", bytes(4 * CELLS))
        for missed in range(1, min(hours, HOURS)):
            self._learn((self._hour_of_day + missed) % HOURS, nothing)
        self._last_hour = self._hour if hours == 1 else nothing
        self._in_last_hour = self._in_hour if hours == 1 else 0
        self._hour = array("I", bytes(4 * CELLS))
        self._in_hour = 0
        self._hour_of_day = (self._hour_of_day + hours) % HOURS

    def _learn(self, hour: int, counts: array[int]) -> None:
        usual, values = self._usual, _VALUES
        at = hour * CELLS
        self._days[hour] += 1
        share = max(1.0 / self._days[hour], _FORGETS)
        for cell in range(CELLS):
            count: int = counts[cell]
            octet: int = usual[at]
            if count or octet:
                usual[at] = to_octet(values[octet] + share * (count - values[octet]))
            at += 1

    def _lighten(self) -> None:
        """All weights are brought back to 1: once in two weeks."""
        for cell in range(CELLS):
            self._day[cell] /= self._day_weight
            self._week[cell] /= self._week_weight
        self._day_weight = self._week_weight = 1.0

    # -- what is, and what is usual ------------------------------------------------------------------------------------

    def in_minute(self, cell: int) -> float:
        """Messages of the last 60 s in a cell, as far as the minute before is spread evenly."""
        now: int = self._minute[cell]
        before: int = self._last_minute[cell]
        return now + before * self._minute_left

    def in_hour(self, cell: int) -> float:
        """... of the last 60 minutes."""
        minute: int = self._minute[cell]
        hour: int = self._hour[cell]
        before: int = self._last_hour[cell]
        return minute + hour + before * self._hour_left

    def in_day(self, cell: int) -> float:
        """... of a day, the older the less."""
        minute: int = self._minute[cell]
        day: float = self._day[cell]
        return minute + day / self._day_weight

    def in_week(self, cell: int) -> float:
        """... of a week before this minute, likewise."""
        week: float = self._week[cell]
        return week / self._week_weight

    @property
    def minute(self) -> float:
        """Messages of the last 60 s to all prefixes."""
        return self._in_minute + self._in_last_minute * self._minute_left

    @property
    def hour(self) -> float:
        """... of the last 60 minutes."""
        return self._in_minute + self._in_hour + self._in_last_hour * self._hour_left

    @property
    def day(self) -> float:
        """... of a day, the older the less."""
        return self._in_minute + self._in_day

    @property
    def week(self) -> float:
        """... of a week before this minute, likewise."""
        return self._in_week

    def usual(self, cell: int) -> float:
        """Messages in a cell at this hour on past days, on the average: the larger of this hour's and the next one's, since a
        morning rises within an hour."""
        now: int = self._usual[self._hour_of_day * CELLS + cell]
        after: int = self._usual[(self._hour_of_day + 1) % HOURS * CELLS + cell]
        return _VALUES[max(now, after)]

    def share(self, cell: int) -> float:
        """The share of a cell in all messages of the last week, 0 where there were none."""
        return self.in_week(cell) / self._in_week if self._in_week > 0 else 0.0

    def expected_in_minute(self, cell: int) -> float:
        """What is usual in a minute: of this hour's usual number, and of what belongs to all that goes elsewhere just
        now, as the shares of the last week were; the larger. So a sale that goes to all of an account's customers at
        ten times its rate is expected, and a prefix that rises alone is not."""
        return max(self.usual(cell) / 60.0, beside(self.share(cell), self.minute - self.in_minute(cell)))

    def expected_in_hour(self, cell: int) -> float:
        """... in an hour."""
        return max(self.usual(cell), beside(self.share(cell), self.hour - self.in_hour(cell)))

    def expected_in_day(self, cell: int) -> float:
        """... in a day."""
        return max(self.in_week(cell) / 7.0, beside(self.share(cell), self.day - self.in_day(cell)))

    # -- over a restart ------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Hours, day, week and what is usual: 161 KiB. The minutes are left out."""
        halves = array("d", [self._in_day, self._in_week, self._day_weight, self._week_weight])
        whole = array("q", [_VERSION, self._in_hour, self._in_last_hour, *self._days])
        parts = (whole, halves, self._hour, self._last_hour, self._day, self._week)
        return b"".join([part.tobytes() for part in parts]) + bytes(self._usual)

    def load(self, dumped: bytes) -> None:
        """Takes what `dump` gave. ValueError where it is none, or another version's: then nothing is changed."""
        sizes = (8 * (3 + HOURS), 8 * 4, 4 * CELLS, 4 * CELLS, 4 * CELLS, 4 * CELLS, HOURS * CELLS)
        if len(dumped) != sum(sizes):
            raise ValueError("no counts of prefixes")
        parts = []
        at = 0
        for size in sizes:
            parts.append(dumped[at : at + size])
            at += size
        whole, halves = array("q", parts[0]), array("d", parts[1])
        fading = [array("f", parts[4]), array("f", parts[5])]
        if (
            whole[0] != _VERSION
            or not all(map(math.isfinite, (*halves, *fading[0], *fading[1])))
            or min(halves[2:]) < 1
        ):
            raise ValueError("counts of prefixes of another version")
        self._in_hour, self._in_last_hour, self._days = whole[1], whole[2], list(whole[3:])
        self._in_day, self._in_week, self._day_weight, self._week_weight = halves
        self._hour, self._last_hour = array("I", parts[2]), array("I", parts[3])
        self._day, self._week = fading
        self._usual = bytearray(parts[6])


class Runs:
    """Numbers one after another among the latest.

    A table of 2,048 places; a number's keyed hash says where it stands and is all that is kept of it. A newer number takes the
    place of an older one, so it holds about the last two thousand, whatever comes. Two numbers are taken for each other once in
    2^40. Chosen before a set of the last numbers: one octet string, no eviction, three look-ups a message. Memory: 16 KiB.
    """

    def __init__(self) -> None:
        self._places = array("q", bytes(8 * WIDTH))

    def add(self, digits: bytes) -> int:
        """The length of the run that a number (ASCII digits) stands in: 1 alone, 0 where it is among the latest already.
        Runs that grow up, down, or from both ends are seen."""
        places = self._places
        key = hash(digits)
        at = key & (WIDTH - 1)
        mark = (key >> 11) & 0xFFFFFFFFFF
        kept: int = places[at]
        if kept >> 8 == mark and kept:
            return 0
        last = digits[-1]
        head = digits[:-1]
        below = head + bytes((last - 1,)) if last > 48 else _moved(digits, -1)
        above = head + bytes((last + 1,)) if last < 57 else _moved(digits, 1)
        length = 1 + self._length(below) + self._length(above)
        places[at] = mark << 8 | min(length, 255)
        return length

    def _length(self, digits: bytes) -> int:
        key = hash(digits)
        kept: int = self._places[key & (WIDTH - 1)]
        return kept & 0xFF if kept >> 8 == (key >> 11) & 0xFFFFFFFFFF else 0


def _moved(digits: bytes, by: int) -> bytes:
    return b"%0*d" % (len(digits), max(0, int(digits) + by))


class Distinct:
    """How many different things there are, by the smallest of their hashes (k minimum values, Bar-Yossef et al. 2002).

    Exact up to `KEPT`, then within 13 % (one standard error). Chosen before HyperLogLog: it is exact where decisions
    are made, and a thing seen before costs one comparison. Memory: 2.5 KiB at most.
    """

    KEPT: Final = 64

    def __init__(self) -> None:
        self._least: list[int] = []

    def add(self, key: int) -> None:
        """``key``: a hash of 62 bits."""
        least = self._least
        if len(least) == self.KEPT and key >= least[-1]:
            return
        if key in least:
            return
        insort(least, key)
        if len(least) > self.KEPT:
            least.pop()

    def count(self) -> float:
        """How many different ones were added."""
        least = self._least
        if len(least) < self.KEPT:
            return float(len(least))
        return (self.KEPT - 1) * float(1 << 62) / (least[-1] + 1)


class Frequent:
    """Lets through what has come often enough to be looked at: a row of counts under a keyed hash, emptied now and then.

    Never too low; too high where two share a cell. In front of a short list it keeps all that is seldom out of it, which a
    list of the latest would not. Memory: 8 KiB.
    """

    def __init__(self) -> None:
        self._cells = array("H", bytes(2 * CELLS))

    def add(self, key: int) -> int:
        """How often it has come, this time included; 65,535 at most."""
        at = key & (CELLS - 1)
        count: int = self._cells[at]
        if count < 0xFFFF:
            count += 1
            self._cells[at] = count
        return count

    def clear(self) -> None:
        """Begins anew."""
        self._cells = array("H", bytes(2 * CELLS))
