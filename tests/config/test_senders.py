"""Lists of senders: as a list, as a CSV with all its bad lines told at once, and the shipped facts."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smppd.config import Senders, changes
from smppd.config import senders as module
from smppd.config.senders import facts, read_authorised
from tests.relay.fakes import settings

HEADER = "account,country,sender,evidence,expires\n"


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "senders.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "acme,GB IE,ACME,contract 12,2027-01-31\n",
        HEADER + '# a comment\n\nacme, gb  ie ,"ACME",contract 12,2027-01-31',
        "\ufeffSender;Account;Expires;Country;Evidence\r\nACME;acme;2027-01-31;GB IE;contract 12\r\n",
    ],
)
def test_a_csv(tmp_path: Path, text: str) -> None:
    (entry,) = read_authorised(written(tmp_path, text))
    assert (entry.account, entry.country, entry.sender) == ("acme", ("GB", "IE"), "ACME")
    assert (entry.evidence, entry.expires) == ("contract 12", date(2027, 1, 31))
    assert entry.place.startswith("senders.csv:")


def test_two_columns_are_enough(tmp_path: Path) -> None:
    (entry,) = read_authorised(written(tmp_path, "account,sender\nacme,ACME\n"))
    assert entry.country == () and entry.expires is None and entry.evidence == "" and entry.place == "senders.csv:2"


def test_all_bad_lines_are_told_by_their_numbers(tmp_path: Path) -> None:
    text = HEADER + (
        "acme,GB,ACME,,\n"
        ",GB,ACME,,\n"
        "acme,XX,ACME,,\n"
        "acme,GB,,,\n"
        f"acme,GB,{'x' * 21},,\n"
        "acme,GB,ACME,,soon\n"
        "acme,GB\n"
        "acme,GB,ACME,,,more\n"
    )
    with pytest.raises(ValueError) as caught:
        read_authorised(written(tmp_path, text))
    said = str(caught.value)
    for line in range(3, 10):
        assert f"line {line}:" in said
    assert "line 2:" not in said and "senders.csv" in said


def test_only_the_first_bad_lines_are_told_one_by_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 21: .*; and 30 more$"):
        read_authorised(written(tmp_path, HEADER + "acme,GB\n" * 50))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "has no entries"),
        (b"# nothing\n", "has no entries"),
        (b"account,name\nacme,ACME\n", "line 1 must name the columns"),
        (b"account,sender,sender\na,b,c\n", "line 1 must name the columns"),
        (b"account,sender\nacme,\xff\n", "line 2 is not UTF-8"),
        (b'account,sender\nacme,"' + b"x" * 200_000, "line 2: field larger"),
        (b'account,sender,evidence\nacme,A,"x\nacme,B,y\nacme,C,"x"\n', "line 2: unexpected end"),
    ],
)
def test_what_is_no_list(tmp_path: Path, text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_authorised(written(tmp_path, text))


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES_MAX", 2)
    with pytest.raises(ValueError, match="more than 2 entries"):
        read_authorised(written(tmp_path, HEADER + "acme,GB,ACME,,\n" * 3))
    monkeypatch.setattr(module, "CSV_MAX", 10)
    with pytest.raises(ValueError, match="longer than 10 octets"):
        read_authorised(written(tmp_path, HEADER))
    with pytest.raises(ValueError, match="does not exist"):
        read_authorised(tmp_path / "none.csv")


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_a_fault(text: str) -> None:
    try:
        module._entries(Path("senders.csv"), "account,sender\n" + text)
    except ValueError as error:
        assert "senders.csv" in str(error)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"packs": ["FR"]}, "packs"),
        ({"authorised": [{"account": "a", "sender": ""}]}, "sender"),
        ({"authorised": [{"account": "a", "sender": "A", "expires": "soon"}]}, "such as 2027-01-31"),
        ({"authorised": [{"account": "a", "sender": "A", "country": "XX"}]}, "two letters"),
        ({"authorised": {"path": "x"}}, "must be a list, or"),
        ({"forms": {"XX": ["short"]}}, "two letters"),
        ({"forms": {"GB": ["long"]}}, "forms"),
        ({"registered": {"GB": ["national"]}}, "registered"),
    ],
)
def test_faults(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Senders.model_validate(said)


def test_a_file_is_read_with_the_configuration(tmp_path: Path) -> None:
    path = written(tmp_path, "account,sender\nacme,ACME\n")
    assert [one.sender for one in Senders.model_validate({"authorised": {"file": str(path)}}).authorised] == ["ACME"]


def test_a_reload_tells_numbers_and_no_names() -> None:
    new = settings(senders={"authorised": [{"account": "acme", "sender": "Secret"}], "packs": "gb"})
    told = changes(settings(), new)
    assert told.changes == ["senders: packs changed (0 before, 1 now)", "senders: authorised changed (0 before, 1 now)"]
    assert not told.refusals


def test_every_shipped_fact_has_its_source_and_its_date() -> None:
    known = facts()
    lines = [*known["generic"], *(fact for country in known["countries"].values() for fact in country["facts"])]
    assert len(lines) > 30
    for line in lines:
        assert line["source"] and line["date"][:2] == "20" and isinstance(line["confirmed"], bool)
        assert line["confirmed"] != (line["source"] == "general knowledge")
    assert all(country["facts"] for country in known["countries"].values())
