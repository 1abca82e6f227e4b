"""Big lists in a configuration: their settings, and the rules that name them, each fault at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.config import ListSource, changes, stamp_of
from tests.config.helpers import BASE, lines, loaded

LISTS = BASE + (
    "lists:\n"
    "  dnd: {file: dnd.csv, kind: numbers, region: gb, column: phone, bad_lines: skip, when_absent: pass}\n"
    "  phishing: {file: /srv/phishing.txt, kind: domains}\n"
)


def rule(condition: str) -> str:
    return LISTS + "policies:\n  p:\n    - {name: r, when: {" + condition + "}, do: refuse}\n"


def test_what_is_given_and_what_is_usual(tmp_path: Path) -> None:
    settings = loaded(tmp_path, rule("destination_in: dnd, domain_in: [phishing]"))
    dnd, phishing = settings.lists.values()
    assert (dnd.file, dnd.kind, dnd.region, dnd.column) == (tmp_path / "dnd.csv", "numbers", "GB", "phone")
    assert (dnd.bad_lines, dnd.when_absent) == ("skip", "pass")
    assert phishing == ListSource(file=Path("/srv/phishing.txt"), kind="domains")
    assert (phishing.bad_lines, phishing.when_absent, phishing.column) == ("refuse", "refuse", None)
    assert settings.watch_files == 5.0
    when = settings.policies["p"].rules[0].when
    assert when is not None and when.destination_in == ("dnd",) and when.domain_in == ("phishing",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (rule("destination_in: dmd"), "14:40: policies.p[0].when.destination_in: no list is named dmd (did you mean dnd?)"),
        (
            BASE.replace("system_id: acme,", "system_id: acme, opt_out: {lists: [dnd, phishing]},")
            + "lists:\n  dnd: {file: a, kind: numbers}\n  phishing: {file: b, kind: domains}\n",
            "3:46: accounts[0].opt_out.lists[1]: phishing is a list of domains, not of numbers",
        ),
        (
            rule("domain_in: [phishing, dnd]"),
            "14:46: policies.p[0].when.domain_in[1]: dnd is a list of numbers, not of domains",
        ),
        (rule("sender_in: phishing"), "14:35: policies.p[0].when.sender_in: phishing is a list of domains, not of senders"),
        (BASE + "lists: {a: {kind: numbers}}\n", "9:12: lists.a.file: required key is missing"),
        (BASE + "lists: {a: {file: x}}\n", "9:12: lists.a.kind: required key is missing"),
        (BASE + "lists: {a: {file: x, kind: words}}\n", "9:28: lists.a.kind: must be 'numbers', 'domains' or 'senders'"),
        (BASE + "lists: {a: {file: x, kind: domains, region: GB}}\n", "9:12: lists.a: domains have no `region`"),
        (
            BASE + "lists: {a: {file: x, kind: numbers, column: 0}}\n",
            "9:45: lists.a.column: columns count from 1",
        ),
        (BASE + "lists: {A b: {file: x, kind: numbers}}\n", "9:9: lists.A b: must be 1 to 63 lower-case letters"),
    ],
)  # fmt: skip
def test_faults_and_their_places(tmp_path: Path, text: str, fault: str) -> None:
    (found,) = lines(tmp_path, text)
    assert found.startswith(fault)


def test_what_a_reload_says_of_them(tmp_path: Path) -> None:
    before = loaded(tmp_path, LISTS)
    after = loaded(
        tmp_path, LISTS.replace("bad_lines: skip, ", "").replace("phishing:", "fishing:") + "watch_files: 10s\n"
    )
    assert changes(before, after) == (
        [
            "list dnd: bad_lines skip -> refuse",
            "list phishing removed",
            "list fishing added",
            "watch_files 5s -> 10s",
        ],
        [],
    )


def test_files_that_rules_read_are_known_with_their_stamp(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("free prize\n")
    settings = loaded(
        tmp_path,
        BASE + "policies: {p: [{name: a, when: {keywords: {file: words.txt}}, do: refuse},"
        " {name: b, unless: {keywords: {file: words.txt}}, do: refuse}]}\n",
    )
    assert settings.read_files == ((words, stamp_of(words)),)
    assert loaded(tmp_path, BASE).read_files == ()
