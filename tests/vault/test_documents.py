"""Documents of the installation open in their place only; certificates verify with openssl."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from smppd.vault import certificate
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import InstallSecrets
from smppd.vault.seal import SealError

INSTALL = InstallSecrets(
    {name: bytes([at]) * 32 for at, name in enumerate(("audit", "checkpoint", "dedupe", "suppression"))}
)
SEALER = DocumentSealer(INSTALL)


def test_a_document_opens_as_it_was() -> None:
    value = {"name": "ana", "roles": ["support"], "note": "\N{SNOWMAN}\ud800"}
    assert SEALER.open("operator", "ana", SEALER.seal("operator", "ana", value)) == value
    assert b"support" not in SEALER.seal("operator", "ana", value)


@pytest.mark.parametrize(("kind", "name"), [("hold", "ana"), ("operator", "ben"), ("operator\0ana", "")])
def test_it_does_not_open_in_anothers_place(kind: str, name: str) -> None:
    with pytest.raises(SealError):
        SEALER.open(kind, name, SEALER.seal("operator", "ana", {}))


def test_every_flipped_bit_shows() -> None:
    sealed = SEALER.seal("operator", "ana", {"a": 1})
    for at in range(len(sealed) * 8):
        broken = bytearray(sealed)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(SealError):
            SEALER.open("operator", "ana", bytes(broken))


@given(st.binary(max_size=200))
def test_no_octets_raise_anything_else(octets: bytes) -> None:
    with pytest.raises(SealError):
        SEALER.open("operator", "ana", octets)


def test_a_certificate_verifies_with_openssl_and_an_altered_one_does_not(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    made = certificate.certify({"what": "erasure", "records": 3}, key)
    path = certificate.write(tmp_path / "certificates", "erasure-1", made)
    assert json.loads(path.read_text())["key_sha256"] == certificate.fingerprint(key.public_key())
    assert certificate.verify(path.read_bytes(), made.signature, key.public_key())["records"] == 3
    openssl = shutil.which("openssl")
    assert openssl, "openssl is needed for the tests"
    command = certificate.VERIFY.format(key=certificate.PUBLIC_KEY, name="erasure-1").split()
    good = subprocess.run([openssl, *command[1:]], cwd=path.parent, capture_output=True, check=False)
    assert good.returncode == 0, good.stderr
    path.write_bytes(made.text.replace(b"3", b"4"))
    assert subprocess.run([openssl, *command[1:]], cwd=path.parent, capture_output=True, check=False).returncode != 0
    with pytest.raises(SealError):
        certificate.verify(made.text.replace(b"3", b"4"), made.signature, key.public_key())
    with pytest.raises(SealError):
        certificate.verify(made.text, made.signature, Ed25519PrivateKey.generate().public_key())
