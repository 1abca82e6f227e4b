"""Development certificates: what certs/make.sh writes, when it writes it again, and who may read it."""

from __future__ import annotations

import importlib.util
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

ROOT = Path(__file__).resolve().parent.parent
NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ("ca", "server", "client")


def load() -> ModuleType:
    """certs/make.py, which is a script beside the package and no part of it."""
    spec = importlib.util.spec_from_file_location("smppd_certs_make", ROOT / "certs" / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


certs = load()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def certificate(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())


def test_six_files_are_made_and_keys_are_private(tmp_path: Path) -> None:
    assert certs.make(tmp_path / "new", NOW) == list(NAMES)
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert files == {f"{name}.pem": 0o644 for name in NAMES} | {f"{name}.key": 0o600 for name in NAMES}


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    certs.make(tmp_path, NOW)
    before = contents(tmp_path)
    assert certs.make(tmp_path, NOW + timedelta(days=82)) == []
    assert contents(tmp_path) == before


def test_what_expires_within_a_week_is_made_anew(tmp_path: Path) -> None:
    certs.make(tmp_path, NOW)
    authority = certificate(tmp_path, "ca")
    assert certs.make(tmp_path, NOW + timedelta(days=83, seconds=1)) == ["server", "client"]
    assert certificate(tmp_path, "ca") == authority
    assert certs.make(tmp_path, NOW + timedelta(days=724)) == list(NAMES)


@pytest.mark.parametrize("damage", [None, b"", b"no certificate"])
@pytest.mark.parametrize("file", ["server.pem", "server.key"])
def test_what_is_missing_or_damaged_is_made_anew(tmp_path: Path, file: str, damage: bytes | None) -> None:
    certs.make(tmp_path, NOW)
    if damage is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(damage)
    assert certs.make(tmp_path, NOW) == ["server"]


def test_a_key_of_another_certificate_is_not_kept(tmp_path: Path) -> None:
    certs.make(tmp_path, NOW)
    (tmp_path / "server.key").write_bytes((tmp_path / "client.key").read_bytes())
    assert certs.make(tmp_path, NOW) == ["server"]


def test_a_new_authority_signs_new_certificates(tmp_path: Path) -> None:
    certs.make(tmp_path, NOW)
    (tmp_path / "ca.key").unlink()
    assert certs.make(tmp_path, NOW) == list(NAMES)
    for name in ("server", "client"):
        certificate(tmp_path, name).verify_directly_issued_by(certificate(tmp_path, "ca"))


def test_a_readable_key_is_closed_again(tmp_path: Path) -> None:
    certs.make(tmp_path, NOW)
    (tmp_path / "ca.key").chmod(0o644)
    assert certs.make(tmp_path, NOW) == []
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600


def test_names_and_purposes(tmp_path: Path) -> None:
    certs.make(tmp_path, NOW)
    server, client = certificate(tmp_path, "server"), certificate(tmp_path, "client")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    for found, purpose in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        assert list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_openssl_accepts_both_ends(tmp_path: Path, host: str) -> None:
    certs.make(tmp_path, datetime.now(UTC))
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    ours.verify_mode = ssl.CERT_REQUIRED
    ours.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    theirs = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    theirs.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(up, down, server_side=True)
    client = theirs.wrap_bio(down, up, server_hostname=host)
    finished: set[ssl.SSLObject] = set()
    for _ in range(10):
        for end in (client, server):
            try:
                end.do_handshake()
                finished.add(end)
            except ssl.SSLWantReadError:
                pass
    assert finished == {client, server}


def test_the_script_takes_a_directory(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "certs" / "make.sh"), str(tmp_path / "certs")]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (first.returncode, first.stderr) == (0, "")
    assert "made ca, server, client" in first.stdout
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "good for more than 7 days" in second.stdout


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert certs.main([str(tmp_path / "file" / "certs")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert certs.main([]) == 2
