"""A login is a name, a passphrase, a code that was not used, and patience; every failure looks like every other."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd import passwords
from smppd.operators import attempts, login, totp
from smppd.operators.attempts import FIRST_DELAY, FREE, FREE_ALL, LONGEST_DELAY, Attempts
from smppd.operators.desk import Desk
from smppd.operators.login import Claim, Failure, check
from smppd.operators.people import Operator, People
from smppd.operators.roles import Role
from tests.operators.conftest import NOW, PASSPHRASE, Made

Add = Callable[..., Made]


def code(operator: Operator, now: float = NOW, off: int = 0) -> str:
    return totp.code_at(operator.secret, int(now) // totp.STEP + off)


def test_a_right_login(desk: Desk, add: Add) -> None:
    anna, _ = add("anna")
    outcome = check(desk, Claim("anna", PASSPHRASE, code(anna)), NOW, "")
    assert outcome.operator is not None and outcome.operator.step == int(NOW) // totp.STEP
    assert (outcome.failure, outcome.refusals, outcome.recovery) == (None, 0, False)
    assert People(desk).get("anna") == outcome.operator


def test_every_failure_is_told_to_the_trail_alone(desk: Desk, add: Add) -> None:
    anna, _ = add("anna")
    add("ben", disabled=True, secret=anna.secret)
    add("cleo", networks=("192.0.2.0/24",), secret=anna.secret)
    right = code(anna)
    wrong = "000000" if right != "000000" else "111111"
    for claim, address, failure in (
        (Claim("nobody", PASSPHRASE, right), "", Failure.UNKNOWN),
        (Claim("../../x", PASSPHRASE, right), "", Failure.UNKNOWN),
        (Claim("anna", PASSPHRASE + "x", right), "", Failure.PASSPHRASE),
        (Claim("anna", PASSPHRASE, wrong), "", Failure.CODE),
        (Claim("anna", PASSPHRASE, ""), "", Failure.CODE),
        (Claim("ben", PASSPHRASE, right), "", Failure.DISABLED),
        (Claim("cleo", PASSPHRASE, right), "198.51.100.7", Failure.NETWORK),
    ):
        outcome = check(desk, claim, NOW, address)
        assert (outcome.operator, outcome.failure, outcome.refusals) == (None, failure, 1)
        assert claim.name not in outcome.name and len(outcome.name) == 32
        assert PASSPHRASE not in repr(claim)
    assert check(desk, Claim("cleo", PASSPHRASE, right), NOW, "192.0.2.9").operator is not None
    assert PASSPHRASE not in login.REFUSED and not any(
        f.value in login.REFUSED for f in (Failure.NETWORK, Failure.RATE)
    )


def test_every_login_costs_one_hash(desk: Desk, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, _ = add("anna")
    add("ben", disabled=True)
    spent: list[str] = []
    verify, derive = passwords.password_matches, passwords.hashed
    monkeypatch.setattr(login, "password_matches", lambda *a: spent.append("verify") or verify(*a))  # type: ignore[func-returns-value]
    monkeypatch.setattr(login, "hashed", lambda *a: spent.append("derive") or derive(*a))  # type: ignore[func-returns-value]
    for name, passphrase in (("anna", PASSPHRASE), ("anna", "x"), ("ben", PASSPHRASE), ("nobody", "x"), ("", "")):
        before = len(spent)
        check(desk, Claim(name, passphrase, code(anna)), NOW, "")
        assert len(spent) == before + 1
    for _ in range(FREE + 2):  # also where nothing is looked at any more
        before = len(spent)
        outcome = check(desk, Claim("ben", "x", "1"), NOW, "")
        assert len(spent) == before + 1
    assert outcome.failure is Failure.RATE


def test_a_code_works_once(desk: Desk, add: Add) -> None:
    anna, _ = add("anna")
    claim = Claim("anna", PASSPHRASE, code(anna))
    assert check(desk, claim, NOW, "").operator
    assert check(desk, claim, NOW, "").failure is Failure.CODE
    assert check(desk, claim, NOW + totp.STEP, "").failure is Failure.CODE
    assert check(desk, Claim("anna", PASSPHRASE, code(anna, off=-1)), NOW, "").failure is Failure.CODE, "an older one"
    assert check(desk, Claim("anna", PASSPHRASE, code(anna, off=1)), NOW, "").operator


def test_a_wrong_passphrase_does_not_use_the_code_up(desk: Desk, add: Add) -> None:
    anna, codes = add("anna")
    for one in (code(anna), codes[0]):
        assert check(desk, Claim("anna", "x", one), NOW, "").failure is Failure.PASSPHRASE
        assert check(desk, Claim("anna", PASSPHRASE, one), NOW, "").operator


def test_a_recovery_code_works_once(desk: Desk, add: Add) -> None:
    _, codes = add("anna")
    add("ben")
    typed = codes[3].upper().replace("-", " ")
    outcome = check(desk, Claim("anna", PASSPHRASE, typed), NOW, "")
    assert outcome.operator is not None and outcome.recovery and len(outcome.operator.recovery) == 7
    assert check(desk, Claim("anna", PASSPHRASE, codes[3]), NOW, "").failure is Failure.CODE
    assert check(desk, Claim("ben", PASSPHRASE, codes[4]), NOW, "").failure is Failure.CODE, "another's"
    assert check(desk, Claim("anna", PASSPHRASE, codes[4]), NOW, "").operator


@pytest.mark.parametrize("recovery", [False, True])
def test_of_two_logins_with_one_code_at_once_one_is_right(
    new_desk: Callable[[], Desk], add: Add, recovery: bool
) -> None:
    anna, codes = add("anna")
    claim = Claim("anna", PASSPHRASE, codes[0] if recovery else code(anna))
    desks = [new_desk() for _ in range(4)]
    begin, outcomes = threading.Barrier(4), []

    def log_in(desk: Desk) -> None:
        begin.wait(10)
        outcomes.append(check(desk, claim, NOW, ""))

    threads = [threading.Thread(target=log_in, args=(one,)) for one in desks]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert sorted(one.operator is not None for one in outcomes) == [False, False, False, True]


# -- how often ---------------------------------------------------------------------------------------------------------


def test_five_failures_and_then_it_takes_longer_and_longer(desk: Desk, add: Add) -> None:
    anna, _ = add("anna")
    now = NOW
    for _ in range(FREE):
        assert check(desk, Claim("anna", "x", "1"), now, "").failure is Failure.PASSPHRASE
    delay = FIRST_DELAY
    for _ in range(8):
        right = Claim("anna", PASSPHRASE, code(anna, now))
        assert check(desk, right, now + delay - 1, "").failure is Failure.RATE, "not even a right one"
        now += delay
        assert check(desk, Claim("anna", "x", "1"), now, "").failure is Failure.PASSPHRASE
        delay = min(2 * delay, LONGEST_DELAY)
    assert delay == LONGEST_DELAY == 900
    now += delay
    assert check(desk, Claim("anna", PASSPHRASE, code(anna, now)), now, "").operator
    for _ in range(FREE):  # a right login forgives
        assert check(desk, Claim("anna", "x", "1"), now, "").failure is Failure.PASSPHRASE
    assert check(desk, Claim("anna", "x", "1"), now, "").failure is Failure.RATE


def test_one_name_that_waits_keeps_nobody_else_out(desk: Desk, add: Add) -> None:
    anna, _ = add("anna")
    for _ in range(60):
        check(desk, Claim("ben", "x", "1"), NOW, "")
    assert check(desk, Claim("anna", PASSPHRASE, code(anna)), NOW, "").operator


def test_all_names_together_have_to_wait_too(desk: Desk, add: Add) -> None:
    anna, _ = add("anna")
    looked_at = [check(desk, Claim(f"n{number}", "x", "1"), NOW, "").failure for number in range(2 * FREE_ALL)]
    assert looked_at == [Failure.UNKNOWN] * FREE_ALL + [Failure.RATE] * FREE_ALL
    right = Claim("anna", PASSPHRASE, code(anna))
    assert check(desk, right, NOW, "").failure is Failure.RATE
    later = NOW + FIRST_DELAY
    assert check(desk, Claim("anna", PASSPHRASE, code(anna, later)), later, "").operator
    assert check(desk, Claim("n99", "x", "1"), later, "").failure is Failure.UNKNOWN, "a right one takes no turn away"
    assert check(desk, Claim("n98", "x", "1"), later, "").failure is Failure.RATE
    assert len(list(desk.all(attempts.KIND))) <= FREE_ALL + 3, "names that are not looked at are not remembered"


def test_processes_side_by_side_get_no_more_tries(new_desk: Callable[[], Desk], add: Add) -> None:
    add("anna")
    desks = [new_desk() for _ in range(4)]
    begin, taken = threading.Barrier(4), list[bool]()

    def guess(desk: Desk) -> None:
        tries = Attempts(desk)
        begin.wait(10)
        taken.extend(tries.take("anna", NOW) for _ in range(5))

    threads = [threading.Thread(target=guess, args=(one,)) for one in desks]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert len(taken) == 20 and sum(taken) == FREE


def test_who_is_killed_while_he_tries_has_tried(desk: Desk, add: Add) -> None:
    add("anna")
    tries = Attempts(desk)
    assert [tries.take("anna", NOW) for _ in range(FREE + 1)] == [True] * FREE + [False]


def test_failures_are_forgotten_after_a_day(desk: Desk, add: Add) -> None:
    add("anna")
    for _ in range(FREE):
        check(desk, Claim("anna", "x", "1"), NOW, "")
    later = NOW + attempts.FORGET + 1
    for _ in range(FREE):
        assert check(desk, Claim("anna", "x", "1"), later, "").failure is Failure.PASSPHRASE
    assert desk.expire(later + attempts.FORGET + 1) and not desk.has(attempts.KIND)


def test_a_clock_that_was_set_back_neither_locks_out_nor_lets_in(desk: Desk, add: Add) -> None:
    add("anna")
    for _ in range(FREE):
        check(desk, Claim("anna", "x", "1"), NOW + 10 * 86400, "")
    assert check(desk, Claim("anna", "x", "1"), NOW, "").failure is Failure.RATE
    assert check(desk, Claim("anna", "x", "1"), NOW + FIRST_DELAY + 1, "").failure is Failure.PASSPHRASE


def test_tries_that_are_not_looked_at_are_told_together(desk: Desk, add: Add) -> None:
    anna, _ = add("anna")
    told = [check(desk, Claim("anna", "x", "1"), NOW, "").refusals for _ in range(FREE)]
    assert told == [1] * FREE
    assert [check(desk, Claim("anna", "x", "1"), NOW + 1, "").refusals for _ in range(20)] == [0] * 20
    now = NOW + FIRST_DELAY
    assert check(desk, Claim("anna", PASSPHRASE, code(anna, now)), now, "").refusals == 20
    counts = [check(desk, Claim("nobody", "x", "1"), now + number, "").refusals for number in range(29)]
    assert counts == [1] * FREE + [0] * (29 - FREE)


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_any_claim_is_refused(name: str, passphrase: str, code: str) -> None:
    desk = _Nothing()
    assert check(desk, Claim(name, passphrase, code), NOW, "").operator is None  # type: ignore[arg-type]


class _Nothing:
    """A desk where nothing is kept."""

    def get(self, _kind: str, _name: str) -> None:
        return None

    def add(self, *_: object) -> bool:
        return True

    def hash(self, *texts: str) -> str:
        return str(len(texts)) * 32


def test_roles_are_what_was_given(desk: Desk, add: Add) -> None:
    anna, _ = add("anna", Role.AUDITOR, Role.SUPPORT)
    outcome = check(desk, Claim("anna", PASSPHRASE, code(anna)), NOW, "")
    assert outcome.operator is not None and outcome.operator.roles == {Role.AUDITOR, Role.SUPPORT}
