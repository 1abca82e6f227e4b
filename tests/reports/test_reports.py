"""The record of processing, the carriers, retention and controls: every field is there, and nothing of a person."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from smppd.message import State
from smppd.records.retention import Purger
from smppd.reports.controls import CONTROLS
from smppd.reports.document import as_markdown
from smppd.reports.processing import processing
from smppd.reports.retention import retention
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.log_rows import SqlitePurge
from smppd.vault.seal import Content
from tests.reports.house import DAY, NUMBERS, SECRETS, House

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
TIMES = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ|20\d\d-\d\d-\d\d(T\d\d)?(?![\d-])")


def filled(house: House) -> list[int]:
    ids = house.records("acme", NUMBERS[:3], body=10 * DAY, numbers=90 * DAY)
    house.records("beta", NUMBERS[:2], body=DAY)
    house.records("clinic", NUMBERS[:1], content=Content.HIDE, numbers=DAY)
    house.records("removed", NUMBERS[:1])
    for one in ids:
        house.log.event(one, State.SUBMITTED, b"carrier-a\0up-" + str(one).encode())
    house.log.event(ids[0], State.SUBMITTED, b"carrier-old\0up")
    house.log.event(ids[0], State.DELIVERED, b"carrier-a\0up")
    house.log.commit()
    return ids


def looked(house: House) -> None:
    note = ("--reason", "support", "--note", f"he of +{NUMBERS[0]} said: own-2-order-48291")
    assert house.run("log", "search", "+" + NUMBERS[0], *note, "--reveal")[0] == 0


def shape(value: Any) -> Any:
    """The keys of a report, with one example of each list."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_the_record_of_processing_has_what_the_law_asks(house: House) -> None:
    filled(house)
    made = house.report("processing")
    assert [(one["account"], one["basis"], one["records_now"], one["with_texts"]) for one in made["controllers"]] == [
        ("acme", "instruction", 3, 3),
        ("beta", None, 2, 2),
        ("clinic", None, 1, 0),
    ]
    assert [one["rules_look_at_texts"] for one in made["controllers"]] == [False, True, False]
    assert made["controllers"][0]["reference"] == "order *** of 2026-10-01"
    assert [(one["account"], one["records_now"]) for one in made["accounts_that_were_removed"]] == [("removed", 1)]
    assert [one["body"] for one in made["time_limits"]] == ["10d", "1d", "1d"]
    assert [(one["upstream"], one["country"], one["elsewhere"]) for one in made["transfers"]] == [
        ("carrier-a", "FR", True),
        ("carrier-b", None, None),
    ]
    assert set(made["categories_of_data"]) == {"content", "traffic", "access"} and made["data_subjects"]
    assert {one["control"] for one in made["security_measures"]} == {one.number for one in CONTROLS}
    assert made["rows_that_cannot_be_read"] == 0


def test_the_carriers_are_listed_with_who_sends_there(house: House) -> None:
    filled(house)
    made = house.report("processors", "--days", "7")
    a, b = made["sub_processors"]
    assert (a["upstream"], a["host"], a["country"], a["tls"]) == ("carrier-a", "127.0.0.1", "FR", False)
    assert a["contract"].startswith("agreement") and "7700" not in a["contract"]
    assert a["routes"] == ["uk", "routes[1]"] and b["routes"] == ["routes[1]"] and b["rules"] == ["words/elsewhere"]
    assert a["accounts"] == b["accounts"] == ["acme", "beta", "clinic"] and not b["enabled"]
    assert (a["messages_sent_in_7_days"], b["messages_sent_in_7_days"]) == (3, 0)
    assert made["carriers_of_before"] == [{"upstream": "carrier-old", "messages": 1}]
    assert house.report("processors", "--days", "1")["sub_processors"][0]["messages_sent_in_1_days"] == 0
    assert "messages_sent_in_7_days" not in house.report("processors")["sub_processors"][0]


def test_retention_says_what_is_kept_why_and_what_is_next(house: House) -> None:
    filled(house)
    made = house.report("retention")
    rows = {(one["account"], one["part"]): one for one in made["accounts"]}
    assert len(rows) == 9
    acme = rows["acme", "numbers"]
    assert (acme["configured"], acme["effective"], acme["floor"], acme["keys"]) == ("90d", "90d", "30d", 1)
    assert acme["oldest_key"].count("-") == 1, "a month"
    beta = rows["beta", "body"]
    assert (beta["configured"], beta["effective"], beta["keys"]) == ("30d", "1d", 1) and "no basis" in beta["why"]
    assert beta["oldest_key"].count("T") == 1 and beta["next_due"] < made["made"]
    assert rows["acme", "billing"]["ceiling"] == "500d" and rows["acme", "billing"]["keys"] is None
    assert made["purge"] == {
        "keys_due_now": 2,
        "rows_to_sweep": True,
        "keys_of_the_future": 0,
        "accounts_of_which_nobody_says_how_long": ["removed"],
    }
    assert {(one["account"], one["part"]) for one in made["accounts_that_were_removed"]} == {
        ("removed", "body"),
        ("removed", "numbers"),
    }
    assert made["holds"] == [] and made["erasures_that_wait"] == []


def test_retention_says_the_same_as_the_purge(house: House) -> None:
    filled(house)
    kept = {one.system_id: one.kept for one in house.settings().accounts}
    source = house.source()
    with Purger(SqlitePurge(house.log.directory), lambda: kept, source.id_time) as purge:
        for days in (0, 0.5, 1.5, 4, 20, 140):
            now = house.log.now + days * DAY
            due = {(one.account, one.part.value) for one in purge.plan(now).due}
            rows = SqlitePurge(house.log.directory)
            made = retention(source._replace(now=now), rows)
            rows.close()
            overdue = {
                (one["account"], one["part"])
                for one in made["accounts"]
                if one["next_due"] is not None and one["next_due"] <= made["made"]
            }
            assert overdue == due, days


def test_what_waits_for_a_hold_is_told(house: House) -> None:
    filled(house)
    data = connect(house.log.directory / "data.db", "data")
    data.execute(
        "INSERT INTO erased VALUES (1, 4, 3, 1800000000, 0), (2, 4, 0, 0, 0), (3, 5, 1, 0, 7), (4, 5, 2, 0, 7)"
    )
    data.commit()
    data.close()
    why = ("--authority", "District Court", "--reference", f"Order 12 of +{NUMBERS[1]}", "--expires", "2030-01-01")
    for account in ("acme", "beta"):
        assert house.run("hold", "add", "--number", "+" + NUMBERS[0], "--account", account, *why)[0] == 0
    assert house.run("hold", "release", "2")[0] == 0
    made = house.report("retention")
    assert made["holds"] == [
        {
            "hold": 1,
            "state": "active",
            "account": "acme",
            "of_a_number": True,
            "authority": "District Court",
            "reference": "Order 12 of ***",
            "ends": "2030-01-01T00:00:00Z",
            "records": 1,
        }
    ], "what has ended protects nothing"
    assert made["erasures_that_wait"] == [
        {"erasure": 4, "records": 1, "kept_by_hold": None, "not_before": "2027-01-15T08:00:00Z"},
        {"erasure": 5, "records": 2, "kept_by_hold": 7, "not_before": None},
    ]


def test_controls_follow_the_configuration(house: House) -> None:
    rows = {one["control"]: one for one in house.report("controls")["controls"]}
    assert len(rows) == len(CONTROLS)
    assert not any(rows[number]["in_force"] for number in ("A.5.3", "A.5.16", "A.5.18", "A.8.15"))
    assert not rows["A.5.15"]["in_force"] and not rows["A.5.34"]["in_force"] and not rows["A.5.20"]["in_force"]
    assert rows["A.8.24"]["in_force"] and rows["A.5.33"]["in_force"] and rows["A.8.20"]["in_force"]
    text = house.config.read_text().replace("networks: any", "networks: 192.0.2.0/24, basis: contract", 1)
    text = text.replace("networks: 192.0.2.0/24, basis: contract", "networks: 192.0.2.0/24\n    basis: contract")
    house.config.write_text(text.replace("networks: any", "networks: 192.0.2.0/24"))
    rows = {one["control"]: one for one in house.report("controls")["controls"]}
    assert rows["A.5.15"]["in_force"] and rows["A.5.34"]["in_force"]
    text += f"shipping: {{file: {{path: {house.directory}/shipped}}}}\n"
    data = connect(house.log.directory / "data.db", "data")
    data.execute("INSERT INTO documents VALUES ('operator', 'anna', 9007199254740991, x'00')")
    data.commit()
    data.close()
    house.config.write_text(text.replace("{file: keys/kek}", "{file: var/kek}"))
    (house.directory / "var" / "kek").write_bytes((house.directory / "keys/kek").read_bytes())
    (house.directory / "var" / "kek").chmod(0o600)
    rows = {one["control"]: one for one in house.report("controls")["controls"]}
    assert not rows["A.8.24"]["in_force"]
    assert all(rows[number]["in_force"] for number in ("A.5.3", "A.5.16", "A.5.18", "A.8.15"))


REPORTS = {
    "processing": (),
    "processors": ("--days", "7"),
    "retention": (),
    "breach": ("--since", "9d", "--until", "2999-01-01"),
    "controls": (),
}


@pytest.mark.parametrize("name", REPORTS)
def test_every_field_is_there_and_markdown_says_the_same(house: House, name: str) -> None:
    """The golden holds the keys of each report: a field that goes missing, or a new one, is a change to look at."""
    filled(house)
    looked(house)
    made = house.report(name, *REPORTS[name])
    golden = GOLDEN / f"{name}.json"
    assert shape(made) == json.loads(golden.read_text()), f"write it anew if meant: {json.dumps(shape(made), indent=1)}"
    made = house.report(name, *REPORTS[name])
    status, page, _ = house.run("report", name, *REPORTS[name])
    assert status == 0 and page.startswith(f"# {made['title']}\n")
    if name != "breach":  # which tells of the one before
        assert TIMES.sub("T", page) == TIMES.sub("T", as_markdown(made))
    for word in made:
        if word not in ("title", "about", "made"):
            assert f"\n## {word.replace('_', ' ').capitalize()}\n" in page


@pytest.mark.parametrize("name", REPORTS)
def test_no_report_holds_a_number_a_text_or_a_secret(house: House, name: str) -> None:
    filled(house)
    looked(house)
    with house.trail() as trail:
        trail.append("integrity", f"eve +{NUMBERS[3]}", {"faults": 1, "note": NUMBERS[4]}, "found")
    for form in ((), ("--json",)):
        status, out, err = house.run("report", name, *REPORTS[name], *form)
        assert (status, err) == (0, "")
        found = [one for one in SECRETS if one in out]
        assert not found, found


def test_reports_are_on_the_trail_before_they_are_shown(house: House) -> None:
    filled(house)
    target = house.directory / "out.md"
    status, out, _ = house.run("report", "processing", "--out", str(target))
    assert (status, out) == (0, "") and target.read_text().startswith("# Record of processing")
    assert target.stat().st_mode & 0o777 == 0o600
    house.run("report", "breach", "--since", "2d", "--until", "1d", "--account", "acme", "--by", "alice")
    entries = [json.loads(line) for line in house.run("audit", "show", "--event", "report", "--json")[1].splitlines()]
    assert [one["what"]["which"] for one in entries] == ["processing", "breach"]
    assert entries[0]["what"]["to"] == str(target) and entries[1]["what"]["accounts"] == "acme"
    assert entries[0]["who"].endswith("(no login)")


def test_what_cannot_be_written_leaves_nothing_behind(house: House) -> None:
    status, out, err = house.run("report", "controls", "--out", str(house.directory / "no" / "such"))
    assert status == 1 and out == "" and "cannot be written" in err
    target = house.directory / "directory"
    target.mkdir()
    before = sorted(house.directory.iterdir())
    status, out, err = house.run("report", "controls", "--out", str(target))
    assert status == 1 and "cannot be written" in err and sorted(house.directory.iterdir()) == before


def test_without_a_store_a_sentence(house: House, tmp_path: Path) -> None:
    house.config.write_text(house.config.read_text().replace("path: var", "path: nowhere"))
    status, out, err = house.run("report", "processing")
    assert status != 0 and out == "" and "nowhere" in err and "Traceback" not in err


def test_one_who_may_see_one_account_sees_no_other(house: House) -> None:
    filled(house)
    made = processing(house.source(accounts=frozenset({"beta"})))
    assert [one["account"] for one in made["controllers"]] == ["beta"]
    assert made["accounts_that_were_removed"] == [] and "acme" not in json.dumps(made)


def test_a_row_that_cannot_be_read_is_counted(house: House) -> None:
    filled(house)
    house.log.close()
    data = connect(house.log.directory / "data.db", "data")
    data.execute("UPDATE log SET records = x'00010203' WHERE seq = (SELECT min(seq) FROM log)")
    data.commit()
    data.close()
    made = house.report("processing")
    assert made["rows_that_cannot_be_read"] == 1 and made["controllers"][1]["records_now"] == 2


def test_every_control_of_the_duties_is_in_the_map_with_its_test() -> None:
    known = {one.number: one for one in CONTROLS}
    assert len(known) == len(CONTROLS)
    page = (ROOT / "docs/data-protection.md").read_text().split("\n## Duties\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "A." in line[:40]]
    assert len(rows) > 8
    for duty, feature, _, test in rows:
        for number in re.findall(r"A\.\d+\.\d+", duty):
            assert number in known, f"{number} stands in the duties and not in `CONTROLS`"
            assert feature and set(re.findall(r"`([\w/]+\.py::\w+)`", test)) & set(known[number].tests), number


def test_every_test_that_a_control_names_is_there() -> None:
    for one in CONTROLS:
        assert one.tests and one.title and one.feature
        for test in one.tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), test
