"""The PDUs of the conversation itself: bind, outbind, query_sm, cancel_sm, replace_sm and submit_multi, read and written.

A message that passes through is never read here, see ``wire.Sm``. All readers raise ``wire.BodyError`` with the status to
answer; layouts are those of SMPP 3.4 sections 4.1 to 4.10. Passwords print masked.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Final, NamedTuple

from smppd.protocol.lenient import without_stray
from smppd.protocol.wire import BodyError, Command, Fields, Status, Tag, build_sm, command_name, pdu, read_tlvs, tlv

# By the letter 15 and 8; real customers use longer ones (strict_fields holds the letter).
MAX_SYSTEM_ID: Final = 64
MAX_PASSWORD: Final = 64
# A submit_multi becomes as many frames as it has destinations: together they take no more than this many octets.
MAX_FANOUT: Final = 1 << 20


class Bind(NamedTuple):
    """A bind request (SMPP 3.4 section 4.1). ``version`` is interface_version as on the wire: 0x33, 0x34, 0x50."""

    command: int
    sequence: int
    system_id: bytes
    password: bytes
    system_type: bytes
    version: int
    addr_ton: int
    addr_npi: int
    address_range: bytes

    def __repr__(self) -> str:
        return f"Bind({command_name(self.command)}, {self.system_id!r}, version=0x{self.version:02x})"


class _Reader:
    """Fields of a body from left to right; running over the end is ESME_RINVMSGLEN."""

    __slots__ = ("at", "raw")

    def __init__(self, raw: bytes, at: int = 16) -> None:
        self.raw = raw
        self.at = at

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self.raw)

    def string(self, most: int, status: int, what: str) -> bytes:
        """A C-octet string of at most ``most`` octets and its NUL."""
        stop = self.raw.find(0, self.at, self.at + most + 1)
        if stop < 0:
            if len(self.raw) - self.at <= most:
                raise BodyError(Status.RINVMSGLEN, f"the PDU ends inside {what}")
            raise BodyError(status, f"{what} is longer than {most} characters")
        value = self.raw[self.at : stop]
        self.at = stop + 1
        return value

    def octet(self, what: str) -> int:
        """One octet."""
        if self.at >= len(self.raw):
            raise BodyError(Status.RINVMSGLEN, f"the PDU ends before {what}")
        self.at += 1
        return self.raw[self.at - 1]

    def octets(self, count: int, what: str) -> bytes:
        """``count`` octets."""
        if self.at + count > len(self.raw):
            raise BodyError(Status.RINVMSGLEN, f"the PDU ends inside {what}")
        self.at += count
        return self.raw[self.at - count : self.at]

    def address(self, status: int, what: str) -> tuple[int, int, bytes]:
        """TON, NPI and an address."""
        return self.octet(f"{what} TON"), self.octet(f"{what} NPI"), self.string(20, status, what)

    def address_if_any(self, status: int, what: str) -> tuple[int, int, bytes]:
        """The same; empty where the PDU is over."""
        return (0, 0, b"") if self.over else self.address(status, what)


def _head(raw: bytes) -> tuple[int, int]:
    if len(raw) < 16:
        raise BodyError(Status.RINVCMDLEN, "the PDU is shorter than its header")
    command, _status, sequence = unpack_from(">III", raw, 4)
    return int(command), int(sequence)


def read_bind(raw: bytes) -> Bind:
    """A bind_transmitter, bind_receiver or bind_transceiver.

    The PDU may end behind system_type, as of those who know no later field: interface_version is 0 then, which is 3.3 or
    earlier. It may also end behind any field after it, and without the NUL of address_range.
    """
    command, sequence = _head(raw)
    read = _Reader(raw)
    system_id = read.string(MAX_SYSTEM_ID, Status.RBINDFAIL, "system_id")
    password = read.string(MAX_PASSWORD, Status.RBINDFAIL, "password")
    system_type = read.string(64, Status.RBINDFAIL, "system_type")
    version, ton, npi = (0 if read.over else read.octet("the fields before address_range") for _ in range(3))
    address_range = raw[read.at :]
    if 0 in address_range:
        address_range = read.string(64, Status.RBINDFAIL, "address_range")
    elif len(address_range) > 64:
        raise BodyError(Status.RBINDFAIL, "address_range is longer than 64 characters")
    return Bind(command, sequence, system_id, password, system_type, version, ton, npi, address_range)


def write_bind(bind: Bind) -> bytes:
    """The bytes of a bind request."""
    body = b"".join(
        (
            bind.system_id + b"\0" + bind.password + b"\0" + bind.system_type + b"\0",
            bytes((bind.version, bind.addr_ton, bind.addr_npi)),
            bind.address_range + b"\0",
        )
    )
    return pdu(bind.command, 0, bind.sequence, body)


def bind_response(bind: Bind, status: int, system_id: bytes, version: int) -> bytes:
    """The answer to a bind: our system_id, and sc_interface_version where the peer speaks 3.4 or later."""
    if status:
        return pdu(bind.command | 0x80000000, status, bind.sequence)
    body = system_id[:15] + b"\0"
    if bind.version >= 0x34:
        body += tlv(Tag.SC_INTERFACE_VERSION, bytes((version,)))
    return pdu(bind.command | 0x80000000, 0, bind.sequence, body)


class Query(NamedTuple):
    """query_sm (section 4.8.1): whose state."""

    sequence: int
    message_id: bytes
    source: tuple[int, int, bytes]

    def __repr__(self) -> str:
        return f"Query(sequence={self.sequence})"


def read_query(raw: bytes) -> Query:
    """A query_sm. The PDU may end behind message_id, which says all that is needed."""
    _, sequence = _head(raw)
    read = _Reader(raw)
    return Query(
        sequence,
        read.string(64, Status.RINVMSGID, "message_id"),
        read.address_if_any(Status.RINVSRCADR, "source_addr"),
    )


def query_response(sequence: int, message_id: bytes, final_date: bytes, state: int, error: int) -> bytes:
    """query_sm_resp (section 4.8.2); ``final_date`` is absolute time format or empty, ``error`` a network code 0..255."""
    return pdu(
        Command.QUERY_SM_RESP, 0, sequence, message_id + b"\0" + final_date + b"\0" + bytes((state & 255, error & 255))
    )


class Cancel(NamedTuple):
    """cancel_sm (section 4.9.1). An empty message_id means every pending message with these addresses and service_type."""

    sequence: int
    service_type: bytes
    message_id: bytes
    source: tuple[int, int, bytes]
    destination: tuple[int, int, bytes]

    def __repr__(self) -> str:
        return f"Cancel(sequence={self.sequence})"


def read_cancel(raw: bytes) -> Cancel:
    """A cancel_sm. The PDU may end behind a message_id or an address, if it names a message_id."""
    _, sequence = _head(raw)
    read = _Reader(raw)
    service_type = read.string(5, Status.RINVSERTYP, "service_type")
    message_id = read.string(64, Status.RINVMSGID, "message_id")
    address = read.address_if_any if message_id else read.address
    return Cancel(
        sequence,
        service_type,
        message_id,
        address(Status.RINVSRCADR, "source_addr"),
        address(Status.RINVDSTADR, "destination_addr"),
    )


class Replace(NamedTuple):
    """replace_sm (section 4.10.1)."""

    sequence: int
    message_id: bytes
    source: tuple[int, int, bytes]
    schedule: bytes
    validity: bytes
    registered: int
    short_message: bytes

    def __repr__(self) -> str:
        return f"Replace(sequence={self.sequence})"


def read_replace(raw: bytes) -> Replace:
    """A replace_sm."""
    _, sequence = _head(raw)
    read = _Reader(raw)
    message_id = read.string(64, Status.RINVMSGID, "message_id")
    source = read.address(Status.RINVSRCADR, "source_addr")
    schedule = read_time(read, Status.RINVSCHED, "schedule_delivery_time")
    validity = read_time(read, Status.RINVEXPIRY, "validity_period")
    registered = read.octet("registered_delivery")
    read.octet("sm_default_msg_id")
    length = read.octet("sm_length")
    return Replace(sequence, message_id, source, schedule, validity, registered, read.octets(length, "short_message"))


def read_time(read: _Reader, status: int, what: str) -> bytes:
    """A time field: empty or exactly 16 characters (section 7.1.1)."""
    value = read.string(16, status, what)
    if len(value) not in (0, 16):
        raise BodyError(status, f"{what} is not 16 characters")
    return value


class Multi(NamedTuple):
    """submit_multi (section 4.5.1), as one submit_sm frame a destination, all under the request's sequence number.
    ``mended``: a stray NUL was left out."""

    sequence: int
    frames: tuple[bytes, ...]
    mended: bool = False

    def __repr__(self) -> str:
        return f"Multi(sequence={self.sequence}, destinations={len(self.frames)})"


def count_destinations(raw: bytes) -> int:
    """number_of_dests of a submit_multi, by its first fields alone. Raises ``BodyError``."""
    read = _Reader(raw)
    read.string(5, Status.RINVSERTYP, "service_type")
    read.address(Status.RINVSRCADR, "source_addr")
    count: int = read.octet("number_of_dests")
    if not 1 <= count <= 254:
        raise BodyError(Status.RINVNUMDESTS, "number_of_dests is outside 1..254")
    return count


def read_multi(raw: bytes, *, strict: bool = False) -> Multi:
    """A submit_multi. Distribution lists (dest_flag 2) are answered ESME_RINVDESTFLAG: nobody could have made one here.
    One NUL behind short_message that sm_length does not count is left out, unless ``strict``.

    ESME_RINVNUMDESTS where the message, once for each destination, would take more than ``MAX_FANOUT`` octets.
    """
    _, sequence = _head(raw)
    read = _Reader(raw)
    service_type = read.string(5, Status.RINVSERTYP, "service_type")
    start = read.at
    read.address(Status.RINVSRCADR, "source_addr")
    source = raw[start : read.at]
    count = read.octet("number_of_dests")
    if not 1 <= count <= 254:
        raise BodyError(Status.RINVNUMDESTS, "number_of_dests is outside 1..254")
    destinations = []
    for _ in range(count):
        if read.octet("dest_flag") != 1:
            raise BodyError(Status.RINVDESTFLAG, "a destination is not an SME address")
        start = read.at
        read.address(Status.RINVDSTADR, "destination_addr")
        destinations.append(raw[start : read.at])
    esm_class, protocol_id, priority = read.octets(3, "esm_class, protocol_id, priority_flag")
    schedule = read_time(read, Status.RINVSCHED, "schedule_delivery_time")
    validity = read_time(read, Status.RINVEXPIRY, "validity_period")
    registered, replace, coding, default, length = read.octets(5, "the fields before short_message")
    text = read.octets(length, "short_message")
    tail = raw[read.at :]
    mended = False
    try:
        read_tlvs(raw, read.at)
    except BodyError:
        whole = None if strict else without_stray(raw, read.at)
        if whole is None:
            raise  # a broken TLV stream is refused for the whole request
        tail, mended = whole[read.at :], True
    if count * (len(tail) + length) > MAX_FANOUT:
        raise BodyError(Status.RINVNUMDESTS, "too many destinations for a message of this size")
    fields = Fields(
        service_type, esm_class, protocol_id, priority, schedule, validity, registered, replace, coding, default
    )
    frames = tuple(
        build_sm(Command.SUBMIT_SM, sequence, source, destination, text, fields, tail) for destination in destinations
    )
    return Multi(sequence, frames, mended)


def multi_response(sequence: int, message_id: bytes, failed: list[tuple[bytes, int]], status: int = 0) -> bytes:
    """submit_multi_resp (section 4.5.2); ``failed`` holds (destination field, status) of those that were refused. Where that
    is all of them, ``status`` says so and there is no ``message_id``."""
    body = [message_id + b"\0", bytes((min(len(failed), 255),))]
    body.extend(field + why.to_bytes(4, "big") for field, why in failed[:255])
    return pdu(Command.SUBMIT_MULTI_RESP, status, sequence, b"".join(body))
