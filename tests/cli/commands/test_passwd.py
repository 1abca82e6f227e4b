"""`smppd passwd`: the hash alone on standard output, weak passwords refused with the reason and without repeating them."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from smppd.cli.main import main
from smppd.config import Account


def given(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))


def test_stdin_prints_the_hash_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given(monkeypatch, b"plenty of words here\n")
    assert main(["passwd", "--stdin"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1 and out.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    Argon2id.verify_phc_encoded(b"plenty of words here", out.strip())
    assert Account(system_id="acme", password_hash=out.strip(), networks="any").password_hash == (out.strip(),)


def test_generate_tells_the_password_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passwd", "--generate"]) == 0
    out, err = capsys.readouterr()
    password = err.removeprefix("password: ").strip()
    assert len(password) == 20 and out.count("\n") == 1
    Argon2id.verify_phc_encoded(password.encode(), out.strip())


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("Sh0rt!", "fewer than 8"),
        ("onlylower", "three kinds"),
        ("onlylow3r", "three kinds"),
        ("Password1!", "common password"),
        ("P@ssw0rd2026", "common password"),
        ("Letmein-123", "common password"),
        ("aaaaaaaaaaaaaaaa", "very few characters"),
        ("abcdefghijklmnop", "sequence"),
        ("1234567890123456", "sequence"),
        ("caf\xe9 au lait bitte", "printable ASCII"),
        ("x" * 65, "more than 64"),
        ("Example-Shop1", "system_id"),
    ],
)
def test_weak_passwords(
    password: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, password.encode() + b"\n")
    assert main(["passwd", "--stdin", "--system-id", "example-shop"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and reason in err and err.startswith("smppd: password refused: ") and password not in err


def test_without_a_terminal_or_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given(monkeypatch, b"")
    assert main(["passwd"]) == 2
    assert main(["passwd", "--stdin"]) == 1
    assert "standard input is empty" in capsys.readouterr().err
    given(monkeypatch, b"\xff\xfe\n")
    assert main(["passwd", "--stdin"]) == 1


def test_asked_twice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter(["plenty of words here", "plenty of words hear", "plenty of words here", "plenty of words here"])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert main(["passwd"]) == 1
    assert capsys.readouterr().err == "smppd: the two passwords differ\n"
    assert main(["passwd"]) == 0
