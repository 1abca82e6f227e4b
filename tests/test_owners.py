"""Holds who may write what in the relay: the spool belongs to `relay.ledger`, a number to the object that counts with it.

A number is private and has methods that change it, so nobody may reach for another object's private names. The checker reads
sources with `ast`; its own tests run it on sources that break a rule.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from smppd.relay.state.backlog import Backlog
from smppd.relay.state.model import Account, Lane, Mailbox, Message, UpstreamState

ROOT = Path(__file__).resolve().parent.parent

SPOOL = frozenset({"accepts", "marks", "put", "moves", "drop", "handed"})
"""Lists of ``store.api.Batch`` that hold entries of the spool and cold rows."""
COUNTED = {
    Account: ("queued",),
    Lane: ("cold", "waits_for_batches", "upto"),
    Backlog: ("unstored", "page_rows"),
    Mailbox: ("octets", "sent", "cold"),
    UpstreamState: ("reserved", "cold_waiting", "early_octets", "parked_octets"),
    Message: ("phase",),
}
"""The numbers (and the phase) that can be read only, by the class that owns them."""


def batches(tree: ast.AST) -> set[str]:
    """The names that stand for a batch: ``batch``, parameters of that type, and what is assigned from some ``.batch``."""
    names = {"batch"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr == "batch":
            names |= {one.id for one in node.targets if isinstance(one, ast.Name)}
        elif isinstance(node, (ast.AnnAssign, ast.arg)):
            target = node.arg if isinstance(node, ast.arg) else getattr(node.target, "id", "")
            if isinstance(node.annotation, ast.Name) and node.annotation.id == "Batch":
                names.add(target)
    return names


def faults(path: str, source: str) -> Iterator[str]:
    """The rules that a file of the relay breaks; ``path`` below smppd/relay/."""
    tree = ast.parse(source)
    spool = not path.startswith("ledger/")
    named = batches(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        of = node.value
        if spool and node.attr in SPOOL:
            is_batch = isinstance(of, ast.Name) and of.id in named
            if is_batch or (isinstance(of, ast.Attribute) and of.attr == "batch"):
                yield f"{path}:{node.lineno}: {node.attr} of a batch is the ledger's"
        private = node.attr.startswith("_") and not node.attr.startswith("__") and node.attr != "_replace"  # a tuple's
        if private and not (isinstance(of, ast.Name) and of.id in ("self", "cls")):
            yield f"{path}:{node.lineno}: {node.attr} is another object's"


def test_nobody_writes_the_spool_but_the_ledger_or_another_objects_numbers() -> None:
    room = ROOT / "smppd" / "relay"
    found = [
        fault
        for path in sorted(room.rglob("*.py"))
        for fault in faults(PurePosixPath(path.relative_to(room)).as_posix(), path.read_text())
    ]
    assert not found


def test_what_is_counted_can_only_be_read_from_outside() -> None:
    for owner, names in COUNTED.items():
        for name in names:
            attribute = getattr(owner, name)
            assert isinstance(attribute, property) or not hasattr(attribute, "__set__"), f"{owner.__name__}.{name}"


@pytest.mark.parametrize(
    "code",
    [
        "context.store.batch.marks.append(entry)",
        "batch = store.batch\nbatch.moves.append(row)",
        "following: Batch = store.batch\nfollowing.drop.append(key)",
        "def f(some: Batch): some.accepts.append(entry)",
        "self._store.batch.put += rows",
        "account._queued += 1",
        "message.lane.backlog._count -= 1",
        "upstream._reserved = 0",
        "message._phase = Phase.DONE",
    ],
)
def test_a_breach_is_found(code: str) -> None:
    assert list(faults("send/x.py", code))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("ledger/x.py", "self._store.batch.marks.append(entry)"),
        ("send/x.py", "batch.released.append(message)\nbatch.then.append(go)\nself._count += 1"),
        ("send/x.py", "self.put(thing)\nbox.drop()"),
    ],
)
def test_what_is_allowed_passes(path: str, code: str) -> None:
    assert not list(faults(path, code))
