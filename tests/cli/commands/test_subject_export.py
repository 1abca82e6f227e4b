"""`smppd subject export` on a real store: all of a person, nothing of others, on the audit trail first, whole or not there."""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import stat
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from smppd.audit.trail import Actor, AuditTrail
from smppd.cli.commands import CommandError, subject_export
from smppd.cli.export_forms import JsonForm
from smppd.config import Settings
from smppd.message import State, pack_event
from smppd.office.access import BINARY
from smppd.operators.roles import Act, Authority
from smppd.records.export import Subject
from smppd.vault.kek import VaultError
from smppd.vault.numbers import search_forms
from smppd.vault.seal import Content
from tests.cli.commands.test_log import log, trail
from tests.cli.installation import Run
from tests.store.builder import DAY, Builder

__all__ = ["log"]

SUBJECT = "+447700900123"
ME = SUBJECT[1:].encode()
OTHER = b"447700900456"
WHY = ("--reason", "law", "--note", "request 17")


def exported(run: Run, *words: str) -> dict[str, Any]:
    status, out, err = run("subject", "export", SUBJECT, *WHY, "--json", *words)
    assert (status, err) == (0, ""), err
    return dict(json.loads(out))


def hexadecimal(*ids: int) -> list[str]:
    return [f"{one:016x}" for one in ids]


def test_all_records_of_the_person_and_none_of_others(run: Run, log: Builder) -> None:
    first = log.record(b"to me", source=b"Acme", destination=ME)
    log.record(b"not mine", destination=OTHER)
    log.commit()
    log.now += 60
    reply = log.record(b"from me", source=b"+" + ME, destination=b"12345")
    hashed = log.record(b"secret", destination=ME, content=Content.HASH)
    elsewhere = log.record(b"at beta", destination=ME, account="beta")
    log.commit()
    log.event(first, State.SUBMITTED, b"carrier-a\0up-77")
    log.event(first, State.DELIVERED, b"carrier-a\0up-77")
    log.commit()
    told = exported(run)
    assert [one["id"] for one in told["records"]] == hexadecimal(elsewhere, hashed, reply, first)
    mine = told["records"][-1]
    assert (mine["from"], mine["to"], mine["text"], mine["person"]) == ("Acme", SUBJECT, "to me", "recipient")
    assert (mine["account"], mine["direction"], mine["state"], mine["place"]) == ("acme", "MT", "DELIVERED", "log")
    assert mine["recipients"] == ["carrier-a"] and [one["upstream_id"] for one in mine["events"]] == ["up-77", "up-77"]
    assert told["records"][2]["person"] == "sender" and told["records"][2]["to"] == "12345"
    assert told["records"][1]["text"] is None and "hash" in told["records"][1]["text_remark"]
    assert told["under_way"] == [] and told["summary"]["records"] == 4 and told["summary"]["complete"]
    (acme, beta) = told["about"]["controllers"]
    assert (acme["account"], acme["text_kept"], acme["numbers_kept"], acme["states_kept"]) == (
        "acme",
        "1 d",
        "30 d",
        "60 d",
    )
    assert beta["account"] == "beta" and "not configured" in beta["remark"]
    only = exported(run, "--account", "beta")
    assert [one["id"] for one in only["records"]] == hexadecimal(elsewhere)
    assert [one["account"] for one in only["about"]["controllers"]] == ["beta"]


def test_a_carriers_id_is_hidden_where_nobody_knows_the_numbers_any_more() -> None:
    """The record's numbers are gone: an id may be made of anybody's."""
    subject = Subject(search_forms(SUBJECT, None), national=False)
    assert subject.name(b"x-447700900456", None) == "x-44770***0456"
    assert subject.name(b"x-447700900123", None) == "x-447700900123", "but not of the person's own"
    assert subject.name(b"x-12125550123", []) == "x-***", "both numbers are the person's: it is a third one's"
    assert subject.name(b"x-447700900123-12", []) == "x-447700900123-12"


def test_other_peoples_numbers_are_hidden_everywhere(run: Run, log: Builder) -> None:
    one = log.record(b"call 07700 900456 or +44 7700 900123, code 471147", source=OTHER, destination=ME)
    log.commit()
    log.event(one, State.SUBMITTED, b"carrier-a\0x447700900456-1")
    log.record(b"8 octets", source=b"447700900789", destination=ME)
    log.commit()
    for words in (("--json",), ()):
        status, out, _ = run("subject", "export", SUBJECT, *WHY, *words)
        assert status == 0
        digits = re.sub(r"\D", "", out)
        for number in ("7700900456", "7700900789"):
            assert number not in digits and number not in out
    (second, first) = exported(run)["records"]
    assert (first["from"], first["to"]) == ("44770***0456", SUBJECT)
    assert first["text"] == "call 0770***0456 or +44 7700 900123, code 471147"
    assert first["events"][0]["upstream_id"] == "x***-1" and second["from"] == "44770***0789"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("+44 7700 900123", ()), ("0044 (0)7700-900123", ()), ("tel:+44-7700-900-123", ()), ("447700900123", ()),
        ("07700 900123", ("--region", "gb")), ("\uff0b\uff14\uff14 7700\u2013900123", ()),
    ],
)  # fmt: skip
def test_every_notation_is_understood(run: Run, log: Builder, typed: str, words: tuple[str, ...]) -> None:
    one = log.record(destination=ME)
    log.commit()
    status, out, _ = run("subject", "export", typed, *WHY, "--json", *words)
    assert status == 0 and [one["id"] for one in json.loads(out)["records"]] == hexadecimal(one)


def test_national_digits_are_left_out_and_said(run: Run, log: Builder) -> None:
    mine = log.record(destination=ME)
    national = log.record(b"perhaps mine", destination=b"07700900123")
    log.commit()
    status, out, err = run("subject", "export", SUBJECT, *WHY, "--json")
    told = json.loads(out)
    assert status == 0 and [one["id"] for one in told["records"]] == hexadecimal(mine)
    assert told["summary"]["left_out_national_digits"] == 1 and "--also-national" in err
    every = exported(run, "--also-national")
    assert [(one["id"], one["match"]) for one in every["records"]] == [
        (hexadecimal(national)[0], "national digits"),
        (hexadecimal(mine)[0], "exact"),
    ]


def test_it_is_on_the_trail_first_with_every_record(
    run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(subject_export, "CHUNK", 3)
    ids = []
    for _ in range(7):
        log.now += 1
        ids.append(log.record(destination=ME))
        log.commit()
    monkeypatch.setattr(
        subject_export, "authorise", lambda act, args, settings: Authority(Actor("root", "here"), "jane")
    )
    given: list[int] = []
    add = JsonForm.add

    def counted(self: JsonForm, section: str, items: list[dict[str, Any]]) -> None:
        listed = [entry for entry in trail(run) if entry["event"] == "export"]
        told = {one for entry in listed for one in str(entry["what"].get("ids", "")).split()}
        given.append(len(items))
        assert {item["id"] for item in items} <= told
        add(self, section, items)

    monkeypatch.setattr(JsonForm, "add", counted)
    why = ("--reason", "law", "--note", "asked about +447700900123")
    assert run("subject", "export", SUBJECT, *why, "--out", str(tmp_path / "x.json"))[0] == 0
    assert given == [3, 3, 1]
    entries = [entry for entry in trail(run) if entry["event"] == "export"]
    assert [entry["result"] for entry in entries] == [
        "3 records given", "3 records given", "1 records given", "complete: 7 records, 0 on their way, 0 consents",
    ]  # fmt: skip
    assert {entry["who"] for entry in entries} == {"jane (root)"}
    assert all(entry["what"]["reason"] == "law" and "900123" not in json.dumps(entry) for entry in entries)
    assert re.fullmatch("[0-9a-f]{32}", entries[0]["what"]["number"])
    # The same name as a search has it, so that both are found by the number.
    run("log", "search", SUBJECT, "--reason", "support")
    assert trail(run)[-1]["what"]["number"] == entries[0]["what"]["number"]


def test_nothing_is_given_that_cannot_be_recorded(
    run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log.record(destination=ME)
    log.commit()

    def fails(*_args: object, **_named: object) -> None:
        raise VaultError("audit.db: disk full")

    monkeypatch.setattr(AuditTrail, "append", fails)
    status, out, err = run("subject", "export", SUBJECT, *WHY, "--out", str(tmp_path / "x.json"))
    assert (status, out) == (1, "") and "cannot be recorded" in err and not (tmp_path / "x.json").exists()


def test_nothing_found_is_a_sentence_and_no_file(run: Run, log: Builder, tmp_path: Path) -> None:
    log.record(destination=b"07700900999")
    log.commit()
    status, out, err = run("subject", "export", "+447700900999", *WHY, "--out", str(tmp_path / "x.json"))
    assert (status, out) == (1, "") and "nothing about +44770***0999" in err and "--also-national" in err
    assert not list(tmp_path.glob("*x.json*"))
    assert trail(run)[-1]["result"] == "nothing found"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reason", "law"), "--note"),
        (("--note", "x"), "--reason"),
        (("--reason", "law", "--note", " "), "--note must say"),
        ((*WHY, "--out", "x.txt"), "must end in .json"),
        ((*WHY, "--region", "XX"), "no country"),
    ],
)
def test_wrong_calls_are_sentences(
    run: Run, log: Builder, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status, out, err = run("subject", "export", SUBJECT, *words)
    except SystemExit as error:  # the parser's own
        status, out, err = int(str(error.code)), "", capsys.readouterr().err
    assert (status, out) == (2, "") and said in err


@pytest.mark.parametrize("typed", ["AcmeBank", "", " - ", "+"])
def test_what_is_no_phone_number_is_no_person(run: Run, log: Builder, typed: str) -> None:
    log.record(source=b"AcmeBank")
    log.commit()
    status, out, err = run("subject", "export", typed, *WHY)
    assert (status, out) == (2, "") and "give a phone number" in err


def test_an_event_of_no_possible_time_stops_nothing(run: Run, log: Builder) -> None:
    one = log.record(destination=ME)
    log.commit()
    log.store.batch.events.append(pack_event(one, (1 << 64) - 1, State.SUBMITTED))
    log.commit()
    (record,) = exported(run)["records"]
    assert record["events"][0]["time"] == str((1 << 64) - 1)


def test_an_altered_record_is_told_and_the_others_are_given(run: Run, log: Builder, tmp_path: Path) -> None:
    altered = log.record(b"altered", destination=ME)
    log.commit()
    whole = log.record(b"whole", destination=ME)
    log.commit()
    packed = log.packed[altered]
    db = sqlite3.connect(tmp_path / "var" / "data.db")
    (row,) = db.execute("SELECT seq FROM log WHERE records = ?", (packed,)).fetchone()
    with db:
        db.execute(
            "UPDATE log SET records = ? WHERE records = ?",
            (packed[:-40] + bytes((packed[-40] ^ 1,)) + packed[-39:], packed),
        )
    db.close()
    status, out, err = run("subject", "export", SUBJECT, *WHY, "--json")
    told = json.loads(out)
    assert status == 0 and [one["id"] for one in told["records"]] == hexadecimal(whole)
    assert told["summary"]["records_not_readable"] == hexadecimal(row) and "cannot be opened" in err
    assert not told["summary"]["complete"]


def test_an_account_that_somebody_may_not_see_is_refused(
    run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = log.record(destination=ME)
    log.record(destination=ME, account="beta")
    log.commit()
    owner = Authority(Actor("root", "here"), "jane", accounts=frozenset({"acme"}))
    monkeypatch.setattr(subject_export, "authorise", lambda act, args, settings: owner)
    status, _, err = run("subject", "export", SUBJECT, *WHY, "--account", "beta")
    assert status == 1 and "may not see account beta" in err
    told = exported(run)
    assert [one["id"] for one in told["records"]] == hexadecimal(one)
    assert [one["account"] for one in told["about"]["controllers"]] == ["acme"]


def test_without_the_right_to_export_nothing_is_looked_at(
    run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log.record(destination=ME)
    log.commit()
    asked: list[Act] = []

    def refused(act: Act, args: argparse.Namespace, settings: Settings) -> Authority:
        asked.append(act)
        raise CommandError("the login failed")

    monkeypatch.setattr(subject_export, "authorise", refused)
    status, out, err = run("subject", "export", SUBJECT, *WHY, "--out", str(tmp_path / "x.json"))
    assert (status, out, asked) == (1, "", [Act.EXPORT]) and "login failed" in err
    assert not (tmp_path / "x.json").exists() and not trail(run)


# -- files ---------------------------------------------------------------------------------------------------------------


def test_a_file_is_closed_to_others_and_never_replaced_unasked(run: Run, log: Builder, tmp_path: Path) -> None:
    log.record(b"one", destination=ME)
    log.commit()
    path = tmp_path / "person.json"
    status, out, _ = run("subject", "export", SUBJECT, *WHY, "--out", str(path))
    assert status == 0 and "Exported 1 records, 0 things on their way and 0 consents" in out and "900123" not in out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["records"][0]["text"] == "one"
    entries = len(trail(run))
    status, _, err = run("subject", "export", SUBJECT, *WHY, "--out", str(path))
    assert status == 2 and "--force" in err and len(trail(run)) == entries, "nothing was looked at"
    log.record(b"two", destination=ME)
    log.commit()
    assert run("subject", "export", SUBJECT, *WHY, "--out", str(path), "--force")[0] == 0
    assert len(json.loads(path.read_text())["records"]) == 2
    assert [one.name for one in tmp_path.iterdir() if "person" in one.name] == ["person.json"]


def test_an_interrupted_export_leaves_nothing(
    run: Run, log: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.record(destination=ME)
    log.commit()

    def interrupted(self: JsonForm, summary: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(JsonForm, "end", interrupted)
        assert run("subject", "export", SUBJECT, *WHY, "--out", str(tmp_path / "x.json"))[0] == 130
    assert sorted(tmp_path.iterdir()) == before
    assert run("subject", "export", SUBJECT, *WHY, "--out", str(tmp_path / "x.json"))[0] == 0


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


_TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "h1",
    "h2",
    "p",
    "b",
    "span",
    "table",
    "tr",
    "th",
    "td",
    "article",
}
EVIL = (
    "<script>alert(1)</script> </p></body> <img src=x onerror=y> \"' &amp; \x1b[2J \x00 \u202egnp.exe \u2066 line\nline"
)


def test_the_page_stands_by_itself_and_nothing_breaks_out_of_it(run: Run, log: Builder, tmp_path: Path) -> None:
    text = EVIL.encode("utf-16-be")
    one = log.record(b"plain", source=b"<b>Acme", destination=ME, account="<i>x")
    two = _ucs2(log, text)
    log.commit()
    log.event(one, State.SUBMITTED, b"carrier-a\0<u>\"'")
    log.commit()
    path = tmp_path / "person.html"
    assert run("subject", "export", SUBJECT, *WHY, "--out", str(path))[0] == 0
    source = path.read_text()
    page = Page(source)
    assert not page.open and {tag for tag, _ in page.tags} <= _TAGS
    assert not [
        attrs for _, attrs in page.tags if any(name.startswith("on") or name in ("src", "href") for name in attrs)
    ]
    assert "script" not in source.replace("&lt;script", "").replace("&lt;/script", "") and "url(" not in source
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    seen = "".join(page.text)
    assert not [c for c in source if c != "\n" and not c.isprintable() and c not in "\u200c\u200d"]
    assert (
        "<script>alert(1)</script>" in seen and "\\u202egnp.exe" in seen and "line\nline" in seen and "\\x1b[2J" in seen
    )
    assert "<b>Acme" in seen and "<i>x" in seen and "<u>\"'" in seen
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", seen) and SUBJECT in seen
    assert all(f"{identity:016x}" in seen for identity in (one, two)) and "2 messages in the log" in seen
    assert "prefers-color-scheme" in source or "color-scheme: light dark" in source
    assert "@media print" in source


def _ucs2(log: Builder, text: bytes) -> int:
    """A record whose text is UCS-2."""
    import os

    from smppd.numbering import normalise
    from smppd.vault.keys import Part
    from smppd.vault.seal import Direction, pack_numbers, seal_record, split_pdu
    from tests.vault.rows import submit_sm

    frame = bytearray(submit_sm(text, b"Acme", ME))
    at = len(frame) - len(text)
    assert frame[at - 1] == len(text)
    frame[at - 3] = 8
    addresses, body = split_pdu(bytes(frame))
    identity, when, secrets = log.new_id(), int(log.now), os.urandom(64)
    numbers, rest = (log.ring.period("acme", part, when, 30 * DAY) for part in (Part.NUMBERS, Part.BODY))
    log.store.batch.records.append(
        seal_record(
            identity, int(log.now * 1000), Direction.MT, Content.ENCRYPT, 1, 8, numbers, rest, normalise(b"Acme"),
            normalise(ME), pack_numbers(addresses), body, secrets, os.urandom(24),
        )
    )  # fmt: skip
    log.store.batch.secrets.append(secrets)
    return identity


def test_a_binary_message_is_named_and_left_out() -> None:
    text, remark, _ = subject_export._given("2b343437373030393030343536", BINARY, False)
    assert text is None and "13 octets" in remark


def test_memory_does_not_grow_with_the_records(run: Run, log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given stays in memory for a chunk, no longer."""
    monkeypatch.setattr(subject_export, "CHUNK", 5)
    for _ in range(12):
        log.now += 1
        for _ in range(10):
            log.record(destination=ME)
        log.commit()
    sizes: list[int] = []
    add = JsonForm.add

    def watched(self: JsonForm, section: str, items: list[dict[str, Any]]) -> None:
        sizes.append(len(items))
        add(self, section, items)

    monkeypatch.setattr(JsonForm, "add", watched)
    began = time.monotonic()
    assert len(exported(run)["records"]) == 120
    assert max(sizes) == 5 and len(sizes) == 24 and time.monotonic() - began < 60
