"""How long the console's pages about records and people take over a big log with many accounts.

    python -m bench.console --records N [--accounts N] [--directory D] [--reuse] [--keep]

The log is filled as `bench.records` fills it. The pages are asked in this process, as the console's threads ask them: from the
request to the octets of the page, without the network. Each is asked ROUNDS times; before the first time the files were dropped
from the page cache. Prints a table in Markdown: the first time, the median of the others, the slowest of these, and the median
of the processor's time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from bench import config, records
from smppd.audit.trail import Actor
from smppd.config import load
from smppd.console.app import App
from smppd.console.asking import Daemon
from smppd.console.gate import Visitor
from smppd.console.office import offices
from smppd.console.pages import RECORDS_AND_PEOPLE
from smppd.console.web import Incoming
from smppd.control.wire import ControlError
from smppd.operators.people import Operator
from smppd.operators.roles import Act, Authority, Role

ROUNDS: Final = 6
_LOOK: Final = {"reason": "quality", "note": "benchmark"}


class _Door:
    """Stands for the login: somebody who may do all."""

    def __init__(self) -> None:
        roles = frozenset({Role.PRIVACY_OFFICER, Role.OPERATOR})
        self._operator = Operator("bench", "", b"", (), roles)

    def visitor(self, _token: str, address: str, act: Act | None, *, person: bool) -> Visitor:
        operator = self._operator
        authority = Authority(Actor("console", address), operator.name, operator.roles, operator.sees(), act)
        return Visitor(operator, authority, "bench")

    def is_form_token(self, _cookie: str, _token: str) -> bool:
        return True

    def form_token(self, _cookie: str) -> str:
        return "token"

    def note(self, _token: str, _sentence: str) -> None:
        """Nobody reads it."""

    def notes(self, _token: str) -> list[str]:
        return []


def _nobody(_request: object) -> dict[str, Any]:
    raise ControlError("no smppd runs here")


def measure(path: Path, say: Callable[[str], None]) -> list[tuple[str, list[tuple[float, float]]]]:
    """(page, seconds of each round, and of them on a processor) on a filled store."""
    settings = load(path)
    door: Any = _Door()
    app = App(settings, offices(settings), door, Daemon(_nobody, time.monotonic), RECORDS_AND_PEOPLE, time.time)
    middle = time.strftime("%Y-%m-%d", time.gmtime(time.time() - records.DAYS * 43200))

    def ask(where: str, form: dict[str, str] | None) -> tuple[tuple[float, float], str]:
        headers = {"content-type": "application/x-www-form-urlencoded", "cookie": "__Host-smppd-session=x"}
        body = b"" if form is None else urlencode({"form": "token", **form}).encode()
        began, cpu = time.perf_counter(), time.process_time()
        reply = app.reply(Incoming("GET" if form is None else "POST", where, "", headers, body, "127.0.0.1", True))
        took = time.perf_counter() - began, time.process_time() - cpu
        if reply.status not in (200, 303):
            raise RuntimeError(f"{where}: {reply.status} {reply.body.decode()[-300:]}")
        return took, reply.body.decode()

    older = re.findall(r'name="before" value="([0-9a-f]{16})"', ask("/log", {**_LOOK, "number": records.COMMON})[1])
    number = {**_LOOK, "number": records.COMMON}
    day = {**_LOOK, "since": middle + "T00:00", "until": middle + "T23:59"}
    ids = re.findall(r'name="id" value="([0-9a-f]{16})"', ask("/log", day)[1])
    pages: list[tuple[str, str, dict[str, str] | None]] = [
        ("search form", "/log", None),
        ("search, a number with none", "/log", {**_LOOK, "number": records.NOBODY}),
        (f"search, a number with {records.RARE_RECORDS}", "/log", {**_LOOK, "number": records.RARE}),
        (f"search, a number with {records.COMMON_RECORDS:,}", "/log", number),
        ("the same, its second page", "/log", {**number, "before": older[0]} if older else number),
        ("the same, of one account", "/log", {**number, "account": "acme-7"}),
        ("the same, by a state", "/log", {**number, "state": "DELIVERED"}),
        ("the same, by a state that none is in", "/log", {**number, "state": "EXPIRED"}),
        ("a day, all accounts", "/log", day),
        ("a day, one account", "/log", {**day, "account": "acme-7"}),
        ("a day, a state that none is in", "/log", {**day, "state": "EXPIRED"}),
        ("a message", "/log/message", {**_LOOK, "id": ids[0]}),
        ("a message, revealed", "/log/reveal", {**_LOOK, "id": ids[0]}),
        (
            "try a message",
            "/explain",
            {"account": "acme-7", "from": "Acme", "to": records.RARE, "text": "Your code is 4711"},
        ),
        ("opt-outs, a number", "/opt-outs", {"number": records.RARE, "account": "acme-7"}),
        ("consents, a number", "/consents", {"number": records.RARE, "account": "acme-7"}),
        ("holds", "/holds", None),
        ("erasures", "/erasures", None),
        ("approvals", "/approvals", None),
        ("audit trail", "/audit", None),
        ("reports", "/reports", None),
    ]
    figures = []
    for name, where, form in pages:
        records.forget_pages(settings.store.directory)
        figures.append((name, [ask(where, form)[0] for _ in range(ROUNDS)]))
        say(f"{name}: {', '.join(f'{one * 1000:.0f}' for one, _cpu in figures[-1][1])} ms")
    return figures


def table(figures: Sequence[tuple[str, list[tuple[float, float]]]]) -> str:
    """In Markdown."""
    lines = ["| page | first, ms | then, ms | slowest then, ms | processor, ms |", "|---|--:|--:|--:|--:|"]
    for name, rounds in figures:
        (first, _), *others = rounds
        walls, cpus = [one for one, _ in others], [cpu for _, cpu in others]
        said = (first, statistics.median(walls), max(walls), statistics.median(cpus))
        lines.append(f"| {name} | " + " | ".join(f"{one * 1000:.0f}" for one in said) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--accounts", type=int, default=1000, metavar="N")
    parser.add_argument("--directory", type=Path, default=config.ROOT / "var" / "console-bench", metavar="D")
    parser.add_argument("--reuse", action="store_true", help="measure the store that is there")
    parser.add_argument("--keep", action="store_true", help="leave the store there")
    args = parser.parse_args(argv)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    path = args.directory / "smppd.yaml"
    if not args.reuse:
        shutil.rmtree(args.directory, ignore_errors=True)
        path = records.prepare(args.directory, args.accounts)
        took = records.fill(path, args.records, 1, say)
        say(f"filled in {took['fill_seconds']} s, indexed in {took['index_seconds']} s, {took['octets'] / 1e9:.2f} GB")
    os.environ.setdefault("PASSWORD", "not-used")
    print(table(measure(path, say)))
    if not (args.keep or args.reuse):
        shutil.rmtree(args.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
