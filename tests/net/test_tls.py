"""TLS in memory: the profile, certificates, streams cut anywhere, and files that cannot be used."""

from __future__ import annotations

import functools
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from smppd.config import ListenerTls, Upstream
from smppd.net import openssl, tls
from smppd.net.openssl import OpenSslError, SslLibrary
from smppd.net.tls import RECORD, TlsClient, TlsError, TlsServer, TlsStream, client_context, server_context
from tests.net.pipes import load_make


def listener(certs: Path, **changes: object) -> ListenerTls:
    values = {"certificate": certs / "server.pem", "key": certs / "server.key"} | changes
    return ListenerTls.model_validate(values)


def pump(a: TlsStream, b: TlsStream) -> None:
    """Carries what both say until they are silent; plain octets are not expected."""
    while True:
        there, back = a.outgoing(), b.outgoing()
        if not there and not back:
            return
        assert b.receive(there) == b"" if there else True
        assert a.receive(back) == b"" if back else True


def pair(
    certs: Path, client: ssl.SSLContext | None = None, server: TlsServer | None = None
) -> tuple[TlsStream, TlsStream]:
    """Both ends after the handshake (or its failure): client, server."""
    there = TlsClient(client or client_context(certs / "ca.pem"), "localhost").stream()
    back = (server or TlsServer(listener(certs))).stream()
    there.begin()
    back.begin()
    pump(there, back)
    return there, back


def version_1_2(certs: Path, ciphers: str = "") -> ssl.SSLContext:
    context = client_context(certs / "ca.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if ciphers:
        context.set_ciphers(ciphers)
    return context


# -- the profile ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_octets_pass_both_ways(certs: Path, version: str) -> None:
    client, server = pair(certs, version_1_2(certs) if version == "TLSv1.2" else None)
    assert client.open and server.open and client.version == server.version == version
    for size in (1, 100, RECORD - 1, RECORD, RECORD + 1, 5 * RECORD + 3):
        data = bytes(size)
        assert server.receive(client.encrypt(data)) == data
        assert client.receive(server.encrypt(data)) == data
    assert server.certificate is None
    assert client.certificate is not None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_old_versions_are_refused(certs: Path, version: ssl.TLSVersion) -> None:
    context = client_context(certs / "ca.pem")
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    client, server = pair(certs, context)
    assert not server.open and not client.open
    assert client.failed


@pytest.mark.parametrize(
    "ciphers", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256", "AES256-SHA"]
)
def test_suites_without_ecdhe_and_aead_are_refused(certs: Path, ciphers: str) -> None:
    client, server = pair(certs, version_1_2(certs, ciphers))
    assert server.failed == "NO_SHARED_CIPHER"
    assert not client.open


def test_all_suites_are_ecdhe_and_aead_or_of_tls_1_3(certs: Path) -> None:
    for context in (TlsServer(listener(certs)).context, client_context(certs / "ca.pem")):
        for cipher in context.get_ciphers():
            assert cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE-")
            assert cipher["aead"]
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


# -- groups --------------------------------------------------------------------------------------------------------

LIBRARY = SslLibrary()
ALLOWED = ("X25519", "P-256", "P-384")
OTHERS = (
    *("ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192", "X448", "P-521", "secp256k1"),
    *("X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "MLKEM512", "MLKEM768", "MLKEM1024"),
    *("brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "P-224", "sect283k1"),
)


def plain_context(certs: Path, side: int, version: ssl.TLSVersion, group: str) -> ssl.SSLContext:
    """A peer of one version that offers one group."""
    context = ssl.SSLContext(side)
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.load_verify_locations(certs / "ca.pem")
    else:
        context.load_cert_chain(certs / "server.pem", certs / "server.key")
    context.minimum_version = context.maximum_version = version
    LIBRARY.set_groups(context, group)
    return context


def known(group: str) -> bool:
    """Whether the OpenSSL at hand has this group: older ones know no ML-KEM."""
    try:
        LIBRARY.set_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), group)
    except OpenSslError:
        return False
    return True


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("group", [name for name in (*ALLOWED, *OTHERS) if known(name)])
def test_three_groups_and_no_other_on_both_sides(certs: Path, group: str, version: ssl.TLSVersion) -> None:
    client, server = pair(certs, plain_context(certs, ssl.PROTOCOL_TLS_CLIENT, version, group))
    # The certificate is on P-256: under TLS 1.2 a client without that group could not use it, whatever ours says.
    usable = group in ALLOWED and (version is ssl.TLSVersion.TLSv1_3 or group == "P-256")
    assert client.open is server.open is usable
    ours = TlsClient(client_context(certs / "ca.pem"), "localhost").stream()
    theirs = TlsStream(plain_context(certs, ssl.PROTOCOL_TLS_SERVER, version, group), server_side=True)
    ours.begin()
    pump(ours, theirs)
    assert ours.open is theirs.open is (group in ALLOWED)


@pytest.mark.parametrize("group", [name for name in (*ALLOWED, *OTHERS) if known(name)])
def test_under_tls_1_2_the_exchange_is_of_the_three_groups_whatever_the_certificate(
    certs: Path, tmp_path: Path, group: str
) -> None:
    """With an RSA certificate, which needs no group of its own."""
    files = rsa_pair(tmp_path)
    client = plain_context(certs, ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_2, group)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = pair(certs, client, TlsServer(ListenerTls(certificate=files[0], key=files[1])))
    assert there.open is back.open is (group in ALLOWED)


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def rsa_pair(directory: Path) -> tuple[Path, Path]:
    key, name = rsa_key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate, private = directory / "rsa.pem", directory / "rsa.key"
    certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


def test_our_own_hello_offers_the_three_groups_only(certs: Path) -> None:
    for context, groups in ((client_context(certs / "ca.pem"), [29, 23, 24]),):
        stream = TlsClient(context, "localhost").stream()
        stream.begin()
        assert extension(stream.outgoing(), 10)[2:] == b"".join(group.to_bytes(2) for group in groups)


def extension(hello: bytes, wanted: int) -> bytes:
    """The body of an extension of a ClientHello in one record (RFC 8446 section 4.1.2)."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2])
    at += 1 + hello[at] + 2
    while at < len(hello):
        kind, size = int.from_bytes(hello[at : at + 2]), int.from_bytes(hello[at + 2 : at + 4])
        if kind == wanted:
            return hello[at + 4 : at + 4 + size]
        at += 4 + size
    raise AssertionError("no such extension")


def test_no_signature_with_sha1_or_dsa_is_offered(certs: Path) -> None:
    stream = TlsClient(client_context(certs / "ca.pem"), "localhost").stream()
    stream.begin()
    listed = extension(stream.outgoing(), 13)[2:]
    algorithms = {listed[at : at + 2].hex() for at in range(0, len(listed), 2)}
    # ECDSA, Ed25519, RSA-PSS and RSA PKCS #1 with SHA-256 and up (RFC 8446 section 4.2.3).
    assert algorithms == {"0403", "0503", "0603", "0807", "0804", "0805", "0806", "0401", "0501", "0601"}


def test_where_the_library_cannot_be_reached_the_profile_is_narrower_never_wider(
    certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_library", None)
    for group in (name for name in (*ALLOWED, *OTHERS) if known(name)):
        client = plain_context(certs, ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3, group)
        assert pair(certs, client)[1].open is (group == "P-256")
    old = plain_context(certs, ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_2, "P-256")
    assert not pair(certs, old)[1].open
    assert all(end.open for end in pair(certs))


def test_contexts_that_are_not_as_known_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, "_KNOWN", ())
    with pytest.raises(OpenSslError, match="not known"):
        SslLibrary()
    monkeypatch.undo()
    monkeypatch.setattr(SslLibrary, "_pointer", staticmethod(lambda context: id(context) + 8))
    with pytest.raises(OpenSslError, match="does not begin"):
        SslLibrary()
    monkeypatch.setattr(SslLibrary, "_pointer", staticmethod(lambda context: 8))
    with pytest.raises(OpenSslError, match="does not begin"):
        SslLibrary()


# -- resumption ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("certificate", ["off", "required"])
def test_nothing_is_resumed_and_nothing_kept_of_a_handshake(
    certs: Path, version: ssl.TLSVersion, certificate: str
) -> None:
    ca = {"client_ca": certs / "ca.pem"} if certificate == "required" else {}
    server = TlsServer(listener(certs, client_certificates=certificate, **ca))
    context = client_context(certs / "ca.pem", certs / "client.pem", certs / "client.key")
    context.minimum_version = context.maximum_version = version
    session = None
    for _ in range(3):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost", session=session)
        end = server.stream()
        for _ in range(4):
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                end.receive(outgoing.read())
                incoming.write(end.outgoing())
        end.receive(outgoing.read())
        assert end.open and not client.session_reused
        with pytest.raises(ssl.SSLWantReadError):
            client.read(1)  # takes what follows the handshake: a ticket, if there were one
        session = client.session
        assert session is not None and not session.has_ticket
    stats = server.context.session_stats()
    assert (stats["number"], stats["hits"], stats["accept_good"]) == (0, 0, 3)


def test_no_ticket_follows_a_handshake(certs: Path) -> None:
    client, end = pair(certs)
    assert end.outgoing() == b"" and client.open


# -- certificates --------------------------------------------------------------------------------------------------


def test_a_client_certificate_is_required_offered_or_not_asked_for(certs: Path) -> None:
    plain, bearing = (
        client_context(certs / "ca.pem"),
        client_context(certs / "ca.pem", certs / "client.pem", certs / "client.key"),
    )
    required = TlsServer(listener(certs, client_ca=certs / "ca.pem"))
    optional = TlsServer(listener(certs, client_ca=certs / "ca.pem", client_certificates="optional"))
    der = ssl.PEM_cert_to_DER_cert((certs / "client.pem").read_text())
    assert pair(certs, bearing, required)[1].certificate == der
    assert pair(certs, bearing, optional)[1].certificate == der
    assert pair(certs, bearing)[1].certificate is None
    assert pair(certs, plain, optional)[1].open
    assert pair(certs, plain, required)[1].failed == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


def test_a_client_certificate_of_another_authority_is_refused(certs: Path, tmp_path: Path) -> None:
    load_make().make(tmp_path, datetime.now(UTC))
    stranger = client_context(certs / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key")
    for mode in ("required", "optional"):
        server = TlsServer(listener(certs, client_ca=certs / "ca.pem", client_certificates=mode))
        assert not pair(certs, stranger, server)[1].open


@pytest.mark.parametrize(
    ("name", "fine"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("example.net", False), ("127.0.0.2", False)],
)
def test_a_client_checks_the_server_name_be_it_host_or_address(certs: Path, name: str, fine: bool) -> None:
    client = TlsClient(client_context(certs / "ca.pem"), name).stream()
    server = TlsServer(listener(certs)).stream()
    client.begin()
    pump(client, server)
    assert client.open is fine
    assert (client.failed is None) is fine


def test_a_client_refuses_an_unknown_authority(certs: Path) -> None:
    client, server = pair(certs, client_context("system"))
    assert client.failed == "unable to get local issuer certificate"
    assert server.failed == "TLSV1_ALERT_UNKNOWN_CA"


def test_the_upstream_settings_name_the_server(certs: Path) -> None:
    base = {"name": "a", "address": "127.0.0.1:1", "system_id": "x", "password": {"env": "X"}}
    assert tls.client_of(Upstream.model_validate(base)) is None
    made = tls.client_of(Upstream.model_validate(base | {"tls": {"ca": certs / "ca.pem"}}))
    assert made is not None and made.server_name == "127.0.0.1"
    made = tls.client_of(Upstream.model_validate(base | {"tls": {"ca": certs / "ca.pem", "server_name": "localhost"}}))
    assert made is not None and made.server_name == "localhost"


# -- files ---------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_named(certs: Path, tmp_path: Path) -> None:
    junk, secret = tmp_path / "junk.pem", "hunter2hunter2"
    junk.write_text(secret)
    locked = tmp_path / "locked.key"
    key = serialization.load_pem_private_key((certs / "server.key").read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(secret.encode()),
        )
    )
    good, good_key = certs / "server.pem", certs / "server.key"
    for certificate, private, ca, wanted in (
        (tmp_path / "none.pem", good_key, None, "none.pem cannot be read: No such file"),
        (good, tmp_path / "none.key", None, "none.key cannot be read"),
        (junk, good_key, None, "junk.pem"),
        (good, junk, None, "junk.pem"),
        (good, certs / "client.key", None, "client.key does not belong to certificate"),
        (good, locked, None, "locked.key is encrypted"),
        (good, good_key, junk, "CA file"),
        (good, good_key, tmp_path / "none.pem", "none.pem cannot be read"),
    ):
        with pytest.raises(TlsError) as caught:
            server_context(certificate, private, ca, "required" if ca else "off")
        assert wanted in str(caught.value)
        assert secret not in str(caught.value)
    with pytest.raises(TlsError, match="need client_ca"):
        server_context(good, good_key, None, "required")
    with pytest.raises(TlsError, match="CA file"):
        client_context(junk)


def test_reload_serves_the_new_certificate_and_a_bad_one_changes_nothing(certs: Path, tmp_path: Path) -> None:
    for name in ("server.pem", "server.key"):
        (tmp_path / name).write_bytes((certs / name).read_bytes())
    ours = listener(tmp_path)
    server = TlsServer(ours)
    old_client, old_server = pair(certs, server=server)
    context, expires = server.context, server.expires
    (tmp_path / "server.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(TlsError):
        server.reload(ours)
    assert (server.context, server.expires) == (context, expires)
    for name in ("server.pem", "server.key"):
        (tmp_path / name).write_bytes((certs / name.replace("server", "client")).read_bytes())
    server.reload(ours)
    assert server.context is not context
    assert not pair(certs, server=server)[0].open  # the new certificate bears another name
    assert old_server.receive(old_client.encrypt(b"still here")) == b"still here"


# -- streams -------------------------------------------------------------------------------------------------------


@given(
    messages=st.lists(st.binary(min_size=1, max_size=300) | st.integers(1, 3 * RECORD).map(bytes), max_size=6),
    cuts=st.lists(st.integers(1, 20_000), max_size=60),
    old=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_any_split_of_the_wire_gives_the_same_plain_octets(
    certs: Path, messages: list[bytes], cuts: list[int], old: bool
) -> None:
    """The handshake's last flight is part of the wire: application data may come in the same read."""
    client = TlsClient(version_1_2(certs) if old else client_context(certs / "ca.pem"), "localhost").stream()
    server = TlsServer(listener(certs)).stream()
    client.begin()
    while not client.open:
        server.receive(client.outgoing())
        client.receive(server.outgoing())
    wire = client.outgoing() + b"".join(client.encrypt(message) for message in messages) + client.close()
    plain, start = b"", 0
    for cut in [*cuts, len(wire)]:
        if wire[start : start + cut]:
            plain += server.receive(wire[start : start + cut])
        start += cut
    assert plain == b"".join(messages)
    assert server.closed and server.failed is None


def test_close_notify_ends_one_direction(certs: Path) -> None:
    client, server = pair(certs)
    wire = client.encrypt(b"last") + client.close()
    assert server.receive(wire) == b"last"
    assert server.closed and server.failed is None
    assert server.receive(b"more") == b""
    assert client.receive(server.encrypt(b"answer")) in (b"", b"answer")
    assert server.close()


def test_a_broken_record_gives_what_came_before_then_fails_for_good(certs: Path) -> None:
    client, server = pair(certs)
    good, bad = client.encrypt(b"good"), bytearray(client.encrypt(b"bad"))
    bad[-1] ^= 1
    assert server.receive(good + bytes(bad)) == b"good"
    assert server.failed
    alert = server.outgoing()
    assert alert
    assert server.receive(client.encrypt(b"later")) == b""
    client.receive(alert)
    assert client.failed
    assert server.close() == b""


def test_a_renegotiation_is_refused(certs: Path) -> None:
    """With pyOpenSSL as the client: the standard library cannot ask for one."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client, server = SSL.Connection(context), TlsServer(listener(certs)).stream()
    client.set_connect_state()
    heard = b""

    def carry() -> None:
        nonlocal heard
        for _ in range(10):
            try:
                client.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                heard += server.receive(client.bio_read(65536))
            except SSL.WantReadError:
                pass
            answer = server.outgoing()
            if not answer:
                return
            client.bio_write(answer)

    carry()
    assert server.open
    assert client.renegotiate()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        carry()
    assert server.failed is None and heard == b""


@given(st.binary(min_size=1, max_size=2000))
@settings(deadline=None, max_examples=100)
def test_garbage_never_raises(certs: Path, octets: bytes) -> None:
    server = TlsServer(listener(certs)).stream()
    assert server.receive(octets) == b""
    server.receive(b"\x16\x03\x01" + octets)
    server.outgoing()
    server.close()
    assert not server.open


def test_what_begins_tls() -> None:
    assert tls.looks_like_tls(b"\x16") and tls.looks_like_tls(b"\x16\x03\x01")
    assert not tls.looks_like_tls(b"\x00\x00\x00\x2f") and not tls.looks_like_tls(b"GET ")
    assert not tls.looks_like_tls(b"\x16\x02")
