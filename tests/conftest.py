"""For all tests: those that only the sources allow are skipped on compiled modules, and shown with their reason."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import _pytest.unittest
import hypothesis
import pytest

from smppd import native

# Continuous integration tries the same examples each time: a change is judged by what it does, not by chance. Everywhere else,
# and in `make fuzz`, new ones are looked for.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
# No example is refused for the time it takes: other tests run beside it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "untimed")


_FEW = 25
"""Examples: of these, none is left out."""
_HERE = Path(__file__).parent
# Their files take longest, and begin first: what begins last decides when all is over.
_LONG = ("torture", "e2e", "crash", "bench", "daemon", "cli")


def pytest_collection_finish() -> None:
    """What was collected lives until the end: no collection of garbage is to look at it again."""
    gc.collect()
    gc.freeze()
    # For each test it reads Twisted's version from a file of hundreds of lines: half a millisecond.
    asking: Any = _pytest.unittest
    asking._get_twisted_version = cache(asking._get_twisted_version)


@pytest.fixture(scope="session")
def disk() -> Iterator[Path]:
    """A folder on a disk, for what needs one: `make test` has all other files in memory (`tools/in-memory.sh`)."""
    place = os.environ.get("SMPPD_TEST_DISK")
    with TemporaryDirectory(prefix="smppd-disk-", dir=place, ignore_cleanup_errors=True) as name:
        yield Path(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path))
    if not os.environ.get("SMPPD_EVERY_STEP"):
        for test in {getattr(item, "function", None) for item in items}:
            if test is not None and hypothesis.is_hypothesis_test(test):
                _shorten(test)
    for item in items if native.compiled else ():
        if mark := item.get_closest_marker("interpreted"):
            (reason,) = mark.args
            item.add_marker(pytest.mark.skip(reason=f"interpreted only: {reason}"))


def _shorten(test: Any) -> None:
    """Half the examples that a test is written for, which is many still; SMPPD_EVERY_STEP=1 tries all of them."""
    given = getattr(test, "_hypothesis_internal_use_settings", None)  # a state machine has none: its class says it
    if given is not None and given.max_examples > _FEW:
        test._hypothesis_internal_use_settings = hypothesis.settings(
            given, max_examples=max(_FEW, given.max_examples // 2)
        )


def _rank(path: Path) -> int:
    room = path.relative_to(_HERE).parts[0]
    return _LONG.index(room) if room in _LONG else len(_LONG)


def pytest_report_header() -> str:
    return "smppd: compiled" if native.compiled else f"smppd: interpreted ({native.reason})"
