"""For all tests: those that only the sources allow are skipped on compiled modules, and shown with their reason."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from smppd import native

# Continuous integration tries the same examples each time: a change is judged by what it does, not by chance. Everywhere else,
# and in `make fuzz`, new ones are looked for.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


_HERE = Path(__file__).parent
# Their files take longest, and begin first: what begins last decides when all is over.
_LONG = ("torture", "e2e", "crash", "bench", "daemon", "cli")


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
