"""Who may do what with the commands: every refusal, two people, account owners, and nothing secret in any file."""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from smppd.cli.authority import approver, authorise
from smppd.cli.commands import CommandError
from smppd.operators.approvals import Approvals
from smppd.operators.login import REFUSAL_FLOOR, REFUSED
from smppd.operators.people import People
from smppd.operators.roles import MAY, Act, Role
from tests.cli.staff import PASSPHRASE, Person, Staff
from tests.store.builder import Builder, files

SUBJECT = "+447700900123"
SEARCH = ("log", "search", SUBJECT, "--reason", "support")
REVEAL = (*SEARCH, "--note", "ticket 17", "--reveal")
LAW = ("log", "search", SUBJECT, "--reason", "law", "--note", "order 12/26", "--reveal")
TEXT = "your code is 4711"
OTHER = "granite otter plaid noun"


@pytest.fixture
def log(staff: Staff) -> Builder:
    return staff.builder()


@pytest.fixture
def record(log: Builder) -> str:
    identity = log.record(TEXT.encode(), source=b"447700900456", destination=SUBJECT[1:].encode())
    log.commit()
    return f"{identity:016x}"


# -- without a login ---------------------------------------------------------------------------------------------------


def test_without_operators_nobody_logs_in_and_it_is_said(
    staff: Staff, record: str, log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert TEXT in staff.run(*REVEAL)[1] and TEXT in staff.run(*LAW)[1]
    first, _ = staff.trail("reveal")
    assert first["who"].endswith(" (no login)") and first["what"]["login"] == "none" and "second" not in first["what"]
    (entry,) = staff.trail("approval")
    assert entry["what"]["action"] == "not needed", "there is no second person yet"
    assert staff.run(*REVEAL, "--operator", "anna")[::2] == (
        2,
        "smppd: there are no operators yet: `smppd operators add`\n",
    )
    log.close()  # it has the spool open, as a daemon would
    assert staff.run("purge")[0] == 0


def test_with_operators_root_may_and_nobody_else(staff: Staff, record: str, monkeypatch: pytest.MonkeyPatch) -> None:
    staff.add("anna", "operator")
    assert TEXT in staff.run(*REVEAL)[1]
    assert staff.trail("reveal")[-1]["what"]["login"] == "none"
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    for words in (REVEAL, ("purge",), ("operators", "list"), ("operators", "disable", "anna"), ("approvals", "list")):
        status, out, err = staff.run(*words)
        assert (status, out) == (1, "") and "this needs a login" in err, words
    assert [one["what"]["reason"] for one in staff.trail("login refused")] == ["no login"] * 5
    status, out, _ = staff.run(*SEARCH)
    assert status == 0 and "+44770***0123" in out, "a masked search needs none"
    assert "login" not in staff.trail("search")[-1]["what"]
    assert staff.run("purge", "--dry-run")[0] == 0


def test_root_without_a_login_waits_for_nobody_and_it_is_said(staff: Staff, record: str) -> None:
    staff.add("anna", "operator")
    assert TEXT in staff.run(*LAW)[1]
    (entry,) = staff.trail("approval")
    assert entry["what"] == {"action": "not needed", "kind": "reveal", "reason": "no login", "login": "none"}


# -- every failure is alike --------------------------------------------------------------------------------------------


def test_every_failed_login_is_the_same_answer(staff: Staff, record: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cleo = staff.add("cleo", "support", options=("--network", "192.0.2.0/24"))
    ben = staff.add("ben", "support")
    assert staff.run("operators", "disable", "ben")[0] == 0
    nobody = Person.__new__(Person)
    nobody.name, nobody.passphrase, nobody.secret = "nobody", PASSPHRASE, cleo.secret
    used = cleo.code(staff.clock.now)
    assert staff.run(*REVEAL, *staff.credentials(cleo, used))[0] == 0
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.7 50000 198.51.100.1 22")
    tries = [
        staff.credentials(nobody),
        staff.credentials(cleo, passphrase="wrong horse battery"),
        staff.credentials(cleo, code="000000"),
        staff.credentials(ben),
        staff.credentials(cleo),  # from a network that is not his
    ]
    answers = set()
    for options in tries:
        answers.add(staff.run(*REVEAL, *options))
    monkeypatch.delenv("SSH_CONNECTION")
    answers.add(staff.run(*REVEAL, *staff.credentials(cleo, used)))  # replayed
    answers.add(staff.run(*REVEAL, *staff.credentials(cleo, "nothing like a code")))
    right = staff.credentials(cleo)
    staff.clock.now -= 1
    answers.add(staff.run(*REVEAL, *right))  # too often
    assert answers == {(1, "", f"smppd: {REFUSED}\n")}
    assert staff.clock.slept == 8 * REFUSAL_FLOOR, "after the same time"


def test_the_trail_knows_why_and_not_who(staff: Staff, record: str) -> None:
    cleo = staff.add("cleo", "support")
    for options in (
        staff.credentials(cleo, passphrase="x"),
        staff.credentials(cleo, code="1"),
        staff.credentials(cleo),
    ):
        staff.run(*REVEAL, *options)
    typo = ("--operator", PASSPHRASE, *staff.credentials(cleo)[2:])
    staff.run(*REVEAL, *typo)  # the passphrase instead of the name
    refused = staff.trail("login refused")
    assert [one["what"]["reason"] for one in refused] == ["passphrase", "code", "unknown name"]
    assert len({one["what"]["name"] for one in refused[:2]}) == 1 != len({one["what"]["name"] for one in refused})
    assert all(one["what"]["count"] == 1 and re.fullmatch("[0-9a-f]{32}", one["what"]["name"]) for one in refused)
    assert not any("cleo" in str(one) or PASSPHRASE in str(one) for one in refused)
    (login,) = staff.trail("login")
    assert login["who"].startswith("cleo (") and login["what"] == {"name": "cleo", "factor": "code"}
    (reveal,) = staff.trail("reveal")
    assert reveal["who"].startswith("cleo (") and "login" not in reveal["what"]


def test_five_failures_and_a_right_login_waits(staff: Staff, record: str) -> None:
    cleo = staff.add("cleo", "support")
    for _ in range(5):
        assert staff.run(*REVEAL, *staff.credentials(cleo, code="000000"))[0] == 1
    staff.clock.now += 29
    assert staff.run(*REVEAL, *staff.credentials(cleo, cleo.code(staff.clock.now)))[2] == f"smppd: {REFUSED}\n"
    staff.clock.now += 60
    assert staff.by(cleo, *REVEAL)[0] == 0
    counts = [one["what"]["count"] for one in staff.trail("login refused")]
    assert counts == [1] * 5 + [1], "the try that was not looked at is told with the next one"


def test_a_recovery_code_logs_in_once_and_is_told(staff: Staff, record: str) -> None:
    cleo = staff.add("cleo", "support")
    status, out, err = staff.run(*REVEAL, *staff.credentials(cleo, cleo.recovery[2]))
    assert status == 0 and TEXT in out and "7 are left" in err
    assert staff.run(*REVEAL, *staff.credentials(cleo, cleo.recovery[2]))[0] == 1
    assert staff.trail("login")[0]["what"]["factor"] == "recovery code"


# -- roles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_every_role_may_what_the_table_says(staff: Staff, role: Role, log: Builder) -> None:
    options = ("--account", "acme") if role is Role.ACCOUNT_OWNER else ()
    one = staff.add("one", role, options=options)
    log.close()
    from smppd.config import load

    settings = load(staff.path / "smppd.yaml")
    assert staff.run("login", *staff.credentials(one), "--for", "1h")[0] == 0
    for act in Act:
        args = argparse.Namespace(operator=None, credentials=None)
        if act in MAY[role]:
            assert authorise(act, args, settings).operator == "one"
            continue
        with pytest.raises(CommandError, match="no role of his allows it"):
            authorise(act, args, settings)
    refused = [entry["what"] for entry in staff.trail("login refused")]
    assert refused == [{"act": act.value, "reason": "role"} for act in Act if act not in MAY[role]]


def test_the_role_is_said_after_a_good_login_only(staff: Staff, record: str) -> None:
    dora = staff.add("dora", "auditor")
    assert staff.run(*REVEAL, *staff.credentials(dora, passphrase="x"))[2] == f"smppd: {REFUSED}\n"
    status, out, err = staff.by(dora, *REVEAL)
    assert (status, out) == (1, "") and "no role of his allows it (reveal)" in err
    assert staff.by(dora, "purge")[0] == 1 and staff.by(dora, *SEARCH)[0] == 1


def test_a_ban_is_lifted_by_who_runs_the_daemon(staff: Staff, log: Builder) -> None:
    cleo, emil = staff.add("cleo", "support"), staff.add("emil", "operator")
    status, _, err = staff.by(cleo, "bans", "lift", "192.0.2.7")
    assert status == 1 and "no role of his allows it (runtime)" in err
    assert staff.by(emil, "bans", "lift", "192.0.2.7")[0] == 2, "no daemon answers"


def test_reason_and_note_are_asked_for_before_anything(staff: Staff, record: str) -> None:
    cleo = staff.add("cleo", "support")
    assert staff.run(*REVEAL[:3], "--reveal", "--note", "x", *staff.credentials(cleo))[0] == 2
    assert staff.run(*SEARCH, "--reveal", *staff.credentials(cleo))[0] == 2
    assert staff.run("log", "search", SUBJECT, "--reason", "curiosity", *staff.credentials(cleo))[0] == 2
    assert staff.run("damaged", "show", "1", "--reason", "law", "--reveal", *staff.credentials(cleo))[0] == 2
    assert staff.trail("login", "reveal", "search") == []


# -- account owners ----------------------------------------------------------------------------------------------------


def test_an_account_owner_sees_his_own_and_no_trace_of_others(staff: Staff, log: Builder) -> None:
    own = log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), account="acme")
    log.commit()
    others = log.record(b"another's", destination=SUBJECT[1:].encode(), account="other")
    log.commit()
    olga = staff.add("olga", "account-owner", options=("--account", "acme"))
    out = staff.by(olga, *REVEAL)[1]
    assert f"{own:016x}" in out and TEXT in out and f"{others:016x}" not in out and "another" not in out
    assert f"{others:016x}" in staff.run(*REVEAL)[1], "root sees both"
    absent = staff.by(olga, "log", "show", f"{others + 1:016x}", *REVEAL[3:])
    theirs = staff.by(olga, "log", "show", f"{others:016x}", *REVEAL[3:])
    assert theirs[0] == absent[0] == 1
    assert theirs[2].replace(f"{others:016x}", "") == absent[2].replace(f"{others + 1:016x}", "")
    assert TEXT in staff.by(olga, "log", "show", f"{own:016x}", *REVEAL[3:])[1]
    nothing = staff.by(olga, "log", "search", "+447700900999", *REVEAL[3:])
    hidden = staff.by(olga, *REVEAL, "--account", "other")
    assert hidden[:2] == nothing[:2] == (1, "") and hidden[2].replace("0123", "0999") == nothing[2]
    looked = [entry for entry in staff.trail("reveal") if entry["what"].get("other_account")]
    assert len(looked) == 1 and looked[0]["result"] == "not found" and "subjects" not in looked[0]["what"]


def test_an_altered_record_of_another_account_is_no_trace_either(staff: Staff, log: Builder) -> None:
    import sqlite3

    others = log.record(b"x", destination=SUBJECT[1:].encode(), account="other")
    log.commit()
    packed = log.packed[others]
    db = sqlite3.connect(staff.path / "var/data.db", isolation_level=None)
    db.execute("UPDATE log SET records = ? WHERE count = 1", (packed[:-40] + bytes(8) + packed[-32:],))
    db.close()
    olga = staff.add("olga", "account-owner", options=("--account", "acme"))
    assert "there is no record" in staff.by(olga, "log", "show", f"{others:016x}", *REVEAL[3:])[2]
    assert "altered" in staff.run("log", "show", f"{others:016x}", *REVEAL[3:])[2]
    assert "altered" not in staff.by(olga, *REVEAL)[2] and "altered" in staff.run(*REVEAL)[2]


def test_damaged_items_of_others_are_absent(staff: Staff, log: Builder) -> None:
    from smppd.store.api import Damaged

    at = int(staff.clock.now)
    kept = [("message", "acme", 7), ("message", "other", 8), ("frame", "acme", 0), ("meta", "acme", 0)]
    for kind, owner, identity in kept:
        log.store.batch.damaged.append(Damaged(kind, owner, identity, "x", "ValueError", at, at + 86400, b"\0" * 20))
    log.record()
    log.commit()
    olga = staff.add("olga", "account-owner", options=("--account", "acme"))
    look = ("--reason", "quality", "--note", "t", "--reveal")
    listed = staff.by(olga, "damaged", "list")[1].splitlines()
    assert len(listed) == 2 and listed[1].split()[:3] == ["1", "message", "acme"]
    assert staff.by(olga, "damaged", "show", "1", *look)[0] == 0
    gone = staff.by(olga, "damaged", "show", "99", *look)
    for number in ("2", "3", "4"):
        hidden = staff.by(olga, "damaged", "show", number, *look)
        assert hidden[0] == gone[0] == 1 and hidden[2].replace(number, "99", 1) == gone[2]
        assert staff.run("damaged", "show", number, *look)[0] == 0
    assert staff.by(olga, "damaged", "remove", "1", "--yes")[0] == 1, "needs another role"
    paula = staff.add("paula", "privacy-officer")
    assert staff.by(paula, "damaged", "remove", "1", "--yes")[0] == 0
    assert staff.trail("damaged")[0]["who"].startswith("paula (")


# -- two people --------------------------------------------------------------------------------------------------------


@pytest.fixture
def people(staff: Staff) -> dict[str, Person]:
    names = {"anna": "support", "ben": "privacy-officer", "dora": "auditor", "emil": "operator"}
    return {name: staff.add(name, role) for name, role in names.items()}


def test_for_the_law_two_have_to_agree(staff: Staff, record: str, people: dict[str, Person]) -> None:
    anna, ben = people["anna"], people["ben"]
    status, out, err = staff.by(anna, *LAW)
    assert (status, out) == (3, "") and "request 1" in err and "another person has to agree" in err
    assert staff.by(anna, *LAW)[0] == 3 and len(staff.trail("approval")) == 1, "it is asked for once"
    status, out, err = staff.by(anna, "approvals", "grant", "1")
    assert (status, out) == (1, "") and "nobody agrees to what he asked for himself" in err
    for name in ("dora", "emil"):  # they may not reveal, so they do not even know of it
        assert "no request 1 waits for you" in staff.by(people[name], "approvals", "grant", "1")[2]
        assert staff.by(people[name], "approvals", "list")[1] == ""
    shown = staff.by(ben, "approvals", "list")[1]
    assert "number=44770***0123" in shown and "order 12/26" in shown and "900123" not in shown
    assert staff.by(ben, "approvals", "grant", "1")[0] == 0
    for _ in range(2):  # again and again
        assert TEXT in staff.by(anna, *LAW)[1]
    assert staff.trail("reveal")[-1]["what"]["second"] == "ben"
    assert staff.by(ben, *LAW)[0] == 3, "for nobody else"
    assert staff.by(anna, "log", "search", "+447700900456", *LAW[3:])[0] == 3, "and nothing else"
    assert staff.by(anna, "log", "show", record, *LAW[3:])[0] == 3
    assert "was granted already" in staff.by(ben, "approvals", "grant", "1")[2]
    staff.clock.now += 3600
    status, _, err = staff.by(anna, *LAW)
    assert status == 3 and "request 5" in err, "the window has ended"


def test_what_was_typed_as_an_age_is_the_same_act_later(staff: Staff, record: str, people: dict[str, Person]) -> None:
    assert staff.by(people["anna"], *LAW, "--since", "7d")[0] == 3
    assert staff.by(people["ben"], "approvals", "grant", "1")[0] == 0
    assert staff.by(people["anna"], *LAW, "--since", "7d")[0] == 0
    assert staff.by(people["anna"], *LAW, "--since", "8d")[0] == 3


def test_a_denied_request_is_told_once_and_may_be_asked_again(
    staff: Staff, record: str, people: dict[str, Person]
) -> None:
    anna, ben = people["anna"], people["ben"]
    staff.by(anna, *LAW)
    assert staff.by(ben, "approvals", "deny", "1")[0] == 0
    status, out, err = staff.by(anna, *LAW)
    assert (status, out) == (1, "") and "request 1 was denied by ben" in err
    assert staff.by(anna, *LAW)[0] == 3
    assert staff.by(ben, "approvals", "grant", "2")[0] == 0 and staff.by(anna, *LAW)[0] == 0
    assert staff.by(ben, "approvals", "deny", "2")[0] == 0, "ends the window"
    assert staff.by(anna, *LAW)[0] == 1
    assert [one["what"]["action"] for one in staff.trail("approval")] == [
        "asked", "denied", "asked", "granted", "denied",
    ]  # fmt: skip


def test_of_two_answers_at_once_the_trail_knows_which_counts(
    staff: Staff, record: str, people: dict[str, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    staff.by(people["anna"], *LAW)
    with monkeypatch.context() as quicker:
        quicker.setattr(Approvals, "answer", lambda *_: None)  # the other one was quicker
        status, _, err = staff.by(people["ben"], "approvals", "grant", "1")
    assert status == 1 and "somebody else answered" in err
    assert [one["result"] for one in staff.trail("approval")] == ["done", "done", "refused"]
    assert staff.by(people["ben"], "approvals", "grant", "1")[0] == 0
    with monkeypatch.context() as quicker:
        quicker.setattr(Approvals, "answer", lambda *_: None)
        assert staff.by(people["ben"], "approvals", "deny", "1")[0] == 1, "too late, and taken back"
    assert TEXT in staff.by(people["anna"], *LAW)[1]


def test_more_than_a_hundred_records_need_two(staff: Staff, log: Builder, people: dict[str, Person]) -> None:
    for _ in range(101):
        log.record(TEXT.encode(), destination=SUBJECT[1:].encode())
    log.commit()
    anna = people["anna"]
    assert staff.by(anna, *REVEAL, "--limit", "100")[0] == 0
    assert staff.by(anna, *REVEAL, "--limit", "101")[0:2] == (3, "")
    assert staff.by(people["ben"], "approvals", "grant", "1")[0] == 0
    assert staff.by(anna, *REVEAL, "--limit", "101")[1].count(TEXT) == 101
    assert staff.by(anna, *SEARCH, "--limit", "101")[0] == 0, "masked needs one"
    entry = staff.trail("reveal")[-1]
    assert entry["what"]["records"] == 101 and len(entry["what"]["subjects1"].split()) == 41


def test_root_without_a_login_agrees_unless_he_is_the_one_who_asked(
    staff: Staff, record: str, people: dict[str, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smppd.audit.trail import Actor
    from smppd.cli.commands import approvals

    staff.by(people["anna"], *LAW)
    status, _, err = staff.run("approvals", "grant", "1")
    assert status == 1 and "the same person" in err
    monkeypatch.setattr(approvals, "current_actor", lambda: Actor("zoe (as root)", "db1"))
    assert staff.run("approvals", "grant", "1")[0] == 0
    assert staff.by(people["anna"], *LAW)[0] == 0
    assert staff.trail("reveal")[-1]["what"]["second"] == "zoe (as root) (no login)"
    assert staff.trail("approval")[-1]["what"]["login"] == "none"


def test_who_was_set_up_by_the_asker_is_no_second_person(staff: Staff, record: str) -> None:
    both = staff.add("anna", "operator", "support")
    words = ("operators", "add", "puppet", "--role", "support", "--stdin")
    status, out, _ = staff.by(both, *words, stdin=OTHER + "\n")
    assert status == 0
    puppet = Person("puppet", OTHER, out)
    assert staff.by(both, *LAW)[0] == 3
    assert "set up this login" in staff.by(puppet, "approvals", "grant", "1")[2]
    ben = staff.add("ben", "support")
    assert staff.by(ben, "approvals", "grant", "1")[0] == 0
    assert staff.by(both, *LAW)[0] == 0


def test_an_approver_for_other_commands(staff: Staff, people: dict[str, Person], log: Builder) -> None:
    from smppd.config import load

    log.close()
    settings = load(staff.path / "smppd.yaml")
    options = staff.credentials(people["ben"])
    args = argparse.Namespace(operator=options[1], credentials=options[3], note="court 7", reason="law")
    given = authorise(Act.HOLD, args, settings)
    what: dict[str, Any] = {"account": "acme", "until": 17}
    with pytest.raises(CommandError) as error:
        approver(given, args, settings, "hold", what)
    assert error.value.status == 3
    paula = staff.add("paula", "privacy-officer")
    assert "no request" in staff.by(people["anna"], "approvals", "grant", "1")[2], "support may not hold"
    assert staff.by(paula, "approvals", "grant", "1")[0] == 0
    assert approver(given, args, settings, "hold", what) == "paula"


# -- who looked --------------------------------------------------------------------------------------------------------


def test_who_looked_at_somebody_is_found_by_the_number(staff: Staff, record: str, people: dict[str, Person]) -> None:
    assert staff.by(people["anna"], *REVEAL)[0] == 0
    assert staff.by(people["anna"], "log", "show", record, *REVEAL[3:])[0] == 0
    assert staff.by(people["anna"], *SEARCH)[0] == 0
    for number, searched in ((SUBJECT, [True, False, True]), ("+44 (0)7700 900456", [False, False])):
        found = looks(staff, people["ben"], number)
        assert [one["searched"] for one in found] == searched
        assert all(one["who"].startswith("anna (") and one["reason"] == "support" for one in found)
        assert [one["records"] for one in found][:2] == [[record]] * 2
    status, out, err = run_looks(staff, people["dora"], "+447700900999")
    assert status == 1 and out == "" and "no look" in err
    assert run_looks(staff, people["anna"], SUBJECT)[0] == 1, "support may not"
    status, out, _ = run_looks(staff, people["dora"], SUBJECT)
    assert status == 0 and "anna" in out and record in out and "900123" not in out


def run_looks(staff: Staff, person: Person, *words: str) -> tuple[int, str, str]:
    """The action as `smppd subject` registers it."""
    from smppd.cli.commands.subject_looks import add_looks, run_looks

    parser = argparse.ArgumentParser()
    add_looks(parser.add_subparsers())
    options = [*words, *staff.credentials(person), "--config", str(staff.path / "smppd.yaml")]
    try:
        status, err = run_looks(parser.parse_args(["looks", *options])), ""
    except CommandError as error:
        status, err = error.status, str(error)
    shown = staff.capsys.readouterr()
    return status, shown.out, shown.err + err


def looks(staff: Staff, person: Person, number: str) -> list[dict[str, Any]]:
    import json

    status, out, err = run_looks(staff, person, number, "--json")
    assert status == 0, err
    return [one for one in json.loads(out)["looks"] if one["note"] != "subject looks"]


# -- nothing secret anywhere -------------------------------------------------------------------------------------------


def test_nothing_secret_is_in_any_file_nor_printed(staff: Staff, record: str, people: dict[str, Person]) -> None:
    anna, ben = people["anna"], people["ben"]
    codes = []
    for person, words in ((anna, LAW), (ben, ("approvals", "grant", "1")), (anna, LAW)):
        options = staff.credentials(person)
        codes.append(person.code(staff.clock.now))
        staff.run(*words, *options)
    staff.run(*REVEAL, *staff.credentials(anna, anna.recovery[0]))
    staff.run(*REVEAL, *staff.credentials(anna, code="000000", passphrase=OTHER))
    assert staff.run("login", *staff.credentials(anna))[0] == 0
    tokens = [path.read_text().strip() for path in (staff.path / "run/smppd").glob("*.session")]
    assert len(tokens) == 1 and len(tokens[0]) == 64
    assert staff.by(ben, "operators", "list", "--json")[0] == 0
    secrets: list[bytes] = [PASSPHRASE.encode(), OTHER.encode(), tokens[0].encode(), bytes.fromhex(tokens[0])]
    for person in (anna, ben):
        secrets += [person.secret, person.secret.hex().encode(), person.typed.encode(), person.uri.encode()]
        for code in person.recovery:
            secrets += [code.encode(), code.replace("-", "").encode()]
    staff.trail()
    stored, printed = files(staff.path / "var"), "\n".join(staff.output).encode()
    for secret in secrets:
        for form in (secret, secret.decode("latin-1").encode("utf-16-le")):
            assert form not in stored and form not in printed
    # Six digits alone may stand anywhere by chance, so they are looked for where words are.
    trail = str([{**one, "hash": ""} for one in staff.trail() if one["event"] in ("login", "login refused")])
    assert not any(re.search(rf"(?<![0-9]){code}(?![0-9])", trail) for code in codes)
    assert SUBJECT[1:].encode() not in stored, "the request is sealed"


# -- the store ---------------------------------------------------------------------------------------------------------


def test_an_operator_that_was_altered_is_nobody(staff: Staff, record: str) -> None:
    cleo = staff.add("cleo", "support")
    db = sqlite3.connect(staff.path / "var/data.db", isolation_level=None)
    db.execute(
        "UPDATE documents SET sealed = substr(sealed, 1, 40) || x'00' || substr(sealed, 42) WHERE kind = 'operator'"
    )
    db.close()
    status, out, err = staff.by(cleo, *REVEAL)
    assert (status, out) == (2, "") and "altered" in err and "Traceback" not in err


def rows_of_operators(staff: Staff, kind: str = "operator") -> dict[str, bytes]:
    db = sqlite3.connect(staff.path / "var/data.db")
    rows = dict(db.execute("SELECT name, sealed FROM documents WHERE kind = ?", (kind,)))
    db.close()
    return rows


def put_operator(staff: Staff, name: str, sealed: bytes | None, kind: str = "operator") -> None:
    """What somebody does who can write to the store's files: an older row put back, another's in its place, none at all."""
    db = sqlite3.connect(staff.path / "var/data.db", isolation_level=None)
    db.execute("DELETE FROM documents WHERE kind = ? AND name = ?", (kind, name))
    if sealed is not None:
        db.execute(
            "INSERT INTO documents (kind, name, until, sealed) VALUES (?, ?, (SELECT max(until) FROM documents), ?)",
            (kind, name, sealed),
        )
    db.close()


@pytest.mark.parametrize(
    "change", [("disable", "cleo"), ("role", "cleo", "--role", "auditor"), ("reset", "cleo", "--stdin")]
)
def test_an_older_row_of_an_operator_that_is_put_back_is_nobody(
    staff: Staff, record: str, change: tuple[str, ...]
) -> None:
    cleo = staff.add("cleo", "support")
    staff.add("anna", "operator")
    before = rows_of_operators(staff)["cleo"]
    assert staff.run("operators", *change, stdin=OTHER + "\n")[0] == 0
    put_operator(staff, "cleo", before)
    assert staff.by(cleo, *REVEAL) == (1, "", f"smppd: {REFUSED}\n")
    assert staff.trail("login refused")[-1]["what"]["reason"] == "not as the audit trail left him"
    status, _, err = staff.run("operators", "list")
    assert status == 0 and err.count("not as the audit trail left him") == 1 and "cleo is not as" in err
    assert [one["altered"] for one in json.loads(staff.run("operators", "list", "--json")[1])["operators"]] == [
        False,
        True,
    ]
    # Who manages operators says anew what he is.
    assert "not as the audit trail left him" in staff.run("operators", "role", "cleo", "--role", "support")[2]
    assert staff.by(cleo, *REVEAL)[0] == 0
    assert staff.run("audit", "verify")[0] == 0


def test_a_recovery_code_that_was_used_works_no_more_where_an_older_row_is_put_back(staff: Staff, record: str) -> None:
    cleo = staff.add("cleo", "support")
    before = rows_of_operators(staff)["cleo"]
    assert staff.run(*REVEAL, *staff.credentials(cleo, cleo.recovery[2]))[0] == 0
    assert staff.by(cleo, *REVEAL)[0] == 0, "as he was left"
    put_operator(staff, "cleo", before)
    for code in cleo.recovery[2:4]:
        assert staff.run(*REVEAL, *staff.credentials(cleo, code))[0] == 1
        assert staff.trail("login refused")[-1]["what"]["reason"] == "not as the audit trail left him"
    assert "cleo is not as" in staff.run("operators", "list")[2]
    assert staff.run("operators", "role", "cleo", "--role", "support")[0] == 0
    assert staff.by(cleo, *REVEAL)[0] == 0, "who manages operators said anew what he is"
    assert staff.run("audit", "verify")[0] == 0


def test_a_grant_that_was_taken_back_serves_nobody_where_its_row_is_put_back(
    staff: Staff, record: str, people: dict[str, Person]
) -> None:
    anna, ben = people["anna"], people["ben"]
    assert staff.by(anna, *LAW)[0] == 3 and staff.by(ben, "approvals", "grant", "1")[0] == 0
    (before,) = rows_of_operators(staff, "approval").values()
    assert staff.by(ben, "approvals", "grant", "1")[0] == 1, "refused, and no answer"
    assert staff.by(anna, *LAW)[0] == 0
    assert staff.by(ben, "approvals", "deny", "1")[0] == 0
    put_operator(staff, "1", before, "approval")
    status, out, err = staff.by(anna, *LAW)
    assert (status, out) == (1, "") and "an older row of it was put back" in err
    assert staff.trail("approval")[-1]["what"]["action"] == "not as the audit trail left it"
    status, out, err = staff.by(anna, *LAW)
    assert status == 3 and "request 2" in err


def test_an_older_row_serves_no_session_either(staff: Staff, record: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cleo, anna = staff.add("cleo", "support"), staff.add("anna", "operator")
    before = rows_of_operators(staff)["cleo"]
    assert staff.by(cleo, "login")[0] == 0 and TEXT in staff.run(*REVEAL)[1]
    assert staff.by(anna, "operators", "disable", "cleo")[0] == 0
    put_operator(staff, "cleo", before)
    monkeypatch.setattr("smppd.cli.authority.os.geteuid", lambda: 65534)
    monkeypatch.setattr("smppd.cli.credentials._directory", lambda _environ: staff.path / "run/smppd")
    token = next((staff.path / "run/smppd").glob("*.session")).read_text().strip()
    monkeypatch.setattr("smppd.cli.authority.TokenFile.read", lambda _self: token)
    status, out, err = staff.run(*REVEAL)
    assert (status, out) == (1, "") and "Your session has ended" in err and "this needs a login" in err


def test_rows_of_two_operators_that_are_swapped_are_nobodys(staff: Staff, record: str) -> None:
    cleo, dora = staff.add("cleo", "support"), staff.add("dora", "auditor")
    rows = rows_of_operators(staff)
    put_operator(staff, "cleo", rows["dora"])
    put_operator(staff, "dora", rows["cleo"])
    for one in (cleo, dora):
        status, out, err = staff.by(one, *REVEAL)
        assert (status, out) == (2, "") and "altered" in err


def test_who_deletes_all_operators_opens_nothing(staff: Staff, record: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cleo = staff.add("cleo", "support")
    put_operator(staff, "cleo", None)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    for words in (REVEAL, ("purge",), ("operators", "add", "mallory", "--role", "operator", "--stdin")):
        status, out, err = staff.run(*words, stdin=PASSPHRASE + "\n")
        assert (status, out) == (1, "") and "this needs a login" in err, words
    assert staff.by(cleo, *REVEAL)[0] == 2
    assert staff.run("subject", "erase", SUBJECT, "--reason", "law", "--note", "n", "--yes")[0] == 1
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    cleo = staff.add("cleo", "support")  # root goes on
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert staff.by(cleo, *REVEAL)[0] == 0


def test_a_change_that_broke_off_lets_nobody_in_and_can_be_made_again(
    staff: Staff, record: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleo = staff.add("cleo", "support")
    with monkeypatch.context() as broken:

        def killed(*_: object) -> bool:
            raise KeyboardInterrupt

        broken.setattr(People, "store", killed)
        staff.run("operators", "disable", "cleo")
    assert staff.by(cleo, *REVEAL)[0] == 1, "the trail says that he was disabled"
    assert staff.run("operators", "disable", "cleo")[0] == 0
    assert staff.run("operators", "enable", "cleo")[0] == 0
    assert staff.by(cleo, *REVEAL)[0] == 0


def test_without_keys_nothing_is_done(staff: Staff, record: str, log: Builder) -> None:
    log.close()
    Path(staff.path / "keys/kek").rename(staff.path / "keys/away")
    for words in (REVEAL, ("operators", "list"), ("approvals", "list"), ("logout",)):
        status, out, err = staff.run(*words)
        assert status == 2 and out == "" and "kek" in err.lower(), words
