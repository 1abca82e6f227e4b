"""Samples become costs a message; the first run stays beside the latest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import perf
from bench.profile import REACTOR, WRITER, digest, step_of, write
from bench.sampler import Sampler


def test_the_innermost_line_of_ours_has_the_cost(tmp_path: Path) -> None:
    (tmp_path / "smppd" / "relay" / "accept").mkdir(parents=True)
    (tmp_path / "smppd" / "relay" / "accept" / "desk.py").write_text("one\n    two | three\n")
    desk = [str(tmp_path / "smppd/relay/accept/desk.py"), "take", 2]
    sampled: dict[str, Any] = {
        "main": 0.004,
        "others": 0.001,
        "stacks": [
            [[["/lib/json.py", "loads", 9], desk], 0.002],
            [[["/lib/twisted/epoll.py", "poll", 1]], 0.002],
        ],
    }
    made = digest(sampled, tmp_path, 100)
    assert made["steps"] == {"accepting and answering": 20.0, REACTOR: 20.0, WRITER: 10.0}
    assert made["lines"] == [["relay/accept/desk.py:2", 20.0, "two | three"]]


def test_every_file_has_a_step() -> None:
    root = Path(__file__).resolve().parents[2] / "smppd"
    for path in root.rglob("*.py"):
        assert step_of(str(path.relative_to(root)))
    assert step_of("relay/state/model.py") == "state and journal"
    assert step_of("vault/seal.py") == "sealing, blind index"


def test_the_first_and_the_latest_of_each_form_are_kept(tmp_path: Path) -> None:
    def run(form: str, commit: str) -> dict[str, Any]:
        costs: dict[str, Any] = {"steps": {"receipts": 1.0}, "lines": [["relay/receipts/receipts.py:1", 1.0, "a | b"]]}
        if form == "compiled":
            costs = {"functions": [[2.5, "wire.Sm"]], "libraries": [[3.0, "libssl.so.3"]]}
        return {
            "form": form, "commit": commit, "date": "2026-01-01", "cpu": "a processor", "case": "a case", "messages": 1000,
            "rate": 5.0, "total": 1.0, **costs,
        }  # fmt: skip

    for commit in ("aaa", "bbb", "ccc"):
        data, page = write(tmp_path, [run("compiled", commit), run("interpreted", commit)])
    kept = [(one["form"], one["commit"]) for one in json.loads(data.read_text())["runs"]]
    assert kept == [("compiled", "aaa"), ("compiled", "ccc"), ("interpreted", "aaa"), ("interpreted", "ccc")]
    text = page.read_text()
    assert "before: aaa" in text and "now: ccc" in text and "bbb" not in text
    assert "`a \\| b`" in text and "| wire.Sm | 2.5 | 2.5 |" in text and "| libssl.so.3 | 3.0 | 3.0 |" in text


def test_what_perf_reports_is_read() -> None:
    text = """# comment
    43.66%     0.08%  [.] CPyDef_submit___SubmitDesk___take
     5.09%     0.37%  [.] CPyDef_receipt___candidates_IdMatcher_gen_____mypyc_generator_helper__
     8.83%     0.12%  [k] do_syscall_64
     2.92%     0.49%  [.] CPyDef_wire___Sm_____init__
    54.29%  libpython3.11.so.1.0
"""
    read = perf.shares(text)
    assert [round(share, 4) for share, _ in read] == [0.4366, 0.0509, 0.0883, 0.0292, 0.5429]
    assert read[-1][1] == "libpython3.11.so.1.0"
    assert [perf.readable(name) for _, name in read] == ["submit.SubmitDesk.take", None, None, "wire.Sm", None]


def test_a_sample_weighs_what_was_used_since_the_last() -> None:
    sampler = Sampler()
    sum(range(200_000))
    sampler.take(0, None)
    result = sampler.result()
    assert 0 < result["stacks"][0][1] <= result["main"]
    sampler.begin()
    assert sampler.result()["stacks"] == []
