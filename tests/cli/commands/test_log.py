"""`smppd log` and `smppd purge` on a real store: masked by default, nothing shown that is not on the audit trail first."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.audit.trail import AuditTrail
from smppd.message import Event, State
from smppd.office.access import printable, text_of
from smppd.office.messages import state_of
from smppd.protocol.text import Alphabet
from smppd.vault.kek import VaultError, load_kek
from smppd.vault.seal import Content, join_pdu, split_pdu
from tests.cli.installation import FileSource, Run
from tests.store.builder import DAY, Builder, files
from tests.vault.rows import submit_sm

SUBJECT = "+447700900123"
TEXT = "your code is 4711"
LOOK = ("--reason", "support")
REVEAL = (*LOOK, "--note", "ticket 17", "--reveal")


@pytest.fixture
def log(run: Run, tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "var", load_kek(FileSource(tmp_path / "keys/kek")))
    builder.now = time.time() - 3600
    yield builder
    builder.close()


@pytest.fixture
def record(log: Builder) -> str:
    identity = log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), body=DAY)
    log.commit()
    log.event(identity, State.SUBMITTED, b"carrier-a\0up-77")
    log.commit()
    log.event(identity, State.DELIVERED, b"carrier-a\0up-77")
    log.event(identity, State.RECEIPT_DONE, b"")
    log.commit()
    return f"{identity:016x}"


def trail(run: Run) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in run("audit", "show", "--json")[1].splitlines()]
    return [entry for entry in entries if entry["event"] not in ("key",)]


def test_a_search_is_masked_and_recorded(run: Run, record: str) -> None:
    status, out, err = run("log", "search", SUBJECT, *LOOK)
    assert status == 0 and err == ""
    heading, line = (row.split("\t") for row in out.splitlines())
    row = dict(zip(heading, line, strict=True))
    assert row["id"] == record and row["to"] == "+44770***0123" and row["account"] == "acme"
    assert (row["state"], row["upstream"], row["upstream id"]) == ("DELIVERED", "carrier-a", "up-77")
    assert "900123" not in out and "4711" not in out and "text" not in row
    (entry,) = trail(run)
    assert (entry["event"], entry["result"]) == ("search", "1 found, masked")
    assert entry["what"]["ids"] == record and entry["what"]["reason"] == "support"
    assert re.fullmatch("[0-9a-f]{32}", entry["what"]["number"]) and "900123" not in json.dumps(entry)


def test_a_reveal_shows_everything_and_says_so(run: Run, record: str) -> None:
    status, out, _ = run("log", "search", "07700 900123", "--region", "gb", *REVEAL, "--json")
    assert status == 0
    (row,) = json.loads(out)["records"]
    assert row["to"] == SUBJECT and row["text"] == TEXT and row["match"] == "exact"
    assert row["receipt"] == "acknowledged by the customer"
    assert [event["state"] for event in row["events"]] == ["SUBMITTED", "DELIVERED", "RECEIPT_DONE"]
    (entry,) = trail(run)
    assert entry["event"] == "reveal" and entry["what"]["note"] == "ticket 17" and entry["who"]
    assert TEXT not in json.dumps(entry)


def test_one_message_with_its_history(run: Run, record: str) -> None:
    status, out, _ = run("log", "show", record, *LOOK)
    assert status == 0 and "+44770***0123" in out and TEXT not in out and "up-77" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("  ")] == [
        "SUBMITTED", "DELIVERED", "RECEIPT_DONE",
    ]  # fmt: skip
    status, out, _ = run("log", "show", str(int(record, 16)), *REVEAL)
    assert status == 0 and SUBJECT in out and TEXT in out
    status, out, _ = run("log", "show", record.upper(), *LOOK, "--json")
    assert status == 0 and json.loads(out)["id"] == record and "text" not in json.loads(out)
    assert [entry["event"] for entry in trail(run)] == ["show", "reveal", "show"]


def test_a_carriers_code_has_its_name(run: Run, log: Builder, tmp_path: Path) -> None:
    file = tmp_path / "smppd.yaml"
    file.write_text(file.read_text().replace("{name: carrier-a,", "{name: carrier-a, error_table: dlt,"))
    identity = log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), body=DAY)
    log.commit()
    log.event(identity, State.REJECTED, b"carrier-a\0up-77", error=620)
    log.commit()
    status, out, _ = run("log", "show", f"{identity:016x}", *LOOK)
    assert status == 0 and "error 620 HEADER_NOT_FOUND" in out
    row = json.loads(run("log", "show", f"{identity:016x}", *LOOK, "--json")[1])
    assert (row["error"], row["error_name"], row["events"][0]["error_name"]) == (620, "HEADER_NOT_FOUND") + (
        "HEADER_NOT_FOUND",
    )


def test_a_reveal_without_a_note_is_refused(run: Run, record: str) -> None:
    for words in (("search", SUBJECT), ("show", record)):
        status, out, err = run("log", *words, *LOOK, "--reveal")
        assert (status, out) == (2, "") and "--note" in err
        with pytest.raises(SystemExit):
            run("log", *words, "--reason", "curiosity")
        with pytest.raises(SystemExit):
            run("log", *words)
    assert trail(run) == []


@pytest.mark.parametrize("words", [("search", SUBJECT, *REVEAL), ("search", SUBJECT, *LOOK), ("show", "1", *LOOK)])
def test_nothing_is_shown_that_is_not_recorded(
    run: Run, record: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def append(*_: object, **__: object) -> int:
        raise VaultError("disk full")

    monkeypatch.setattr(AuditTrail, "append", append)
    status, out, err = run("log", *words)
    assert (status, out) == (1, "") and "nothing is shown" in err


def test_nothing_found_is_a_sentence(run: Run, record: str) -> None:
    status, out, err = run("log", "search", "+447700900555", *LOOK)
    assert (status, out) == (1, "") and "+44770***0555" in err
    status, out, _ = run("log", "search", "+447700900555", *LOOK, "--json")
    assert status == 1 and json.loads(out)["records"] == []
    assert run("log", "search", SUBJECT, *LOOK, "--until", "2020-01-01")[0] == 1
    assert run("log", "search", SUBJECT, *LOOK, "--account", "other")[0] == 1
    assert run("log", "show", "00000000000000ff", *LOOK)[0] == 1
    assert [entry["what"]["records"] for entry in trail(run)] == [0] * 5
    assert run("log", "show", "not-an-id", *LOOK)[0] == 2


def test_the_limit_is_said(run: Run, log: Builder) -> None:
    for _ in range(5):
        log.record(destination=SUBJECT[1:].encode())
    log.commit()
    status, out, err = run("log", "search", SUBJECT, *LOOK, "--limit", "3")
    assert status == 0 and len(out.splitlines()) == 4 and "newest 3" in err
    with pytest.raises(SystemExit):
        run("log", "search", SUBJECT, *LOOK, "--limit", "0")


def test_national_digits_are_told_apart(run: Run, log: Builder) -> None:
    log.record(destination=b"07700900123")
    log.commit()
    status, out, err = run("log", "search", SUBJECT, *LOOK)
    assert status == 0 and "national digits" in err and "900123" not in out


def test_the_searched_number_does_not_stay_in_the_note(run: Run, record: str) -> None:
    run("log", "search", SUBJECT, *LOOK, "--note", "asked about 447700900123 and +447700900123")
    assert "900123" not in json.dumps(trail(run))


@pytest.mark.parametrize(
    ("content", "said"), [(Content.HASH, "content: hash"), (Content.HIDE, "content: hide"), (Content.ENCRYPT, None)]
)
def test_why_there_is_no_text(run: Run, log: Builder, content: Content, said: str | None) -> None:
    log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), content=content)
    log.commit()
    out = run("log", "search", SUBJECT, *REVEAL)[1]
    assert (said or TEXT) in out and (TEXT in out) == (said is None)


def test_a_terminal_gets_a_table_and_no_escapes(run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    log.record(b"\x1bred[bold]", source=b"A\x1b[31m", destination=SUBJECT[1:].encode())
    log.commit()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for columns in ("300", "80"):
        monkeypatch.setenv("COLUMNS", columns)
        out = run("log", "search", SUBJECT, *REVEAL)[1]
        assert "\x1b[31m" not in out and "A\\x1b[31m" in out and SUBJECT in out
    assert printable("a\nb\u202ec") == "a\\nb\\u202ec"


def test_without_a_store_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    for words in (("log", "search", SUBJECT, *LOOK), ("log", "show", "1", *LOOK), ("log", "verify"), ("purge",)):
        status, _, err = run(*words)
        assert status == 2 and "no store here" in err, words
    (tmp_path / "var" / "keys.db").unlink()
    for words in (("log", "search", SUBJECT, *LOOK), ("log", "verify"), ("purge", "--dry-run")):
        assert run(*words)[0] == 2, words


def test_without_a_trail_nothing_is_shown(run: Run, record: str, tmp_path: Path) -> None:
    for name in ("audit.db", "audit.db-wal", "audit.db-shm"):
        (tmp_path / "var" / name).unlink(missing_ok=True)
    status, out, err = run("log", "search", SUBJECT, *LOOK)
    assert (status, out) == (2, "") and "audit trail" in err


def test_the_log_verifies_until_it_is_edited(run: Run, record: str, tmp_path: Path) -> None:
    status, out, _ = run("log", "verify")
    assert status == 0 and "1 records in 3 log rows, none altered" in out
    assert json.loads(run("log", "verify", "--json")[1])["ok"] is True
    db = sqlite3.connect(tmp_path / "var/data.db", isolation_level=None)
    db.execute("UPDATE log SET events = x'' WHERE length(events) > 0")
    db.close()
    status, _, err = run("log", "verify")
    assert status == 1 and "NOT sound" in err
    assert json.loads(run("log", "verify", "--json")[1])["ok"] is False


def test_a_log_cut_off_by_no_purge_is_told(run: Run, record: str, tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "var/data.db", isolation_level=None)
    db.execute("INSERT INTO meta SELECT 'anchor', chain FROM log LIMIT 1")
    db.execute("DELETE FROM log WHERE seq = (SELECT min(seq) FROM log)")
    db.close()
    status, _, err = run("log", "verify")
    assert status == 1 and "no purge" in err


def test_an_altered_record_is_told(run: Run, record: str, log: Builder, tmp_path: Path) -> None:
    packed = log.packed[int(record, 16)]
    db = sqlite3.connect(tmp_path / "var/data.db", isolation_level=None)
    db.execute("UPDATE log SET records = ? WHERE count = 1", (packed[:-40] + bytes(8) + packed[-32:],))
    db.close()
    status, _, err = run("log", "search", SUBJECT, *LOOK)
    assert status == 1 and "altered" in err
    status, _, err = run("log", "show", record, *LOOK)
    assert status == 1 and "altered" in err


# -- purge -----------------------------------------------------------------------------------------------------------


def test_purge_destroys_what_is_due(run: Run, log: Builder, tmp_path: Path) -> None:
    log.now = time.time() - 3 * DAY
    identity = log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), body=DAY)
    log.commit()
    log.close()  # no daemon runs: purge tidies the spool itself
    status, out, _ = run("purge", "--dry-run")
    assert status == 0 and "acme  body: 1 period keys" in out and "Nothing was changed" in out
    assert json.loads(run("purge", "--dry-run", "--json")[1])["due"][0]["part"] == "body"
    assert log.secrets[identity][32:] in files(tmp_path / "var")
    status, out, _ = run("purge")
    assert status == 0 and "Destroyed 1 period keys and 1 record secrets" in out
    assert log.secrets[identity][32:] not in files(tmp_path / "var")
    out = run("log", "search", SUBJECT, *REVEAL)[1]
    assert TEXT not in out and "cannot be read any more" in out and SUBJECT in out
    assert run("log", "verify")[0] == 0
    assert json.loads(run("purge", "--json")[1])["keys"] == 0
    purges = [entry for entry in trail(run) if entry["event"] == "purge"]
    assert purges[0]["what"] == {"keys": 1} and purges[1]["what"]["secrets"] == 1 and len(purges) == 2
    assert run("audit", "verify")[0] == 0


def test_purge_names_accounts_it_knows_nothing_of(run: Run, log: Builder) -> None:
    log.now = time.time() - 300 * DAY
    log.record(account="former")
    log.commit()
    log.close()
    assert "former" in run("purge", "--dry-run")[2]
    status, out, err = run("purge")
    assert status == 0 and "Destroyed 0" in out and "former" in err


# -- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "esm", "octets", "text", "remark"),
    [
        (0, 0, b"\x1b\x65 \x00", "€ @", ""),
        (8, 0, "тест".encode("utf-16-be"), "тест", ""),
        (8, 0x40, b"\x05\x00\x03\x01\x02\x01" + "é".encode("utf-16-be"), "é", ""),
        (0, 0x40, b"\x03\x24\x01\x01\x1b\x67", "\u011f", ""),
        (0, 0x40, b"\x09broken", None, ""),
        (4, 0, b"\x00\xff", "00ff", "binary, in hexadecimal"),
    ],
)  # fmt: skip
def test_texts_are_decoded_as_the_phone_does(
    run: Run, log: Builder, coding: int, esm: int, octets: bytes, text: str | None, remark: str
) -> None:
    frame = submit_sm(octets)
    at = frame.index(octets, 30) - 10
    frame = frame[:at] + bytes((esm,)) + frame[at + 1 : at + 7] + bytes((coding,)) + frame[at + 8 :]
    identity = log.record(b"x")
    log.commit()
    with log.reader() as reader:
        found = reader.record(identity)
    assert found is not None
    addresses, body = split_pdu(frame)
    assert join_pdu(addresses, body) == frame
    shown = text_of(found.record._replace(body=body), Alphabet.GSM)
    assert shown.remark == remark
    assert text is None or shown.text == text


def test_the_state_is_the_last_final_one() -> None:
    assert state_of([]) == ("STORED", None)
    assert state_of([Event(1, 2, State.SUBMITTED), Event(1, 3, State.RECEIPT_DONE)])[0] == "SUBMITTED"
    assert state_of([Event(1, 2, State.DELIVERED), Event(1, 3, 250)])[0] == "DELIVERED"
    assert state_of([Event(1, 3, 250)])[0] == "state 250"
    assert state_of([Event(1, 2, State.ACCEPTED), Event(1, 2, State.OPTED_OUT)])[0] == "ACCEPTED"


def test_an_id_that_lost_its_leading_zero_in_a_spreadsheet_is_found(run: Run, record: str) -> None:
    assert record[0] == "0"
    assert run("log", "show", record[1:], *LOOK)[0] == 0
    assert run("log", "show", record[2:], *LOOK)[0] == 2


@pytest.mark.parametrize("form", ["0x{0}", "0X{1}", " {0}\t", "0x{2}", "{3}", " 0{3} "])
def test_an_id_is_found_in_every_notation(run: Run, record: str, form: str) -> None:
    written = form.format(record, record.upper(), record[1:], int(record, 16))
    assert run("log", "show", written, *LOOK)[1].split()[1] == record


@pytest.mark.parametrize("wrong", ["0x", "0x" + "0" * 17, "0xzz", "0x-1", "+" + "0" * 15, "", " ", "9" * 30])
def test_what_is_no_id_is_an_error(run: Run, record: str, wrong: str) -> None:
    status, out, err = run("log", "show", wrong, *LOOK)
    assert (status, out) == (2, "") and "is no message id" in err


@pytest.mark.parametrize("wrong", ["", " ", "+", "()", " - "])
def test_a_search_for_nothing_is_an_error(run: Run, record: str, wrong: str) -> None:
    status, out, err = run("log", "search", wrong, *LOOK)
    assert (status, out) == (2, "") and "give a phone number" in err
    assert not trail(run)


def test_a_national_number_without_its_country_is_told_how_to_be_found(run: Run, record: str) -> None:
    status, _, err = run("log", "search", "07700 900123", *LOOK)
    assert status == 1 and "--region" in err
    assert run("log", "search", "07700 900123", *LOOK, "--region", "GB")[0] == 0
    for number in (SUBJECT.replace("123", "124"), "12345", "Nobody"):
        status, _, err = run("log", "search", number, *LOOK)
        assert status == 1 and "--region" not in err


def test_a_time_that_ends_before_it_begins_is_an_error(run: Run, record: str) -> None:
    status, _, err = run("log", "search", SUBJECT, *LOOK, "--since", "2026-11-29", "--until", "2026-11-28")
    assert status == 2 and "--since is not before --until" in err


def test_no_number_stays_in_a_note_nor_in_what_was_asked(run: Run, record: str) -> None:
    for note in ("asked about 447700900123", "about 07700 900 123 and 90012", "\uff10\uff17\uff17\uff10\uff10\uff19"):
        assert run("log", "show", record, *LOOK, "--note", note)[0] == 0
    run("log", "show", "447700900123", *LOOK)  # a number instead of an id
    run("log", "search", "+447700900999", *LOOK, "--note", "the other one is 447700900123")
    entries = trail(run)
    assert len(entries) == 5
    for entry in entries:
        assert not any(c.isdecimal() for c in entry["what"]["note"])
        assert entry["what"].get("asked", record) in (record, "***")
