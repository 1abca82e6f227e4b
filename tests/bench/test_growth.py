"""The growth campaign: arithmetic of its points, its files and pictures, the filler, and one curve on a stand-in."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import build, config, depth, filler, growth, growth_report, pauses
from bench.cases import Case
from bench.chart import Line, Panel, chart, dots, short
from bench.curves import SESSIONS
from bench.points import point
from bench.process import Process
from bench.stand import Bench, Stand


def row(**changes: Any) -> dict[str, Any]:
    pairs = [({"cpu": cpu, "p99": 2.0, "rate": 5000.0}, {"cpu": 10.0, "p99": 4.0}) for cpu in (20.0, 40.0, 30.0)]
    made = growth_report.entry([point(0, "", pairs), point(20, "", pairs)], seconds=1.0, rounds=3, quick=False)
    return made | changes


class TestPoints:
    def test_a_ratio_is_the_median_of_each_rounds_own(self) -> None:
        made = point(
            10, "TLS", [({"cpu": 20.0}, {"cpu": 10.0}), ({"cpu": 30.0}, {"cpu": 30.0}), ({"cpu": 9.0}, {"cpu": 3.0})]
        )
        assert (made.values["cpu"], made.base["cpu"], made.ratios["cpu"], made.rounds) == (20.0, 10.0, 2.0, 3)

    def test_what_went_wrong_and_who_else_was_busy_is_noted(self) -> None:
        made = point(1, "", [({"bad": 3.0, "others": 0.5}, {"bad": 1.0})])
        assert made.note == "4 messages went wrong; other processes took 0.5 cores"

    def test_figures_that_only_some_rounds_have(self) -> None:
        made = point(1, "", [({"cpu": 1.0, "start": 2.0}, {}), ({"cpu": 3.0}, {"cpu": 0.0})])
        assert made.values == {"cpu": 2.0, "start": 2.0}
        assert made.ratios == {}


class TestReport:
    def test_a_curve_run_today_leaves_anothers_results(self, tmp_path: Path) -> None:
        growth_report.keep(tmp_path, "rules", row(date="yesterday"), growth.CURVES)
        paths = growth_report.keep(tmp_path, "accounts", row(date="today"), growth.CURVES)
        assert [path.name for path in paths] == [
            "growth.json", "growth.md", "growth-accounts.svg", "growth-rules.svg",
        ]  # fmt: skip
        kept = growth_report.load(tmp_path)
        assert [kept[name]["date"] for name in ("accounts", "rules")] == ["today", "yesterday"]
        growth_report.keep(tmp_path, "rules", row(date="now"), growth.CURVES)
        assert growth_report.load(tmp_path)["rules"]["date"] == "now"

    def test_the_page(self, tmp_path: Path) -> None:
        growth_report.keep(tmp_path, "rules", row(quick=True), growth.CURVES)
        page = (tmp_path / "growth.md").read_text()
        assert "| 20 | 5,000 | 30.0 | 3.00 | - | 2.00 | 0.50 | - | - |" in page
        assert "Not run yet: `python -m bench.growth sessions`." in page
        assert "![Rules](growth-rules.svg)" in page
        assert "a short trial" in page

    def test_every_curve_can_be_drawn(self) -> None:
        for curve in growth.CURVES:
            groups = {graph.group for graph in curve.graphs} - {None} or {"plain"}
            values = {key: 2.5 for graph in curve.graphs for key in graph.keys}
            points = [point(x, str(group), [(values, values)]) for group in groups for x in (0, 10, 1000)]
            made = growth_report.entry(points, seconds=1, rounds=1, quick=False)
            assert growth_report.picture(curve, made).startswith("<svg ")
            known = {column.key for column in curve.columns}
            assert {key for graph in curve.graphs for key in graph.keys} <= known

    def test_scales(self) -> None:
        assert [short(value) for value in (0, 0.05, 2.5, 150, 10_000, 1_000_000)] == [
            "0",
            "0.05",
            "2.5",
            "150",
            "10k",
            "1M",
        ]

    def test_a_zero_has_its_place_on_a_logarithmic_scale(self) -> None:
        svg = chart(
            [Panel("a <b", [Line("l", [(0, 1.0), (10, 0.0), (1000, 5.0)])], "n", log_x=True, log_y=True)], "foot"
        )
        assert svg.count("<circle") == 2  # no logarithm of y = 0
        assert "a &lt;b" in svg
        assert ">0</text>" in svg

    def test_dots(self) -> None:
        svg = dots("t", ("one", "two"), [("row", (1.0, 0.0)), ("other", (20.0, 3.0))], "foot")
        assert svg.count("<circle") == 3


class TestArguments:
    def test_curves_by_name(self) -> None:
        args = growth.arguments(["rules", "log"])
        assert [curve.name for curve in args.curves] == ["rules", "log"]
        assert (args.rounds, args.seconds, args.out) == (3, 4.0, config.ROOT / "docs")

    def test_a_trial_is_short_and_writes_nothing(self) -> None:
        args = growth.arguments(["--quick"])
        assert len(args.curves) == len(growth.CURVES) == 8
        assert (args.rounds, args.out) == (1, None)

    @pytest.mark.parametrize("options", [["nothing"], ["--rounds", "0"], ["--seconds", "0"]])
    def test_nonsense_is_refused(self, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            growth.arguments(options)
        assert options[0] in capsys.readouterr().err


class TestConfiguration:
    def test_accounts_are_named_as_the_load_generator_names_them(self) -> None:
        content = config.document(Case(), "hash", 1, 2, 3)
        config.accounts(3, content)
        config.another("away", content, window=7)
        assert [one["system_id"] for one in content["accounts"]] == ["bench-0", "bench-1", "bench-2", "away"]
        assert content["accounts"][3]["window"] == 7

    def test_stretches_have_names_of_their_own(self) -> None:
        assert len({stretch.name for stretch in pauses.STRETCHES}) == len(pauses.STRETCHES)


class TestTools:
    def test_idle_sessions_are_kept_until_told(self, tmp_path: Path) -> None:
        tools = build.tools()
        with Process("smsc", [str(tools["smsc"])], tmp_path) as smsc:
            port = str(smsc.line(10)["listening"])
            options = ["--idle", "--binds", "100", "--port", port, "--accounts", "20"]
            with Process("load", [str(tools["load"]), *options], tmp_path) as load:
                assert load.line(10) == {"bound": 100}
                load.end_input()
                assert load.wait(10) == 0
            smsc.stop(5)
            assert smsc.line(5)["sessions_max"] == 100

    def test_receipts_that_never_come_are_not_waited_for(self, tmp_path: Path) -> None:
        tools = build.tools()
        with Process("smsc", [str(tools["smsc"]), "--hold", "300"], tmp_path) as smsc:
            command = [str(tools["load"]), "--port", str(smsc.line(10)["listening"]), "--deadline", "10"]
            more = ["--messages", "300", "--answers-only", "--transmitter"]
            first = subprocess.run([*command, *more], capture_output=True, text=True, timeout=20, check=True)
            assert json.loads(first.stdout)["receipts"] == 0
            more = ["--messages", "100", "--first", "300"]
            second = subprocess.run([*command, *more], capture_output=True, text=True, timeout=20, check=True)
            assert json.loads(second.stdout)["receipts"] == 100
            assert smsc.stop(5) == 0
            assert smsc.line(5)["held"] == 300

    def test_the_probe_of_gaps(self, tmp_path: Path) -> None:
        with Process("gaps", [str(build.tools()["gaps"])], tmp_path) as gaps:
            gaps.end_input()
            told = gaps.line(10)["late_us"]
        assert told["count"] > 0
        assert told["max"] >= told["p99"] >= 0


def test_the_filler_makes_a_store_that_is_sound(tmp_path: Path) -> None:
    work = config.prepare(Case(), tmp_path, 1, lambda content: config.another(depth.AWAY, content))
    told = filler.main([str(work.config), "--records", "450"]) or filler.main(
        [str(work.config), "--mail", "2300", "--account", depth.AWAY]
    )
    assert told == 0
    verify = config.smppd("log", "verify", "--json", "--config", str(work.config))
    done = subprocess.run(verify, cwd=config.ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "450 records" in done.stdout
    search = config.smppd("log", "search", filler.RARE, "--reason", "quality", "--json", "--config", str(work.config))
    done = subprocess.run(search, cwd=config.ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert len(json.loads(done.stdout)["records"]) == filler.RARE_TIMES


def test_a_stand_is_driven_looked_into_and_cleared_away(stand_in: Path, tmp_path: Path) -> None:
    bench = Bench(build.tools(), 0.1, 1, True)
    with Stand(bench, Case(binds=2, tls=False)) as stand, stand.running():
        assert stand.ready_seconds > 0
        with stand.idle(20, "idle", 10):
            made = stand.figures(pace=500)
        assert made["bad"] == 0
        assert made["rate"] > 0
        assert made["cpu"] > 0
        assert stand.share(0.1) >= 0
    assert list((tmp_path / "var" / "bench").iterdir()) == []


def test_a_curve_from_the_command_line_to_its_files(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "daemon_exists", lambda: True)
    monkeypatch.setattr("bench.latency.SHARES", (50,))
    out = tmp_path / "out"
    assert growth.main(["latency", "--seconds", "0.1", "--rounds", "1", "--out", str(out)]) == 0
    assert "% of capacity" in (out / "growth.md").read_text()
    assert {path.name for path in out.iterdir()} == {"growth.json", "growth.md", "growth-latency.svg"}
    (out / "growth.md").unlink()
    assert growth.main(["--pages", "--out", str(out)]) == 0
    assert "% of capacity" in (out / "growth.md").read_text()


def test_a_curve_that_cannot_be_run_says_why(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "daemon_exists", lambda: True)
    stand_in.write_text("import sys; sys.exit('the key store is there already')")
    assert growth.main(["latency", "--quick"]) == 1
    assert "already" in capsys.readouterr().out


def test_more_sessions_than_files_is_said_and_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.curves.raise_files", lambda: 400)
    points = list(SESSIONS.run(Bench({}, 0.1, 1, True)))
    assert len(points) == 4
    assert {one.note for one in points} == {"not measured: the system allows 400 open files"}
