"""The KEK: its file's safety, its text form, wrapping bound to scope and version."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.vault.kek import (
    Kek,
    VaultError,
    add_kek_version,
    blob_info,
    create_kek,
    load_kek,
    retire_kek_versions,
)
from tests.vault.rows import kek, some


@dataclass
class Source:
    file: Path | None = None
    command: tuple[str, ...] | None = None
    credential: str | None = None


def test_created_file_is_private_and_loads(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "kek"
    before = os.umask(0)
    try:
        create_kek(file)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600
    loaded = load_kek(Source(file))
    assert loaded.current == 1
    assert loaded.unwrap(b"s", loaded.wrap(b"s", some("key"))) == some("key")


def test_a_kek_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "kek"
    create_kek(file)
    content = file.read_bytes()
    with pytest.raises(VaultError, match="never overwritten"):
        create_kek(file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "kek"
    create_kek(file)
    file.chmod(mode)
    with pytest.raises(VaultError, match=r"must be 0600"):
        load_kek(Source(file))


def test_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kek"
    create_kek(file)
    uid = os.geteuid()
    if uid == 0:  # only root can give a file away; anyone else becomes another user here
        uid = 12345
        os.chown(file, uid, -1)
    else:
        monkeypatch.setattr("smppd.vault.kek.os.geteuid", lambda: uid + 1)
    with pytest.raises(VaultError, match=f"belongs to uid {uid}"):
        load_kek(Source(file))


def test_root_serves_the_user_who_owns_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_kek(tmp_path / "kek")
    monkeypatch.setattr("smppd.vault.kek.os.geteuid", lambda: 0)
    if os.getuid() == 0:
        os.chown(tmp_path / "kek", 12345, -1)
        os.chown(tmp_path, 12345, -1)
    assert load_kek(Source(tmp_path / "kek")).current == 1


def test_missing_directory_fifo_and_huge_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="no such KEK file"):
        load_kek(Source(tmp_path / "none"))
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(VaultError, match="regular file"):
        load_kek(Source(tmp_path / "fifo"))
    (tmp_path / "directory").mkdir(mode=0o700)
    with pytest.raises(VaultError, match="directory: the KEK file must be a regular file"):
        load_kek(Source(tmp_path / "directory"))
    huge = tmp_path / "huge"
    huge.write_bytes(b"#" * 70_000)
    huge.chmod(0o600)
    with pytest.raises(VaultError, match="larger"):
        load_kek(Source(huge))


LINE = b"smppd-kek v1 1 2026-11-22T00:00:00Z " + b64encode(b"A" * 32) + b"\n"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# nothing\n",
        LINE.replace(b"v1", b"v2"),
        LINE.replace(b" 1 ", b" 0 "),
        LINE.replace(b" 1 ", b" one "),
        LINE.replace(b"2026-11-22", b"yesterday"),
        LINE.replace(b"QUFB", b"QU*B"),
        LINE.replace(b"QUFB", b""),
        LINE + LINE,
        LINE.replace(b" 1 ", b" 2 ") + LINE,
        LINE.strip() + b" more\n",
    ],
)
def test_malformed_text_is_refused_without_being_quoted(text: bytes) -> None:
    with pytest.raises(VaultError) as caught:
        Kek.parse(text, "somewhere")
    assert "somewhere" in str(caught.value)
    assert "QUFB" not in str(caught.value)
    assert caught.value.__cause__ is None


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda tail: LINE + tail.encode("utf-8", "ignore")))
def test_any_text_parses_or_is_refused(text: bytes) -> None:
    try:
        Kek.parse(text, "x")
    except VaultError:
        pass


def test_repr_shows_no_key() -> None:
    assert repr(Kek.parse(LINE, "x")) == "<Kek versions=[1] key=***>"


def test_command_gives_the_key() -> None:
    assert load_kek(Source(command=("printf", "%s", LINE.decode()))).current == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("false",), "failed with status 1"),
        (("/nonexistent/key-command",), "cannot be started"),
        (("printf", "secret-looking output"), "line 1 is not"),
        (("yes",), "more than 65536"),
    ],
)
def test_failing_command_is_refused_without_its_output(command: tuple[str, ...], message: str) -> None:
    with pytest.raises(VaultError, match=message) as caught:
        load_kek(Source(command=command))
    assert "secret-looking" not in str(caught.value)


def test_silent_command_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.vault.kek.COMMAND_SECONDS", 0.05)
    with pytest.raises(VaultError, match="within 0 s"):
        load_kek(Source(command=("tail", "-f", "/dev/null")))


def test_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kek").write_bytes(LINE)
    (tmp_path / "kek").chmod(0o440)  # what an ACL's mask looks like
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_kek(Source(credential="kek")).current == 1
    with pytest.raises(VaultError, match="a name, not a path"):
        load_kek(Source(credential="../kek"))
    (tmp_path / "kek").chmod(0o444)
    with pytest.raises(VaultError, match="lets others"):
        load_kek(Source(credential="kek"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(VaultError, match="systemd unit"):
        load_kek(Source(credential="kek"))
    with pytest.raises(VaultError, match="one of"):
        load_kek(Source())


def test_every_byte_of_a_blob_and_the_scope_are_held() -> None:
    wrapper = kek()
    blob = wrapper.wrap(b"period/acme/body/2026-11-22", some("key"), created=1)
    assert blob_info(blob).created == 1
    assert some("key") not in blob
    for at in range(len(blob)):
        with pytest.raises(VaultError):
            wrapper.unwrap(b"period/acme/body/2026-11-22", blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
    for scope in (b"period/beta/body/2026-11-22", b"period/acme/body/2026-11-2", b""):
        with pytest.raises(VaultError, match="does not open"):
            wrapper.unwrap(scope, blob)
    for cut in (0, 10, len(blob) - 1):
        with pytest.raises(VaultError):
            wrapper.unwrap(b"period/acme/body/2026-11-22", blob[:cut])


def test_commitment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """GCM alone would accept a blob made to open under another key: here a wrong commitment is sealed in properly."""
    wrapper = kek()
    with monkeypatch.context() as patch:
        patch.setattr("smppd.vault.kek._commitment", lambda *_: bytes(32))
        blob = wrapper.wrap(b"s", some("key"))
    with pytest.raises(VaultError, match="commitment"):
        wrapper.unwrap(b"s", blob)


def test_wrong_kek_and_unknown_version() -> None:
    blob = kek(1, 2).wrap(b"s", some("key"))
    with pytest.raises(VaultError, match="version 2, which the KEK source does not hold"):
        kek(1).unwrap(b"s", blob)
    other = Kek([(2, "2026-11-22T00:00:00Z", some("another"))])
    with pytest.raises(VaultError, match="another KEK"):
        other.unwrap(b"s", blob)


def test_file_rotation_keeps_the_old_version_until_it_retires(tmp_path: Path) -> None:
    file = tmp_path / "kek"
    create_kek(file)
    old = load_kek(Source(file)).wrap(b"s", some("key"), created=5)
    assert add_kek_version(file) == 2
    both = load_kek(Source(file))
    assert both.current == 2
    assert both.unwrap(b"s", old) == some("key")
    fresh = both.rewrap(b"s", old)
    assert (blob_info(fresh).kek_version, blob_info(fresh).created) == (2, 5)
    assert retire_kek_versions(file) == [1]
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["kek"]
    last = load_kek(Source(file))
    assert last.unwrap(b"s", fresh) == some("key")
    with pytest.raises(VaultError, match="version 1"):
        last.unwrap(b"s", old)
