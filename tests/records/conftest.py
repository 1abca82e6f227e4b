"""What the tests of the record share: each of them runs on every back end that a store has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.store.houses import house

__all__ = ["house"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The same tests on PostgreSQL are for `make test-stores`, which `make check` has: they would take a minute of `make
    test`."""
    if os.environ.get("SMPPD_EVERY_STORE"):
        return
    gone = [item for item in items if Path(__file__).parent in item.path.parents and _on_postgres(item)]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in set(gone)]


def _on_postgres(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    return call is not None and "postgres" in call.params.values()
