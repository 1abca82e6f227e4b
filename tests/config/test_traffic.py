"""What an account's `traffic` and `suspend_after` come to, and the faults in them, with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.config import changes
from smppd.config.traffic import SIGNALS, Traffic
from tests.config.helpers import BASE, lines, loaded

POLICY = "policies: {spam: [{name: prize, do: refuse}]}\n"


def with_account(extra: str, top: str = "") -> str:
    return BASE.replace("networks: any}", f"networks: any, {extra}}}") + top


def traffic(directory: Path, said: str) -> Traffic:
    account = loaded(directory, with_account(f"traffic: {said}")).accounts[0]
    assert account.traffic is not None
    return account.traffic


def test_nothing_is_looked_for_unless_it_is_said(tmp_path: Path) -> None:
    account = loaded(tmp_path, BASE).accounts[0]
    assert account.traffic is None and account.suspend_after is None


def test_whatever_is_left_out_only_alerts(tmp_path: Path) -> None:
    found = traffic(tmp_path, "{}")
    assert {getattr(found, name).action for name in SIGNALS if name != "cap"} == {"alert"}
    assert found.caps == {} and found.learn == 3 * 86400 and found.for_ == 3600


def test_signals_in_a_word_or_with_thresholds(tmp_path: Path) -> None:
    found = traffic(
        tmp_path,
        "{caps: {gb: 10000/d, NO: 5/d, default: 1/d}, runs: off, new_countries: block, velocity: {factor: 8, minute: 50},"
        " receipts: {action: shadow}, for: 10m, limit: 6/m}",
    )
    assert found.caps == {"GB": 10_000, "NO": 5, "default": 1}
    assert found.runs.action == "off" and found.new_countries.action == "block"
    assert (found.velocity.action, found.velocity.factor, found.velocity.minute) == ("alert", 8, 50)
    assert found.receipts.action == "shadow" and found.for_ == 600 and found.limit == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ("traffic: {caps: {XX: 5/d}}", "must name countries by two letters"),
        ("traffic: {caps: {GB: 5}}", "must be messages a day, such as 10000/d"),
        ("traffic: {caps: {GB: 0/d}}", "must be messages a day"),
        ("traffic: {caps: {GB: 5/h}}", "must be messages a day"),
        ("traffic: {runs: maybe}", "alert"),
        ("traffic: {runs: {least: 1}}", "greater than or equal to 3"),
        ("traffic: {velocity: {factor: 1}}", "greater than or equal to 1.5"),
        ("traffic: {speed: alert}", "speed"),
        ("suspend_after: {hits: 3}", "rules"),
        ("suspend_after: {hits: 0, rules: spam}", "greater than or equal to 1"),
        ("suspend_after: {rules: []}", "rules"),
        ("suspend_after: {rules: [spamm]}", "no policy or rule is named spamm (did you mean spam?)"),
        ("suspend_after: {rules: [spam/price]}", "no policy or rule is named spam/price (did you mean spam/prize?)"),
        ("suspend_after: {rules: [traffic/speed]}", "traffic has no signal of this name"),
        ("suspend_after: {rules: [spam/a/b]}", "must be POLICY, POLICY/RULE"),
    ],
)
def test_faults(tmp_path: Path, extra: str, fault: str) -> None:
    told = lines(tmp_path, with_account(extra, POLICY))
    assert any(fault in line for line in told), told
    assert all(line.startswith("3:") for line in told), told


@pytest.mark.parametrize("names", ["spam", "[spam/prize, traffic]", "[traffic/velocity, opt-out, consent]"])
def test_what_may_count(tmp_path: Path, names: str) -> None:
    account = loaded(tmp_path, with_account(f"suspend_after: {{rules: {names}}}", POLICY)).accounts[0]
    assert account.suspend_after is not None and account.suspend_after.hits == 10


def test_a_reload_tells_what_it_changes(tmp_path: Path) -> None:
    old = loaded(tmp_path, with_account("traffic: {runs: alert}, suspend_after: {rules: spam}", POLICY))
    new = loaded(
        tmp_path, with_account("traffic: {runs: block, for: 2h}, suspend_after: {rules: spam, hits: 5}", POLICY)
    )
    found = changes(old, new)
    assert found.refusals == []
    assert found.changes == [
        "account acme: traffic.runs.action alert -> block",
        "account acme: traffic.for_ 1h -> 2h",
        "account acme: suspend_after.hits 10 -> 5",
    ]
