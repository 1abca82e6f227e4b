"""Opt-outs, consents, holds, erasures, approvals, the trail and `explain` in the console: by role, on the trail, escaped."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from smppd.control.wire import ControlError
from smppd.message import State
from smppd.office import explaining
from smppd.store.api import Doubt
from tests.cli.staff import Person, Staff
from tests.console.counter import Counter

SUBJECT = "+447700900123"
HOSTILE = "<script>alert(1)</script>"
WHY = {"reason": "contract", "note": "ticket 17"}


@pytest.fixture
def record(staff: Staff) -> str:
    log = staff.builder()
    identity = log.record(b"your code is 4711", source=b"447700900456", destination=SUBJECT[1:].encode())
    log.event(identity, State.SUBMITTED, b"carrier-a\0up-77")
    log.commit()
    log.close()
    return f"{identity:016x}"


@pytest.fixture
def dora(staff: Staff) -> Person:
    return staff.add("dora", "privacy-officer")


@pytest.fixture
def dirk(staff: Staff) -> Person:
    return staff.add("dirk", "privacy-officer")


@pytest.fixture
def otto(staff: Staff) -> Person:
    return staff.add("otto", "account-owner", options=("--account", "other"))


@pytest.fixture
def cleo(staff: Staff) -> Person:
    return staff.add("cleo", "support")


# -- opt-outs ----------------------------------------------------------------------------------------------------------


def test_opt_outs_are_asked_added_and_lifted(
    counter: Counter, record: str, cleo: Person, dora: Person, staff: Staff
) -> None:
    form = {"number": SUBJECT, "account": "acme"}
    assert "Not opted out" in counter.post(cleo, "/opt-outs", **form).text
    assert counter.post(cleo, "/opt-outs/add", **form).status == 400, "it needs a note"
    assert counter.post(cleo, "/opt-outs/add", **form, note="by telephone").status == 303
    shown = counter.post(cleo, "/opt-outs", **form)
    assert "every sender" in shown.text and "console" in shown.text
    assert counter.post(cleo, "/opt-outs/lift", **form, note="by letter").status == 403, "support spares, and no more"
    assert counter.post(dora, "/opt-outs/lift", **form, note="by letter").status == 303
    assert counter.gate.said[-1] == "1 entries lifted."
    assert "Not opted out" in counter.post(cleo, "/opt-outs", **form).text
    entries = staff.trail("opt out")
    assert [(one["what"]["action"], one["result"]) for one in entries] == [
        ("check", "not found"),
        ("add", "asked"),
        ("add", "done"),
        ("check", "found"),
        ("remove", "asked"),
        ("remove", "done"),
        ("check", "not found"),
    ]
    assert "900123" not in json.dumps(entries)


def test_what_is_no_number_is_said(counter: Counter, record: str, cleo: Person) -> None:
    shown = counter.post(cleo, "/opt-outs", number=HOSTILE, account="acme")
    assert shown.status == 400 and HOSTILE not in shown.html
    assert counter.post(cleo, "/opt-outs", number=SUBJECT).status == 400


def test_an_owner_asks_about_his_own(counter: Counter, record: str, otto: Person) -> None:
    assert counter.post(otto, "/opt-outs", number=SUBJECT, account="other").status == 200
    for path in ("/opt-outs", "/opt-outs/add", "/consents"):
        other = counter.post(otto, path, number=SUBJECT, account="acme", note="x")
        absent = counter.post(otto, path, number=SUBJECT, account="nobody", note="x")
        assert (other.status, other.text) == (absent.status, absent.text) and other.status == 404, path
    assert "acme" not in counter.get(otto, "/opt-outs").text


def test_what_waits_is_decided_once(counter: Counter, cleo: Person, staff: Staff) -> None:
    log = staff.builder()
    log.record(b"text")
    log.store.batch.doubts.append(_doubt(1))
    log.commit()
    log.close()
    shown = counter.get(cleo, "/opt-outs")
    assert "0000000000000001" in shown.text
    decision = {"record": "0000000000000001", "decision": "suppress"}
    assert counter.post(cleo, "/opt-outs/decide", **decision).status == 303
    assert counter.post(cleo, "/opt-outs/decide", **decision).status == 409
    assert "Nothing waits" in counter.get(cleo, "/opt-outs").text
    assert counter.post(cleo, "/opt-outs/decide", record="1", decision="perhaps").status == 400


def _doubt(record: int) -> Doubt:
    return Doubt(record, b"k" * 16, "acme", "*", 1_700_000_000)


def test_a_daemon_that_cannot_be_asked_is_told(
    counter: Counter, record: str, cleo: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(*_: object) -> None:
        raise ControlError("the daemon has no space to store it: nothing has changed; run the command again")

    monkeypatch.setattr("smppd.office.opt_outs.change_register", change)
    shown = counter.post(cleo, "/opt-outs/add", number=SUBJECT, account="acme", note="x")
    assert shown.status == 503 and "no space" in shown.text


# -- consents ----------------------------------------------------------------------------------------------------------


def test_a_consent_is_checked_shown_and_proved(
    counter: Counter, record: str, cleo: Person, dora: Person, staff: Staff
) -> None:
    lines = f"number,form,time,evidence,account\n{SUBJECT},written,2026-01-01T10:00:00Z,{HOSTILE},acme\n"
    (staff.path / "consents.csv").write_text(lines)
    assert staff.run("consent", "import", str(staff.path / "consents.csv"))[0] == 0
    form = {"number": SUBJECT, "account": "acme"}
    assert "There is a consent on record." in counter.post(cleo, "/consents", **form).text
    assert "There is no consent" in counter.post(cleo, "/consents", **form | {"number": "+447700900555"}).text
    shown = counter.post(cleo, "/consents/show", **form, **WHY)
    assert shown.status == 200 and HOSTILE not in shown.html and HOSTILE in shown.text
    assert counter.post(cleo, "/consents/show", **form, reason="contract", note="").status == 400
    assert counter.post(cleo, "/consents/proof", **form, **WHY).status == 403
    proof = counter.post(dora, "/consents/proof", **form, **WHY)
    assert proof.status == 200 and "attachment" in proof.headers["Content-Disposition"]
    assert json.loads(proof.html)["signature"]
    assert [one["what"]["action"] for one in staff.trail("consent")][-3:] == ["check", "show", "export"]


# -- holds -------------------------------------------------------------------------------------------------------------

ORDER = {"number": SUBJECT, "authority": HOSTILE, "reference": "12/26", "expires": "2030-01-01"}


def test_a_hold_protects_at_once_and_needs_two(
    counter: Counter, record: str, dora: Person, dirk: Person, staff: Staff
) -> None:
    assert "Nothing is held" in counter.get(dora, "/holds").text
    assert counter.post(dora, "/holds", **ORDER).status == 303
    assert "protects from now on" in counter.gate.said[-1]
    shown = counter.get(dora, "/holds")
    assert "pending" in shown.text and "44770***0123" in shown.text and HOSTILE not in shown.html
    assert "900123" not in shown.html
    assert counter.post(dora, "/holds/1", what="activate").status == 202
    assert counter.post(dirk, "/approvals", number="1", answer="grant").status == 303
    assert counter.post(dora, "/holds/1", what="activate").status == 303
    shown = counter.get(dora, "/holds/1")
    assert "active" in shown.text and "dirk" in shown.text
    assert counter.post(dora, "/holds/1", what="release").status == 202
    assert counter.post(dirk, "/approvals", number="2", answer="deny").status == 303
    shown = counter.post(dora, "/holds/1", what="release")
    assert shown.status == 409 and "denied by dirk" in shown.text
    assert counter.post(dora, "/holds/1", what="release").status == 202, "told once; asked anew"
    assert counter.post(dirk, "/approvals", number="3", answer="grant").status == 303
    assert counter.post(dora, "/holds/1", what="release").status == 303
    assert "released" in counter.get(dora, "/holds/1").text
    actions = [one["what"]["action"] for one in staff.trail("hold")]
    assert actions == ["asked", "added", "released"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"expires": ""},
        {"expires": "2020-01-01"},
        {"expires": "2099-01-01"},
        {"expires": "soon"},
        {"number": ""},
        {"reference": " "},
        {"region": "XX"},
        {"since": "2026-02-01", "until": "2026-02-01"},
        {"account": "nobody"},
    ],
)
def test_an_order_that_is_none_is_refused(counter: Counter, record: str, dora: Person, wrong: dict[str, str]) -> None:
    shown = counter.post(dora, "/holds", **{**ORDER, **wrong})
    assert shown.status == 400
    assert "Nothing is held" in counter.get(dora, "/holds").text


def test_holds_are_the_privacy_officers(counter: Counter, record: str, cleo: Person, dora: Person) -> None:
    assert counter.get(cleo, "/holds").status == 403
    assert counter.get(dora, "/holds/7").status == 409
    assert counter.get(dora, "/holds/x").status == 404


# -- erasures ----------------------------------------------------------------------------------------------------------


def test_an_erasure_is_asked_for_and_run_by_a_command(
    counter: Counter, record: str, dora: Person, cleo: Person, staff: Staff
) -> None:
    assert counter.get(cleo, "/erasures").status == 403
    assert "Nobody was erased yet" in counter.get(dora, "/erasures").text
    asked = {"number": SUBJECT, "reason": "contract", "note": f"asked {SUBJECT} {HOSTILE}"}
    assert counter.post(dora, "/erasures", **asked).status == 303
    shown = counter.get(dora, "/erasures")
    assert "smppd subject erase --asked 1" in shown.text and "+44770***0123" in shown.text
    assert "900123" not in shown.html and "<script>alert" not in shown.html
    assert staff.run("subject", "erase", "--asked", "2", "--yes")[0] == 2
    status, _, err = staff.run("subject", "erase", "--asked", "1", "--yes")
    assert status == 0, err
    shown = counter.get(dora, "/erasures")
    assert "--asked" not in shown.text and "erased" in shown.text
    certificate = counter.get(dora, "/erasures/1/certificate")
    assert certificate.status == 200 and json.loads(certificate.html)["certificate"] == "erasure"
    assert counter.get(dora, "/erasures/9/certificate").status == 409
    assert counter.get(dora, "/erasures/../certificate").status == 404
    first = staff.trail("erasure")[0]
    assert (first["what"]["action"], first["who"]) == ("asked", "dora (console)") and "900123" not in str(first)


def test_an_erasure_that_was_asked_for_can_be_taken_back(
    counter: Counter, record: str, dora: Person, staff: Staff
) -> None:
    assert counter.post(dora, "/erasures", number=SUBJECT, **WHY).status == 303
    assert counter.post(dora, "/erasures", withdraw="1").status == 303
    assert counter.post(dora, "/erasures", withdraw="1").status == 400
    assert "--asked" not in counter.get(dora, "/erasures").text
    assert staff.run("subject", "erase", "--asked", "1", "--yes")[0] == 2
    assert counter.post(dora, "/erasures", number=" ", **WHY).status == 400
    assert counter.post(dora, "/erasures", number="+-", **WHY).status == 400


def test_an_erasure_that_finds_nothing_is_not_asked_for_any_longer(
    counter: Counter, record: str, dora: Person, staff: Staff
) -> None:
    assert counter.post(dora, "/erasures", number="+447700900999", **WHY).status == 303
    status, _, err = staff.run("subject", "erase", "--asked", "1", "--yes")
    assert status == 1 and "there is nothing of" in err
    assert "--asked" not in counter.get(dora, "/erasures").text, "the request held the number of somebody unknown"
    assert [one["what"]["action"] for one in staff.trail("erasure")] == ["asked", "withdrawn"]


# -- approvals ---------------------------------------------------------------------------------------------------------


def test_what_is_nobodys_business_is_not_there(
    counter: Counter, record: str, dora: Person, otto: Person, cleo: Person
) -> None:
    assert counter.post(dora, "/holds", **ORDER).status == 303
    for one in (otto, cleo):
        assert "Nothing waits for you" in counter.get(one, "/approvals").text
        assert counter.post(one, "/approvals", number="1", answer="grant").status == 409
    assert counter.post(dora, "/approvals", number="1", answer="deny").status == 303, "one withdraws one's own"
    assert counter.post(dora, "/approvals", number="x", answer="deny").status == 404
    assert counter.post(dora, "/approvals", number="1", answer="perhaps").status == 400


# -- the trail ---------------------------------------------------------------------------------------------------------


def test_the_trail_is_read_in_pages(counter: Counter, record: str, dora: Person, cleo: Person, staff: Staff) -> None:
    assert counter.get(cleo, "/audit").status == 403
    for _ in range(60):
        counter.post(cleo, "/opt-outs", number=SUBJECT, account="acme")
    shown = counter.get(dora, "/audit")
    assert shown.status == 200 and "Older ones" in shown.text
    number = shown.hidden("before")
    older = counter.post(dora, "/audit", before=number)
    first = [int(one) for one in re.findall(r'<th scope="row"[^>]*>(\d+)<', older.html)]
    assert first[0] == int(number) - 1 and first == sorted(first, reverse=True)
    only = counter.post(dora, "/audit", event="opt out", who="cleo")
    assert "opt out" in only.text and "operator" not in only.text.split("Newest first")[1].replace("operators", "")
    assert "No entry fits" in counter.post(dora, "/audit", who="nobody").text
    assert "No entry fits" in counter.post(dora, "/audit", until="2020-01-01").text
    assert counter.post(dora, "/audit", event="nonsense").status == 400
    assert counter.post(dora, "/audit", since="soon").status == 400


def test_reports_are_listed_with_their_commands(counter: Counter, record: str, dora: Person, staff: Staff) -> None:
    assert staff.run("report", "processing")[0] == 0
    shown = counter.get(dora, "/reports")
    assert "smppd report breach" in shown.text and shown.text.count("not yet") == 4


# -- explain -----------------------------------------------------------------------------------------------------------


def test_a_message_is_tried_and_nothing_is_stored(
    counter: Counter, record: str, cleo: Person, otto: Person, staff: Staff
) -> None:
    before = staff.trail()
    form = {"account": "acme", "from": "Acme", "to": SUBJECT, "text": HOSTILE}
    shown = counter.post(cleo, "/explain", **form)
    assert shown.status == 200 and "by carrier-a" in shown.text and "no daemon runs" in shown.text
    assert HOSTILE not in shown.html
    assert counter.post(cleo, "/explain", **form | {"to": ""}).status == 400
    assert counter.post(cleo, "/explain", **form | {"account": "nobody"}).status == 409
    assert counter.post(otto, "/explain", **form | {"account": "other"}).status == 404, "rules and carriers are not his"
    assert staff.trail() == before


def test_a_console_older_than_the_configuration_says_so(
    counter: Counter, record: str, cleo: Person, staff: Staff
) -> None:
    form = {"account": "acme", "from": "Acme", "to": SUBJECT, "text": "hi"}
    assert "configuration was changed" not in counter.post(cleo, "/explain", **form).text
    file = staff.path / "smppd.yaml"
    file.write_text(file.read_text() + "\n# other rules\n")
    assert "configuration was changed" in counter.post(cleo, "/explain", **form).text
    assert "configuration was changed" in counter.get(cleo, "/explain").text


def test_a_daemon_that_hangs_is_waited_for_once_whatever_the_parts(
    counter: Counter, record: str, cleo: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, waited = [100.0], []

    def hang(_place: object, _request: object, *, within: float) -> dict[str, object]:
        waited.append(within)
        now[0] += within
        raise ControlError("no answer in time", "")

    monkeypatch.setattr(explaining, "ask", hang)
    monkeypatch.setattr(explaining, "time", SimpleNamespace(monotonic=lambda: now[0]))
    form = {"account": "acme", "from": "Acme", "to": SUBJECT, "text": "x" * 1000}
    shown = counter.post(cleo, "/explain", **form)
    assert shown.status == 200 and "Part 7 of 7" in shown.text and waited == [10.0]


def test_who_has_not_the_role_is_on_the_trail(
    counter: Counter, record: str, cleo: Person, otto: Person, staff: Staff
) -> None:
    before = len(staff.trail("login refused"))
    assert counter.get(cleo, "/holds").status == 403
    assert counter.post(cleo, "/consents/proof", number=SUBJECT, account="acme", **WHY).status == 403
    assert counter.get(otto, "/erasures").status == 404
    assert counter.get(otto, "/nothing").status == 404
    assert [(one["who"], one["what"], one["result"]) for one in staff.trail("login refused")[before:]] == [
        ("cleo (console)", {"act": "hold", "reason": "role"}, "refused"),
        ("cleo (console)", {"act": "export", "reason": "role"}, "refused"),
        ("otto (console)", {"act": "erase", "reason": "role"}, "refused"),
    ]


def test_every_page_opens_for_whoever_may(counter: Counter, record: str, staff: Staff, dora: Person) -> None:
    for path in ("/log", "/log/message", "/explain", "/opt-outs", "/consents", "/holds", "/erasures", "/approvals"):
        shown = counter.get(dora, path)
        assert shown.status == 200, (path, shown.text)
        assert "style=" not in shown.html and "<script>" not in shown.html
