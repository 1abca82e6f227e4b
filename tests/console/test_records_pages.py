"""Search, a message's life and its reveal in the console: masked, escaped, on the trail first, of one's own accounts alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from smppd.audit.trail import AuditTrail
from smppd.message import State
from smppd.protocol.wire import Tag, tlv
from smppd.vault.kek import VaultError
from tests.cli.staff import Person, Staff
from tests.console.counter import Counter, Shown
from tests.store.builder import DAY, Builder

SUBJECT = "+447700900123"
TEXT = "your code is 4711"
HOSTILE = "<script>alert(1)</script>\"'&"
LOOK = {"reason": "support", "note": "ticket 17"}


@pytest.fixture
def log(staff: Staff) -> Builder:
    return staff.builder()


@pytest.fixture
def cleo(staff: Staff) -> Person:
    """She may search and reveal."""
    return staff.add("cleo", "support")


@pytest.fixture
def record(log: Builder) -> str:
    identity = log.record(TEXT.encode(), source=b"447700900456", destination=SUBJECT[1:].encode())
    log.commit()
    log.now += 0.25
    log.event(identity, State.SUBMITTED, b"carrier-a\0up-77")
    log.commit()
    log.now += 65
    log.event(identity, State.DELIVERED, b"carrier-a\0up-77")
    log.now += 2
    log.event(identity, State.RECEIPT_DONE, b"")
    log.commit()
    return f"{identity:016x}"


def searched(counter: Counter, who: Person, **form: str) -> Shown:
    return counter.post(who, "/log", **{**LOOK, **form})


# -- search ------------------------------------------------------------------------------------------------------------


def test_a_search_is_masked_and_on_the_trail(counter: Counter, cleo: Person, record: str, staff: Staff) -> None:
    shown = searched(counter, cleo, number=SUBJECT)
    assert shown.status == 200 and "+44770***0123" in shown.text and record in shown.text
    assert "DELIVERED" in shown.text and "carrier-a" in shown.text
    assert TEXT not in shown.html and "900456" not in shown.html
    (entry,) = staff.trail("search")
    assert entry["who"] == "cleo (console)" and entry["source"] == "console, browser at 192.0.2.9"
    assert entry["what"]["ids"] == record and entry["what"]["reason"] == "support" and "login" not in entry["what"]
    assert "900123" not in str(entry)


def test_the_number_stands_in_its_field_and_in_no_address(counter: Counter, cleo: Person, record: str) -> None:
    shown = searched(counter, cleo, number=SUBJECT)
    assert 'value="+447700900123"' in shown.html
    addresses = [part.split('"')[0] for part in shown.html.replace("action=", "href=").split('href="')[1:]]
    assert addresses and not [one for one in addresses if "7700" in one]


@pytest.mark.parametrize("form", [{"number": SUBJECT}, {"since": "1d"}, {"id": "RECORD"}])
def test_nothing_is_shown_that_is_not_recorded(
    counter: Counter, cleo: Person, record: str, monkeypatch: pytest.MonkeyPatch, form: dict[str, str]
) -> None:
    def append(*_: object, **__: object) -> int:
        raise VaultError("disk full")

    form = {name: record if value == "RECORD" else value for name, value in form.items()}
    with monkeypatch.context() as broken:
        broken.setattr(AuditTrail, "append", append)
        shown = searched(counter, cleo, **form)
    assert shown.status == 409 and "Nothing is shown" in shown.text
    assert "DELIVERED" not in shown.html and "0123" not in shown.text


def test_a_reason_is_needed(counter: Counter, cleo: Person, record: str, staff: Staff) -> None:
    for reason in ("", "curiosity"):
        shown = searched(counter, cleo, number=SUBJECT, reason=reason)
        assert shown.status == 400 and record not in shown.html
    assert staff.trail("search") == []


def test_without_a_number_a_time_is_asked_for(counter: Counter, cleo: Person, record: str, staff: Staff) -> None:
    shown = searched(counter, cleo, account="acme")
    assert shown.status == 400 and "say since when" in shown.text
    shown = searched(counter, cleo, since="90d")
    assert shown.status == 400 and "31 days" in shown.text
    assert staff.trail("search") == []
    assert record in searched(counter, cleo, since="2h", account="acme").text
    assert record not in searched(counter, cleo, since="2h", account="other").text
    assert record not in searched(counter, cleo, since="2h", until="90m").text
    assert staff.trail("search")[0]["what"]["accounts"] == "acme"


@pytest.mark.parametrize("beyond", ["999999999w", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"])
def test_a_time_beyond_the_calendar_is_none(counter: Counter, cleo: Person, record: str, beyond: str) -> None:
    for form in ({"since": beyond}, {"since": "1d", "until": beyond}, {"number": SUBJECT, "since": beyond}):
        shown = searched(counter, cleo, **form)
        assert shown.status == 400 and "give a date or a time" in shown.text, form


def test_by_state(counter: Counter, cleo: Person, record: str, log: Builder) -> None:
    waiting = log.record(TEXT.encode(), destination=SUBJECT[1:].encode())
    log.commit()
    for form in ({"number": SUBJECT}, {"since": "2h"}):
        shown = searched(counter, cleo, **form, state="DELIVERED")
        assert record in shown.text and f"{waiting:016x}" not in shown.text
        shown = searched(counter, cleo, **form, state="STORED")
        assert record not in shown.text and f"{waiting:016x}" in shown.text
    assert searched(counter, cleo, number=SUBJECT, state="NONSENSE").status == 400


@pytest.mark.parametrize("by", ["number", "time"])
def test_pages_go_on_where_the_one_before_ended(counter: Counter, cleo: Person, log: Builder, by: str) -> None:
    ids = []
    for number in range(119):
        log.now += 1
        ids.append(f"{log.record(b'text', destination=SUBJECT[1:].encode()):016x}")
        if number % 7 == 0:
            log.commit()
    log.commit()
    form = {"number": SUBJECT} if by == "number" else {"since": "2h"}
    field = "before" if by == "number" else "place"
    seen: list[str] = []
    shown = searched(counter, cleo, **form)
    for page in range(3):
        seen += [one for one in reversed(ids) if one in shown.html]
        if page < 2:
            again = {name: shown.hidden(name) for name in form}
            # A message that comes meanwhile moves nothing.
            log.record(b"late", destination=SUBJECT[1:].encode())
            log.commit()
            shown = searched(counter, cleo, **again, **{field: shown.hidden(field)})
    assert seen == list(reversed(ids)) and "Older ones" not in shown.html


def test_a_page_that_is_none_is_refused(counter: Counter, cleo: Person, record: str) -> None:
    assert searched(counter, cleo, number=SUBJECT, before="nonsense").status == 400
    for place in ("x-y", "1", "-1--1", "ffffffffffffffffff-0"):
        assert searched(counter, cleo, since="2h", place=place).status == 400


# -- one message -------------------------------------------------------------------------------------------------------


def test_a_messages_life_is_on_one_line_and_in_a_table(
    counter: Counter, cleo: Person, record: str, staff: Staff
) -> None:
    shown = counter.post(cleo, "/log/message", id=record, **LOOK)
    assert shown.status == 200 and TEXT not in shown.html and "+44770***0123" in shown.text
    drawn = shown.html.split("<svg")[1].split("</svg>")[0]
    steps = ["Accepted", "Committed", "Submitted", "Receipt: DELIVERED", "Delivered to the customer"]
    assert [one for one in steps if one in drawn] == steps
    assert "+250 ms" in drawn and "+1 min 5 s" in drawn and "+2.0 s" in drawn
    table = shown.html.split("The same in steps")[1]
    assert [one for one in steps if one in table] == steps
    assert "id up-77" in shown.text and "style=" not in drawn
    assert [one["event"] for one in staff.trail("show", "reveal")] == ["show"]


def test_codes_have_their_meaning(counter: Counter, cleo: Person, log: Builder, staff: Staff) -> None:
    identity = log.record(b"text", destination=SUBJECT[1:].encode())
    log.event(identity, State.REFUSED, b"", error=0x0A)
    log.commit()
    shown = counter.post(cleo, "/log/message", id=f"{identity:016x}", **LOOK)
    assert "Refused" in shown.text and "ESME_RINVSRCADR" in shown.text


def test_retries_and_another_carrier_are_told(counter: Counter, cleo: Person, log: Builder) -> None:
    identity = log.record(b"text", destination=SUBJECT[1:].encode())
    for state, detail in (
        (State.SUBMITTED, b"carrier-a\0up-1"),
        (State.UNANSWERED, b"carrier-a\0"),
        (State.RESENT, b"carrier-b\0"),
        (State.SUBMITTED, b"carrier-b\0up-2"),
        (State.UNDELIVERABLE, b"carrier-b\0up-2"),
    ):
        log.now += 1
        log.event(identity, state, detail, error=7 if state is State.UNDELIVERABLE else 0)
    log.commit()
    shown = counter.post(cleo, "/log/message", id=f"{identity:016x}", **LOOK)
    assert "No answer came" in shown.text and "Sent again" in shown.text
    assert shown.text.count("it took another carrier than before") == 1 and "code 7" in shown.text


def test_a_link_to_a_message_asks_for_the_reason_first(
    counter: Counter, cleo: Person, record: str, staff: Staff
) -> None:
    shown = counter.get(cleo, f"/log/message?id={record}")
    assert shown.status == 200 and "acme" not in shown.text and staff.trail("show") == []


@pytest.mark.parametrize("identity", ["", "nonsense", "0" * 16, "f" * 15, "99999999999999999999999"])
def test_what_is_not_there_is_a_sentence(counter: Counter, cleo: Person, record: str, identity: str) -> None:
    shown = counter.post(cleo, "/log/message", id=identity, **LOOK)
    assert shown.status in (400, 409) and record not in shown.html


# -- reveal ------------------------------------------------------------------------------------------------------------


def test_a_reveal_shows_all_for_two_minutes(counter: Counter, cleo: Person, record: str, staff: Staff) -> None:
    shown = counter.post(cleo, "/log/reveal", id=record, **LOOK)
    assert shown.status == 200 and SUBJECT in shown.text and TEXT in shown.text and "447700900456" in shown.text
    assert f'<meta http-equiv="refresh" content="120;url=/log/message?id={record}">' in shown.html
    (entry,) = staff.trail("reveal")
    assert entry["what"]["note"] == "ticket 17" and entry["who"] == "cleo (console)" and "subjects" in entry["what"]
    assert TEXT not in str(entry)


def test_a_long_text_is_shown_to_its_end(counter: Counter, cleo: Person, log: Builder) -> None:
    payload = b"a" * 20_000 + b" the end"
    identity = log.record(b"", destination=SUBJECT[1:].encode(), tlvs=tlv(Tag.MESSAGE_PAYLOAD, payload))
    log.commit()
    assert payload.decode() in counter.post(cleo, "/log/reveal", id=f"{identity:016x}", **LOOK).text


def test_a_reveal_needs_words_and_a_role(counter: Counter, cleo: Person, record: str, staff: Staff) -> None:
    assert counter.post(cleo, "/log/reveal", id=record, reason="support", note=" ").status == 400
    ben = staff.add("ben", "operator")
    shown = counter.post(ben, "/log/reveal", id=record, **LOOK)
    assert shown.status == 403 and TEXT not in shown.html
    page = counter.post(ben, "/log/message", id=record, **LOOK)
    assert page.status == 200 and "/log/reveal" not in page.html
    assert staff.trail("reveal") == []


def test_for_the_law_two_have_to_agree(counter: Counter, cleo: Person, record: str, staff: Staff) -> None:
    law = {"id": record, "reason": "law", "note": "order 12/26"}
    dora = staff.add("dora", "privacy-officer")
    shown = counter.post(cleo, "/log/reveal", **law)
    assert shown.status == 202 and "request 1" in shown.text and TEXT not in shown.html
    assert shown.hidden("id") == record and shown.hidden("reason") == "law"
    assert "Your request 1 to show it for the law: asked" in counter.post(cleo, "/log/message", id=record, **LOOK).text
    assert "Agree" not in counter.get(cleo, "/approvals").text, "nobody agrees to what he asked for himself"
    assert "Agree" in counter.get(dora, "/approvals").text
    assert counter.post(cleo, "/approvals", number="1", answer="grant").status == 409
    assert counter.post(dora, "/approvals", number="1", answer="grant").status == 303
    shown = counter.post(cleo, "/log/reveal", **law)
    assert shown.status == 200 and TEXT in shown.text
    assert staff.trail("reveal")[-1]["what"]["second"] == "dora"


def test_nobody_has_more_than_so_many_open_requests(
    counter: Counter, cleo: Person, record: str, log: Builder, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smppd.operators.approvals.MOST", 1)
    other = f"{log.record(b'another'):016x}"
    log.commit()
    law = {"reason": "law", "note": "order 12/26"}
    assert counter.post(cleo, "/log/reveal", id=record, **law).status == 202
    shown = counter.post(cleo, "/log/reveal", id=other, **law)
    assert shown.status == 409 and "requests of yours are open" in shown.text
    assert counter.post(cleo, "/log/reveal", id=record, **law).status == 202, "the same one again"
    assert len(staff.trail("approval")) == 1
    assert counter.post(staff.add("dora", "privacy-officer"), "/log/reveal", id=other, **law).status == 202


def test_root_does_not_agree_to_what_he_may_have_asked_for_in_a_browser(
    counter: Counter, cleo: Person, record: str, staff: Staff
) -> None:
    assert counter.post(cleo, "/log/reveal", id=record, reason="law", note="order 12/26").status == 202
    status, _, err = staff.run("approvals", "grant", "1")
    assert status == 1 and "the same person" in err
    assert counter.post(cleo, "/log/reveal", id=record, reason="law", note="order 12/26").status == 202
    assert staff.run("approvals", "deny", "1")[0] == 0, "he may end it"


# -- what must not be seen ---------------------------------------------------------------------------------------------


def test_an_owner_sees_his_own_and_no_trace_of_others(
    counter: Counter, record: str, log: Builder, staff: Staff
) -> None:
    otto = staff.add("otto", "account-owner", options=("--account", "other"))
    mine = log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), account="other")
    log.commit()
    for form in ({"number": SUBJECT}, {"since": "2h"}):
        shown = searched(counter, otto, **form)
        assert f"{mine:016x}" in shown.text and record not in shown.html and "acme" not in shown.text
    other, absent = (counter.post(otto, "/log/message", id=one, **LOOK) for one in (record, "00000000000000aa"))
    assert other.status == absent.status and other.text.replace(record, "00000000000000aa") == absent.text
    assert searched(counter, otto, number=SUBJECT, account="acme").status == 404
    assert TEXT in counter.post(otto, "/log/reveal", id=f"{mine:016x}", **LOOK).text
    assert counter.post(otto, "/log/reveal", id=record, **LOOK).status == other.status
    assert "/explain" not in counter.post(otto, "/log/message", id=f"{mine:016x}", **LOOK).html
    for path in ("/holds", "/holds/1", "/erasures", "/audit", "/reports", "/explain"):
        assert counter.get(otto, path).status == 404, path


def test_hostile_names_and_texts_are_text(counter: Counter, cleo: Person, log: Builder) -> None:
    identity = log.record(HOSTILE.encode(), source=b"<b>x</b>'\"", destination=b"447700900123", account=HOSTILE)
    log.event(identity, State.SUBMITTED, b"<i>carrier</i>\0<u>up</u>")
    log.commit()
    pages = [
        searched(counter, cleo, number=SUBJECT, note=HOSTILE),
        searched(counter, cleo, since="2h", note=HOSTILE),
        counter.post(cleo, "/log/message", id=f"{identity:016x}", **LOOK),
        counter.post(cleo, "/log/reveal", id=f"{identity:016x}", reason="support", note=HOSTILE),
        searched(counter, cleo, number=HOSTILE),
        counter.get(cleo, "/log/message?id=%3Cscript%3Ealert(1)%3C/script%3E"),
    ]
    for shown in pages:
        for tag in ("<script>alert", "<b>", "<i>", "<u>"):
            assert tag not in shown.html
    assert HOSTILE in pages[3].text


def test_a_purged_record_is_not_found_and_an_altered_one_is_told(
    counter: Counter, cleo: Person, record: str, log: Builder, staff: Staff, tmp_path: Path
) -> None:
    old = log.record(b"old", destination=SUBJECT[1:].encode(), numbers=DAY, body=DAY)
    log.commit()
    log.close()
    database = sqlite3.connect(tmp_path / "var" / "data.db", isolation_level=None)
    (packed,) = database.execute("SELECT records FROM log ORDER BY seq LIMIT 1").fetchone()
    database.execute("UPDATE log SET records = ? WHERE records = ?", (packed[:-1] + bytes((packed[-1] ^ 1,)), packed))
    database.close()
    shown = searched(counter, cleo, number=SUBJECT)
    assert shown.status == 200 and "altered" in shown.text and f"{old:016x}" in shown.text
    shown = counter.post(cleo, "/log/message", id=record, **LOOK)
    assert shown.status == 409 and "altered" in shown.text and "4711" not in shown.html


def test_an_erased_person_is_not_found(counter: Counter, cleo: Person, record: str, log: Builder, staff: Staff) -> None:
    log.close()
    status, _, err = staff.run("subject", "erase", SUBJECT, "--reason", "contract", "--note", "asked for", "--yes")
    assert status == 0, err
    assert "No message" in searched(counter, cleo, number=SUBJECT).text
    shown = counter.post(cleo, "/log/message", id=record, **LOOK)
    assert shown.status == 200 and "(gone)" in shown.text and "0123" not in shown.html
    shown = counter.post(cleo, "/log/reveal", id=record, **LOOK)
    assert TEXT not in shown.html and "cannot be read any more" in shown.text


def test_a_held_record_is_shown_as_any(counter: Counter, cleo: Person, record: str, log: Builder, staff: Staff) -> None:
    words = ("--number", SUBJECT, "--authority", "Court", "--reference", "12/26", "--expires", "2099-01-01")
    words = ("--number", SUBJECT, "--authority", "Court", "--reference", "12/26", "--expires", "2030-01-01")
    status, _, err = staff.run("hold", "add", *words)
    assert status == 0, err
    assert record in searched(counter, cleo, number=SUBJECT).text
