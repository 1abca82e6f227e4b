"""Consents from a CSV file: what is read, and bad lines, which are told by number and never repeated."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.consent.register_csv import BadLine, GoodLine, NoTable, facts_of, number_of, read

NOW = 1_790_000_000.0  # 2026-09-21
HEADER = "number,form,time,ip,browser,language,device,text,guardian,class,sender,evidence\n"
GOOD = (
    "+44 7700 900123,electronic,2026-01-02T03:04:05+01:00,192.0.2.7,Firefox 130,fr,phone,v7,yes,"
    "promotional service,ACME,form 12\n"
)


def lines(text: str, account: str | None = "acme", region: str | None = None) -> list[GoodLine | BadLine]:
    known = {"acme", "shop"}.__contains__
    return list(read(io.StringIO(text, newline=""), NOW, account, known, lambda _account: region))


def test_every_field() -> None:
    (one,) = lines(HEADER + GOOD)
    assert isinstance(one, GoodLine) and one.line == 2 and one.given == 1767319445
    assert facts_of(one.consent) == {
        "account": "acme",
        "number": "+447700900123",
        "form": "electronic",
        "time": "2026-01-02T02:04:05Z",
        "ip": "192.0.2.7",
        "browser": "Firefox 130",
        "language": "fr",
        "device": "phone",
        "text": "v7",
        "guardian": True,
        "classes": ["promotional", "service"],
        "sender": "ACME",
        "evidence": "form 12",
        "imported": "2026-09-21T14:13:20Z",
        "withdrawn": "",
        "withdrawal": "",
    }
    assert "7700900123" not in repr(one)


def test_the_least_that_is_needed() -> None:
    text = "\ufeffAccount,number,form,time,evidence\n# a comment\n\nshop,07700900123,written,2026-01-02 03:04Z,box 3"
    (one,) = lines(text, None, "GB")
    assert isinstance(one, GoodLine)
    assert (one.line, one.consent.account, one.consent.number, one.consent.classes, one.consent.sender) == (
        4,
        "shop",
        "447700900123",
        ("promotional",),
        "*",
    )


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("+44 7700 900123", "hello", "no international phone number"),
        ("+44 7700 900123", "07700900123", "no international phone number"),
        ("+44 7700 900123", "12345", "no international phone number"),
        ("electronic", "spoken", "electronic or written"),
        ("electronic", "written", ""),
        ("2026-01-02T03:04:05+01:00", "2026-01-02T03:04:05", "with its zone"),
        ("2026-01-02T03:04:05+01:00", "yesterday", "with its zone"),
        ("2026-01-02T03:04:05+01:00", "2027-01-02T03:04:05Z", "in the future"),
        ("2026-01-02T03:04:05+01:00", "1926-01-02T03:04:05Z", "too long ago"),
        ("192.0.2.7", "", "needs the ip"),
        ("192.0.2.7", "1.2.3", "IP address"),
        ("yes", "maybe", "yes or no"),
        ("promotional service", "spam", "class must be"),
        ("Firefox 130", "x" * 501, "more than 500"),
        ("ACME,", "ACME,,,", "14 fields"),
        ("Firefox 130", '"Firefox 130', "no line of a CSV file"),
    ],
)
def test_a_bad_line_is_told_and_stops_no_other(old: str, new: str, why: str) -> None:
    bad = GOOD.replace(old, new)
    first, second = lines(HEADER + bad + GOOD)
    assert isinstance(second, GoodLine) and second.line == 3
    if not why:
        assert isinstance(first, GoodLine)
        return
    assert isinstance(first, BadLine) and first.line == 2 and why in first.why
    assert "7700" not in first.why and "192" not in first.why and new != first.why


def test_a_written_consent_needs_its_evidence() -> None:
    (bad,) = lines("number,form,time\n+447700900123,written,2026-01-02T03:04:05Z\n")
    assert isinstance(bad, BadLine) and "evidence" in bad.why


def test_an_account_that_is_not_there() -> None:
    text = "account,number,form,time,evidence\nnobody,+447700900123,written,2026-01-02T03:04:05Z,box\n"
    (bad,) = lines(text)
    assert isinstance(bad, BadLine) and bad.why == "there is no such account"


@pytest.mark.parametrize(
    "text",
    ["", "\n# nothing\n", "number,form\n", "number,form,time,colour\n", "number,number,form,time\n", "form,time\n"],
)
def test_what_is_no_table(text: str) -> None:
    with pytest.raises(NoTable):
        lines(text)
    with pytest.raises(NoTable, match="account"):
        lines(HEADER, None)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_lines_or_no_table(text: str) -> None:
    for one in lines(HEADER + text):
        assert isinstance(one, (GoodLine, BadLine)) and one.line > 1


def test_a_number() -> None:
    assert number_of("00447700900123", None) == "447700900123"
    with pytest.raises(ValueError):
        number_of("ACME", "GB")
