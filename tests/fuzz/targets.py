"""What is fuzzed: a target takes bytes and raises on what must never happen. An error that a parser documents is none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from smppd.config import ConfigError, parse
from smppd.protocol import receipt, text, times
from smppd.protocol.longmessage import UdhError, parse_udh, split
from smppd.protocol.operations import (
    bind_response,
    multi_response,
    query_response,
    read_bind,
    read_cancel,
    read_multi,
    read_query,
    read_replace,
)
from smppd.protocol.receipt import SHORT_MESSAGE_LIMIT, MessageState
from smppd.protocol.receipt_ids import IdMatcher
from smppd.protocol.session import Role, Session, Timers
from smppd.protocol.text import Alphabet, TextError
from smppd.protocol.wire import BodyError, Command, FrameError, Sm, Splitter, pdu, splice

CORPUS: Final = Path(__file__).parent / "corpus"
_LIMIT: Final = 70_000
_READERS: Final = (read_bind, read_query, read_cancel, read_replace, read_multi)
_MESSAGES: Final = (Command.SUBMIT_SM, Command.DELIVER_SM, Command.DATA_SM)


class Finding(AssertionError):
    """A promise of a parser that did not hold."""


def wire(data: bytes) -> None:
    """A stream: however it is cut, the same frames come; every field of a message is read or refused with a status."""
    cut = data[0] % 40 + 1 if data else 1
    whole, frames = _split(data, len(data) or 1)
    again, pieces = _split(data, cut)
    if frames != pieces or whole != again:
        raise Finding("the frames depend on how the stream is cut")
    for frame in frames:
        _message(frame)
        for command in _MESSAGES:
            _message(frame[:4] + command.to_bytes(4, "big") + frame[8:])


def _split(data: bytes, step: int) -> tuple[bool, list[bytes]]:
    splitter = Splitter(_LIMIT)
    frames: list[bytes] = []
    try:
        for at in range(0, len(data), step):
            frames += splitter.feed(data[at : at + step])
    except FrameError:
        return False, frames
    return True, frames


def _message(frame: bytes) -> None:
    if int.from_bytes(frame[4:8], "big") not in _MESSAGES:
        return
    try:
        sm = Sm(frame)
        fields = (sm.service_type, sm.source_field, sm.destination_field, sm.schedule, sm.validity, sm.tlvs, sm.body)
    except BodyError as error:
        if not 0 < error.status <= 0xFFFF:
            raise Finding("a refusal without a status") from None
        return
    if any(field is None for field in fields):
        raise Finding("a field that is neither read nor refused")
    if splice(sm, source=sm.source_field, destination=sm.destination_field) != frame:
        raise Finding("what nobody changed is not what came")


def operations(data: bytes) -> None:
    """The bodies of our own conversation: read, or refused with a status; what is answered can be framed."""
    frame = pdu(Command.BIND_TRANSCEIVER, 0, 1, data[:_LIMIT])
    for reader in _READERS:
        try:
            found = reader(frame)
        except BodyError:
            continue
        repr(found)
        if reader is read_bind:
            Splitter(_LIMIT).feed(bind_response(found, 0, b"smppd", 0x34))  # type: ignore[arg-type]
    Splitter(_LIMIT).feed(query_response(1, data[:64].replace(b"\0", b"."), b"", 2, 0))
    Splitter(_LIMIT).feed(multi_response(1, data[:64].replace(b"\0", b"."), []))
    for moment in (data[:16], data[:17] + b"\0"):
        with suppress(BodyError):
            times.read(moment, 1_700_000_000.0)


def session(data: bytes) -> None:
    """A session of each side: whatever comes, it answers or closes, and never raises."""
    for role in Role:
        one = Session(role, Timers(), 0.0)
        if role is Role.ESME:
            one.bind(pdu(Command.BIND_TRANSCEIVER, 0, 0, b"x\0y\0\0\x34\0\0\0"), None, 0.0)
        step, now = (data[0] % 90 + 1 if data else 1), 0.0
        for at in range(1, len(data), step):
            now += 0.25
            got = one.receive(data[at : at + step], now)
            for command, raw in got.others:
                if (
                    command in (Command.BIND_TRANSCEIVER, Command.BIND_RECEIVER, Command.BIND_TRANSMITTER)
                    and not one.bound
                ):
                    one.accept_bind(command, window=10, outstanding_limit=10)
                repr(raw)
            one.answered(len(got.messages))
            one.sweep(now)
            one.take()
            if one.close_reason is not None:
                break
        one.abandon()


def texts(data: bytes) -> None:
    """Texts in every data_coding: decoded to text, and what was decoded can be encoded again or is refused."""
    if not data:
        return
    coding, body = data[0], data[1:400]
    for alphabet in Alphabet:
        with suppress(TextError):
            found = text.decode(body, coding, alphabet)
            text.encode(found, coding, alphabet)
    with suppress(UdhError):
        parse_udh(body)
    with suppress(TextError):
        words = body.decode("utf-8", "replace")
        if "".join(map(str, split(words))) == "":
            raise Finding("a text without a piece")


def receipts(data: bytes) -> None:
    """Receipts: parsing never raises; what is spliced or written fits a short_message and holds no other id."""
    found = receipt.parse(data)
    repr(found)
    ours = b"0ca8a21246000000"
    if len(receipt.splice(data[:SHORT_MESSAGE_LIMIT], ours)) > SHORT_MESSAGE_LIMIT:
        raise Finding("a spliced receipt is too long")
    state = MessageState(data[0] % 10) if data else MessageState.UNKNOWN
    for err in (data[:300], b"000"):
        written = receipt.write(ours, state, submitted=1_700_000_000, done=1_700_000_100, err=err, text=data[:300])
        if len(written) > SHORT_MESSAGE_LIMIT:
            raise Finding("a written receipt is too long")
        if not written.startswith(b"id:" + ours):
            raise Finding("a written receipt without its id")
    matcher = IdMatcher()
    matcher.answered(data[:65])
    for _form, _key in matcher.candidates(data[:65]):
        pass
    receipt.seconds(data[:20])


def yaml(data: bytes) -> None:
    """A configuration: faults with their places, or settings; never anything else."""
    try:
        parse(data, Path("smppd.yaml"))
    except ConfigError as error:
        if not error.faults:
            raise Finding("a refused configuration without a fault") from None
        for fault in error.faults:
            if not str(fault).isprintable():
                raise Finding("a fault that plays tricks on a terminal") from None


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "wire": wire,
    "operations": operations,
    "session": session,
    "text": texts,
    "receipt": receipts,
    "yaml": yaml,
}
"""Name, which is also the folder of its corpus -> target."""
