"""`smppd lists` on an installation: shown, compiled, asked; what a rule says of it in `explain`, and what `check` misses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from smppd.lists.compiler import Failed, Refused, compile_list
from smppd.lists.compiling import Outcome
from tests.cli.staff import Staff

SECTIONS = """
lists:
  dnd: {file: dnd.csv, kind: numbers, region: GB, column: phone}
  phishing: {file: phishing.txt, kind: domains}
policies:
  house:
    - {name: no-calls, when: {destination_in: dnd}, do: refuse}
"""


class InProcess:
    """`Compilation` without a child process."""

    def __init__(self, spec: object, directory: object, key: object, reserve: object, **given: bool) -> None:
        self._given = (spec, directory, key, 1_800_000_000, reserve)
        self._lenient = given["lenient"]

    def wait(self, progress: object) -> Outcome:
        try:
            done = compile_list(*self._given, progress, lenient=self._lenient)  # type: ignore[arg-type]
            return Outcome("compiled", "", *done)
        except Refused as refused:
            return Outcome("refused", str(refused))
        except Failed as failed:
            return Outcome("failed", str(failed))


@pytest.fixture
def house(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> Iterator[Staff]:
    import smppd.cli.commands.lists as module

    monkeypatch.setattr(module, "Compilation", InProcess)
    config = staff.path / "smppd.yaml"
    config.write_text(config.read_text().replace("networks: any", "networks: any\n    policies: house", 1) + SECTIONS)
    (staff.path / "dnd.csv").write_text("name,phone\nsomebody,07700 900123\n")
    (staff.path / "phishing.txt").write_text("evil.example\n")
    yield staff
    for said in staff.output:
        assert "900123" not in said and "evil" not in said


def shown(house: Staff) -> dict[str, dict[str, object]]:
    status, out, _err = house.run("lists", "--json")
    assert status == 0
    return {one["name"]: one for one in json.loads(out)}


def test_from_nothing_to_an_answer(house: Staff) -> None:
    assert {name: one["state"] for name, one in shown(house).items()} == dict.fromkeys(
        ("dnd", "phishing"), "not compiled"
    )
    assert house.run("lists", "check", "dnd", "+447700900123")[0] == 2
    status, out, err = house.run("lists", "compile")
    assert (status, out) == (0, "dnd: 1 entries\nphishing: 1 entries\n"), err
    assert house.run("lists", "compile") == (0, "", "every list is current\n")
    stand = shown(house)["dnd"]
    assert (stand["entries"], stand["state"], stand["kind"]) == (1, "current", "numbers")
    assert stand["compiled"] == "2027-01-15T08:00:00+00:00" and stand["disk"] == 4096 + 8 + 8
    for name, value, there in (
        ("dnd", "+447700900123", True),
        ("dnd", "07700900123", True),
        ("dnd", "07700900124", False),
        ("phishing", "www.evil.example", True),
        ("phishing", "example.org", False),
    ):
        status, out, _err = house.run("lists", "check", name, value)
        assert (status, out) == ((0, f"on list {name}\n") if there else (1, f"not on list {name}\n"))
    assert json.loads(house.run("lists", "check", "dnd", "07700900123", "--json")[1]) == {
        "list": "dnd",
        "on_list": True,
    }
    assert house.run("lists")[1].splitlines() == [
        "dnd: 1 numbers, current",
        f"  file      {house.path / 'dnd.csv'}",
        "  compiled  2027-01-15T08:00:00Z, 4.0 KiB on disk, 0.0 KiB in memory",
        "phishing: 1 domains, current",
        f"  file      {house.path / 'phishing.txt'}",
        "  compiled  2027-01-15T08:00:00Z, 4.0 KiB on disk, 0.0 KiB in memory",
    ]


def test_bad_lines_and_changed_files(house: Staff) -> None:
    house.run("lists", "compile")
    (house.path / "phishing.txt").write_text("evil.example\nhttp://x/\n")
    assert shown(house)["phishing"]["state"] == "its file changed"
    status, _out, err = house.run("lists", "compile", "phishing")
    assert status == 1 and err == f"phishing: {house.path / 'phishing.txt'}: line 2: not a domain name\n"
    assert house.run("lists", "check", "phishing", "evil.example")[0] == 0, "the one before stays"
    status, _out, err = house.run("lists", "compile", "phishing", "--skip-bad")
    assert status == 0 and f"{house.path / 'phishing.txt'}:2: left out: not a domain name" in err
    (house.path / "phishing.txt").unlink()
    assert shown(house)["phishing"]["state"] == "its file is missing"
    (house.path / "var/lists/dnd.list").write_bytes(b"x")
    assert shown(house)["dnd"]["state"] == "what is compiled is no compiled list"
    assert house.run("lists", "check", "dnd", "+447700900123")[0] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check", "dmd", "1"), "there is no list 'dmd'; did you mean dnd?"),
        (("compile", "x"), "there is no list 'x'"),
        (("check", "dnd", "abc"), "this is not a phone number"),
        (("check", "phishing", "abc"), "this is not a domain name"),
    ],
)
def test_wrong_calls(house: Staff, words: tuple[str, ...], says: str) -> None:
    status, _out, err = house.run("lists", *words)
    assert (status, err) == (2, f"smppd: {says}\n")


def test_explain_asks_them_and_check_says_what_is_missing(house: Staff) -> None:
    call = ("explain", "--account", "acme", "--from", "Acme", "--to", "+447700900123", "--text", "hello", "--json")
    status, out, err = house.run(*call)
    said = json.loads(out)["parts"][0]
    assert status == 0 and err == "not compiled: dnd, phishing\n"
    assert said["refusal"]["name"] == "ESME_RSYSERR" and said["refusal"]["reason"] == "list dnd is not ready"
    advice = json.loads(house.run("check", "--json")[1])["advice"]
    assert "list dnd is not compiled yet: the daemon does it, or `smppd lists compile dnd`" in advice
    assert "list phishing is asked by no rule" in advice
    house.run("lists", "compile")
    said = json.loads(house.run(*call)[1])["parts"][0]
    assert (said["rules"][0]["because"], said["refusal"]["rule"]) == ("destination_in", "house/no-calls")
    (house.path / "dnd.csv").unlink()
    advice = json.loads(house.run("check", "--json")[1])["advice"]
    assert any("dnd.csv does not exist; what was compiled of it is used" in one for one in advice)
    (house.path / "var/lists/dnd.list").unlink()
    status, _out, err = house.run("check")
    assert status == 1 and "lists.dnd.file" in err and "does not exist, and nothing is compiled of it" in err
