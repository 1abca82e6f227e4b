"""Stores and nodes: the sums over two nodes, the page and its arithmetic; one short run of two nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import build, stores
from bench.cases import Case
from bench.runner import Relay, Result, _together
from bench.stores import FULL, PACED, Results, main, model, page, scaling, table


def result(relay: Relay, cpu: float, *, ok: bool = True, server: float | None = None) -> Result:
    latency = {"p50": 1000.0, "p99": 2000.0}
    return Result(
        relay=relay, case=FULL.name, ok=ok, messages=10, rate=1000, cpu_per_message=cpu, cores=0.1, peak_kib=1, processes=1,
        answer=latency, receipt=latency, load_core=0.1, smsc_core=0.1, others=0.0, fault="" if ok else "missing 3",
        server=server, wal=None if server is None else 1400.0, commits=0.01,
    )  # fmt: skip


def some() -> Results:
    return [
        {
            ("daemon", FULL): result("daemon", 40.0),
            ("postgres", FULL): result("postgres", 60.0, server=18.0),
            ("nodes", FULL): result("nodes", 70.0, server=20.0),
            ("node", FULL.yardstick): result("node", 100.0),
            ("postgres", PACED): replace(result("postgres", 900.0, server=200.0), commits=1.0),
        },
        {("postgres", FULL): result("postgres", 900.0, ok=False)},
    ]


def test_two_loads_are_one() -> None:
    one = {"sent": 5, "elapsed": 1.5, "ok": True, "answer_us": {"p50": 7.0, "slow": 0}, "errors": {"8": 1}}
    two = {"sent": 6, "elapsed": 2.0, "ok": False, "answer_us": {"p50": 5.0, "slow": 2}, "errors": {"20": 3}}
    both = {"sent": 11, "elapsed": 2.0, "ok": False, "answer_us": {"p50": 7.0, "slow": 2}, "errors": {"8": 1, "20": 3}}
    assert _together([one, two]) == both
    assert _together([one]) == one


def test_a_row_for_each_of_what_was_run_and_the_database_by_itself() -> None:
    rows = table(some())[1:]
    assert [row[1] for row in rows] == ["embedded", "PostgreSQL, one node", "PostgreSQL, two nodes", "node-smpp"]
    assert rows[1][2:5] == ["1,000", "60.0", "18.0"] and rows[1][-1] == "missing 3"
    assert rows[0][4] == "-"


def test_the_arithmetic_is_shown() -> None:
    (sentence,) = scaling(some())
    assert "relays 16,667 for a second" in sentence and "relay 28,571" in sentence and "**1.71 times**" in sentence
    said = "\n".join(model(some()))
    # 200 us a commit, and 18 - 0.01 x 200 = 16 us a message of a large one.
    assert "200 us" in said and "16.0 us" in said and "- 10: **19,444 messages a second**, 27 MB/s" in said
    assert model([]) == [] and scaling([]) == []
    assert all(part in page(some(), 1, 2.0) for part in (sentence, said))


def test_two_nodes_are_driven_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.tools()
    monkeypatch.setattr(stores, "CASES", (Case(2, tls=True, rules=0, rate=200),))
    assert main(["--rounds", "1", "--seconds", "0.3", "--relays", "spread", "--full", "--out", str(tmp_path)]) == 0
    assert "the same, receipts spread" in (tmp_path / "stores.md").read_text()
