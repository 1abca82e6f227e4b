"""Development certificates: a CA, a server certificate for this machine and a client certificate for mutual TLS.

For development, the demo and the tests only: the CA's key lies beside the certificates. ECDSA P-256, RFC 5280 profiles.
Run by make.sh, or `python certs/make.py DIRECTORY`; tests may call `make` with a clock of their own.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = timedelta(days=730)
LEAF_LIFE = timedelta(days=90)
RENEW_WITHIN = timedelta(days=7)
# A clock a little behind ours must not refuse what was just made.
BACKDATE = timedelta(hours=1)

SERVER_NAMES: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)
CLIENT_NAMES: tuple[x509.GeneralName, ...] = (x509.DNSName("client.localhost"),)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Pair({self.certificate.subject.rfc4514_string()})"


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file whole: nobody sees half of it, and a key is never readable by others, not even for a moment."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
    scratch.replace(path)


def _load(directory: Path, name: str) -> Pair | None:
    """The pair on disk, or None when a file is missing, damaged or does not belong to the other."""
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
        key = serialization.load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return Pair(certificate, key)


def _save(directory: Path, name: str, pair: Pair) -> None:
    key = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(directory / f"{name}.key", key, 0o600)
    _write(directory / f"{name}.pem", pair.certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _issue(
    common_name: str, now: datetime, life: timedelta, issuer: Pair | None, usage: tuple[x509.ExtensionType, ...]
) -> Pair:
    """A new key and its certificate, signed by `issuer`, or by itself when there is none (the CA)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signer = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), True)
        .add_extension(_key_usage(authority=issuer is None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )
    for extension in usage:
        builder = builder.add_extension(extension, False)
    return Pair(builder.sign(signer, hashes.SHA256()), key)


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _fresh(pair: Pair | None, now: datetime) -> bool:
    if pair is None:
        return False
    certificate = pair.certificate
    return certificate.not_valid_before_utc <= now and certificate.not_valid_after_utc - now > RENEW_WITHIN


def _signed_by(pair: Pair, issuer: Pair) -> bool:
    try:
        pair.certificate.verify_directly_issued_by(issuer.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def make(directory: Path, now: datetime) -> list[str]:
    """Write what is missing, damaged or expires within 7 days: {ca,server,client}.{pem,key}. Keys get mode 0600.

    `now` is aware. Returns the names that were made anew; a new CA brings a new server and client.
    Raises OSError when the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    authority = _load(directory, "ca")
    if authority is None or not _fresh(authority, now):
        # The hour in the name tells this CA from the one before in error messages.
        authority = _issue(f"smppd development CA {now:%Y-%m-%d %H:%M}", now, CA_LIFE, None, ())
        _save(directory, "ca", authority)
        made.append("ca")
    for name, common_name, names, purpose in (
        ("server", "localhost", SERVER_NAMES, ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", "smppd development client", CLIENT_NAMES, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        pair = _load(directory, name)
        if pair is None or not _fresh(pair, now) or not _signed_by(pair, authority):
            usage = (x509.SubjectAlternativeName(names), x509.ExtendedKeyUsage([purpose]))
            _save(directory, name, _issue(common_name, now, LEAF_LIFE, authority, usage))
            made.append(name)
        (directory / f"{name}.key").chmod(0o600)
    (directory / "ca.key").chmod(0o600)
    return made


def main(arguments: list[str]) -> int:
    """`make.py DIRECTORY`: 0 when all six files are there and good, 1 when they could not be written."""
    if len(arguments) != 1:
        print("usage: certs/make.sh [DIRECTORY]", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    try:
        made = make(directory, datetime.now(UTC))
    except OSError as error:
        print(f"certs: cannot write to {directory}: {error.strerror}", file=sys.stderr)
        return 1
    what = f"made {', '.join(made)}" if made else "all certificates are good for more than 7 days"
    print(f"certs: {what} in {directory}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
