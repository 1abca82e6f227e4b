"""The bench of big lists: what it makes are fictional entries, none twice, and its parts run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import lists


@pytest.mark.parametrize("kind", lists.MAKERS)
def test_no_entry_comes_twice(kind: str) -> None:
    made = [lists.MAKERS[kind](at) for at in range(10_000)]
    assert len(set(made)) == len(made)


def test_a_list_is_compiled_and_asked(tmp_path: Path) -> None:
    path, figures = lists.compiled(tmp_path, "numbers", 2_000)
    assert figures["entries"] == 2_000 and figures["seconds"] > 0
    found = lists.lookup(path, 2_000, warm=1_000, cold=100)
    assert 0 < found["warm"]["p50_us"] <= found["warm"]["p99_us"] <= found["warm"]["longest_us"]
