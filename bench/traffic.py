"""What `smppd.traffic` finds, and what it takes for artificial that is not: simulated customers on a clock of their own.

    python -m bench.traffic finds     every shape of pumping among ordinary traffic: after how many seconds it is found
    python -m bench.traffic week      a week of ordinary traffic: what is found though nothing is wrong
    python -m bench.traffic numbers   memory and cost of a message with ten million different numbers

`--write` puts the figures into docs/traffic.md. Nothing is sent. The numbers are of numbering plans in which none begins with 0
behind the country code (ITU-T E.164 with the national plans of GB, US, DE, FR, ES, IE, NL), so none of them is anybody's.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from smppd import native
from smppd.config.traffic import Traffic
from smppd.policy.screens import Question
from smppd.protocol.wire import Command, Fields, Sm, address_field, build_sm
from smppd.traffic.account import AccountTraffic
from smppd.traffic.screen import TrafficScreen
from smppd.traffic.sketches import Cells

NOON: Final = 1_782_907_200.0  # 1 July 2026, 12:00 UTC, a Wednesday
DAY: Final = 86400.0
PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "traffic.md"
FROM: Final = address_field(5, 0, b"SHOP")

# Country: share of customers, hours ahead of UTC, digits behind "CC0", blocks of ten thousand that its customers live in.
HOME: Final = {
    "GB": (b"440", 0.66, 0, 9, 2500),
    "US": (b"10", 0.12, -6, 9, 500),
    "DE": (b"490", 0.09, 1, 9, 300),
    "FR": (b"330", 0.07, 1, 8, 250),
    "ES": (b"340", 0.04, 1, 8, 150),
    "IE": (b"3530", 0.02, 0, 8, 80),
}
NEW: Final = b"310"  # NL: nobody there is a customer
TEXTS: Final = (
    "Your code is {code}. It ends in 5 minutes.",
    "Your order {code} is on its way and comes tomorrow between 9 and 12.",
    "Your appointment is on the {day}th at {hour}:30. Reply 1 to confirm.",
    "Your balance is {code}.50 on the {day}th.",
    "Parcel {code} lies at the shop until the {day}th.",
    "Reminder: the club meets on the {day}th at {hour}:00.",
    "Your table for {day} at {hour}:15 is booked.",
    "Login from a new device. Code {code}; tell it nobody.",
)
SALE: Final = "Sale! 20 percent off everything until Sunday. Reply STOP to end."


@dataclass
class Outcome:
    """What was found. ``signals``: seconds from the beginning to the first decision of each signal."""

    signals: dict[str, float] = field(default_factory=dict)
    decisions: list[tuple[float, str, str]] = field(default_factory=list)
    refused: int = 0
    messages: int = 0


class Shop:
    """An account with customers, each in a block of numbers and written to now and then; a screen, and a clock.

    ``rate``: messages a second on the average of a day."""

    def __init__(self, seed: int, rate: float, customers: int = 30_000, **settings: Any) -> None:
        self.random = random.Random(seed)
        self.rate = rate
        self.now = 1000.0
        self.wall = NOON
        self.traffic = AccountTraffic("shop", Cells(bytes(range(seed, seed + 16))))
        self.screen = TrafficScreen(self.traffic, Traffic.model_validate(settings), None, lambda: self.wall)
        self.ending: list[tuple[float, bytes, bool, float]] = []
        self.by_country = {name: self._people(name, customers) for name in HOME}
        self.everybody = [one for people, _ in self.by_country.values() for one in people]

    def _people(self, country: str, customers: int) -> tuple[list[bytes], list[float]]:
        code, share, _, digits, blocks = HOME[country]
        heads = self.random.sample(range(10 ** (digits - 4)), blocks)
        heavy = list(accumulate(1.0 / (1 + place) ** 0.6 for place in range(blocks)))
        number = max(1, int(customers * share))
        people = [
            b"%s%0*d%04d" % (code, digits - 4, head, self.random.randrange(10_000))
            for head in self.random.choices(heads, cum_weights=heavy, k=number)
        ]
        return people, list(accumulate(self.random.paretovariate(1.5) for _ in people))

    def daily(self, country: str, wall: float) -> float:
        """How busy a country is at a time, 1 on the average of the day."""
        hour = (wall / 3600.0 + HOME[country][2]) % 24
        return 0.15 + 1.7 * max(0.0, math.sin(math.pi * (hour - 6.5) / 16.0)) * (1.0 if hour > 6.5 else 0.0)

    def poisson(self, mean: float) -> int:
        """A number of messages."""
        if mean > 50:
            return max(0, round(self.random.gauss(mean, math.sqrt(mean))))
        bound, product, count = math.exp(-mean), self.random.random(), 0
        while product > bound:
            product *= self.random.random()
            count += 1
        return count

    def ordinary(self, seconds: float, times: float = 1.0) -> list[tuple[bytes, str]]:
        """What the account sends in some seconds."""
        out: list[tuple[bytes, str]] = []
        for name, (people, weights) in self.by_country.items():
            mean = self.rate * HOME[name][1] * self.daily(name, self.wall) * seconds * times
            for number in self.random.choices(people, cum_weights=weights, k=self.poisson(mean)):
                text = self.random.choice(TEXTS)
                out.append((number, text))
                if self.random.random() < 0.02:  # asked for once more
                    out.append((number, text))
        self.random.shuffle(out)
        return out

    def send(self, number: bytes, text: str, delivered: float = 0.95) -> bool:
        """One message, and its receipt in some seconds; whether it was taken."""
        filled = text.format(code=self.random.randrange(10**6), day=self.random.randrange(28), hour=9)
        question = self.question(number, filled.encode())
        if self.screen.look(question) is not None:
            return False
        seconds = self.random.lognormvariate(1.3, 0.5)
        heappush(self.ending, (self.now + seconds, number, self.random.random() < delivered, seconds))
        return True

    def question(self, number: bytes, text: bytes) -> Question:
        """A message as its screen sees it."""
        frame = build_sm(Command.SUBMIT_SM, 0, FROM, address_field(1, 1, number), text, Fields(registered=1), b"")
        return Question("shop", None, Sm(frame), None, "transactional", self.wall, self.now, self.wall + 3600)

    def passes(
        self,
        seconds: float,
        outcome: Outcome | None = None,
        *,
        step: float = 10.0,
        times: float = 1.0,
        beside: Callable[[float], list[tuple[bytes, str, float]]] = lambda _step: [],
    ) -> Outcome:
        """Time passes with ordinary traffic, ``times`` as much as usual, and what else is sent ``beside``: (number, text, how
        likely it is delivered)."""
        outcome = outcome or Outcome()
        began = self.now
        while self.now < began + seconds - 1e-9:
            messages = [(number, text, 0.95) for number, text in self.ordinary(step, times)] + beside(step)
            self.random.shuffle(messages)
            start = self.now
            for place, (number, text, likely) in enumerate(messages):
                at = start + step * place / len(messages)
                self.wall += at - self.now
                self.now = at
                self._receipts()
                outcome.messages += 1
                outcome.refused += not self.send(number, text, likely)
                self._decisions(outcome, began)
            self.wall += start + step - self.now
            self.now = start + step
            self._receipts()
            self._decisions(outcome, began)
        return outcome

    def _receipts(self) -> None:
        while self.ending and self.ending[0][0] <= self.now:
            _, number, delivered, seconds = heappop(self.ending)
            self.screen.ended(number, 1, delivered, seconds, self.now)

    def _decisions(self, outcome: Outcome, began: float) -> None:
        for one in self.traffic.take_fresh():
            outcome.decisions.append((self.wall, one.signal, f"{one.target}: {one.why}"))
            outcome.signals.setdefault(one.signal, self.now - began)


# -- pumping: one message to twenty ordinary ones ------------------------------------------------------------------------


def _random(shop: Shop, head: bytes, digits: int) -> bytes:
    return head + b"%0*d" % (digits, shop.random.randrange(10**digits))


def sequential(shop: Shop) -> Iterator[tuple[bytes, float]]:
    """Numbers one after another."""
    number = shop.random.randrange(10**8)
    while True:
        number += 1
        yield b"440%09d" % (number % 10**9), 0.6


def one_prefix(shop: Shop) -> Iterator[tuple[bytes, float]]:
    """Random numbers of one block."""
    head = _random(shop, b"440", 5)
    while True:
        yield _random(shop, head, 4), 0.6


def bursts(shop: Shop) -> Iterator[tuple[bytes, float]]:
    """A dozen random numbers of one block, then of the next."""
    while True:
        head = _random(shop, b"440", 5)
        for _ in range(12):
            yield _random(shop, head, 4), 0.6


def undelivered(shop: Shop) -> Iterator[tuple[bytes, float]]:
    """Random numbers of a whole country that hardly anybody has: no block stands out."""
    while True:
        yield _random(shop, b"340", 8), 0.05


def new_country(shop: Shop) -> Iterator[tuple[bytes, float]]:
    """Random numbers of a country where nobody is a customer."""
    while True:
        yield _random(shop, NEW, 8), 0.6


SHAPES: Final = {
    "numbers one after another": sequential,
    "random numbers of one block": one_prefix,
    "bursts of a dozen over many blocks": bursts,
    "random numbers of a usual country, 5 % delivered": undelivered,
    "random numbers of a new country": new_country,
}


def pumped(
    shop: Shop, shape: Callable[[Shop], Iterator[tuple[bytes, float]]], seconds: float = 60.0, share: float = 20.0
) -> Outcome:
    """Ordinary traffic with one pumped message to ``share`` ordinary ones."""
    numbers = shape(shop)
    busy = sum(HOME[name][1] * shop.daily(name, shop.wall) for name in HOME)
    owed = 0.0

    def beside(step: float) -> list[tuple[bytes, str, float]]:
        nonlocal owed
        owed += shop.rate * busy * step / share
        number, owed = int(owed), owed % 1.0
        return [(to, TEXTS[0], likely) for to, likely in (next(numbers) for _ in range(number))]

    return shop.passes(seconds, beside=beside, step=1.0)


def flash_sale(shop: Shop, minutes: float, times: float = 10.0) -> Outcome:
    """One text to the account's customers, in random order, at ten times its rate."""
    customers = shop.everybody[:]
    shop.random.shuffle(customers)

    def beside(step: float) -> list[tuple[bytes, str, float]]:
        number = int(shop.rate * times * step)
        told = [(customers.pop(), SALE, 0.95) for _ in range(min(number, len(customers)))]
        return told

    return shop.passes(60.0 * minutes, beside=beside, step=5.0)


def ordinary_week(shop: Shop, days: int = 7) -> Outcome:
    """Days of ordinary traffic: a letter to 2,000 customers each morning at ten, and a flash sale on the fourth day."""
    outcome = Outcome()
    for day in range(days):
        for hour in range(24):
            letter = shop.random.sample(shop.everybody, 2000) if int(shop.wall / 3600) % 24 == 10 else []
            if day == 3 and hour == 6:
                sale = flash_sale(shop, 20.0)
                outcome.decisions += sale.decisions
                outcome.messages += sale.messages

            def beside(_step: float, left: list[bytes] = letter) -> list[tuple[bytes, str, float]]:
                told = [
                    (left.pop(), "This week in our shop: {day} new things.", 0.95) for _ in range(min(20, len(left)))
                ]
                return told

            shop.passes(3600.0, outcome, beside=beside)
    return outcome


def learned(
    seed: int, rate: float, days: float = 3.0, slow: float = 1.0, customers: int = 30_000, **settings: Any
) -> Shop:
    """A shop that is known: after ``days`` with ``slow`` times its traffic."""
    shop = Shop(seed, rate, customers, learn="12h", **settings)
    shop.passes(days * DAY, times=slow)
    return shop


# -- figures -------------------------------------------------------------------------------------------------------------


def finds(seeds: tuple[int, ...], rate: float) -> list[str]:
    """A table: seconds until each shape is found."""
    lines = ["| one pumped message to twenty ordinary ones | found after (s), by seed | by |", "|---|---|---|"]
    for name, shape in SHAPES.items():
        times, by = [], set()
        for seed in seeds:
            outcome = pumped(learned(seed, rate, slow=0.1), shape, 120.0)
            first = min(outcome.signals, key=lambda one: outcome.signals[one], default="")
            times.append(f"{outcome.signals[first]:.0f}" if first else "not")
            by |= {first}
        lines.append(f"| {name} | {', '.join(times)} | {', '.join(sorted(filter(None, by)))} |")
    return lines


def false_alarms(seeds: tuple[int, ...], rate: float) -> list[str]:
    """A table: decisions about a week in which nothing was wrong."""
    lines = ["| seed | messages | of a flash sale | decisions, by signal |", "|---|---|---|---|"]
    for seed in seeds:
        shop = learned(seed, rate)
        outcome = ordinary_week(shop)
        by: dict[str, int] = {}
        for _, signal, _ in outcome.decisions:
            by[signal] = by.get(signal, 0) + 1
        told = ", ".join(f"{signal} {count}" for signal, count in sorted(by.items())) or "none"
        lines.append(f"| {seed} | {outcome.messages:,} | {min(30_000, int(rate * 10 * 1200)):,} | {told} |")
        for wall, signal, why in outcome.decisions[:20]:
            print(f"  {(wall - NOON) / DAY:.2f} d {signal} {why}", flush=True)
    return lines


def numbers(count: int) -> list[str]:
    """Memory and cost of a message with so many different numbers, all over a country."""
    first = Shop(1, 1.0, customers=100, learn="1s")  # what the measurement itself takes is taken before
    _send_numbers(first, 20_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = _send_numbers(Shop(2, 1.0, customers=100, learn="1s"), count)
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    form = "compiled" if native.compiled else "interpreted"
    mean, least = sum(spent) / len(spent) * 1e6, min(spent) * 1e6
    return [
        f"| different numbers | memory taken | a message costs ({form}) | in the quietest 2,000 |",
        "|---|---|---|---|",
        f"| {count:,} | {taken:.1f} MiB | {mean:.1f} us | {least:.1f} us |",
    ]


def _send_numbers(shop: Shop, count: int) -> list[float]:
    """Seconds of a message, in each 2,000. Every signal is looked at."""
    text = b"Your code is 123456. It ends in 5 minutes."
    to = address_field(1, 1, b"440000000000")
    frame = build_sm(Command.SUBMIT_SM, 0, FROM, to, text, Fields(), b"")
    at = frame.index(b"440000000000")
    spent = []
    for begin in range(0, count, 2000):
        questions = []
        for number in range(begin, begin + 2000):
            shop.now += 0.002
            shop.wall += 0.002
            # 7,919 is a prime: the numbers are all different and lie far apart.
            sm = Sm(frame[:at] + b"440%09d" % (number * 7919 % 10**9) + frame[at + 12 :])
            question = Question("shop", None, sm, None, "transactional", shop.wall, shop.now, shop.wall)
            question._country = "GB"  # worked out once for all screens, and remembered by prefix for all accounts
            questions.append(question)
        start = time.thread_time()
        for question in questions:
            shop.screen.look(question)
        spent.append((time.thread_time() - start) / len(questions))
    return spent


TABLES: Final = ("finds", "week", "numbers")


def main() -> None:
    """Prints, and writes with `--write`."""
    parser = argparse.ArgumentParser(prog="python -m bench.traffic", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="which tables; all unless said")
    parser.add_argument("--numbers", type=int, default=10_000_000, metavar="N", help="different numbers")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many shops")
    parser.add_argument("--rate", type=float, default=8.0, help="messages a second on the average of a day")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/traffic.md")
    args = parser.parse_args()
    seeds = tuple(range(1, args.seeds + 1))
    make: dict[str, Callable[[], list[str]]] = {
        "finds": lambda: finds(seeds, args.rate),
        "week": lambda: false_alarms(seeds, args.rate),
        "numbers": lambda: numbers(args.numbers),
    }
    for name in args.tables or TABLES:
        lines = make[name]()
        print("\n".join(lines), flush=True)
        if args.write:
            page = PAGE.read_text(encoding="utf-8")
            begin, end = f"<!-- {name}: measured -->\n", f"\n<!-- {name}: end -->"
            head, _, rest = page.partition(begin)
            page = head + begin + "\n".join(lines) + end + rest.partition(end.lstrip())[2]
            PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
