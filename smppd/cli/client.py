"""A small blocking SMPP client for commands: bind, submit, wait for receipts. Built on `protocol.session` and sockets."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from smppd.protocol import receipt
from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.session import Role, Session, Timers
from smppd.protocol.wire import BodyError, Command, Sm, Tag, pdu, status_name

_BINDS: Final = {
    "transmitter": Command.BIND_TRANSMITTER,
    "receiver": Command.BIND_RECEIVER,
    "transceiver": Command.BIND_TRANSCEIVER,
}


class ClientError(Exception):
    """The other side cannot be reached, refused the bind, or went away. The text never holds message content."""


class SubmitResult(NamedTuple):
    """The answer to a submit_sm: its command_status, and the message id where it was accepted."""

    status: int
    message_id: str

    @property
    def name(self) -> str:
        """The status by its name in SMPP 3.4 section 5.1.3."""
        return status_name(self.status)


class Client:
    """One connection. Use as a context manager: leaving it unbinds, politely but without insisting.

    ``context`` None is plain SMPP. ``timeout`` (seconds) bounds connecting, the TLS handshake and each answer. Receipts
    that come in are acknowledged and collected in ``receipts``: (message id, state word or "").
    """

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext | None, server_name: str, timeout: float = 10.0
    ) -> None:
        self.receipts: list[tuple[str, str]] = []
        self._timeout = timeout
        self._answers: dict[int, tuple[int, bytes]] = {}
        self._session = Session(Role.ESME, Timers(response=timeout), time.monotonic(), outstanding_limit=100)
        try:
            plain = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise ClientError(f"cannot connect to {host}:{port}: {error.strerror or error}") from None
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain
        if context is not None:
            try:
                self._socket = context.wrap_socket(plain, server_hostname=server_name)
            except ssl.SSLCertVerificationError as error:
                plain.close()
                raise ClientError(f"the certificate of {host}:{port} is not accepted: {error.verify_message}") from None
            except (ssl.SSLError, OSError) as error:
                plain.close()
                what = getattr(error, "reason", None) or error.strerror or type(error).__name__
                raise ClientError(f"no TLS with {host}:{port}: {what}") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def bind(self, system_id: str, password: bytes, mode: str = "transceiver") -> None:
        """Binds as ``transmitter``, ``receiver`` or ``transceiver``. ClientError names the status of a refusal."""
        command = _BINDS[mode]
        try:
            name = system_id.encode("ascii")
        except UnicodeEncodeError:
            raise ClientError("a system_id is ASCII") from None
        frame = write_bind(Bind(command, 0, name, password, b"", 0x34, 0, 0, b""))
        self._session.bind(frame, 0, time.monotonic())
        status, _ = self._wait_answer(0, "the bind")
        if status:
            raise ClientError(f"the bind was refused: {status_name(status)}")
        self._session.bound_as(command)

    def submit(self, frame: bytes) -> SubmitResult:
        """Sends one submit_sm (its sequence number is set here) and waits for the answer."""
        token = len(self._answers) + 1
        while token in self._answers:
            token += 1
        self._session.request(frame, token, time.monotonic())
        status, raw = self._wait_answer(token, "submit_sm")
        return SubmitResult(status, raw[16:].split(b"\0", 1)[0].decode("latin-1") if not status else "")

    def wait_receipts(self, ids: set[str], seconds: float) -> dict[str, str]:
        """The final receipts of these message ids, as id -> state word, once all are here or the time is over."""

        def missing() -> bool:
            return not ids <= dict(self.receipts).keys()

        self._until(lambda: not missing(), seconds)
        return {message_id: state for message_id, state in self.receipts if message_id in ids}

    def close(self) -> None:
        """Unbinds where a bind stands, waits a second for the answer, closes."""
        try:
            self._session.unbind(time.monotonic())
            self._until(lambda: self._session.close_reason is not None, 1.0)
        except ClientError:
            pass
        self._socket.close()

    # -- the loop ----------------------------------------------------------------------------------------------------------

    def _wait_answer(self, token: int, what: str) -> tuple[int, bytes]:
        if not self._until(lambda: token in self._answers, self._timeout):
            raise ClientError(f"{what} was not answered within {self._timeout:g} s")
        return self._answers[token]

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Reads and answers until ``done`` or the time is over."""
        deadline = time.monotonic() + seconds
        self._flush()
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._read(min(left, 1.0))
            self._session.sweep(time.monotonic())
            self._flush()
            if self._session.close_reason is not None and not done():
                raise ClientError(f"the connection ended: {self._session.close_reason}")
        return True

    def _read(self, seconds: float) -> None:
        ready = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
        if not ready and not select.select([self._socket], [], [], seconds)[0]:
            return
        try:
            data = self._socket.recv(65536)
        except (ssl.SSLWantReadError, TimeoutError):
            return
        except OSError as error:
            raise ClientError(f"the connection broke: {error.strerror or type(error).__name__}") from None
        if not data:
            self._session.close("closed by the other side")
            return
        got = self._session.receive(data, time.monotonic())
        for token, _command, status, raw in got.answers:
            if token is not None:
                self._answers[token] = (status, raw)
        for frame in got.messages:
            self._message(frame)

    def _message(self, frame: bytes) -> None:
        command, sequence = int.from_bytes(frame[4:8]), int.from_bytes(frame[12:16])
        self._session.answered()
        try:
            sm = Sm(frame)
            known = receipt.parse(sm.body) if sm.esm_class & 0x3C == 0x04 else None
            told = sm.tlv(Tag.RECEIPTED_MESSAGE_ID)
        except BodyError as error:
            self._session.out.append(pdu(command | 0x80000000, error.status, sequence))
            return
        if known is not None:
            message_id = told.rstrip(b"\0") if told else known.id
            self.receipts.append((message_id.decode("latin-1"), known.stat.decode("latin-1")))
        self._session.out.append(pdu(command | 0x80000000, 0, sequence, b"\0"))

    def _flush(self) -> None:
        data = self._session.take()
        if not data:
            return
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise ClientError(f"the connection broke: {error.strerror or type(error).__name__}") from None
