"""`smppd consent` as a transcript: import with bad lines, withdrawal, what is shown and proved, and what erasure leaves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from smppd.audit.trail import Actor, AuditTrail
from smppd.cli.commands import consent as command
from smppd.config import load
from smppd.consent.register import Register
from smppd.consent.register_proof import PURPOSE, ConsentKeys
from smppd.control.wire import ControlError
from smppd.daemon import consents as daemon_side
from smppd.daemon.consents import expiry
from smppd.office import consents as asking_side
from smppd.office.consents import ConsentBook
from smppd.office.unlocking import unlock
from smppd.store.opening import embedded
from smppd.vault import certificate
from tests.cli.installation import Run
from tests.cli.staff import Staff

PERSON, OTHER = "+447700900123", "+447700900124"
WHY = ("--reason", "law", "--note", "request 7 by +447700900123")
HEADER = "number,form,time,ip,evidence,class,sender\n"


def line(number: str = PERSON, at: str = "2026-01-02T03:04:05Z", more: str = ",form 1,,") -> str:
    return f"{number},electronic,{at},192.0.2.7{more}\n"


def written(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "consents.csv"
    path.write_text(HEADER + "".join(lines))
    return str(path)


def imported(run: Run, tmp_path: Path, *lines: str) -> dict[str, Any]:
    _, out, _ = run("consent", "import", written(tmp_path, *lines), "--account", "acme", "--json")
    return dict(json.loads(out))


def has(run: Run, number: str = PERSON, *more: str) -> bool:
    status, out, _ = run("consent", "check", number, "--account", "acme", "--json", *more)
    assert json.loads(out) == {"consent": status == 0}
    return status == 0


def trail(run: Run) -> list[dict[str, Any]]:
    _, out, _ = run("audit", "show", "--json", "--event", "consent")
    return [json.loads(entry) for entry in out.splitlines()]


def test_import_check_show_and_the_trail(run: Run, tmp_path: Path) -> None:
    file = written(tmp_path, line(), line("nonsense"), line(OTHER, more=",form 2,service,Shop"), line(OTHER, at="soon"))
    status, out, err = run("consent", "import", file, "--account", "acme")
    assert status == 1 and out == "2 consents read, 2 of them new; 2 bad lines.\n"
    assert [one.split("consents.csv:")[1].split(":")[0] for one in err.splitlines()] == [
        "3",
        "5",
    ] and "nonsense" not in err
    assert has(run) and has(run, PERSON, "--sender", "Anybody")
    assert not has(run, OTHER) and not has(run, PERSON, "--class", "service")
    assert has(run, OTHER, "--class", "service", "--sender", "shop")
    status, out, _ = run("consent", "show", PERSON, "--account", "acme", *WHY)
    assert status == 0 and "192.0.2.7" in out and "form 1" in out
    assert run("consent", "show", "+447700900125", "--account", "acme", *WHY)[0] == 1
    said = trail(run)
    acts = {(entry["what"]["action"], entry["result"]) for entry in said}
    assert acts >= {("import", "begun"), ("import", "done"), ("check", "yes"), ("check", "no"), ("show", "shown")}
    assert "7700900123" not in json.dumps(said) and "192.0.2.7" not in json.dumps(said)


def test_an_import_that_is_run_again_adds_nothing_twice(run: Run, tmp_path: Path) -> None:
    lines = [line(f"+4477009{number:05d}") for number in range(1200)]
    assert imported(run, tmp_path, *lines[:700]) == {"consents": 700, "new": 700, "bad_lines": 0, "bad": []}
    assert imported(run, tmp_path, *lines)["new"] == 500


def test_nothing_of_it_is_readable_on_disk(run: Run, tmp_path: Path) -> None:
    imported(run, tmp_path, line())
    octets = b"".join(file.read_bytes() for file in (tmp_path / "var").iterdir() if file.is_file())
    for secret in (b"7700900123", b"192.0.2.7", b"form 1"):
        assert secret not in octets


def test_what_was_withdrawn_stays_as_proof_and_does_not_come_back(run: Run, tmp_path: Path) -> None:
    imported(run, tmp_path, line())
    status, out, _ = run("consent", "withdraw", PERSON, "--account", "acme", "--note", "by phone")
    assert status == 0 and out.startswith("1 consents of +44770***0123 withdrawn")
    assert not has(run)
    assert imported(run, tmp_path, line())["new"] == 0 and not has(run)
    assert imported(run, tmp_path, line(at="2026-01-03T03:04:05Z"))["new"] == 1 and not has(run), (
        "older than the withdrawal"
    )
    _, out, _ = run("consent", "show", PERSON, "--account", "acme", "--json", *WHY)
    said = json.loads(out)
    assert said[0]["withdrawn"] and said[0]["withdrawal"] == "by phone"


def test_a_withdrawal_counts_before_its_consent_comes(run: Run, tmp_path: Path) -> None:
    assert "noted" in run("consent", "withdraw", PERSON, "--account", "acme", "--note", "letter")[1]
    imported(run, tmp_path, line())
    assert not has(run)


def test_the_proof_is_signed_and_whole(run: Run, tmp_path: Path) -> None:
    imported(run, tmp_path, line())
    out = tmp_path / "proof.json"
    assert run("consent", "export", PERSON, "--account", "acme", "--out", str(out), *WHY)[0] == 0
    assert out.stat().st_mode & 0o777 == 0o600
    whole = json.loads(out.read_text())
    key: Any = load_pem_public_key(whole["public_key"].encode())
    facts: Any = certificate.verify(whole["proof"].encode(), bytes.fromhex(whole["signature"]), key)
    assert facts["consents"][0]["number"] == PERSON and facts["consents"][0]["ip"] == "192.0.2.7"
    assert run("consent", "export", PERSON, "--account", "acme", "--out", str(out), *WHY)[0] == 2, "it is there"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("import", "none.csv", "--account", "acme"), 2, "cannot be read"),
        (("check", PERSON, "--account", "nobody"), 2, "no account"),
        (("check", "hello", "--account", "acme"), 2, "no international phone number"),
        (("withdraw", PERSON, "--account", "acme", "--note", " "), 2, "in words"),
        (("check", PERSON, "--account", "acme"), 1, ""),
    ],
)
def test_wrong_calls(run: Run, words: tuple[str, ...], status: int, said: str) -> None:
    found, _, err = run("consent", *words)
    assert found == status and said in err and PERSON not in err


def test_a_file_that_is_no_table(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("name,number\n")
    status, _, err = run("consent", "import", str(tmp_path / "bad.csv"), "--account", "acme")
    assert status == 2 and "line 1 must name the columns" in err


def test_there_is_room_for_so_many(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MOST", 1)
    assert run("consent", "import", written(tmp_path, line(), line(OTHER)), "--account", "acme")[0] == 1
    assert not has(run)


def test_the_running_daemon_knows_when_the_command_ends(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = unlock(load(tmp_path / "smppd.yaml")).install
    register = Register(ConsentKeys(install.for_purpose(PURPOSE)))
    handler = daemon_side.consent_requests(register)["consents changed"]
    monkeypatch.setattr("smppd.store.sqlite.installation.in_use", lambda _directory: True)
    monkeypatch.setattr(asking_side, "ask", lambda _directory, request: handler(request, 0))

    def knows(number: str = PERSON) -> bool:
        return register.stands("acme", number[1:].encode(), "promotional", lambda: b"x")

    imported(run, tmp_path, line(), line(at="2026-02-02T03:04:05Z"), line(OTHER))
    assert knows() and knows(OTHER)
    with ConsentBook(load(tmp_path / "smppd.yaml"), install) as book:
        first, _second = book.of([PERSON[1:].encode()])
        book.remove([first])
    assert knows(), "another consent says the same"
    run("consent", "withdraw", PERSON, "--account", "acme", "--note", "letter")
    assert not knows() and knows(OTHER)
    imported(run, tmp_path, line())
    assert not knows()
    run("subject", "erase", OTHER, *WHY, "--yes")
    assert not knows(OTHER)

    def refuse(_directory: Path, _request: Any) -> Any:
        raise ControlError("no answer")

    monkeypatch.setattr(asking_side, "ask", refuse)
    status, _, err = run("consent", "import", written(tmp_path, line(OTHER)), "--account", "acme")
    assert status == 1 and "could not be told" in err and "run the command again" in err


def test_export_and_erasure_of_a_person_take_it_along(run: Run, tmp_path: Path) -> None:
    imported(run, tmp_path, line(), line(OTHER))
    status, out, _ = run("subject", "export", PERSON, *WHY, "--json")
    given = json.loads(out)
    assert status == 0 and given["summary"]["consents"] == 1
    assert given["consents"][0]["ip"] == "192.0.2.7" and given["consents"][0]["number"] == PERSON
    for name in ("x.html", "x.json"):
        assert run("subject", "export", PERSON, *WHY, "--out", str(tmp_path / name))[0] == 0
        assert "192.0.2.7" in (tmp_path / name).read_text()
    status, out, _ = run("subject", "erase", PERSON, *WHY, "--yes", "--json")
    assert len((tmp_path / "var/erasures.journal").read_bytes().partition(b'"others":"c')[2].partition(b'"')[0]) >= 32
    assert status == 0 and json.loads(out)["on_its_way"]["consents"] == 1
    assert run("consent", "show", PERSON, "--account", "acme", *WHY)[0] == 1 and has(run, OTHER)


def test_proof_goes_when_its_retention_is_over(run: Run, tmp_path: Path) -> None:
    imported(run, tmp_path, line())
    run("consent", "withdraw", PERSON, "--account", "acme", "--note", "letter")
    install = unlock(load(tmp_path / "smppd.yaml")).install
    with AuditTrail(tmp_path / "var/audit.db", install.audit) as open_trail:
        expire = expiry(embedded(tmp_path / "var"), open_trail, Actor("smppd", ""))
        expire(time.time() + 1826 * 86400)
        assert run("consent", "show", PERSON, "--account", "acme", *WHY)[0] == 0
        expire(time.time() + 1828 * 86400)
    assert run("consent", "show", PERSON, "--account", "acme", *WHY)[0] == 1
    assert trail(run)[-2]["result"] == "destroyed"
    assert run("purge")[0] in (0, 1)


def test_a_hold_keeps_the_proof(staff: Staff, tmp_path: Path) -> None:
    (tmp_path / "consents.csv").write_text(HEADER + line())
    assert staff.run("consent", "import", str(tmp_path / "consents.csv"), "--account", "acme")[0] == 0
    why = ("--authority", "Court", "--reference", "order 7", "--expires", "2030-01-01")
    added = staff.run("hold", "add", "--number", PERSON, *why)
    assert added[0] == 0, added
    status, _, err = staff.run("subject", "erase", PERSON, *WHY, "--yes")
    assert status == 1 and "stay as proof" in err
    assert not (tmp_path / "var/erasures.journal").read_bytes(), "a restore must not remove it"
    status, out, _ = staff.run("consent", "show", PERSON, "--account", "acme", *WHY, "--json")
    assert status == 0 and json.loads(out)[0]["withdrawal"] == "erasure"
    assert staff.run("consent", "check", PERSON, "--account", "acme")[0] == 1
