"""The benchmark of the console's pages runs, over a log of a moment's size."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import console


def test_every_page_has_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "ROUNDS", 2)
    words = ["--records", "600", "--accounts", "8", "--directory", str(tmp_path / "bench")]
    assert console.main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("| page |") and len(shown) > 20
    assert not (tmp_path / "bench").exists()
