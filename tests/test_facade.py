"""Holds the relay's front door: whoever is outside `smppd/relay` speaks to `Relay` by its methods, and reaches for none of the
parts behind it. And its way out: a peer is answered by `Context.answer` alone.

What is behind it is read from the class: every attribute that it sets on itself. The checker reads sources with `ast`; its own
tests run it on sources that break the rule.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import pytest

from smppd.relay.relay import Relay
from tests.net.links import FakeRelay

ROOT = Path(__file__).resolve().parent.parent
NAMES = frozenset({"relay", "_relay"})
"""What a relay is called, everywhere: under another name it would not be found."""
PEERS = frozenset({"FakeCustomer", "FakeLink"})
"""Of `tests/relay/fakes.py`: they do what links do, so that the relay's tests run what the daemon runs."""


def behind(source: str) -> set[str]:
    """The attributes that the class Relay sets on itself, and what others call them by."""
    (relay,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Relay"]
    return {"guard"} | {
        node.attr
        for node in ast.walk(relay)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


BEHIND = behind((ROOT / "smppd/relay/relay.py").read_text("utf-8"))


def last_name(node: ast.AST) -> str:
    """The name that an expression ends with: `relay` for `self.relay`, `daemon.relay` and `self.relay()`."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    if isinstance(node, ast.Attribute):
        # Modules are no relays.
        return "" if isinstance(node.value, ast.Name) and node.value.id == "smppd" else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def breaches(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of each place that reaches through a relay, or gives it a name that this does not know."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in BEHIND and last_name(node.value) in NAMES:
            yield node.lineno, f"relay.{node.attr} is behind the relay's front door"
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            called = isinstance(node.value, ast.Call)  # what a verb gives, or a new one
            if not called and last_name(node.value) in NAMES and not {last_name(one) for one in targets} <= NAMES:
                yield node.lineno, "a relay is called relay"


def watched() -> Iterator[tuple[Path, ast.AST]]:
    """Every file, or class of one, that has to keep to the methods."""
    outside = [file for file in sorted((ROOT / "smppd").rglob("*.py")) if ROOT / "smppd/relay" not in file.parents]
    links = [file for room in ("net", "daemon") for file in sorted((ROOT / "tests" / room).rglob("*.py"))]
    for file in [*outside, *links, ROOT / "bench/micro.py"]:
        yield file, ast.parse(file.read_text("utf-8"))
    fakes = ROOT / "tests/relay/fakes.py"
    for node in ast.parse(fakes.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in PEERS:
            yield fakes, node


def test_nobody_outside_reaches_through_the_relay() -> None:
    found = [f"{file.relative_to(ROOT)}:{line}: {what}" for file, tree in watched() for line, what in breaches(tree)]
    assert not found, "\n" + "\n".join(found)


def test_the_checker_sees_what_it_is_for() -> None:
    assert {
        "context",
        "dispatch",
        "desk",
        "receipts",
        "mailroom",
        "operations",
        "rerouting",
        "withdrawal",
        "guard",
    } <= BEHIND
    seen = [file.relative_to(ROOT).as_posix() for file, _ in watched()]
    assert {"smppd/net/customers.py", "smppd/net/upstreams.py", "smppd/daemon/daemon.py", "bench/micro.py"} <= set(seen)
    assert seen.count("tests/relay/fakes.py") == len(PEERS)


@pytest.mark.parametrize(
    "code",
    [
        "customers.relay.mailroom.deliver_mail(account, now)",
        "self._owner.relay.dispatch.carrier_answered(state, answers, now)",
        "relay.context.flush()",
        "self._relay().withdrawal.row_damaged(kind, owner, identity)",
        "self.relay.desk.accepts = False",
        "self.relay.operations.history = history",
        "lambda: daemon.relay.guard.lifetime(owner)",
        "if self.relay.ready: pass",
        "context = self.relay.context",
        "r = self.relay\nr.context.flush()",
        "r: Relay = self._relay",
        "self.room = relay",
    ],
)
def test_a_breach_is_found(code: str) -> None:
    assert list(breaches(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "customers.relay.customer_writable(self, now)",
        "relay: Any = self.relay",
        "self._relay = relay",
        "self.relay = Relay(settings, store)",
        "account = customers.relay.account(name)",
        "import smppd.relay.guard\nplaces = smppd.relay.guard.PLACES",
        "self.context.dispatch.desk()",
        "parts.relay.flush()",
    ],
)
def test_what_is_allowed_passes(code: str) -> None:
    assert not list(breaches(ast.parse(code)))


def answers_by_hand(source: str) -> list[int]:
    """Lines that put something into a session's `out`, or give back places of its window."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute | ast.Name)
        and last_name(node.value) == "session"
        and (node.attr in ("out", "answered") or (node.attr == "unanswered" and isinstance(node.ctx, ast.Store)))
    ]


def test_a_peer_is_answered_in_one_place() -> None:
    # A submit_multi takes more places of the window than its session counted: that is the other direction.
    found = {
        file.relative_to(ROOT).as_posix(): len(lines)
        for file in sorted((ROOT / "smppd/relay").rglob("*.py"))
        if (lines := answers_by_hand(file.read_text("utf-8")))
    }
    assert found == {"smppd/relay/context.py": 2, "smppd/relay/accept/desk.py": 1}


@pytest.mark.parametrize(
    "code", ["customer.session.out.append(x)", "session.answered()", "link.session.unanswered -= 1", "session.out = []"]
)
def test_an_answer_by_hand_is_found(code: str) -> None:
    assert answers_by_hand(code)


def test_the_relay_of_the_links_tests_takes_what_the_relay_takes() -> None:
    public = [name for name in vars(FakeRelay) if not name.startswith("_") and name not in ("answer", "value")]
    for name in public:
        assert len(signature(getattr(FakeRelay, name)).parameters) == len(signature(getattr(Relay, name)).parameters), (
            name
        )
