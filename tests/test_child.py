"""What every process beside the daemon does: its job, its reports, its exit status, and the end of its parent."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BEGINS = "import os, sys; from smppd import child; "


def ran(work: str, job: bytes = b"seven\n") -> tuple[int, list[dict[str, object]]]:
    """The exit status and the reports of a process."""
    program = f"{BEGINS}sys.exit(child.run(lambda job: {work}, KeyError))"
    done = subprocess.run([sys.executable, "-c", program], input=job, stdout=subprocess.PIPE, check=False, timeout=60)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_it_gets_its_job_and_reports() -> None:
    assert ran('child.say({"job": job.decode(), "nice": os.nice(0)})') == (0, [{"job": "seven\n", "nice": 10}])


@pytest.mark.parametrize(
    ("work", "last"),
    [
        ('open("/nowhere/at/all")', "[Errno 2] No such file or directory: '/nowhere/at/all'"),
        ('{}["a trouble"]', "'a trouble'"),
    ],
)
def test_a_trouble_is_its_last_word(work: str, last: str) -> None:
    assert ran(work) == (1, [{"reason": last, "ended": True}])


def test_an_error_of_ours_tells_nothing_of_what_was_read() -> None:
    assert ran("int(job)") == (1, [{"reason": "an error of ours: ValueError", "bug": True, "ended": True}])


def test_without_a_job_there_is_nothing_to_do() -> None:
    assert ran("int(job)", b"") == (0, [])


def test_a_parent_that_is_gone_stops_no_work() -> None:
    program = f"{BEGINS}child.run(lambda job: (child.say(dict(one=1)), os.write(2, b'done')))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    with process, process.stderr as said:
        process.stdout.close()
        process.stdin.write(b"seven\n")
        process.stdin.close()
        assert said.read(4) == b"done"
