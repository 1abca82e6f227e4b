"""The alerts of docs/alerts.yml fire when they should and not otherwise, by Prometheus' own word (promtool)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests/alerts.yml"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def test_every_alert_is_seen_to_fire_and_to_be_quiet() -> None:
    groups = read(ROOT / "docs/alerts.yml")["groups"]
    rules = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    tests = read(TESTS)["tests"]
    assert sorted(rules) == sorted(one["name"] for one in tests)
    for one in tests:
        asked = one["alert_rule_test"]
        assert {case["alertname"] for case in asked} == {one["name"]}
        assert {bool(case["exp_alerts"]) for case in asked} == {False, True}, one["name"]


def test_promtool_says_that_the_alerts_are_right() -> None:
    promtool = shutil.which("promtool") or shutil.which("promtool", path=ROOT / ".venv/bin")
    if promtool is None:
        pytest.skip("docs/alerts.yml WAS NOT TESTED: there is no promtool; `make alerts` fetches one and tests it")
    for words in (("check", "rules", "docs/alerts.yml"), ("test", "rules", str(TESTS))):
        done = subprocess.run([promtool, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
