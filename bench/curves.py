"""Growth curves of what is configured or on its way: idle sessions, accounts, rules, messages that wait for their receipt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from bench import config
from bench.cases import Case
from bench.points import COST, PACED, Column, Curve, Graph, Point, point
from bench.process import raise_files
from bench.stand import Bench, Change, Stand, Values

IDLE: Final = "idle"
_FILES: Final = 500  # that a daemon opens besides its sessions, at most
_SETTLE: Final = 2.0  # seconds until what a load leaves to do in the background is done
_ENQUIRY: Final = 30.0  # seconds in which each idle session is asked once whether it lives
_ENOUGH: Final = 100  # sessions or messages whose memory stands out from all else that grows
_COST: Final = (*COST, Column("pss_mib", "PSS MiB", 0))
_GRAPHS: Final = (
    Graph("CPU a message at full speed, ratio to the base of the same round", ("cpu",), ratio=True),
    PACED,
)


def _sessions(bench: Bench) -> Iterator[Point]:
    """One active bind measured beside so many idle ones, and alone (the base), on one daemon."""
    for tls in (False, True):
        group = "TLS" if tls else "plain"
        for count in bench.first((1, 10, 100, 1000, 10_000), (1, 100)):
            if count + _FILES > (files := raise_files()):
                yield Point(count, group, {}, note=f"not measured: the system allows {files:,} open files")
                continue
            pairs = []
            for number in range(bench.rounds):
                bench.say(f"sessions, {group}, {count:,}, round {number + 1}")
                with Stand(bench, Case(binds=1, tls=tls), partial(_with_idle, count)) as stand:
                    pairs.append(_beside_idle(stand, count))
            yield point(count, group, pairs, form=stand.form)


def _with_idle(count: int, content: dict[str, Any]) -> None:
    content["limits"] = {"connections": count + 100}
    # Receipts are shared out to all sessions of an account, so the idle ones are another's.
    config.another(IDLE, content, max_binds=count)


def _beside_idle(stand: Stand, count: int) -> tuple[Values, Values]:
    """Memory first, while the daemon has done next to nothing else; the base last, when the idle ones have gone."""
    values: Values = {}
    with stand.running():
        # Checking a password takes 20 MiB, some of which stays: not the sessions' doing.
        stand.bind_once(IDLE)
        time.sleep(_SETTLE)
        quiet = _ENQUIRY if count >= 1000 else stand.bench.seconds
        before, alone = stand.pss_kib(), stand.share(stand.bench.seconds)
        with stand.idle(count, IDLE, patience=120 + count / 20) as seconds:
            time.sleep(_SETTLE / 2)
            held = stand.pss_kib()
            values["bind_seconds"], values["idle_percent"] = seconds, 100 * (stand.share(quiet) - alone)
            if count >= _ENOUGH:
                values["session_kib"] = (held - before) / count
            values |= stand.figures()
        return values, stand.figures()


def _configured(
    bench: Bench, name: str, base: Case, points: Sequence[tuple[int, Case, Change | None, Sequence[str]]]
) -> Iterator[Point]:
    """Points that differ in their configuration: each on a daemon of its own, right after one on the base's."""
    pairs: dict[int, list[tuple[Values, Values]]] = {count: [] for count, *_ in points}
    form = ""
    for number in range(bench.rounds):
        for count, case, change, options in points:
            bench.say(f"{name}, {count:,}, round {number + 1}")
            with Stand(bench, base) as stand, stand.running():
                yardstick = stand.figures() | {"start": stand.ready_seconds}
            with Stand(bench, case, change) as stand:
                started = stand.start()
                stand.warm_up(*options)
                pairs[count].append((stand.figures(*options) | {"start": started}, yardstick))
                form = stand.form
    for count, found in pairs.items():
        yield point(count, "", found, form=form)


def _accounts(bench: Bench) -> Iterator[Point]:
    counts = bench.first((1, 10, 100, 1000), (1, 20))
    points = [(n, Case(), partial(config.accounts, n), ("--accounts", str(n))) for n in counts]
    return _configured(bench, "accounts", Case(), points)


def _rules(bench: Bench) -> Iterator[Point]:
    counts = bench.first((0, 20, 50, 100, 200), (0, 20))
    return _configured(bench, "rules", Case(rules=0), [(n, Case(rules=n), None, ()) for n in counts])


def _inflight(bench: Bench) -> Iterator[Point]:
    """The SMSC holds back the receipts of the first so many messages for good and reports the others at once: exactly so
    many wait, however long the measurement takes, and what is measured is the same load as the base."""
    for count in bench.first((1, 100, 10_000, 100_000), (1, 1000)):
        pairs = []
        for number in range(bench.rounds):
            bench.say(f"inflight, {count:,}, round {number + 1}")
            with Stand(bench, Case()) as base, base.running():
                yardstick = base.figures()
            with Stand(bench, Case(), smsc=("--hold", str(count))) as stand:
                stand.start()
                stand.bind_once(config.SYSTEM_ID)
                time.sleep(_SETTLE / 2)
                before = stand.pss_kib()
                stand.send("--messages", str(count), "--answers-only", deadline=60 + count / 500)
                time.sleep(_SETTLE)
                held = stand.pss_kib()
                stand.warm_up()
                values = stand.figures()
                if count >= _ENOUGH:
                    values["message_kib"] = (held - before) / count
                stand.stop()
                values["start"] = stand.start()
                pairs.append((values, yardstick))
        yield point(count, "", pairs, form=stand.form)


SESSIONS: Final = Curve(
    "sessions",
    "Idle sessions",
    "So many sessions of another account are bound and silent (enquire_link each 30 s) beside one active bind with window 50."
    " Base: the same daemon when they have gone. Memory: growth of the daemon's proportional set size while they bound.",
    "idle sessions",
    (
        Column("session_kib", "KiB a session"),
        Column("idle_percent", "% of a core for them"),
        Column("bind_seconds", "s to bind all"),
        *_COST,
    ),
    (Graph("Memory of an idle session, KiB", ("session_kib",)), *_GRAPHS),
    _sessions,
)
ACCOUNTS: Final = Curve(
    "accounts",
    "Configured accounts",
    "Ten binds are spread over all accounts, each of which has 20 rules. Base: one account, on a daemon of its own just"
    " before.",
    "accounts",
    (*_COST, Column("start", "start-up s", 2)),
    (*_GRAPHS, Graph("Start-up, s", ("start",))),
    _accounts,
)
RULES: Final = Curve(
    "rules",
    "Rules",
    "Every message passes all rules, none of which holds for it. Base: no rules, on a daemon of its own just before.",
    "rules",
    (*_COST, Column("start", "start-up s", 2)),
    _GRAPHS,
    _rules,
    log_x=False,
)
INFLIGHT: Final = Curve(
    "inflight",
    "Messages that wait for their receipt",
    "The SMSC never reports the first so many messages, and all others at once. Base: none waits, on a daemon of its own just"
    " before. Memory: growth of the daemon's proportional set size while they came. Restart: with them in the journal.",
    "messages waiting for a receipt",
    (*_COST, Column("message_kib", "KiB a message", 2), Column("start", "restart s", 2)),
    (*_GRAPHS, Graph("Restart, s", ("start",))),
    _inflight,
)
