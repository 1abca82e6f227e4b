"""Who may be an operator, and how operators change while others change them too."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.operators.desk import Desk
from smppd.operators.people import (
    Operator,
    People,
    PeopleError,
    check_roles,
    is_name,
    networks_of,
    new_credentials,
)
from smppd.operators.roles import MAY, Act, Authority, Role, may
from tests.operators.conftest import NOW, Made

Add = Callable[..., Made]


@pytest.mark.parametrize("name", ["a", "anna", "a.b-c_d9", "a" * 32])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "A", "9a", ".a", "a" * 33, "a b", "a\n", "\u00e4", "all/..", "-a"])
def test_no_names(name: str) -> None:
    assert not is_name(name)


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_not(text: str) -> None:
    if is_name(text):
        assert 1 <= len(text) <= 32 and text.isascii() and text == text.lower() and "/" not in text


@given(st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=20), st.just("any")), max_size=4))
def test_networks_are_networks_or_an_error(texts: list[str]) -> None:
    try:
        found = networks_of(texts)
    except PeopleError as error:
        assert len(str(error)) < 300
        return
    assert all(ipaddress.ip_network(one) for one in found) and (found or not texts or texts == ["any"])


def test_where_somebody_comes_from() -> None:
    one = Operator("a", "", b"", (), frozenset({Role.SUPPORT}), ("192.0.2.0/24", "2001:db8::/48"))
    for address, inside in (
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("198.51.100.1", False),
        ("2001:db8::1%eth0", True),
        ("2001:db9::1", False),
        ("no address", False),
        ("", True),
    ):
        assert one.comes_from(address) is inside, address
    assert one._replace(networks=()).comes_from("no address")


def test_every_role_and_act_is_in_the_table_and_nobody_may_everything() -> None:
    assert set(MAY) == set(Role)
    assert set().union(*MAY.values()) == set(Act), "an act that nobody may"
    assert not [role for role in Role if MAY[role] == set(Act)]
    # Whoever makes logins cannot read messages with them, and the other way round.
    assert not MAY[Role.OPERATOR] & {Act.REVEAL, Act.EXPORT, Act.ERASE, Act.HOLD}
    assert [role for role in Role if Act.OPERATORS in MAY[role]] == [Role.OPERATOR]
    assert MAY[Role.ACCOUNT_OWNER] == {Act.SEARCH, Act.REVEAL, Act.OPT_OUT, Act.CONSENT}
    assert may((Role.SUPPORT, Role.AUDITOR), Act.AUDIT) and not may((), Act.SEARCH)


def test_an_authority_says_who_and_whether_he_logged_in() -> None:
    from smppd.audit.trail import Actor

    actor = Actor("root", "db1")
    assert Authority(actor, "anna", act=Act.REVEAL).who == "anna (root)"
    assert Authority(actor, "anna", act=Act.REVEAL).facts == {}
    assert Authority(actor, act=Act.REVEAL).who == "root (no login)"
    assert Authority(actor, act=Act.REVEAL).facts == {"login": "none"}
    assert Authority(actor, act=Act.SEARCH).facts == {}, "needs no login"
    assert Authority(actor, "o", accounts=frozenset({"acme"})).sees("acme")
    assert not Authority(actor, "o", accounts=frozenset({"acme"})).sees("other")


@pytest.mark.parametrize(
    ("roles", "accounts", "said"),
    [
        ((), (), "needs a role"),
        ((Role.SUPPORT,), ("acme",), "only an account owner"),
        ((Role.ACCOUNT_OWNER,), (), "needs an account"),
        ((Role.ACCOUNT_OWNER, Role.SUPPORT), ("acme",), "no other role"),
        ((Role.ACCOUNT_OWNER,), ("nobody",), "no account"),
    ],
)
def test_roles_that_do_not_go_together(roles: tuple[Role, ...], accounts: tuple[str, ...], said: str) -> None:
    with pytest.raises(PeopleError, match=said):
        check_roles(roles, accounts, ["acme"])


@pytest.mark.parametrize(
    "weak", ["", "short", "password1234", "aaaaaaaaaaaaaaaa", "abcdefghijklmnop", "xyz" * 90, "tab\there and more"]
)
def test_weak_passphrases_are_refused_and_not_repeated(weak: str) -> None:
    with pytest.raises(PeopleError) as error:
        new_credentials("anna", weak, lambda n: bytes(n))
    assert "SMPP" not in str(error.value) and (not weak or weak not in str(error.value))


def test_a_passphrase_of_any_script_is_taken() -> None:
    made = new_credentials(
        "anna",
        "\u0440\u0435\u043a\u0430 \u043b\u0430\u043c\u043f\u0430 \u0432\u0435\u0441\u043d\u0430",
        lambda n: bytes(range(n)),
    )
    assert made.phc.startswith("$argon2id$") and "***" in repr(made) and made.secret.hex() not in repr(made)


def test_an_operator_is_stored_and_comes_back(desk: Desk, add: Add) -> None:
    made, _ = add("anna", Role.AUDITOR, networks=("192.0.2.0/24",))
    people = People(desk)
    assert people.get("anna") == made and people.all() == [made] and people.any()
    assert people.get("../x") is None and people.get("ben") is None
    assert made.phc not in repr(made) and "***" in repr(made)
    with pytest.raises(PeopleError, match="already"):
        people.add(made)
    with pytest.raises(PeopleError, match="a name is"):
        people.add(made._replace(name="Anna"))


def test_a_change_gives_a_new_version(desk: Desk, add: Add) -> None:
    add("anna", Role.OPERATOR)
    add("ben", Role.SUPPORT)
    people = People(desk)
    after = people.change("ben", lambda one: one._replace(disabled=True), NOW + 5, "anna")
    assert (after.version, after.changed, after.by, after.disabled) == (2, int(NOW) + 5, "anna", True)
    assert people.get("ben") == after
    with pytest.raises(PeopleError, match="no operator"):
        people.change("nobody", lambda one: one, NOW, "")


def test_the_last_manager_stays(desk: Desk, add: Add) -> None:
    add("anna", Role.OPERATOR)
    add("ben", Role.PRIVACY_OFFICER)
    people = People(desk)
    for how in (
        lambda one: one._replace(disabled=True),
        lambda one: one._replace(roles=frozenset({Role.SUPPORT})),
    ):
        with pytest.raises(PeopleError, match="last who may manage"):
            people.change("anna", how, NOW, "anna")
        assert people.managed()
    anna = people.get("anna")
    assert anna is not None and anna.may(Act.OPERATORS)
    assert people.change("anna", lambda one: one._replace(disabled=True), NOW, "", unchecked=True).disabled, "root can"
    assert not people.managed()


def test_two_managers_who_disable_each_other_leave_one(desk: Desk, new_desk: Callable[[], Desk], add: Add) -> None:
    add("anna", Role.OPERATOR)
    add("ben", Role.OPERATOR)
    other = People(new_desk())
    refused = []

    def disable_anna_meanwhile(one: Operator) -> Operator:
        try:
            other.change("anna", lambda two: two._replace(disabled=True), NOW, "ben")
        except PeopleError:
            refused.append("ben")
        return one._replace(disabled=True)

    with pytest.raises(PeopleError, match="last who"):
        People(desk).change("ben", disable_anna_meanwhile, NOW, "anna")
    assert People(desk).managed() and not refused


def test_what_others_change_meanwhile_is_kept(desk: Desk, new_desk: Callable[[], Desk], add: Add) -> None:
    add("anna", Role.OPERATOR)
    add("ben", Role.SUPPORT)
    other, once = People(new_desk()), list[Operator]()

    def how(one: Operator) -> Operator:
        if not once:
            once.append(other.change("ben", lambda two: two._replace(networks=("192.0.2.0/24",)), NOW, ""))
        return one._replace(disabled=True)

    after = People(desk).change("ben", how, NOW, "anna")
    assert after.disabled and after.networks == ("192.0.2.0/24",) and after.version == 3
