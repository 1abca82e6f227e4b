"""privacy: what data protection asks for, all of it at once, under a steady load.

Rotations of the key-encryption key that are killed midway and run again, purges that find something, erasures, holds added
and released; then every record that should be readable has to be, and none that should not. A second account, `past`, has
records of the last weeks: each purge finds its oldest day due, since its retention is shortened by a day before. What this
smppd does not have yet (`subject`, `hold`) is left out, and said in `skipped`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from smppd import config
from smppd.records.lookup import LogReader
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.kek import load_kek
from smppd.vault.seal import SealError
from tests.store.builder import DAY, Builder
from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.hands import Ended, Hands
from tests.torture.load import drain, percentile, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit
from tests.torture.record import number_of
from tests.torture.smsc import Step

NAME: Final = "privacy"
DAYS: Final = 24
"""Days of `past`; each purge takes one."""
OVERDUE: Final = 3
"""Days before those, which are over from the beginning."""
A_DAY: Final = 60
HELD: Final = "+447700900910"
RELEASED: Final = "+447700900911"
FEW_MS: Final = 25.0
"""A p99 under this is never a finding."""
MOST: Final = 2.0
_COMMAND: Final = 120.0


def plan(options: Options) -> list[Unit]:
    """One run."""
    seconds = options.seconds or (20.0 if options.short else 600.0)
    return [
        Unit(f"{NAME}-000", options.seed, {"seconds": seconds, "rate": options.rate or (100 if options.short else 500)})
    ]


@dataclass(slots=True)
class Doings:
    """What was done to the store, as far as the end has to know it."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    erased: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Number -> when its erasure was asked for, and when it was done (monotonic)."""
    kept_days: int = DAYS
    """So many days of `past` are within its retention."""
    held_days: int = 0
    """So many there were when HELD was held; 0 without a hold."""
    holds: list[str] = field(default_factory=list)
    tries: int = 0


class Work:
    """The commands, one after another in a thread of its own until it is told to stop."""

    def __init__(self, daemon: Daemon, random: Random, hands: Hands) -> None:
        self.daemon = daemon
        self.random = random
        self.hands = hands
        self.done = Doings()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="privacy")
        self._subjects = [f"+447700900{number}" for number in random.sample(range(600, 900), 200)]

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the command that runs."""
        self._stop.set()
        self._thread.join(4 * _COMMAND)

    def _run(self) -> None:
        self._hold(HELD, keep=True)
        acts: list[Callable[[], None]] = [self._rotate, self._purge, self._erase, self._hold_and_release]
        turn = 0
        while not self._stop.is_set():
            acts[turn % len(acts)]()
            turn += 1
            self._stop.wait(0.3)

    # -- commands ------------------------------------------------------------------------------------------------------

    def _argv(self, words: tuple[str, ...]) -> list[str]:
        name, *rest = words
        place = 1 if name in ("keys", "subject", "hold", "log") else 0
        configured = ["--config", str(self.daemon.config_file)]
        return [sys.executable, "-m", "smppd", name, *rest[:place], *configured, *rest[place:]]

    def _call(self, *words: str, may_fail: bool = False) -> Ended | None:
        """Runs a command to its end; None where this smppd does not have it."""
        done = self.hands.run(self._argv(words), within=_COMMAND)
        if done.late:
            self.done.faults.append(f"`{' '.join(words[:2])}` did not end within {_COMMAND:g} s")
            return None
        if done.returncode == 2 and ("there is no command" in done.stderr or "invalid choice" in done.stderr):
            self.done.skipped[" ".join(words[:2])] = done.stderr.strip()[:120]
            return None
        if done.returncode and not may_fail:
            self.done.faults.append(f"`{' '.join(words[:2])}`: {done.returncode}: {done.stderr.strip()[:200]}")
        self.done.counts[" ".join(words[:2])] += 1
        return done

    def _kill(self, *words: str) -> None:
        """Starts a command and kills it somewhere in it."""
        if self.hands.run(self._argv(words), within=self.random.uniform(0.3, 2.5), kill=True).returncode is None:
            self.done.counts[f"{' '.join(words[:2])} killed"] += 1

    def _reload(self) -> None:
        before = self.daemon.metric("smppd_reloads_total", outcome="done")
        self.daemon.reload()
        if not until(lambda: self.daemon.metric("smppd_reloads_total", outcome="done") > before, 30):
            self.done.faults.append("a reload was not done within 30 s")

    def _rotate(self) -> None:
        self._kill("keys", "rotate")
        self._call("keys", "rotate")
        self._reload()
        if self.random.random() < 0.5:
            self._call("keys", "rotate", "--retire", may_fail=True)
            self._call("keys", "rotate", "--retire")

    def _purge(self) -> None:
        done = self.done
        if done.kept_days > 2:
            done.kept_days -= 1
            for each in self.daemon.config["accounts"]:
                if each["system_id"] == "past":
                    each["retain"] = retention(done.kept_days)
            self.daemon.write_config()
            self._reload()
        if self.random.random() < 0.5:
            self._kill("purge")
        for _ in range(5):  # 1: somebody is reading; again
            ended = self._call("purge", may_fail=True)
            if ended is not None and ended.returncode == 0:
                return
        done.faults.append("five purges in turn did not come to their end")

    def _erase(self) -> None:
        if "subject erase" in self.done.skipped or not self._subjects:
            return
        number = self._subjects.pop()
        began = time.monotonic()
        ended = self._call("subject", "erase", number, "--reason", "law", "--note", "order of the campaign", "--yes")
        if ended is not None and ended.returncode == 0:
            self.done.erased[number] = (began, time.monotonic())

    def _hold(self, number: str, *, keep: bool) -> None:
        if "hold add" in self.done.skipped:
            return
        words = ("--number", number, "--authority", "court", "--reference", "A/1", "--expires", "2027-12-31")
        ended = self._call("hold", "add", *words)
        if ended is None or ended.returncode:
            return
        if keep:
            self.done.held_days = self.done.kept_days
        else:
            self.done.holds.append(number)

    def _hold_and_release(self) -> None:
        self._hold(RELEASED, keep=False)
        if not self.done.holds:
            return
        listed = self._call("hold", "list", "--json")
        if listed is None or listed.returncode:
            return
        told = json.loads(listed.stdout)
        numbers = sorted(int(one["hold"]) for one in told["holds"])
        if len(numbers) > 1:
            self._call("hold", "release", str(numbers[-1]))
            self.done.holds.clear()


def retention(days: int) -> dict[str, str]:
    """Of `past`: so many days of it are kept. Its days were sealed at noon, and a part dies when its UTC day is over and this
    has passed."""
    return {"body": f"{days}d", "numbers": f"{days}d", "billing": "400d"}


def prefill(daemon: Daemon, now: float) -> dict[int, int]:
    """Records of `past` on each of the days before today; record id -> how many days ago its day was."""
    kek = load_kek(config.load(daemon.config_file).keys)
    builder = Builder(daemon.store, kek, sealed=True)
    noon = now - now % DAY + DAY / 2
    ages: dict[int, int] = {}
    try:
        for days in range(DAYS + OVERDUE, 0, -1):
            builder.now = noon - days * DAY
            for number in range(A_DAY):
                builder.now += 1
                to = b"447700900%03d" % (900 + number)
                ages[builder.record(b"of the past", destination=to, account="past")] = days
            builder.commit()
    finally:
        builder.close()
    return ages


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """Load alone for a fifth of the time, then with all the rest."""
    seconds, rate = float(unit.values["seconds"]), float(unit.values["rate"])
    accounts = [account("acme"), account("past", retain=retention(DAYS))]
    with Peers(lambda _submit, _attempt: Step(receipt=0.05)) as peers, Hands(options.source) as hands:
        daemon = Daemon(directory, options, peers.smsc.port, accounts)
        peers.at_end.append(daemon.kill)
        try:
            daemon.keys()
            ages = prefill(daemon, time.time())
            daemon.launch()
            daemon.await_ready()
            daemon.wait_links("sim", 1)
        except StartFailure as failure:
            return {**unit.values, "faults": [str(failure)]}
        customer = peers.add(Customer(daemon.plain_port, PASSWORD, rate=rate))
        customer.sending = True
        until(lambda: len(customer.book.ids) > 0, 20)
        time.sleep(min(5.0, seconds / 10))  # the first answers are slow
        told: list[tuple[float, int]] = []
        first = len(customer.book.waits)
        _pass(seconds / 5, customer, told)
        middle = len(customer.book.waits)
        work = Work(daemon, unit.random(), hands)
        work.start()
        _pass(seconds * 4 / 5, customer, told)
        last = len(customer.book.waits)
        work.stop()
        drained = drain(daemon, peers, [customer])
        wrong_items = daemon.metric("smppd_items_set_aside_total")
        found, faults = verdict(daemon, peers, customer, verify=True, drained=drained)
        faults = work.done.faults + faults
        if wrong_items:
            faults.append(f"{wrong_items:g} items were set aside")
        alone = percentile(customer.book.waits[first:middle], 0.99)
        busy = percentile(customer.book.waits[middle:last], 0.99)
        if not options.short and busy > MOST * alone and busy > FEW_MS:
            faults.append(f"p99 of the answer {busy:g} ms, {busy / max(alone, 0.01):.1f} times that of the load alone")
        looked, wrong = readable(daemon, customer, ages, work.done, told)
    return {
        **unit.values,
        **found,
        "rate": round(len(customer.book.ids) / seconds),
        "p99_ms": {"alone": alone, "with": busy},
        "commands": dict(work.done.counts),
        "skipped": work.done.skipped,
        **looked,
        "faults": faults + wrong,
    }


def _pass(seconds: float, customer: Customer, told: list[tuple[float, int]]) -> None:
    """Lets time pass; notes when how many tokens had been sent."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        told.append((time.monotonic(), customer.next))
        time.sleep(0.2)


def readable(
    daemon: Daemon, customer: Customer, ages: dict[int, int], done: Doings, told: list[tuple[float, int]]
) -> tuple[dict[str, int], list[str]]:
    """Opens every record there should be, and every one there should not be."""
    unread: list[int] = []
    read: list[int] = []
    damaged = count = 0
    kek = load_kek(config.load(daemon.config_file).keys)
    with LogReader(SqliteRecords(daemon.store), kek) as reader:

        def opens(record_id: int) -> bool:
            nonlocal damaged, count
            count += 1
            try:
                held = reader.record(record_id)
            except SealError:
                damaged += 1
                return False
            return held is not None and held.record.pdu() is not None

        for shown, token in customer.book.ids.items():
            should = _should(f"+447700900{token % 1000:03d}", token, done, told)
            if should is not None and opens(number_of(shown)) is not should:
                (unread if should else read).append(token)
        places = {record_id: place % A_DAY for place, record_id in enumerate(ages)}
        for record_id, days in ages.items():
            held = f"+447700900{900 + places[record_id]}" == HELD and days <= done.held_days
            # A day dies when it and the retention are over: the day at the edge may be on either side of midnight.
            should = True if days < done.kept_days or held else False if days > done.kept_days + 1 else None
            if f"+447700900{900 + places[record_id]}" == RELEASED:
                should = should or None
            if should is not None and not (held and not done.held_days) and opens(record_id) is not should:
                (unread if should else read).append(-days)
    faults = []
    if unread:
        faults.append(f"{len(unread)} records cannot be read that should be: {unread[:5]}")
    if read:
        faults.append(f"{len(read)} records can be read that should not be: {read[:5]}")
    if damaged:
        faults.append(f"{damaged} records do not open: altered")
    purged = sum(days > done.kept_days + 1 for days in ages.values())
    looked = {"looked_at": count, "purged": purged, "erased": len(done.erased), "held_days": done.held_days}
    return looked, faults


def _should(number: str, token: int, done: Doings, told: list[tuple[float, int]]) -> bool | None:
    """Whether a message of the customer is to be readable; None where its erasure ran while it was sent."""
    span = done.erased.get(number)
    if span is None:
        return True
    before = max((sent for at, sent in told if at < span[0] - 1), default=0)
    after = min((sent for at, sent in told if at > span[1]), default=1 << 62)
    return False if token < before else True if token >= after else None
