"""What the tests of the commands share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.staff import Staff


@pytest.fixture
def staff(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Staff:
    """An installation whose commands are run by root, who may do all without a login."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Staff(tmp_path, capsys, monkeypatch)
