"""The child process: what it says of its work, and that it ends with its parent."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from smppd.lists.compiler import place_of
from smppd.lists.compiling import Compilation, Outcome
from smppd.lists.table import open_table
from tests.lists.made import KEY, spec


def test_a_child_compiles_and_says_what_came_of_it(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_bytes(b"447700900001\nx\n")
    refused, lenient = (
        Compilation(spec(source, name=name), tmp_path / "lists", KEY, 0, progress=True, lenient=name == "b")
        for name in "ab"
    )
    assert refused.wait() == Outcome("refused", "line 2: not a phone number")
    done: list[float] = []
    assert lenient.wait(done.append) == Outcome("compiled", "", 1, 1, ((2, "not a phone number"),))
    assert done[-1] == 1.0
    assert open_table(place_of(tmp_path / "lists", "b"), KEY).has(b"447700900001")


def test_one_that_goes_on_is_stopped(tmp_path: Path) -> None:
    command = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
    work = Compilation(spec(tmp_path / "x"), tmp_path, KEY, 0, command=command)
    assert work.poll() is None
    work.stop()
    work.stop()


@pytest.mark.parametrize(
    "program", ["", "print('{}')", "import sys; sys.exit(3)", "print('Traceback of 447700900001')"]
)
def test_a_child_that_says_nothing_we_know_has_failed(tmp_path: Path, program: str) -> None:
    command = (sys.executable, "-S", "-c", program)
    work = Compilation(spec(tmp_path / "x"), tmp_path, KEY, 0, command=command)
    outcome = None
    deadline = time.monotonic() + 20
    while outcome is None and time.monotonic() < deadline:
        outcome = work.poll()
    assert outcome is not None and outcome.kind == "failed"
    assert outcome.reason == f"the child process ended with status {3 if 'exit' in program else 0}"
