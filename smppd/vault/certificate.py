"""Signed certificates of what was destroyed or handed over: JSON, a detached Ed25519 signature (RFC 8032), the public key.

Anybody verifies one without smppd:

    openssl pkeyutl -verify -pubin -inkey installation.pem -rawin -in NAME.json -sigfile NAME.sig
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smppd.durable import replace_file
from smppd.vault.seal import SealError

PUBLIC_KEY: Final = "installation.pem"
"""The file with the installation's public key, beside the certificates."""
VERIFY: Final = "openssl pkeyutl -verify -pubin -inkey {key} -rawin -in {name}.json -sigfile {name}.sig"


class Certificate(NamedTuple):
    """text: the JSON that is signed, octet for octet. signature: 64 octets. public: the key that verifies it, PEM."""

    text: bytes
    signature: bytes
    public: bytes


def certify(facts: Mapping[str, object], key: Ed25519PrivateKey) -> Certificate:
    """Signs facts, which hold nothing of a person. The text also names the key by its fingerprint (`key_sha256`, of the DER
    form). key: the installation's (`InstallSecrets.checkpoint`)."""
    public = key.public_key()
    said = {**facts, "key_sha256": fingerprint(public)}
    text = json.dumps(said, indent=2, ensure_ascii=False).encode() + b"\n"
    return Certificate(text, key.sign(text), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of a public key in DER form, hexadecimal."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def verify(text: bytes, signature: bytes, key: Ed25519PublicKey) -> dict[str, object]:
    """The facts of a certificate. SealError if this key did not sign it."""
    try:
        key.verify(signature, text)
        facts = json.loads(text)
    except (InvalidSignature, ValueError):
        raise SealError("the certificate was altered, or another installation signed it") from None
    if not isinstance(facts, dict):
        raise SealError("this is no certificate")
    return facts


def write(directory: Path, name: str, certificate: Certificate, public: str = PUBLIC_KEY) -> Path:
    """Writes NAME.json, NAME.sig and the public key (under the name `public`) into a directory, which is made where it is
    missing; synced when it returns. Gives the path of NAME.json. OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(directory / public, certificate.public)
    replace_file(directory / f"{name}.sig", certificate.signature)
    path = directory / f"{name}.json"
    replace_file(path, certificate.text)
    return path
