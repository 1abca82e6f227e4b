"""`smppd operators`: what is shown once, what is refused, and who stays able to manage; `smppd login` and `logout`."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from smppd.cli.commands import CommandError
from smppd.cli.credentials import claim_of, claimed_address, place
from smppd.operators.people import People
from tests.cli.staff import PASSPHRASE, Person, Staff

OTHER = "granite otter plaid noun"
REVEAL = ("log", "search", "+447700900123", "--reason", "support", "--note", "t 1", "--reveal")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Anna", "--role", "support"), "a name is"),
        (("an na", "--role", "support"), "a name is"),
        (("anna", "--role", "support", "--account", "acme"), "only an account owner"),
        (("anna", "--role", "account-owner"), "needs an account"),
        (("anna", "--role", "account-owner", "--account", "nobody"), "no account"),
        (("anna", "--role", "account-owner", "--role", "support", "--account", "acme"), "no other role"),
        (("anna", "--role", "support", "--network", "192.0.2.7/24"), "no network"),
        (("anna", "--role", "support", "--network", "any", "--network", "192.0.2.0/24"), "stands alone"),
    ],
)
def test_what_cannot_be_an_operator(staff: Staff, words: tuple[str, ...], said: str) -> None:
    status, out, err = staff.run("operators", "add", *words, "--stdin", stdin=PASSPHRASE + "\n")
    assert (status, out) == (1, "") and said in err
    assert json.loads(staff.run("operators", "list", "--json")[1]) == {"operators": []}


def test_wrong_calls(staff: Staff) -> None:
    assert staff.run("operators", "add", "anna", "--stdin")[0] == 2
    assert staff.run("operators", "add", "anna", "--role", "king", "--stdin")[0] == 2
    assert staff.run("operators")[0] == 2
    assert staff.run("operators", "role", "anna")[0] == 1
    anna = staff.add("anna", "operator")
    assert staff.run("operators", "role", "anna")[0] == 2
    assert staff.run("operators", "reset", "anna", "--stdin", "--operator", "anna", "--credentials", "-")[0] == 2
    assert staff.run("operators", "list", *staff.credentials(anna)[2:])[0] == 2, "whose?"


@pytest.mark.parametrize("weak", ["", "short", "password1234", "anna anna anna"])
def test_weak_passphrases_are_refused(staff: Staff, weak: str) -> None:
    status, out, err = staff.run("operators", "add", "anna", "--role", "support", "--stdin", stdin=weak + "\n")
    assert status == 1 and out == "" and "passphrase was refused" in err and (not weak or weak not in err)
    assert staff.run("operators", "add", "a", "--role", "support", "--stdin", stdin="\udcff")[0] == 1


def test_an_operator_is_added_listed_and_on_the_trail(staff: Staff) -> None:
    anna = staff.add("anna", "operator", "auditor", options=("--network", "192.0.2.0/24"))
    assert anna.uri.startswith("otpauth://totp/smppd") and len(anna.secret) == 20
    olga = staff.add("olga", "account-owner", options=("--account", "acme"))
    status, out, err = staff.run("operators", "list")
    assert status == 0 and "2 operators" in err
    assert out.splitlines()[0].startswith("anna  auditor, operator  from 192.0.2.0/24  active  8 recovery codes")
    assert "olga  account-owner  accounts acme  from any" in out and olga.typed not in out
    entry = staff.trail("operator")[0]
    assert re.fullmatch("[0-9a-f]{32}", entry["what"].pop("state"))
    assert entry["what"] == {
        "action": "add", "name": "anna", "roles": "auditor operator", "networks": "192.0.2.0/24", "login": "none",
    }  # fmt: skip
    assert staff.run("operators", "add", "anna", "--role", "support", "--stdin", stdin=OTHER + "\n")[0] == 1


def test_the_first_one_has_to_manage_unless_root_adds_him(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    status, out, err = staff.run("operators", "add", "anna", "--role", "support", "--stdin", stdin=PASSPHRASE + "\n")
    assert (status, out) == (1, "") and "--role operator" in err
    assert staff.run("operators", "add", "anna", "--role", "operator", "--stdin", stdin=PASSPHRASE + "\n")[0] == 0


def test_root_may_leave_nobody_and_it_is_said(staff: Staff) -> None:
    status, _, err = staff.run("operators", "add", "anna", "--role", "support", "--stdin", stdin=PASSPHRASE + "\n")
    assert status == 0 and "Nobody but root can manage operators" in err


def test_of_two_who_add_one_name_at_once_one_is_refused(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    staff.add("anna", "operator")
    monkeypatch.setattr(People, "get", lambda *_: None)  # the other one is added after this look
    status, _, err = staff.run("operators", "add", "anna", "--role", "support", "--stdin", stdin=OTHER + "\n")
    assert status == 1 and "already" in err
    assert [one["result"] for one in staff.trail("operator")] == ["done", "done", "refused"]


def test_the_last_manager_cannot_lock_everybody_out(staff: Staff) -> None:
    anna = staff.add("anna", "operator")
    for words in (("disable", "anna"), ("role", "anna", "--role", "auditor")):
        status, _, err = staff.by(anna, "operators", *words)
        assert status == 1 and "last who may manage" in err
    assert [one["result"] for one in staff.trail("operator")][1:] == ["done", "refused"] * 2
    ben = staff.add("ben", "operator")
    assert staff.by(anna, "operators", "disable", "anna")[0] == 0
    assert staff.by(ben, "operators", "enable", "anna")[0] == 0
    assert staff.by(ben, "operators", "enable", "anna")[0] == 1
    assert staff.run("operators", "disable", "ben")[0] == 0 and staff.run("operators", "disable", "ben")[0] == 1
    assert staff.run("operators", "disable", "anna")[0] == 0, "root can"


def test_a_reset_takes_the_old_ones_away(staff: Staff) -> None:
    anna = staff.add("anna", "operator")
    assert staff.run("login", *staff.credentials(anna))[0] == 0
    status, out, err = staff.run("operators", "reset", "anna", "--stdin", stdin=OTHER + "\n")
    assert status == 0 and "open sessions have ended" in err
    new = Person("anna", OTHER, out)
    assert new.secret != anna.secret and not set(new.recovery) & set(anna.recovery)
    assert "Your session has ended" in staff.run("operators", "list")[2]
    for options in (
        staff.credentials(anna),
        staff.credentials(new, passphrase=PASSPHRASE),
        staff.credentials(anna, passphrase=OTHER),
        staff.credentials(anna, code=anna.recovery[0], passphrase=OTHER),
    ):
        assert staff.run("operators", "list", *options)[0] == 1
    assert staff.by(new, "operators", "list")[0] == 0


def test_a_role_is_changed_and_what_belongs_to_it(staff: Staff) -> None:
    anna = staff.add("anna", "operator")
    staff.add("olga", "account-owner", options=("--account", "acme"))
    change = ("operators", "role", "olga")
    assert staff.by(anna, *change, "--account", "other", "--network", "192.0.2.0/24")[0] == 0
    (olga,) = [
        one for one in json.loads(staff.run("operators", "list", "--json")[1])["operators"] if one["name"] == "olga"
    ]
    assert (olga["accounts"], olga["networks"], olga["by"]) == (["other"], ["192.0.2.0/24"], "anna")
    assert staff.by(anna, *change, "--role", "support", "--network", "any")[0] == 0
    (olga,) = [
        one for one in json.loads(staff.run("operators", "list", "--json")[1])["operators"] if one["name"] == "olga"
    ]
    assert (olga["accounts"], olga["networks"], olga["roles"]) == ([], [], ["support"])
    assert staff.by(anna, "operators", "role", "nobody", "--role", "support")[0] == 1


def test_nobody_is_asked_where_there_is_no_terminal(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def gone(path: str, flags: int, *more: int) -> int:
        if str(path) == "/dev/tty":
            raise OSError(6, "No such device or address")
        return real(path, flags, *more)

    staff.add("anna", "operator")
    monkeypatch.setattr("smppd.cli.credentials.os.open", gone)
    for words in (("operators", "add", "ben", "--role", "support"), ("operators", "list", "--operator", "anna")):
        status, out, err = staff.run(*words)
        assert (status, out) == (2, "") and "no terminal" in err


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_serves_until_it_ends(staff: Staff) -> None:
    anna = staff.add("anna", "operator")
    status, out, _ = staff.run("login", *staff.credentials(anna), "--for", "20m")
    assert status == 0 and "Logged in as anna until" in out
    (token,) = (staff.path / "run/smppd").glob("*.session")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert staff.run("operators", "disable", "nobody")[0] == 1
    assert staff.run("purge")[0] == 0 and staff.run(*REVEAL)[0] == 1
    assert staff.trail("login refused")[-1]["who"].startswith("anna (")
    staff.clock.now += 1200
    status, _, err = staff.run("purge")
    assert status == 0 and "Your session has ended" in err, "root goes on without"
    assert not token.exists()


def test_an_expired_session_is_no_login(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = staff.add("anna", "operator")
    assert staff.run("login", *staff.credentials(anna))[0] == 0
    monkeypatch.setattr("smppd.cli.authority.os", SimpleNamespace(geteuid=lambda: 65534))
    assert staff.run("purge")[0] == 0
    staff.clock.now += 900
    status, _, err = staff.run("purge")
    assert status == 1 and "needs a login" in err


def test_logout_ends_it(staff: Staff) -> None:
    assert staff.run("logout")[0] == 1
    anna = staff.add("anna", "operator")
    assert staff.run("logout")[0] == 1
    assert staff.run("login", *staff.credentials(anna))[0] == 0
    (token,) = (staff.path / "run/smppd").glob("*.session")
    kept = token.read_text()
    assert staff.run("logout")[:2] == (0, "Logged out.\n") and not token.exists()
    token.write_text(kept)
    token.chmod(0o600)
    assert "Your session has ended" in staff.run("operators", "list")[2], "the token alone is worth nothing now"


def test_a_second_login_ends_the_first(staff: Staff) -> None:
    anna = staff.add("anna", "operator")
    assert staff.run("login", *staff.credentials(anna))[0] == 0
    (token,) = (staff.path / "run/smppd").glob("*.session")
    first = token.read_text()
    assert staff.run("login", *staff.credentials(anna))[0] == 0
    token.write_text(first)
    assert "Your session has ended" in staff.run("operators", "list")[2]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_token_that_others_can_read_is_refused(staff: Staff, mode: int) -> None:
    anna = staff.add("anna", "operator")
    assert staff.run("login", *staff.credentials(anna))[0] == 0
    (token,) = (staff.path / "run/smppd").glob("*.session")
    token.chmod(mode)
    status, _, err = staff.run("operators", "list")
    assert status == 2 and "0600" in err


def test_a_link_in_the_place_of_the_token_is_not_followed(staff: Staff) -> None:
    anna = staff.add("anna", "operator")
    assert staff.run("login", *staff.credentials(anna))[0] == 0
    (token,) = (staff.path / "run/smppd").glob("*.session")
    token.rename(staff.path / "elsewhere")
    token.symlink_to(staff.path / "elsewhere")
    assert staff.run("operators", "list")[0] == 2


@pytest.mark.parametrize("wrong", ["0", "5s", "61m", "2h", "x", "-1s"])
def test_a_session_lasts_between_ten_seconds_and_an_hour(staff: Staff, wrong: str) -> None:
    staff.add("anna", "operator")
    assert staff.run("login", "--operator", "anna", "--for", wrong)[0] == 2


def test_login_without_operators_is_an_error(staff: Staff) -> None:
    assert staff.run("login", "--operator", "anna")[0] == 2


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "only one line\n", "\n123456\n", "passphrase\n \n"])
def test_credentials_have_two_lines(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(CommandError, match="two lines") as error:
        claim_of("anna", str(file))
    assert error.value.status == 2


def test_credentials_are_private(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_bytes(b"a passphrase\r\n123456\r\nmore\n")
    file.chmod(0o644)
    with pytest.raises(CommandError, match="0600"):
        claim_of("anna", str(file))
    file.chmod(0o600)
    assert claim_of("anna", str(file)) == ("anna", "a passphrase", "123456")
    file.write_bytes(b"\xff\xfe\n123456\n")
    with pytest.raises(CommandError, match="two lines"):
        claim_of("anna", str(file))
    for path in (tmp_path, tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(CommandError) as error:
            claim_of("anna", str(path))
        assert error.value.status == 2


def test_the_address_is_what_the_environment_claims() -> None:
    assert claimed_address({"SSH_CONNECTION": "192.0.2.7 50000 192.0.2.1 22"}) == "192.0.2.7"
    assert claimed_address({"SSH_CONNECTION": " "}) == claimed_address({}) == ""


def test_a_place_is_user_login_and_terminal(tmp_path: Path) -> None:
    (tmp_path / "loginuid").write_text("1000\n")
    (tmp_path / "sessionid").write_text("7\n")
    (tmp_path / "stat").write_text("12 (a ) name) S 1 12 12 34816 12 4194304")
    assert place(tmp_path) == f"{os.getuid()}:{os.geteuid()}:1000:7:34816"
    assert place(tmp_path / "nothing") == f"{os.getuid()}:{os.geteuid()}:::"
