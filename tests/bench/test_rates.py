"""Low rates: what is run beside what, the ratios, the page, and the second yardstick in one short run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as command
from bench import build, config, rates, runner
from bench.__main__ import arguments, jobs
from bench.cases import RATES, Case, select
from bench.runner import ProcessError, Result, measure

SLOW = Case(1, rules=20, rate=50, window=1)
FULL = Case(rules=20)


def result(relay: Any, case: Case, cpu: float, ok: bool = True, **figures: Any) -> Result:
    latency = {"p50": 10 * cpu, "p99": 20 * cpu, "p999": 30 * cpu}
    return Result(
        relay=relay, case=case.name, ok=ok, messages=10, rate=50, cpu_per_message=cpu, cores=0.1,
        peak_kib=2048, processes=1, answer=latency, receipt=latency, load_core=0.01, smsc_core=0.02,
        others=0.0, fault="" if ok else "missing 3", form="compiled" if relay in ("daemon", "against") else "", **figures,
    )  # fmt: skip


def one_round(cpu: float, other: float, yardstick: float = 400, ok: bool = True) -> dict[tuple[Any, Case], Result]:
    return {
        ("node", SLOW.yardstick): result("node", SLOW.yardstick, yardstick),
        ("daemon", SLOW): result("daemon", SLOW, cpu, ok, commits=2.0, idle=5000.0, gap={"p99": 300.0, "max": 400.0}),
        ("against", SLOW): result("against", SLOW, other, commits=2.2),
    }


class TestWhatIsRun:
    def test_one_message_at_a_time_three_rates_and_full_load_plain_and_in_earnest(self) -> None:
        assert select(["rates"]) == RATES
        paces = {(case.binds, case.window, case.rate) for case in RATES}
        assert paces == {(1, 1, 50), (1, 10, 50), (1, 10, 200), (1, 10, 500), (10, 50, 0)}
        assert {(case.tls, case.rules) for case in RATES} == {(False, 0), (True, 20)}

    def test_yardsticks_keep_the_pace_where_they_can(self) -> None:
        assert {case.yardstick.rate for case in RATES} == {0, 50, 200, 500}
        assert Case(rate=10_000).yardstick.rate == 0
        assert not any(case.yardstick.tls or case.yardstick.rules for case in RATES)

    def test_a_yardstick_stands_just_before_its_cases_and_two_checkouts_take_turns(self) -> None:
        relays = ["reference", "node", "daemon", "against"]
        first, second = jobs(RATES[:2], relays), jobs(RATES[:2], relays, 1)
        plain, earnest = RATES[:2]
        yardsticks = [("reference", plain.yardstick), ("node", plain.yardstick)]
        assert first == [*yardsticks, ("daemon", plain), ("against", plain), ("daemon", earnest), ("against", earnest)]
        assert second == [*yardsticks, ("against", plain), ("daemon", plain), ("against", earnest), ("daemon", earnest)]

    def test_runs_of_few_messages_are_longer(self) -> None:
        assert [Case(rate=rate).spell(4.0) for rate in (50, 200, 500, 0)] == [8.0, 4.0, 4.0, 4.0]

    def test_node_is_run_beside_low_rates_only(self, tmp_path: Path) -> None:
        assert arguments(["--cases", "rates"]).relays == ["reference", "node", "daemon"]
        assert arguments([]).relays == ["reference", "daemon"]

    def test_another_checkout_is_one_with_an_smppd(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            arguments(["--against", str(tmp_path)])
        assert "there is no smppd" in capsys.readouterr().err
        assert arguments(["--against", str(config.ROOT)]).relays == ["reference", "daemon", "against"]


class TestRatios:
    def test_each_is_of_one_round_and_the_median_has_its_spread(self) -> None:
        rounds = [one_round(500, 1000), one_round(450, 1000), one_round(600, 1000)]
        made = {(ratio.figure, ratio.other): ratio for ratio in rates.ratios(rounds, SLOW)}
        assert str(made["CPU", "against"]) == "0.50 (0.45 to 0.60)"
        assert str(made["answer p99", "node"]) == "1.25 (1.12 to 1.50)"
        assert ("CPU", "reference") not in made

    def test_a_round_that_went_wrong_does_not_count_and_is_named(self) -> None:
        rounds = [one_round(500, 1000), one_round(1, 1000, ok=False)]
        assert {ratio.low for ratio in rates.ratios(rounds, SLOW) if ratio.other == "against"} == {0.5}
        (row,) = [row for row in rates.absolute(rounds) if row[1] == "smppd"]
        assert (row[2], row[4], row[-1]) == ("1", "500", "missing 3")

    def test_rows_stand_beside_what_they_are_held_against(self) -> None:
        rounds = [{**one_round(500, 1000), ("daemon", FULL): result("daemon", FULL, 30)}]
        assert [row[1] for row in rates.absolute(rounds)] == ["smppd", "other checkout", "node-smpp", "smppd"]

    def test_files(self, tmp_path: Path) -> None:
        rounds = [one_round(500, 1000), one_round(450, 1000)]
        data, page = rates.write(tmp_path, rounds, 4.0, config.ROOT)
        read = json.loads(data.read_text())
        assert len(read["rounds"]) == 2 and len(read["rounds"][0]) == 3
        assert read["ratios"][SLOW.name][0] == {
            "figure": "CPU", "other": "against", "middle": pytest.approx(0.475), "low": 0.45, "high": 0.5,
        }  # fmt: skip
        text = page.read_text()
        assert "| case | CPU / other checkout | CPU / node-smpp |" in text
        assert "| 50/s, 1 bind, window 1: TLS, 20 rules | 0.47 (0.45 to 0.50) | 1.19 (1.12 to 1.25) |" in text
        assert "| smppd | 2 | 50 | 475 | 2.00 | 4.75 | 9.50 | 4.75 | 9.50 | 5,000 | 0.30 | 1 | 2 |  |" in text
        assert "the other checkout is at commit" in text and "None" not in text


def test_the_relay_on_node_smpp_relays_and_is_measured() -> None:
    made = measure("node", Case(binds=2).yardstick, build.tools(), 0.2)
    assert made.ok, made.fault
    assert made.messages >= 100
    assert made.cpu_per_message > 1
    assert made.commits is None


def test_without_node_or_its_library_it_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "NODE_MODULES", tmp_path)
    with pytest.raises(ProcessError, match="make node"):
        measure("node", Case().yardstick, build.tools(), 0.1)
    monkeypatch.undo()
    monkeypatch.setattr(runner, "node", lambda: None)
    with pytest.raises(ProcessError, match="make node"):
        measure("node", Case().yardstick, build.tools(), 0.1)


def test_another_checkout_is_run_from_its_own_directory(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "daemon_exists", lambda: True)
    other = tmp_path / "other"
    (other / "smppd").mkdir(parents=True)
    (other / "smppd" / "__main__.py").write_text("")
    monkeypatch.setattr(runner, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(command, "select", lambda _names: (Case(1, tls=False, rules=0, rate=200, window=10),))
    # The stand-in says where each of them was started.
    seen = tmp_path / "seen"
    text = stand_in.read_text().replace(
        "asyncio.run(main(path))",
        f"import os; open({str(seen)!r}, 'a').write(os.getcwd() + '\\n'); asyncio.run(main(path))",
    )
    stand_in.write_text(text)
    options = ["--cases", "rates", "--relays", "daemon", "--against", str(other), "--runs", "2", "--seconds", "0.1"]
    assert command.main([*options, "--out", str(tmp_path / "out")]) == 0
    assert seen.read_text().split() == [str(place) for place in (tmp_path, other, other, tmp_path)]
    assert "CPU / other checkout" in " ".join(capsys.readouterr().out.split())
    (first, _second) = json.loads((tmp_path / "out" / "rates.json").read_text())["rounds"]
    assert {run["relay"] for run in first} == {"daemon", "against"}
    assert all(run["ok"] and run["idle"] is not None for run in first)
