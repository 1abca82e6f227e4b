"""These stores lie on a disk: a kill is to find syncs that take their time."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

import pytest


@pytest.fixture
def tmp_path(disk: Path) -> Path:
    """Of this test, on the disk."""
    return Path(mkdtemp(dir=disk))
