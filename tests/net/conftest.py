"""Fixtures of the edge's tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.net.pipes import Loop, load_make


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with {ca,server,client}.{pem,key}."""
    directory = tmp_path_factory.mktemp("certs")
    load_make().make(directory, datetime.now(UTC))
    return directory


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A private reactor."""
    made = Loop()
    yield made
    made.stop()
