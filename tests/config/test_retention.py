"""Basis, floors and ceilings: what they come to, and the faults of who does not keep to them, with line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smppd.config import Account, Basis, Settings
from smppd.config.retention import effective, faults, floor, unfounded
from tests.config.helpers import BASE, HASH, lines, loaded

DAY = 86400.0
ACCOUNT: dict[str, Any] = {"system_id": "acme", "password_hash": HASH, "networks": "any"}
LAW = "Act 12 of 2024"


def with_account(extra: str, top: str = "") -> str:
    return BASE.replace("networks: any}", f"networks: any, {extra}}}") + top


@pytest.mark.parametrize(
    ("extra", "new_body", "limit"),
    [
        ({}, DAY, DAY),
        ({"basis": "contract"}, 30 * DAY, None),
        ({"basis": {"purpose": "legal-duty", "reference": LAW}, "retain": "400d"}, 400 * DAY, None),
        ({"retain": "24h"}, DAY, None),
        ({"retain": "2h"}, 7200.0, None),
        ({"retain": "36h"}, DAY, DAY),
        ({"retain": {"body": "90d", "numbers": "90d"}}, DAY, DAY),
        ({"content": "hash", "retain": "90d"}, 90 * DAY, DAY),
        ({"content": "hide", "retain": "90d"}, 90 * DAY, DAY),
        ({"content": "hash", "retain": "36h"}, 1.5 * DAY, None),
    ],
)
def test_what_is_kept_really(extra: dict[str, Any], new_body: float, limit: float | None) -> None:
    account = Account(**ACCOUNT, **extra)
    assert (account.kept.new_body, account.kept.limit) == (new_body, limit)
    for part in ("body", "numbers", "billing"):
        assert getattr(account.kept, part) == getattr(account.retain, part)
    assert account == Account(**ACCOUNT, **extra), "asking it does not make another account of it"


@pytest.mark.parametrize("purpose", ["instruction", "legal-duty"])
def test_who_acts_on_a_law_or_an_instruction_says_which(purpose: str) -> None:
    assert Basis(purpose=purpose, reference="order 12/26").reference == "order 12/26"
    for wrong in (purpose, {"purpose": purpose}, {"purpose": purpose, "reference": ""}):
        with pytest.raises(ValidationError):
            Account(**ACCOUNT, basis=wrong)


def test_faults_of_a_basis_have_a_place(tmp_path: Path) -> None:
    assert lines(tmp_path, with_account("basis: because")) == [
        "3:161: accounts[0].basis: must be 'contract', 'legal-duty' or 'instruction'"
    ]
    assert lines(tmp_path, with_account("basis: instruction")) == [
        "3:161: accounts[0].basis: is needed: say which instruction, {purpose: instruction, reference: TEXT}"
    ]
    (line,) = lines(tmp_path, with_account("basis: {purpose: contract, refrence: x}"))
    assert line.endswith("accounts[0].basis.refrence: unknown key (did you mean reference?)")


@pytest.mark.parametrize(
    ("extra", "top", "expected"),
    [
        (
            "retain: {numbers: 10d, at_least: {numbers: 30d, reference: law}}",
            "",
            [
                "3:187: accounts[0].retain.at_least: numbers is kept for 10d only: shorter than 30d, which is asked for here"
            ],
        ),
        (
            "retain: {numbers: 10d, at_least: {numbers: 5d}}",
            "",
            ["3:187: accounts[0].retain.at_least.reference: required key is missing"],
        ),
        (
            "basis: contract, retain: 10d",
            "retention: {at_least: {numbers: 20d, reference: law}}\n",
            ["3:179: accounts[0].retain: numbers of account acme is kept for 10d only, and at_least 20d is asked for"],
        ),
        (
            "basis: contract, retain: {body: 10d, numbers: 90d}",
            "retention: {at_most: {body: 7d, numbers: 90d}}\n",
            ["3:186: accounts[0].retain.body: body of account acme is kept for 10d, and retention.at_most allows 7d"],
        ),
        (
            "window: 10",
            "retention: {at_most: {billing: 7d}}\n",
            ["3:5: accounts[0]: billing of account acme is kept for 30d, and retention.at_most allows 7d"],
        ),
        (
            "retain: 30d",
            "retention: {at_least: {body: 10d, reference: law}}\n",
            [
                "3:162: accounts[0].retain: body of account acme is kept for 1d only, because the account names no basis, and"
                " at_least 10d is asked for: name a `basis`"
            ],
        ),
        (
            "retain: 30d",
            "retention: {at_least: {numbers: 10d, reference: law}, at_most: {numbers: 5d}}\n",
            [
                "3:162: accounts[0].retain: numbers of account acme is kept for 30d, and retention.at_most allows 5d",
                "9:33: retention.at_least.numbers: 10d is more than at_most allows: 5d",
            ],
        ),
        ("content: hide", "retention: {at_least: {body: 10d, reference: law}, at_most: {body: 20d}}\n", []),
    ],
)
def test_faults_of_bounds_have_a_place(tmp_path: Path, extra: str, top: str, expected: list[str]) -> None:
    text = with_account(extra, top)
    if expected:
        assert lines(tmp_path, text) == expected
    else:
        assert loaded(tmp_path, text).accounts


def test_a_fault_of_a_default_is_told_where_it_stands(tmp_path: Path) -> None:
    top = "account_defaults: {retain: {numbers: 10d}}\nretention: {at_least: {numbers: 20d, reference: law}}\n"
    (line,) = lines(tmp_path, BASE + top)
    assert line.startswith("9:38: accounts[0].retain.numbers: numbers of account acme is kept for 10d only")


def test_an_erasure_waits_for_the_higher_floor(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        with_account(
            "retain: {numbers: 400d, at_least: {numbers: 365d, reference: law}}",
            "retention: {at_least: {numbers: 20d, billing: 10d, reference: other law}}\n",
        ),
    )
    assert floor(settings, "acme", "numbers", 1000.0) == 1000.0 + 365 * DAY
    assert floor(settings, "acme", "billing", 1000.0) == 1000.0 + 10 * DAY
    assert floor(settings, "acme", "body", 1000.0) == 0.0
    assert floor(settings, "removed", "numbers", 1000.0) == 1000.0 + 20 * DAY
    assert list(faults(settings)) == []


def test_without_bounds_an_erasure_waits_for_nothing(tmp_path: Path) -> None:
    settings = loaded(tmp_path, BASE)
    assert [floor(settings, name, part, 5.0) for name in ("acme", "x") for part in ("body", "numbers")] == [0.0] * 4


@given(
    st.floats(3600, 1000 * DAY),
    st.floats(3600, 1000 * DAY),
    st.floats(3600, 1000 * DAY),
    st.sampled_from(["encrypt", "hash", "hide"]),
    st.booleans(),
)
def test_who_has_no_fault_keeps_between_the_bounds(
    body: float, least: float, most: float, content: str, founded: bool
) -> None:
    account = {**ACCOUNT, "content": content, "retain": {"body": body}, "basis": "contract" if founded else None}
    settings = Settings(
        listeners=({"address": "127.0.0.1:0"},),
        accounts=(account,),
        retention={"at_least": {"body": least, "reference": "x"}, "at_most": {"body": most}},
        store={"path": "var"},
        keys={"file": "kek"},
    )
    (one,) = [each for each in effective(settings, settings.accounts[0]) if each.part == "body"]
    wrong = [loc for loc, _ in faults(settings) if loc[0] == "accounts"]
    if content != "encrypt":
        assert not wrong
        return
    assert one.effective <= one.configured
    assert (one.effective <= DAY) or founded
    assert bool(wrong) == (not least <= one.effective or one.configured > most)
    assert (unfounded(settings) == ["acme"]) == (not founded and body > DAY)


def test_the_reasons_are_said(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        with_account(
            "basis: {purpose: instruction, reference: order 7}, retain: 90d", "retention: {at_most: {body: 90d}}\n"
        ),
    )
    assert [(one.part, one.effective, one.why) for one in effective(settings, settings.accounts[0])] == [
        ("body", 90 * DAY, "retain.body; basis instruction: order 7; at most 90d"),
        ("numbers", 90 * DAY, "retain.numbers"),
        ("billing", 90 * DAY, "retain.billing"),
    ]
    settings = loaded(tmp_path, BASE)
    assert effective(settings, settings.accounts[0])[0].why == "no basis: 1d at most"
