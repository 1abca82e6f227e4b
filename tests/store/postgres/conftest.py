"""What the tests of this back end share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.stands import PostgresStand


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[PostgresStand]:
    made = PostgresStand(tmp_path)
    yield made
    made.ends()
