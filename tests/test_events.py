"""The audit trail's vocabulary: one list, used by whoever writes an entry, and a name that is not in it finds an error."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.events import AuditEvent, UnknownEvent, matching

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "smppd").rglob("*.py"))
# Calls that put an entry on the trail, by the name of what is called.
WRITERS = frozenset({"audit", "_audit", "heard", "_heard", "record"})


def literal_events(source: str) -> list[str]:
    """First arguments of entries that are no member of AuditEvent but text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.func, ast.Attribute):
            continue
        trail = node.func.attr == "append" and "trail" in ast.unparse(node.func.value)
        first = node.args[0]
        if (trail or node.func.attr in WRITERS) and isinstance(first, ast.Constant) and isinstance(first.value, str):
            found.append(first.value)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_entries_are_written_under_names_of_the_list(path: Path) -> None:
    assert literal_events(path.read_text()) == []


def test_the_check_sees_what_it_is_for() -> None:
    assert literal_events('self._trail.append("bind", 1)\nself.audit("x", {})\nself._heard("y")\nlist.append("z")') == [
        "bind", "x", "y",
    ]  # fmt: skip


def test_every_event_is_written_somewhere() -> None:
    code = "\n".join(path.read_text() for path in SOURCES)
    assert not [event for event in AuditEvent if not re.search(rf"AuditEvent\.{event.name}\b", code)]


def test_the_page_lists_them_all() -> None:
    page = (ROOT / "docs/data-protection.md").read_text()
    section = page.split("\n### Events\n", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"^\| `([a-z ]+)` \|", section, re.M) == list(AuditEvent)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("bind", {"bind accepted", "bind refused"}),
        ("bind accepted", {"bind accepted"}),
        ("  Bind   Accepted ", {"bind accepted"}),
        ("bind r", {"bind refused"}),
        ("re", {"reload", "reveal", "restore", "report"}),
        ("key", {"key"}),
        ("purge", {"purge"}),
    ],
)
def test_a_name_is_exact_or_how_names_begin(asked: str, found: set[str]) -> None:
    assert matching(asked) == found


def test_an_exact_name_is_that_alone() -> None:
    assert matching("bind", ["bind"]) == {"bind"}


@pytest.mark.parametrize("asked", ["", " ", "binds", "accepted", "%", "bind*", "BIND;", "x" * 1000])
def test_a_name_that_nothing_has_is_an_error_naming_those_there_are(asked: str) -> None:
    with pytest.raises(UnknownEvent) as error:
        matching(asked)
    assert all(event in str(error.value) for event in AuditEvent) and len(str(error.value)) < 1000


@given(st.text())
def test_any_text_finds_something_or_is_an_error(asked: str) -> None:
    try:
        assert matching(asked) <= set(AuditEvent) and matching(asked)
    except UnknownEvent:
        assert not [event for event in AuditEvent if asked and event.startswith(asked)]
