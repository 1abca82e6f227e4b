"""TLS without sockets: contexts made from files, and a stream that turns TLS records into plain octets and back.

Standard library ``ssl`` over memory BIOs. Mozilla's intermediate profile (server side TLS 5.7): TLS 1.2 with ECDHE and
AEAD only, and TLS 1.3; the groups X25519, P-256 and P-384 alone; no compression, no renegotiation, nothing resumed.
"""

from __future__ import annotations

import logging
import ssl
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Protocol

from cryptography import x509

from smppd.config import ListenerTls, Upstream
from smppd.net.openssl import OpenSslError, SslLibrary

log = logging.getLogger("smppd.tls")

_CIPHERS_1_2: Final = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
GROUPS: Final = "X25519:P-256:P-384"
"""Key exchanges, on both sides. OpenSSL's own list has finite fields too: one ClientHello with ffdhe8192 costs 140 ms."""
SAFE_GROUP: Final = "prime256v1"
"""What remains where the list cannot be set: P-256, which every TLS 1.3 has (RFC 8446 section 9.1)."""
SIGNATURES: Final = ":".join(
    (
        *("ECDSA+SHA256", "ECDSA+SHA384", "ECDSA+SHA512", "ed25519"),
        *("RSA-PSS+SHA256", "RSA-PSS+SHA384", "RSA-PSS+SHA512", "RSA+SHA256", "RSA+SHA384", "RSA+SHA512"),
    )
)
RECORD: Final = 16 * 1024
"""Plain octets in one record at most (RFC 8446 section 5.1)."""
# Both directions go through the memory BIOs in pieces: a BIO never gives back what it once grew to, so a session that
# was busy once would hold that while idle. With 2 KiB an idle session costs 18 KiB, 24 after it was busy (16 KiB
# pieces: 63), for 0.2 us a message of a busy one (CPython 3.11, OpenSSL 3.0).
PIECE: Final = 2 * 1024

EMPTY: Final = 20 * 1024
"""Octets of the wire that may bring nothing; more than a whole record, whose content comes with its last octet."""
EMPTY_PER_OCTET: Final = 64
"""... and for each plain octet. A record of one octet has 30 on the wire; one that is padded to a kilobyte passes too."""

ClientCertificates = Literal["off", "optional", "required"]


class TlsError(Exception):
    """A context cannot be made. The text names the file and OpenSSL's reason, never content."""


def _reach() -> tuple[SslLibrary | None, str]:
    try:
        return SslLibrary(), ""
    except OpenSslError as error:
        return None, str(error)


_library, narrow = _reach()
"""`narrow`: why contexts have TLS 1.3 with P-256 alone; empty where they have the whole profile."""


# -- contexts ------------------------------------------------------------------------------------------------------


def server_context(
    certificate: Path, key: Path, client_ca: Path | None = None, client_certificates: ClientCertificates = "off"
) -> ssl.SSLContext:
    """The context of a listener. TlsError names the file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    # No resumption, by ticket or by session id: it would undo forward secrecy, let in who has a certificate no longer, and
    # keep 5 kB of each handshake; binds are rare and long.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE
    _load_pair(context, certificate, key)
    if client_certificates != "off":
        if client_ca is None:
            raise TlsError("client certificates need client_ca")
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if client_certificates == "required" else ssl.CERT_OPTIONAL
    return context


def client_context(
    ca: Path | Literal["system"] = "system", certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """The context towards an upstream; certificate and host name are always verified. TlsError names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.hostname_checks_common_name = False
    if ca == "system":
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_ca(context, ca)
    if certificate is not None and key is not None:
        _load_pair(context, certificate, key)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ecdh_curve(SAFE_GROUP)
    if _library is None:
        # A TLS 1.2 session id is resumed from the context's cache, which Python cannot turn off; TLS 1.3 has none.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    try:
        _library.forget_sessions(context)
        _library.set_signatures(context, SIGNATURES)
        _library.set_groups(context, GROUPS)
    except OpenSslError as error:
        raise TlsError(str(error)) from None
    # SSL_MODE_RELEASE_BUFFERS and SSL_MODE_ENABLE_PARTIAL_WRITE are on in every CPython context.


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    encrypted = False

    def no_password() -> bytes:
        # Without a callback OpenSSL would ask on the terminal and stop the daemon.
        nonlocal encrypted
        encrypted = True
        return b""

    for path in (certificate, key):
        _readable(path)
    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        if encrypted:
            raise TlsError(f"key {key} is encrypted: give it without a passphrase, readable by smppd only") from None
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"key {key} does not belong to certificate {certificate}") from None
        raise TlsError(
            f"certificate {certificate} or key {key} cannot be used: {reason or 'not a PEM file of it'}"
        ) from None


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    _readable(ca)
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or "no certificate in it"
        raise TlsError(f"CA file {ca} cannot be used: {reason}") from None


def _readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TlsError(f"{path} cannot be read: {error.strerror}") from None


class TlsServer:
    """A listener's context, exchanged at reload: new connections use the new one, sessions that stand keep theirs."""

    def __init__(self, settings: ListenerTls) -> None:
        """TlsError when a file cannot be used."""
        self.context = _of_listener(settings)
        self.expires = _expiry(settings.certificate)
        """When the server's certificate ends (UTC)."""

    def reload(self, settings: ListenerTls) -> None:
        """Reads the files again. TlsError leaves everything as it was."""
        context, expires = _of_listener(settings), _expiry(settings.certificate)
        self.context, self.expires = context, expires

    def stream(self) -> TlsStream:
        """The server's end of a new connection."""
        return TlsStream(self.context, server_side=True)


class TlsClient:
    """The client's side towards one server name (a host name or an IP address in its certificate)."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self.context = context
        self.server_name = server_name

    def stream(self) -> TlsStream:
        """The client's end of a new connection."""
        return TlsStream(self.context, server_side=False, server_name=self.server_name)


def client_of(upstream: Upstream) -> TlsClient | None:
    """The TLS of an upstream's settings; None when it is plain. Reads files; TlsError names the one at fault."""
    settings = upstream.tls
    if settings is None:
        return None
    context = client_context(settings.ca, settings.certificate, settings.key)
    return TlsClient(context, settings.server_name or upstream.host)


class StreamMaker(Protocol):
    """What a pipe needs to speak TLS: `TlsServer` or `TlsClient`."""

    def stream(self) -> TlsStream: ...


def _of_listener(settings: ListenerTls) -> ssl.SSLContext:
    return server_context(settings.certificate, settings.key, settings.client_ca, settings.client_certificates)


def _expiry(path: Path) -> datetime:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        raise TlsError(f"certificate {path} cannot be read") from None


# -- the stream ----------------------------------------------------------------------------------------------------


def looks_like_tls(first: bytes) -> bool:
    """Whether a client's first octets (at least one) can begin TLS: a handshake record of version 3.x."""
    return first[0] == 0x16 and (len(first) < 2 or first[1] == 0x03)


class TlsStream:
    """One end of a TLS connection: octets of the wire in, plain octets out, and the reverse. No sockets, no clock.

    Nothing raises: an error is kept in `failed`, after which nothing more comes out. After every call `outgoing()`
    holds what must be sent to the peer, the alert that goes with an error included.

    Records that bring nothing end it: a key update (RFC 8446 section 4.6.3) has 27 octets and costs 8 us, so a megabyte of
    them is a third of a second, and nothing above TLS would ever see one.
    """

    __slots__ = ("_in", "_out", "_spare", "_tls", "begun", "closed", "failed", "open")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=server_name)
        self._spare = EMPTY
        self.begun = not server_side
        """Something was said: a server's stream begins with the client's first octets."""
        self.open = False
        """The handshake is done."""
        self.closed = False
        """The peer said close_notify: nothing more comes."""
        self.failed: str | None = None
        """OpenSSL's reason why this stream broke."""

    def begin(self) -> None:
        """Makes a client's first flight; a server has nothing to say yet."""
        if self.begun:
            self._handshake()

    def outgoing(self) -> bytes:
        """What must go to the peer now; taken once."""
        return self._out.read() if self._out.pending else b""

    def receive(self, data: bytes) -> bytes:
        """Octets of the wire -> all plain octets they complete. Any split of the wire gives the same octets."""
        self.begun = True
        if len(data) <= PIECE:
            return self._take(data)
        plain = []
        view = memoryview(data)
        for start in range(0, len(data), PIECE):
            plain.append(self._take(view[start : start + PIECE]))
        return b"".join(plain)

    def _take(self, data: bytes | memoryview) -> bytes:
        self._in.write(data)
        if not self.open:
            return self._read()  # a handshake has limits of its own
        plain = self._read()
        got = len(plain)
        spare = self._spare + EMPTY_PER_OCTET * got
        self._spare = (spare if spare < EMPTY else EMPTY) - len(data) + got
        if self._spare < 0 and self.failed is None:
            self.failed = "records without content"
        return plain

    def encrypt(self, data: bytes) -> bytes:
        """Plain octets (at least one) -> records, with anything else that waits to be sent."""
        tls, out, size = self._tls, self._out, len(data)
        try:
            done = tls.write(data) if size <= PIECE else 0
            if done == size:
                return out.read()
            # Longer, or the client asked for smaller records (RFC 6066 section 4).
            records, view = [], memoryview(data)
            while done < size:
                done += tls.write(view[done : done + PIECE])
                records.append(out.read())
        except ssl.SSLError as error:
            self._fail(error)
            return self.outgoing()
        return b"".join(records)

    def close(self) -> bytes:
        """close_notify and all that waits to be sent. Later plain octets of the peer are lost."""
        if self.open and self.failed is None:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # the peer's close_notify is not waited for
        return self.outgoing()

    @property
    def version(self) -> str | None:
        """`TLSv1.2` or `TLSv1.3`; None before the handshake."""
        return self._tls.version()

    @property
    def cipher(self) -> str | None:
        """OpenSSL's name of the cipher suite; None before the handshake."""
        chosen = self._tls.cipher()
        return None if chosen is None else chosen[0]

    @property
    def certificate(self) -> bytes | None:
        """The peer's verified certificate, DER."""
        return self._tls.getpeercert(binary_form=True) if self.open else None

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
            self.open = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._fail(error)

    def _read(self) -> bytes:
        if self.failed is not None or self.closed:
            self._in.read()
            return b""
        if not self.open:
            self._handshake()
            if not self.open:
                return b""
        # OpenSSL takes a record's header, then its body: while the BIO holds something a read makes progress, and a
        # chunk that ends with a record costs no exception.
        tls, incoming, plain = self._tls, self._in, []
        try:
            while incoming.pending:
                part = tls.read(RECORD)
                if not part:
                    self.closed = True
                    break
                plain.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        except ssl.SSLError as error:
            self._fail(error)
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def _fail(self, error: ssl.SSLError) -> None:
        # Of OpenSSL's own vocabulary: nothing a peer wrote.
        self.failed = getattr(error, "verify_message", None) or error.reason or "broken"
