"""What a reload would change: said without secrets or numbers, and refused where only a restart can do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.config import changes
from tests.config.helpers import BASE, HASH, loaded

OTHER = HASH.replace("7Gq1", "8Gq1")


def compared(tmp_path: Path, old: str, new: str) -> tuple[list[str], list[str]]:
    assert old in BASE
    return changes(loaded(tmp_path, BASE), loaded(tmp_path, BASE.replace(old, new)))


def test_nothing_changed(tmp_path: Path) -> None:
    assert changes(loaded(tmp_path, BASE), loaded(tmp_path, BASE + "# a comment\n")) == ([], [])


@pytest.mark.parametrize(
    ("old", "new", "sentences"),
    [
        ("networks: any", "networks: any, window: 50", ["account acme: window 10 -> 50"]),
        ("networks: any", "networks: 192.0.2.0/24", ["account acme: networks any -> 192.0.2.0/24"]),
        ("networks: any", "networks: any, retain: {body: 1d}", ["account acme: retain.body 30d -> 1d"]),
        (
            "networks: any",
            "networks: any, throughput: 3000/h",
            ["account acme: throughput 50/s -> 50/m", "account acme: burst 100 -> 2"],
        ),
        ("networks: any", "networks: any, numbers: '+447700900000'", ["account acme: numbers changed"]),
        (HASH, OTHER, ["account acme: password_hash changed"]),
        ("system_id: acme", "system_id: bcme", ["account acme removed", "account bcme added"]),
        ("{env: PW}", "{env: PW2}", ["upstream carrier-a: password changed"]),
        ("{upstreams: carrier-a}", "", ["routes changed (1 before, 0 now)"]),
        (
            "routes:",
            "drain: 5s\nlimits: {max_pdu: 32KiB}\nroutes:",
            ["limits: max_pdu 68KiB -> 32KiB", "drain 30s -> 5s"],
        ),
        ("routes:", "log: {level: debug}\nroutes:", ["log: level info -> debug"]),
        ("routes:", "region: GB\nroutes:", ["region none -> GB"]),
        ("routes:", "watch_files: 1m\nroutes:", ["watch_files 5s -> 1m"]),
        ("routes:", "traces: {retain: 1d}\nroutes:", ["traces: retain 7d -> 1d"]),
        ("routes:", "policies: {p: [{name: r, do: pass}]}\nroutes:", ["policy p added"]),
        ("routes:", "brands: {b: {names: B Bank, domains: b.example}}\nroutes:", ["brand b added"]),
    ],
)
def test_what_a_reload_can_do(tmp_path: Path, old: str, new: str, sentences: list[str]) -> None:
    assert compared(tmp_path, old, new) == (sentences, [])


@pytest.mark.parametrize(
    ("old", "new", "sentences"),
    [
        ("path: var", "path: var2", ["store changed: needs a restart"]),
        ("file: kek", "file: kek2", ["keys changed: needs a restart"]),
        ("routes:", "node: 3\nhttp: null\nroutes:", ["http changed: needs a restart", "node changed: needs a restart"]),
        ("routes:", "node_name: gw2\nroutes:", ["node_name changed: needs a restart"]),
        (
            "127.0.0.1:0",
            "127.0.0.1:1",
            ["listener 127.0.0.1:0 removed: needs a restart", "listener 127.0.0.1:1 added: needs a restart"],
        ),
    ],
)
def test_what_needs_a_restart(tmp_path: Path, old: str, new: str, sentences: list[str]) -> None:
    assert compared(tmp_path, old, new) == (sentences, sentences)


def test_rules_are_told_apart(tmp_path: Path) -> None:
    rules = "policies:\n  p: [{name: a, do: pass}, {name: b, do: refuse}, {name: c, do: refuse}]\n"
    later = "policies:\n  p: [{name: b, do: refuse}, {name: a, do: refuse}, {name: d, do: pass}]\n"
    got = changes(loaded(tmp_path, BASE + rules), loaded(tmp_path, BASE + later))
    assert got.changes == [
        "policy p: rule c removed",
        "policy p: rule d added",
        "policy p: rule a changed",
        "policy p: order of rules changed",
    ]


def test_no_secret_in_the_sentences(tmp_path: Path) -> None:
    sentences, _ = compared(tmp_path, HASH, OTHER)
    assert not any("Gq1" in sentence for sentence in sentences)
