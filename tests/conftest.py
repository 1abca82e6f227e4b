"""For all tests: those that only the sources allow are skipped on compiled modules, and shown with their reason."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest

from smppd import native

# Continuous integration tries the same examples each time: a change is judged by what it does, not by chance. Everywhere else,
# and in `make fuzz`, new ones are looked for.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
# No example is refused for the time it takes: other tests run beside it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "untimed")


_HERE = Path(__file__).parent
# Their files take longest, and begin first: what begins last decides when all is over.
_LONG = ("torture", "e2e", "crash", "bench", "daemon", "cli")


def pytest_collection_finish() -> None:
    """What was collected lives until the end: no collection of garbage is to look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def disk() -> Iterator[Path]:
    """A folder on a disk, for what needs one: `make test` has all other files in memory (`tools/in-memory.sh`)."""
    place = os.environ.get("SMPPD_TEST_DISK")
    with TemporaryDirectory(prefix="smppd-disk-", dir=place, ignore_cleanup_errors=True) as name:
        yield Path(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path))
    for item in items if native.compiled else ():
        if mark := item.get_closest_marker("interpreted"):
            (reason,) = mark.args
            item.add_marker(pytest.mark.skip(reason=f"interpreted only: {reason}"))


def _rank(path: Path) -> int:
    room = path.relative_to(_HERE).parts[0]
    return _LONG.index(room) if room in _LONG else len(_LONG)


def pytest_report_header() -> str:
    return "smppd: compiled" if native.compiled else f"smppd: interpreted ({native.reason})"
