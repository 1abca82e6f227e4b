"""`smppd suspensions` on a store without a daemon: what it shows, changes, and puts on the trail. With one: tests/e2e."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smppd.store.sqlite.documents import SqliteDocuments
from smppd.traffic.suspension import KIND
from tests.cli.installation import Run


def test_by_hand_shown_and_lifted(run: Run, tmp_path: Path) -> None:
    assert run("suspensions", "list")[:2] == (0, "")
    status, out, _ = run("suspensions", "add", "acme", "--reason", "a  complaint")
    assert (status, out) == (0, "acme is suspended, from the daemon's next start on: none runs.\n")
    assert run("suspensions", "add", "acme", "--reason", "again")[0] == 1
    (one,) = json.loads(run("suspensions", "list", "--json")[1])["suspensions"]
    assert (one["account"], one["reason"], one["records"]) == ("acme", "a complaint", [])
    assert "a complaint" in run("suspensions", "list")[1] and "a complaint" in run("suspensions", "show", "acme")[1]
    assert b"complaint" not in (tmp_path / "var" / "data.db").read_bytes(), "sealed"
    status, out, _ = run("suspensions", "lift", "acme", "--reason", "settled")
    assert (status, out) == (0, "acme may submit again, from the daemon's next start on: none runs.\n")
    assert run("suspensions", "lift", "acme", "--reason", "settled")[0] == 1
    assert run("suspensions", "show", "acme")[0] == 1
    entries = [
        json.loads(line) for line in run("audit", "show", "--event", "suspension", "--json")[1].splitlines() if line
    ]
    assert [(e["what"]["action"], e["what"]["account"], e["what"]["reason"]) for e in entries] == [
        ("suspended", "acme", "a complaint"),
        ("lifted", "acme", "settled"),
    ]


def test_a_number_in_the_reason_is_masked(run: Run) -> None:
    assert run("suspensions", "add", "acme", "--reason", "asked by +44 7700 900123")[0] == 0
    (one,) = json.loads(run("suspensions", "list", "--json")[1])["suspensions"]
    assert one["reason"] == "asked by ***"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("add", "nobody", "--reason", "x"), 1),
        (("add", "acme", "--reason", "  "), 2),
        (("add", "acme", "--reason", "x" * 201), 2),
        (("lift", "acme", "--reason", ""), 2),
    ],
)
def test_what_is_refused(run: Run, words: tuple[str, ...], status: int) -> None:
    assert run("suspensions", *words)[0] == status
    assert run("suspensions", "list")[:2] == (0, "")


def test_one_that_was_altered_is_shown_and_lifted(run: Run, tmp_path: Path) -> None:
    documents = SqliteDocuments(tmp_path / "var")
    documents.put(KIND, {"acme": b"\1" + bytes(50)})
    documents.close()
    assert "was altered" in run("suspensions", "list")[1]
    assert run("suspensions", "lift", "acme", "--reason", "altered")[0] == 0


def test_traffic_needs_a_daemon(run: Run) -> None:
    status, _, said = run("traffic", "list")
    assert status == 2 and "no smppd runs" in said
    assert run("traffic", "release", "acme", "1", "--reason", "x")[0] == 2
