"""The `smppd` script: finding commands, exit statuses, and ends that are no failures."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import smppd
from smppd import native
from smppd.cli import main
from smppd.cli.commands import CommandError
from smppd.config import SecretError
from tools.pages import children


def smppd_run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smppd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_help_has_a_line_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, summary in main.COMMANDS.items():
        assert (f"  {name} " in out and summary in out) == main.available(name)
    assert max(map(len, out.splitlines())) <= 120


def test_without_a_command_it_explains_itself_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert "usage: smppd COMMAND" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    form = "compiled" if native.compiled else "interpreted"
    assert capsys.readouterr().out == f"smppd {smppd.__version__} ({form}, store schema 7)\n"


def test_an_unknown_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["chekc"]) == 2
    assert capsys.readouterr().err == "smppd: there is no command 'chekc'; did you mean check?\n"


def test_a_wrong_option_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["check", "--confg", "x"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --confg x" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in main.COMMANDS if main.available(name)])
def test_every_action_has_a_line_in_its_commands_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = children(main.whole_parser())[name]
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {one.dest: one.help for one in action._choices_actions}
            assert set(told) == set(action.choices) and all(told.values())
    with pytest.raises(SystemExit):
        main.main([name, "--help"])
    out = capsys.readouterr().out
    assert all(f"    {one}" in out for one in children(command))


@pytest.mark.parametrize("name", [name for name in main.COMMANDS if main.available(name)])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: smppd {name}" in capsys.readouterr().out


def fake(monkeypatch: pytest.MonkeyPatch, outcome: BaseException | int) -> None:
    """Puts a command `status` in place that ends with `outcome`."""

    def run(args: object) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    module = ModuleType("fake")
    module.register = lambda subparsers: subparsers.add_parser("status")  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setattr(main, "available", lambda name: True)
    monkeypatch.setattr("importlib.import_module", lambda name: module)


@pytest.mark.parametrize(
    ("outcome", "status", "sentence"),
    [
        (0, 0, ""),
        (3, 3, ""),
        (KeyboardInterrupt(), 130, ""),
        (CommandError("it did not answer"), 1, "smppd: it did not answer\n"),
        (CommandError("called wrongly", 2), 2, "smppd: called wrongly\n"),
        (SecretError("file x is empty"), 1, "smppd: file x is empty\n"),
    ],
)
def test_how_a_command_ends(
    outcome: BaseException | int,
    status: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(monkeypatch, outcome)
    assert main.main(["status"]) == status
    assert capsys.readouterr().err == sentence


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m smppd schema | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    # 0 when the whole schema fitted the pipe before `head` left.
    assert done.stderr == "" and done.stdout[:1] == "{" and done.stdout[1:].strip() in ("141", "0")


def test_only_the_command_asked_for_is_imported() -> None:
    code = "import sys; from smppd.cli.main import main; main(['schema']); print('twisted' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("False\n")


def test_the_module_runs() -> None:
    done = smppd_run("--version")
    assert done.returncode == 0
    assert re.fullmatch(
        rf"smppd {re.escape(smppd.__version__)} \((compiled|interpreted), store schema \d+\)\n", done.stdout
    )


def test_nothing_slow_is_imported_before_an_interrupt_is_caught() -> None:
    slow = ("pydantic", "yaml", "twisted", "cryptography")
    script = f"import sys, smppd.cli.main; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
