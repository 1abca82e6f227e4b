"""Who asks on the control socket: root and the daemon's user are believed, everybody else logs in, and the trail has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from smppd.audit.trail import AuditTrail
from smppd.control.wire import ControlError
from smppd.daemon import askers
from smppd.daemon.askers import ACTS_NEED, LOOKING, SHOWS_NEED, Askers
from smppd.events import AuditEvent
from smppd.operators import totp
from smppd.operators.desk import Desk
from smppd.operators.login import REFUSAL_FLOOR, REFUSED
from smppd.operators.people import Operator, People, new_credentials
from smppd.operators.roles import Act, Authority, Role
from smppd.store.installation import AUDIT_FILE
from smppd.store.opening import embedded
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.keys import InstallSecrets, create_install, load_install
from tests.vault.rows import kek

PASSPHRASE = "walnut ferry ochre lamp"
NOW = 1_796_000_000.0
STRANGER = 54321


class Slow:
    """A worker whose work is done when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any, Exception | None], None]]] = []

    def run(self, _name: str, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        self.jobs.append((work, then))

    def works(self) -> None:
        jobs, self.jobs = self.jobs, []
        for work, then in jobs:
            result, error = None, None
            try:
                result = work()
            except Exception as caught:  # noqa: BLE001  as `Worker`
                error = caught
            then(result, error)


class Gate:
    """Askers of a store with a trail, on a clock of the test's own."""

    def __init__(self, directory: Path, install: InstallSecrets) -> None:
        self.directory, self.install = directory, install
        self.worker = Slow()
        self.now = 100.0
        self.wall = NOW
        self.timers: list[tuple[float, Callable[[], None]]] = []
        worker: Any = self.worker
        later: Any = lambda seconds, function: self.timers.append((self.now + seconds, function))  # noqa: E731
        self.askers = Askers(embedded(directory), install, worker, later, wall=lambda: self.wall, now=lambda: self.now)
        self.trail = AuditTrail(directory / AUDIT_FILE, install.audit)
        self.secrets: dict[str, bytes] = {}

    def add(self, name: str, *roles: Role, **fields: Any) -> Operator:
        desk = Desk(SqliteDocuments(self.directory), self.install)
        people = People(desk)
        made = new_credentials(name, PASSPHRASE, os.urandom)
        operator = Operator(name, made.phc, made.secret, (), frozenset(roles or {Role.OPERATOR}))._replace(**fields)
        people.add(operator)
        self.trail.append(AuditEvent.OPERATOR, "root", {"name": name, "state": people.state(operator)}, "done")
        self.secrets[name] = made.secret
        desk.close()
        return operator

    def login(self, name: str, passphrase: str = PASSPHRASE, code: str | None = None) -> dict[str, Any]:
        right = totp.code_at(self.secrets.get(name, b"x" * 20), int(self.wall) // totp.STEP)
        return {"login": {"name": name, "passphrase": passphrase, "code": right if code is None else code}}

    def begins(self, request: dict[str, Any], *, trusted: bool, needed: frozenset[Act] = LOOKING) -> Answer:
        uid = os.geteuid() if trusted else STRANGER
        return Answer(self.askers.identify(request, uid, trusted, "show sessions", needed))

    def asks(self, request: dict[str, Any], *, trusted: bool = False, needed: frozenset[Act] = LOOKING) -> Authority:
        answer = self.begins(request, trusted=trusted, needed=needed)
        self.worker.works()
        self.waits(REFUSAL_FLOOR)
        return answer.get()

    def waits(self, seconds: float) -> None:
        self.now += seconds
        due = [function for at, function in self.timers if at <= self.now]
        self.timers = [one for one in self.timers if one[0] > self.now]
        for function in due:
            function()

    def entries(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(event, who, what) about logins, oldest first."""
        wanted = (AuditEvent.LOGIN, AuditEvent.LOGIN_REFUSED)
        return [(one.event, one.who, one.what) for one in self.trail.entries(events=wanted)]


class Answer:
    def __init__(self, deferred: Deferred[Authority]) -> None:
        self.found: list[Any] = []
        deferred.addBoth(self.found.append)

    def get(self) -> Authority:
        (one,) = self.found
        if not isinstance(one, Authority):
            raise one.value
        return one


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    key, rows = kek(), KeyStore(tmp_path)
    create_install(key, rows)
    install = load_install(key, rows)
    rows.close()
    made = Gate(tmp_path, install)
    yield made
    made.trail.close()


def refused(gate: Gate, request: dict[str, Any], **how: Any) -> tuple[str, str]:
    with pytest.raises(ControlError) as caught:
        gate.asks(request, **how)
    return caught.value.code, str(caught.value)


def test_root_and_the_daemons_user_are_believed_without_a_look_at_the_store(gate: Gate) -> None:
    answer = gate.begins({}, trusted=True).get()
    assert answer.operator == "" and answer.accounts is None and answer.facts == {}
    assert gate.begins({}, trusted=True, needed=ACTS_NEED).get().facts == {"login": "none"}
    assert gate.worker.jobs == [] and gate.entries() == []


def test_an_operator_whom_they_name_has_his_own_rights(gate: Gate) -> None:
    gate.add("ada")
    gate.add("olga", Role.ACCOUNT_OWNER, accounts=("acme",))
    assert gate.asks({"operator": "ada"}, trusted=True, needed=ACTS_NEED).who.startswith("ada (")
    owner = gate.asks({"operator": "olga"}, trusted=True)
    assert owner.accounts == frozenset({"acme"}) and owner.sees("acme") and not owner.sees("other")
    code, said = refused(gate, {"operator": "olga"}, trusted=True, needed=ACTS_NEED)
    assert code == "role" and "olga may not" in said
    assert gate.entries()[-1][2] == {"act": "show sessions", "reason": "role"}


@pytest.mark.parametrize("name", ["nobody", "../../x", "", "x" * 5000, 7, ["ada"]])
def test_an_operator_who_is_none(gate: Gate, name: Any) -> None:
    gate.add("ada")
    assert refused(gate, {"operator": name}, trusted=True)[0] in ("login", "request")


def test_one_who_was_disabled_or_put_back_may_nothing(gate: Gate) -> None:
    gate.add("ben", disabled=True)
    gate.add("ada")
    gate.trail.append(AuditEvent.OPERATOR, "root", {"name": "ada", "state": "of a later change"}, "done")
    answers = {refused(gate, {"operator": name}, trusted=True) for name in ("ben", "ada", "nobody")}
    assert len(answers) == 1 and answers.pop()[0] == "login"


def test_a_stranger_logs_in_with_each_request(gate: Gate) -> None:
    gate.add("ada")
    authority = gate.asks(gate.login("ada"))
    assert authority.operator == "ada" and authority.actor.who == f"uid {STRANGER}"
    assert gate.entries() == [("login", f"ada (uid {STRANGER})", {"name": "ada", "factor": "code"})]
    assert refused(gate, gate.login("ada"))[0] == "login", "a code serves once"
    assert refused(gate, {}) == ("login", REFUSED)
    assert refused(gate, {"operator": "ada"}) == ("login", REFUSED), "he is not believed"
    assert refused(gate, gate.login("ada") | {"operator": "ada"}, trusted=True)[0] == "request"


def test_all_failures_are_one_answer_at_one_time(gate: Gate) -> None:
    gate.add("ada")
    gate.add("ben", disabled=True)
    for request in (
        gate.login("nobody"),
        gate.login("ada", "another passphrase"),
        gate.login("ada", code="000000"),
        gate.login("ben"),
    ):
        answer = gate.begins(request, trusted=False)
        gate.now += 0.03
        gate.worker.works()
        gate.waits(REFUSAL_FLOOR - 0.031)
        assert answer.found == [], "not before"
        gate.waits(0.002)
        with pytest.raises(ControlError) as caught:
            answer.get()
        assert (caught.value.code, str(caught.value)) == ("login", REFUSED)
    reasons = [what["reason"] for event, _who, what in gate.entries() if event == "login refused"]
    assert reasons == ["unknown name", "passphrase", "code", "disabled"]
    assert "another passphrase" not in str(gate.entries())


def test_tries_are_counted_as_those_of_commands(gate: Gate) -> None:
    gate.add("ada")
    for _ in range(5):
        refused(gate, gate.login("ada", "wrong passphrase"))
    assert refused(gate, gate.login("ada")) == ("login", REFUSED), "right, and not looked at"
    gate.wall += 31
    assert gate.asks(gate.login("ada")).operator == "ada"


@pytest.mark.parametrize(
    "login",
    [
        None,
        5,
        "ada",
        [],
        {},
        {"name": "ada"},
        {"name": "ada", "passphrase": 1, "code": "1"},
        {"name": "a", "passphrase": "x" * 5000, "code": ""},
    ],
)
def test_a_login_that_is_not_whole(gate: Gate, login: Any) -> None:
    code, said = refused(gate, {"login": login})
    assert code == ("login" if login is None else "request") and "x" * 50 not in said


def test_no_more_logins_at_a_time_than_a_few(gate: Gate) -> None:
    gate.add("ada")
    waiting = [gate.begins(gate.login("ada", "wrong"), trusted=False) for _ in range(askers.LOGINS)]
    assert refused(gate, gate.login("ada"))[0] == "state"
    gate.worker.works()
    gate.waits(REFUSAL_FLOOR)
    assert all(one.found for one in waiting)
    looking = [gate.begins({"operator": "ada"}, trusted=True) for _ in range(askers.LOOKS)]
    with pytest.raises(ControlError, match="too many"):
        gate.begins({"operator": "ada"}, trusted=True)
    gate.worker.works()
    assert all(one.get().operator == "ada" for one in looking)


def test_a_store_that_cannot_be_asked_is_a_sentence(gate: Gate) -> None:
    gate.add("ada")
    (gate.directory / "data.db").rename(gate.directory / "gone")
    (gate.directory / "data.db").mkdir()
    code, said = refused(gate, {"operator": "ada"}, trusted=True)
    assert code == "state" and "cannot be checked" in said


def test_every_view_is_in_the_table_and_acts_are_for_who_runs_it() -> None:
    from smppd.operators.roles import MAY

    assert {Act.RUNTIME} == ACTS_NEED
    allowed = {role: {name for name, needed in SHOWS_NEED.items() if MAY[role] & needed} for role in Role}
    assert allowed[Role.OPERATOR] == set(SHOWS_NEED)
    assert "config" not in allowed[Role.ACCOUNT_OWNER] | allowed[Role.SUPPORT] and "sessions" in allowed[Role.SUPPORT]
    assert allowed[Role.AUDITOR] == {"rules", "lists", "health", "nodes", "bans", "config"}
