"""`smppd optout` where no daemon runs: one number, lists with their bad lines, exports, the review; who may; what is kept."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.consent.suppression import ANY, Hashes
from smppd.control.wire import CHANGES, ControlError
from smppd.office.opt_outs import change_register
from smppd.store.api import Doubt, OptOut
from smppd.store.lock import Lock
from smppd.store.opening import embedded
from smppd.store.sqlite.database import Database
from smppd.store.sqlite.opt_outs import OptOutRows, write
from smppd.vault.kek import load_kek
from smppd.vault.keys import load_install
from tests.cli.installation import FileSource
from tests.cli.staff import Staff
from tests.store.builder import files

NUMBER, ANOTHER = "+44 7700 900123", "+447700900124"
ACME = ("--account", "acme")


def entries(staff: Staff) -> list[OptOut]:
    with OptOutRows(staff.path / "var") as rows:
        return list(rows.all())


def hashes(staff: Staff) -> Hashes:
    from smppd.store.sqlite.keys import KeyStore

    rows = KeyStore(staff.path / "var")
    try:
        return Hashes(load_install(load_kek(FileSource(staff.path / "keys/kek")), rows).suppression)
    finally:
        rows.close()


def doubt(staff: Staff, *records: int) -> None:
    """Messages wait for a person."""
    key = hashes(staff).key("acme", ANY, b"447700900123")
    db = Database(staff.path / "var" / "data.db", "data")
    with db.writing():
        write(db.connection, [], [Doubt(record, key, "acme", "*", 1_700_000_000) for record in records], [])
    db.close()


# -- one number ----------------------------------------------------------------------------------------------------------


def test_a_number_is_added_found_and_lifted(staff: Staff) -> None:
    assert staff.run("optout", "check", NUMBER, *ACME) == (1, "not opted out\n", "")
    assert staff.run("optout", "add", NUMBER, *ACME, "--note", "by letter of 447700900123")[0] == 0
    assert staff.run("optout", "add", NUMBER, *ACME)[0] == 0, "once more changes nothing"
    status, out, _ = staff.run("optout", "check", "447700900123", *ACME, "--json")
    found = json.loads(out)
    assert status == 0 and found["opted_out"] and [one["sender"] for one in found["entries"]] == ["*"]
    assert staff.run("optout", "check", ANOTHER, *ACME)[0] == 1
    assert staff.run("optout", "check", NUMBER, "--account", "other")[0] == 1
    assert staff.run("optout", "remove", NUMBER, *ACME)[0] == 0
    assert staff.run("optout", "remove", NUMBER, *ACME)[0] == 1
    assert staff.run("optout", "check", NUMBER, *ACME)[0] == 1
    assert b"7700900123" not in files(staff.path / "var") and "7700900123" not in "".join(staff.output)


def test_of_one_sender_or_of_all(staff: Staff) -> None:
    staff.run("optout", "add", NUMBER, *ACME, "--sender", "Shop")
    assert staff.run("optout", "check", NUMBER, *ACME, "--sender", "SHOP")[0] == 0
    assert staff.run("optout", "check", NUMBER, *ACME, "--sender", "Bank")[0] == 1
    assert staff.run("optout", "remove", NUMBER, *ACME, "--sender", "shop")[0] == 0
    assert entries(staff) == []
    assert b"shop" not in files(staff.path / "var").lower()


def test_it_is_on_the_trail_without_the_number(staff: Staff) -> None:
    staff.run("optout", "add", NUMBER, *ACME, "--note", "letter")
    staff.run("optout", "remove", NUMBER, *ACME)
    staff.run("optout", "check", NUMBER, *ACME)
    trail = staff.trail("opt out")
    assert [(one["what"]["action"], one["result"]) for one in trail] == [
        ("add", "asked"),
        ("add", "done"),
        ("remove", "asked"),
        ("remove", "done"),
        ("check", "not found"),
    ]
    assert len({one["what"]["number"] for one in trail}) == 1 and "7700" not in json.dumps(trail)


@pytest.mark.parametrize(
    "words",
    [
        ("add", "hello", *ACME),
        ("add", NUMBER, "--account", "nobody"),
        ("add", NUMBER),
        ("add", NUMBER, *ACME, "--sender", "x" * 21),
        ("import", "/hello/nobody", *ACME),
    ],
)
def test_a_wrong_call_changes_nothing(staff: Staff, words: tuple[str, ...]) -> None:
    status, _, err = staff.run("optout", *words)
    assert status == 2 and "Errno" not in err and entries(staff) == []
    assert "hello" not in err or "/hello/nobody cannot be read: No such file" in err


# -- lists ---------------------------------------------------------------------------------------------------------------


def imports(staff: Staff, text: str, *words: str) -> tuple[int, str]:
    status, _, err = staff.run("optout", "import", "-", *words, stdin=text)
    return status, err


def test_a_list_is_imported_whole(staff: Staff) -> None:
    lines = [f"+4477009{n:05d},acme,Shop,2026-11-0{1 + n % 9}T10:00:00Z,letter" for n in range(CHANGES + 7)]
    text = "\n".join(["Number,Account,Sender,At,Source", *lines])
    assert imports(staff, text)[0] == 0
    assert imports(staff, text)[0] == 0, "once more changes nothing"
    found = entries(staff)
    assert len(found) == CHANGES + 7 and {one.source for one in found} == {"letter"} and found[0].at < 1_800_000_000
    assert [one["result"] for one in staff.trail("opt out")] == ["asked", "done"] * 2


BAD = """number,account,at
+447700900123,acme,
hello,acme,
+447700900124,nobody,
+447700900125,,
+447700900126,acme,yesterday
+447700900127,acme,2999-01-01
+447700900128,acme,,,
+447700900129,"acme,
+447700900130,acme,
+447700900131,"acme",
"""


def test_bad_lines_are_named_and_nothing_is_imported(staff: Staff) -> None:
    status, err = imports(staff, BAD)
    assert status == 1 and entries(staff) == [] and "7700" not in err and "hello" not in err
    told = dict(line.split(": ", 1) for line in err.splitlines() if line.startswith("standard input:"))
    assert {name: fault.split(":")[0] for name, fault in told.items()} == {
        "standard input:3": "no phone number",
        "standard input:4": "no account of this configuration",
        "standard input:5": "no account",
        "standard input:6": "no time, such as 2026-11-30T09",
        "standard input:7": "a time that has not been",
        "standard input:8": "more values than columns",
        "standard input:9": "no line of a CSV file",  # and it hides none behind it
    }
    assert imports(staff, BAD, "--skip-bad")[0] == 1
    assert len(entries(staff)) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name the columns"),
        ('"number\n1\n', "name the columns"),
        ("phone\n1\n", "name the columns"),
        ("number\n\udcff\n", "no text in UTF-8"),
    ],
)
def test_what_is_no_list_is_refused(staff: Staff, text: str, said: str) -> None:
    status, err = imports(staff, text, *ACME)
    assert status in (1, 2) and (said in err or "no phone number" in err) and entries(staff) == []


def test_an_export_names_nobody_and_comes_back(staff: Staff, tmp_path: Path) -> None:
    staff.run("optout", "add", NUMBER, *ACME)
    staff.run("optout", "add", NUMBER, "--account", "other", "--sender", "447700900001")
    status, out, _ = staff.run("optout", "export")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and [row["account"] for row in sorted(rows, key=lambda row: row["account"])] == ["acme", "other"]
    assert "7700" not in out
    file = tmp_path / "list.csv"
    assert staff.run("optout", "export", *ACME, "--output", str(file))[0] == 0
    assert len(file.read_text().splitlines()) == 2 and file.stat().st_mode & 0o777 == 0o600
    before = entries(staff)
    for account in ("acme", "other"):
        staff.run("optout", "remove", NUMBER, "--account", account)
        staff.run("optout", "remove", NUMBER, "--account", account, "--sender", "447700900001")
    assert entries(staff) == []
    assert imports(staff, out)[0] == 0 and entries(staff) == before
    other = out.replace(rows[0]["installation"], "00000000")
    status, err = imports(staff, other)
    assert status == 1 and "another installation" in err


# -- review --------------------------------------------------------------------------------------------------------------


def test_a_person_decides(staff: Staff) -> None:
    staff.run("optout", "add", ANOTHER, *ACME)
    doubt(staff, 7, 8, 9)
    status, out, _ = staff.run("optout", "review", "--json")
    assert status == 0 and [one["record"] for one in json.loads(out)["waiting"]] == [f"{n:016x}" for n in (7, 8, 9)]
    assert staff.run("optout", "review", "--suppress", "7", "--dismiss", "8")[0] == 0
    shown = staff.run("audit", "show", "--json", "--event", "opt out")[1]
    (done,) = [
        one
        for one in map(json.loads, shown.splitlines())
        if (one["what"]["action"], one["result"]) == ("review", "done")
    ]
    assert (done["what"]["account"], done["what"]["suppress"]) == ("acme", f"{7:016x}"), (
        "the feed tells it of its account"
    )
    assert staff.run("optout", "check", NUMBER, *ACME)[0] == 0
    assert staff.run("optout", "review")[1].split()[0] == f"{9:016x}"
    assert staff.run("optout", "review", "--dismiss", "8")[0] == 1
    assert staff.run("optout", "review", "--dismiss", "none")[0] == 2


# -- who may -------------------------------------------------------------------------------------------------------------


def test_roles(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    staff.run("optout", "add", ANOTHER, *ACME)
    people = {role: staff.add(role, role) for role in ("support", "auditor", "privacy-officer")}
    owner = staff.add("owner", "account-owner", options=("--account", "other"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert staff.run("optout", "add", NUMBER, *ACME)[0] == 1, "it needs a login"
    assert staff.by(people["auditor"], "optout", "add", NUMBER, *ACME)[0] == 1
    assert staff.by(people["support"], "optout", "add", NUMBER, *ACME)[0] == 0
    assert staff.by(people["support"], "optout", "remove", NUMBER, *ACME)[0] == 1
    assert staff.by(people["privacy-officer"], "optout", "remove", NUMBER, *ACME)[0] == 0
    assert staff.by(owner, "optout", "add", NUMBER, *ACME)[0] == 2, "no account of his"
    assert staff.by(owner, "optout", "add", NUMBER, "--account", "other")[0] == 0
    status, out, _ = staff.by(owner, "optout", "export")
    assert status == 0 and {row["account"] for row in csv.DictReader(io.StringIO(out))} == {"other"}


# -- the store -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(staff: Staff) -> Iterator[Staff]:
    """Somebody has the store, and answers nobody."""
    staff.run("optout", "add", NUMBER, *ACME)
    lock = Lock(staff.path / "var")
    yield staff
    lock.release()


def test_where_a_daemon_has_the_store_it_is_asked(locked: Staff) -> None:
    status, _, err = locked.run("optout", "add", ANOTHER, *ACME)
    assert status == 1 and "no smppd runs on the store" in err
    with pytest.raises(ControlError):
        change_register(embedded(locked.path / "var"), [], [1])
    assert locked.run("optout", "check", NUMBER, *ACME)[0] == 0


def test_a_store_of_an_earlier_version_has_no_opt_outs(staff: Staff) -> None:
    staff.run("optout", "add", NUMBER, *ACME)
    db = Database(staff.path / "var" / "data.db", "data")
    db.run("DROP TABLE opt_outs")
    db.run("DROP TABLE doubts")
    db.run("PRAGMA user_version = 4")
    db.close()
    assert staff.run("optout", "check", NUMBER, *ACME)[0] == 1
    assert staff.run("optout", "export")[1].count("\n") == 1
    assert staff.run("optout", "review")[0] == 0
    assert staff.run("optout", "add", NUMBER, *ACME)[0] == 0, "the first change brings it up"
    assert staff.run("optout", "check", NUMBER, *ACME)[0] == 0
