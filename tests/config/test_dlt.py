"""India's registry from CSV: what is read, and each line that is wrong with its number."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.config import changes
from smppd.config.dlt import Header, Variable, read_registry, read_template
from tests.config.helpers import BASE, lines, loaded

HEAD = "kind,id,entity,header,class,status,text\n"
GOOD = HEAD + (
    "entity,1101,,,,,\n"
    "entity,1102,,,,blacklisted,\n"
    "header,,1101,ACMEBK-S,,active,\n"
    "header,,1101,acmebk-T,,,\n"
    "header,,1101,600123,promotional,Suspended,\n"
    'template,1107,1101,ACMEBK,Service Implicit,,"Dear {#alphanumeric#}, paid\n {#numeric#}."\n'
    "\n"
    "template,1108,1101,ACMEBK|600123,one_time_code,inactive,{#numeric#} is your code\n"
)
WITH = "dlt: {registries: {india: {file: [registry.csv]}}}\n"


def bad(tmp_path: Path, text: str, untyped: bool = False) -> list[str]:
    file = tmp_path / "registry.csv"
    file.write_text(text, encoding="utf-8")
    return [str(one) for one in read_registry((file,), 30, untyped)[1]]


def test_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "registry.csv").write_text("\ufeff" + GOOD, encoding="utf-8")
    settings = loaded(tmp_path, BASE.replace("networks: any", "networks: any, dlt: {registry: india}") + WITH)
    content = settings.dlt.registries["india"].content
    assert content.entities == {"1101": "active", "1102": "blacklisted"}
    assert content.headers["ACMEBK"] == Header("ACMEBK", "1101", "ST", "active")
    assert content.headers["600123"] == Header("600123", "1101", "P", "inactive")
    first, second = content.templates
    assert (first.id, first.message_class, first.status) == ("1107", "service", "active")
    assert first.headers == {"ACMEBK"}
    assert first.literals == ("Dear ", ", paid ", ".")
    assert first.variables == (Variable("alphanumeric", 1, 30), Variable("numeric", 1, 30))
    assert (second.message_class, second.status) == ("one_time_code", "inactive")
    assert second.headers == {"ACMEBK", "600123"}
    assert "paid" not in repr(settings)
    (tmp_path / "registry.csv").write_text(GOOD.replace("paid", "sent"), encoding="utf-8")
    after = loaded(tmp_path, BASE.replace("networks: any", "networks: any, dlt: {registry: india}") + WITH)
    assert changes(settings, after) == (["dlt: registries changed"], [])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("entity,1101,,,,,", "this entity is given twice"),
        ("entity,1.1E+18,,,,,", "id must be an id of digits (a spreadsheet may have made another number of it)"),
        ("entity,1109,,,,gone,", "status must be active, inactive, suspended or blacklisted"),
        ("person,1109,,,,,", "kind must be entity, header or template"),
        ("header,,1101,ACMEBK-S,,,", "this header is given twice"),
        ("header,,1101,ACMEBK-P,service,,", "class and suffix of the header are not the same"),
        ("header,,1101,A B,,,", "header must be a sender of letters and digits, with or without -P, -S, -T or -G"),
        ("header,,1109,OTHER,,,", "its entity is in no line"),
        ("template,1107,1101,,service,,text", "this template is given twice"),
        ("template,1109,1101,OTHER,service,,text", "a header of the template is in no line of its entity"),
        ("template,1109,1102,ACMEBK,service,,text", "a header of the template is in no line of its entity"),
        ("template,1109,1101,,news,,text", "class must be one of promotional, service, service implicit"),
        ("template,1109,1101,,service,,", "no word that is always there"),
        ("template,1109,1101,,service,,{#numeric#} - {#numeric#}", "no word that is always there"),
        ("template,1109,1101,,service,,Hello {#var#}", "{#var#} names no type"),
        ("template,1109,1101,,service,,Hello {#date#}", "an unknown variable: there are {#var#}, {#numeric#}"),
        ("template,1109,1101,,service,,Hello {#numeric}", "a variable that is not closed, or is not {#type#}"),
        ("template,1109,1101,,service,,Hello, you", "more cells than columns (a text with a comma needs quotes)"),
        (f"template,1109,1101,,service,,{'x' * 2001}", "a text of more than 2000 characters"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, told: str) -> None:
    (found,) = bad(tmp_path, GOOD + line + "\n")
    assert found.startswith(f"registry.csv:11: {told}")
    if line.count(",") < 7 and "1109" not in line:
        assert "Hello" not in found, "nothing of a text is told"


def test_files_that_are_none(tmp_path: Path) -> None:
    assert bad(tmp_path, "") == [
        "registry.csv:1: its first line must name columns, of kind, id, entity, header, class, status, text, note"
    ]
    assert "must name columns" in bad(tmp_path, "kind,idd\n")[0]
    assert bad(tmp_path, GOOD + 'template,1109,1101,,service,,"open\n') == [
        "registry.csv:11: is no CSV: unexpected end of data"
    ]
    (tmp_path / "latin.csv").write_bytes(HEAD.encode() + b"entity,\xe9,,,,,\n")
    content, found = read_registry((tmp_path / "latin.csv", tmp_path / "none.csv"), 30, False)
    assert [str(one) for one in found] == [
        "latin.csv:0: is not UTF-8",
        "none.csv:0: cannot be read: No such file or directory",
    ]
    assert content.templates == ()


def test_all_or_nothing_and_not_a_page_of_mistakes(tmp_path: Path) -> None:
    (tmp_path / "registry.csv").write_text(GOOD + "person,1,,,,,\n" * 8, encoding="utf-8")
    (line,) = lines(tmp_path, BASE + WITH)
    assert "dlt.registries.india" in line and "registry.csv:11: kind must be" in line
    assert line.endswith("; and 3 more bad lines: `smppd dlt check` has all")


def test_what_accounts_name_must_be_there(tmp_path: Path) -> None:
    named = BASE.replace("networks: any", "networks: any, dlt: {registry: indja, entity: 'a b'}")
    (tmp_path / "registry.csv").write_text(GOOD, encoding="utf-8")
    assert lines(tmp_path, named + WITH) == [
        "3:{}: accounts[0].dlt.registry: no registry is named indja (did you mean india?)".format(
            lines(tmp_path, named + WITH)[0].split(":")[1]
        ),
        "3:{}: accounts[0].dlt.entity: must be an id of digits".format(lines(tmp_path, named + WITH)[1].split(":")[1]),
    ]
    wrong = WITH.replace("[registry.csv]", "registry.csv, content: 1")
    assert "unknown key" in lines(tmp_path, BASE + wrong)[0]


def test_variables_in_a_row_are_one() -> None:
    literals, variables = read_template("Hi {#var#}{#var#} and {#numeric#}{#alpha#}.", 40, True)
    assert literals == ("Hi ", " and ", "", ".")
    assert variables == (Variable("var", 2, 80), Variable("numeric", 1, 40), Variable("alpha", 1, 40))


@given(st.text(st.sampled_from("{#}numericvarurl \n aé"), max_size=60))
def test_any_text_is_a_template_or_a_clear_mistake(text: str) -> None:
    try:
        literals, variables = read_template(text, 30, True)
    except ValueError as error:
        assert str(error)
        return
    assert len(literals) == len(variables) + 1
    assert not any("{#" in literal or "  " in literal for literal in literals)
