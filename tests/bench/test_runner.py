"""How the bench runs a daemon, tried on a stand-in: a proxy of bytes with the daemon's command line and /readyz."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import build, config, perf
from bench.cases import Case
from bench.runner import ProcessError, measure


@pytest.mark.parametrize(
    "case", [Case(binds=3), Case(binds=1, tls=False, rules=0, pinned=False), Case(rate=2000, mix=True)]
)
def test_a_daemon_is_set_up_driven_measured_and_cleared_away(stand_in: Path, tmp_path: Path, case: Case) -> None:
    made = measure("daemon", case, build.tools(), 0.2)
    assert made.ok, made.fault
    assert made.messages > 100
    assert made.case == case.name
    assert made.peak_kib > 1000
    assert list((tmp_path / "var" / "bench").iterdir()) == []


def test_a_daemon_that_does_not_start_says_why(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text(stand_in.read_text().replace("asyncio.run(main(path))", "sys.exit('no such upstream')"))
    with pytest.raises(ProcessError, match=r"(?s)status 1 before it was ready.*no such upstream"):
        measure("daemon", Case(), build.tools(), 0.2)
    assert list((tmp_path / "var" / "bench").iterdir()) == []


def test_a_command_of_the_daemon_that_fails_says_why(stand_in: Path) -> None:
    stand_in.write_text("import sys; sys.exit('the key store is there already')")
    with pytest.raises(RuntimeError, match="already"):
        measure("daemon", Case(), build.tools(), 0.2)


def test_profile(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "daemon_exists", lambda: True)
    monkeypatch.setattr(perf, "available", lambda: False)
    package = tmp_path / "smppd"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(stand_in.read_text())
    monkeypatch.setattr(config, "smppd", lambda *arguments: [sys.executable, "-m", "smppd", *arguments])
    # A package of this process by that name would be found first by `keys init`, which runs in the checkout.
    assert command.main(["--profile", "--seconds", "0.3", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    # Which of its lines the sampler met is chance.
    assert any(line.strip() in shown for line in stand_in.read_text().splitlines() if len(line.strip()) > 15)
    page = (tmp_path / "out" / "profile.md").read_text()
    assert "| rest of smppd |" in page and "## Compiled" not in page and "__main__.py:" in page


def test_a_table_is_printed_and_files_are_written(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "daemon_exists", lambda: True)
    options = ["--relays", "direct,daemon", "--runs", "1", "--seconds", "0.1", "--out", str(tmp_path / "out")]
    assert command.main([*options, "--cases", "10-tls-20-stored-pinned"]) == 0
    shown = capsys.readouterr().out
    assert "direct: 10-plain-0-upstream-pinned" in shown
    assert "10-tls-20-stored-pinned" in shown
    assert (tmp_path / "out" / "benchmarks-latest.json").stat().st_size > 500


def test_an_unknown_case_or_relay_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--cases", "nothing"], ["--relays", "nothing"]):
        with pytest.raises(SystemExit):
            command.main(options)
        assert "nothing" in capsys.readouterr().err
