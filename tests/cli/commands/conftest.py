"""What the tests of single commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.cli.main import main
from tests.cli.installation import CONFIG, Run


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Commands on a new installation whose keys are there."""
    monkeypatch.setenv("PASSWORD", "not-used")
    (tmp_path / "smppd.yaml").write_text(CONFIG)

    def call(*words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(tmp_path / "smppd.yaml")])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    assert call("keys", "init")[0] == 0
    return call
