"""The bench's own arithmetic: cases, rows, what a process used, and the reference relay in one short run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import build, config, policies, report
from bench.__main__ import arguments, jobs
from bench.cases import DEFAULT, MATRIX, QUICK, Case, select
from bench.process import Process, ProcessError, on_core, usage
from bench.runner import Result, measure
from smppd.config import Rule

LATENCY = {"count": 10.0, "mean": 1.0, "p50": 1000.0, "p99": 2000.0, "p999": 3000.0, "max": 4000.0}


def result(relay: Any, case: Case, cpu: float, ok: bool = True, tools: float = 0.1, others: float = 0.0) -> Result:
    return Result(
        relay=relay, case=case.name, ok=ok, messages=10, rate=1e6 / cpu, cpu_per_message=cpu, cores=1.0,
        peak_kib=2048, processes=1, answer=LATENCY, receipt=LATENCY, load_core=tools, smsc_core=tools,
        others=others, fault="" if ok else "missing 3", form="compiled" if relay == "daemon" else "",
    )  # fmt: skip


class TestCases:
    def test_names_are_unique_and_select_finds_each(self) -> None:
        every = select(["all"])
        assert len({case.name for case in every}) == len(every) == len(MATRIX) + 17
        for case in (*DEFAULT, *QUICK):
            assert select([case.name]) == (case,)

    def test_the_matrix_has_what_performance_is_promised_for(self) -> None:
        assert len(MATRIX) == 2**5

    def test_patterns(self) -> None:
        assert {case.binds for case in select(["1-*"])} == {1}
        with pytest.raises(ValueError, match="no case"):
            select(["nothing"])

    def test_one_round_runs_each_yardstick_once(self) -> None:
        made = jobs(DEFAULT, ["reference", "daemon"])
        assert len(made) == len(set(made))
        assert [relay for relay, _ in made].count("daemon") == len(DEFAULT)
        assert {case.yardstick for case in DEFAULT} == {case for relay, case in made if relay == "reference"}


class TestRows:
    def test_ratio_is_the_median_of_each_rounds_own(self) -> None:
        case = Case()
        yardstick = ("reference", case.yardstick)
        rounds = [
            {yardstick: result("reference", case.yardstick, 400), ("daemon", case): result("daemon", case, cpu)}
            for cpu in (20.0, 40.0, 25.0)
        ]
        reference, daemon = report.rows(rounds)
        assert reference.ratio is None
        assert daemon.ratio == 16.0
        assert daemon.cpu_per_message == 25.0
        assert daemon.rounds == 3

    def test_a_failed_run_does_not_count_and_is_named(self) -> None:
        case = Case()
        rounds = [
            {("daemon", case): result("daemon", case, 30)},
            {("daemon", case): result("daemon", case, 1, ok=False)},
        ]
        (row,) = report.rows(rounds)
        assert (row.cpu_per_message, row.rounds, row.notes) == (30.0, 1, "missing 3")

    def test_busy_tools_are_named(self) -> None:
        pinned, free = Case(), Case(pinned=False)
        rounds = [{("daemon", case): result("daemon", case, 30, tools=0.4) for case in (pinned, free)}]
        shared, apart = report.rows(rounds)
        assert "tools above 60%" in shared.notes  # both on one core
        assert not apart.notes

    def test_a_busy_machine_is_named(self) -> None:
        case = Case()
        (row,) = report.rows([{("daemon", case): result("daemon", case, 30, others=0.7)}])
        assert row.notes == "other processes took 0.7 cores"

    def test_files(self, tmp_path: Path) -> None:
        case = Case()
        one = result("daemon", case, 30)
        paths = report.write(tmp_path, report.rows([{("daemon", case): one}]), [one], 4.0)
        assert [path.name for path in paths] == ["benchmarks-latest.json", "benchmarks-latest.md"]
        text = paths[1].read_text()
        assert "| 10-tls-20-stored-pinned | compiled | 33,333 | 30.0 | - | 1.00 |" in text
        assert "None" not in text


class TestProcess:
    def test_usage_counts_descendants(self, tmp_path: Path) -> None:
        burn = "import time\nwhile time.process_time() < 0.15: pass\nprint(1, flush=True)\ninput()"
        parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
        with Process("parent", [sys.executable, "-c", parent], tmp_path) as process:
            assert process.line(20) == 1
            used = usage(process.pid)
        assert used.processes == 2
        assert used.cpu_us >= 150_000 - 20_000
        assert used.peak_kib > 2000

    def test_a_process_that_fails_shows_what_it_said(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", "import sys; sys.exit('no good')"]
        with Process("broken", command, tmp_path) as process, pytest.raises(ProcessError, match=r"(?s)broken.*no good"):
            process.line(20)

    def test_one_that_ignores_sigterm_is_killed(self, tmp_path: Path) -> None:
        command = [
            sys.executable,
            "-c",
            "import signal\nsignal.signal(15, signal.SIG_IGN)\nprint(1, flush=True)\ninput()",
        ]
        with Process("stubborn", command, tmp_path) as process:
            process.line(20)
            assert process.stop(0.1) == -9

    def test_core(self, tmp_path: Path) -> None:
        before = os.sched_getaffinity(0)
        core = max(before)
        with on_core(core):
            assert os.sched_getaffinity(0) == {core}
        assert os.sched_getaffinity(0) == before


class TestPolicies:
    def test_they_are_held_against_the_same_without(self) -> None:
        without, case = select(["policies"])
        assert case.without == without and without.without is None
        rounds = [
            {("daemon", without): result("daemon", without, 30), ("daemon", case): result("daemon", case, cpu)}
            for cpu in (45, 60, 50)
        ]
        row = report.rows(rounds)[1]
        assert row.more == 20 and row.times == pytest.approx(5 / 3)
        assert "+20.0 us a message by policies, 1.67 times as much" in report.cells(row)[-1]

    def test_two_hundred_rules_have_two_thousand_patterns_and_keywords(self) -> None:
        made = policies.rules(config.rules(200))
        asked = [len(rule["when"].get(kind, ())) for rule in made for kind in ("text", "keywords")]
        assert (len(made), sum(asked)) == (200, policies.PATTERNS)
        assert len({rule["name"] for rule in made}) == 200
        for rule in made:
            Rule.model_validate(rule)

    def test_entries_give_the_big_list_its_size(self) -> None:
        args = arguments(["--cases", "policies", "--entries", "5"])
        assert [case.policies for case in args.cases] == [0, 5]

    def test_what_is_made_is_made_once_and_each_run_has_a_copy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(policies, "MILLION", 3)
        monkeypatch.setattr(policies, "OPTED_OUT", 2)
        kept = tmp_path / "kept"
        said: list[tuple[str, ...]] = []
        for name in ("first", "second"):
            run = tmp_path / name
            run.mkdir()

            def smppd(*command: str, run: Path = run) -> str:
                said.append(command[:2])
                for directory in (run / "keys", run / "store" / "lists"):
                    directory.mkdir(parents=True, exist_ok=True)
                (run / "store" / "keys.db").write_text("keys")
                (run / "store" / "lists" / "numbers.list").write_text("list")
                return ""

            policies.place(kept, 5, run, smppd)
        assert said == [("keys", "init"), ("lists", "compile"), ("consent", "import"), ("optout", "import")]
        made = tmp_path / "second" / "store"
        assert (made / "keys.db").read_text() == "keys"
        assert (made / "lists" / "numbers.list").samefile(kept / "store" / "lists" / "numbers.list")
        assert len((kept / "everybody.txt").read_text().split()) == 5


class TestConfiguration:
    def test_rules_have_names_of_their_own_and_differ(self) -> None:
        made = config.rules(200)
        assert len({rule["name"] for rule in made}) == 200
        assert made[0]["when"] != made[10]["when"]

    def test_a_workspace_does_not_show_its_password(self, tmp_path: Path) -> None:
        work = config.Workspace(tmp_path / "c.yaml", tmp_path / "s.pem", 1, 2, "secret-word")
        assert "secret-word" not in repr(work)


def test_the_reference_relay_relays() -> None:
    made = measure("reference", Case(binds=2).yardstick, build.tools(), 0.2)
    assert made.ok, made.fault
    assert made.messages >= 100
    assert made.cpu_per_message > 1
