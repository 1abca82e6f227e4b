"""SMPP frames: read lazily, answered, and spliced without re-encoding what did not change.

A frame stays the bytes that came. ``Sm`` finds the fields of a submit_sm, deliver_sm or data_sm by offset; forwarding a
message copies its frame with another sequence number. Layouts are those of SMPP 3.4 section 4; statuses of section 5.1.3.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from smpp.pdu import constants as _standard

from smppd.protocol.framing import HEADER_LENGTH, FrameError, Splitter
from smppd.protocol.vocabulary import Command, Status, Tag

HEADER: Final = Struct(">IIII")
_U32: Final = Struct(">I")
_TLV: Final = Struct(">HH")
RESPONSE: Final = 0x80000000
SUBMIT_MULTI: Final = 0x21
DATA_SM: Final = 0x103
"""As in `Command`. Compiled, a number costs nothing, and a member of an Enum one look-up each time: for each message."""
UDHI: Final = 0x40
"""The bit of esm_class that says that the user data begins with a header (SMPP 3.4 section 5.2.12)."""


_KNOWN_COMMANDS: Final = frozenset(int(c) for c in Command)
# callback_num and what belongs to it may be given several times (SMPP 3.4 sections 5.3.2.36 to 5.3.2.38).
ONCE_ONLY: Final = frozenset(_standard.tag_value_map) - {0x0302, 0x0303, 0x0381}
"""Tags of the standard that a PDU may have once."""
MAX_TLVS: Final = 2048
"""TLVs that are ever read of one PDU: what the relay accepts (`limits.tlvs`, 64, at most 1,024), and what rules set."""


def status_name(status: int) -> str:
    """The standard's name of a command_status, ``ESME_RTHROTTLED``; ``0x00000400`` for one it does not name."""
    entry = _standard.command_status_value_map.get(status)
    return str(entry["name"]) if entry else f"0x{status:08X}"


def known_status(status: int) -> bool:
    """Whether the standard names it."""
    return status in _standard.command_status_value_map


def status_value(name: str) -> int | None:
    """The number behind a status name as written in SMPP 3.4 section 5.1.3, None when there is no such name."""
    value = _standard.command_status_name_map.get(name, -1)
    return int(value) if value >= 0 else None  # the library has negative ones of its own


def command_name(command: int) -> str:
    """The standard's name of a command_id, ``submit_sm``; ``0x00000abc`` for an unknown one."""
    return Command(command).name.lower() if command in _KNOWN_COMMANDS else f"0x{command:08x}"


class BodyError(ValueError):
    """A well-framed PDU whose body is wrong. ``status`` is the answer; the session lives on."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = int(status)


class Sm:
    """A submit_sm, deliver_sm or data_sm frame, read by offset (SMPP 3.4 sections 4.4.1, 4.6.1, 4.7.1).

    Construction checks the mandatory part and raises ``BodyError``; TLVs are read, and checked, when first asked for.
    The repr shows lengths only.
    """

    __slots__ = (
        "_tlvs",
        "at_dest",
        "at_flags",
        "at_schedule",
        "at_sm",
        "at_source",
        "at_tlvs",
        "at_validity",
        "command",
        "data_coding",
        "destination_digits",
        "esm_class",
        "raw",
        "registered",
        "short_message",
        "source_digits",
    )

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._tlvs: list[tuple[int, bytes]] | None = None
        find = raw.find
        try:
            self.command = command = _U32.unpack_from(raw, 4)[0]
            service_end = find(0, 16, 22)
            if service_end < 0:
                raise _unended(raw, 16, 6, Status.RINVSERTYP, "service_type")
            self.at_source = service_end + 1
            source = service_end + 3
            # 21 octets by the letter; data_sm allows 65 (section 4.7.1), and so do real senders elsewhere.
            most = 65 if command == 0x103 else 21
            stop = find(0, source, source + most)
            if stop < 0:
                raise _unended(raw, source, most, Status.RINVSRCADR, "source_addr")
            self.source_digits = raw[source:stop]
            self.at_dest = stop + 1
            dest = stop + 3
            stop = find(0, dest, dest + most)
            if stop < 0:
                raise _unended(raw, dest, most, Status.RINVDSTADR, "destination_addr")
            self.destination_digits = raw[dest:stop]
            self.at_flags = at = stop + 1
            self.esm_class = raw[at]
            if command == 0x103:
                self.registered = raw[at + 1]
                self.data_coding = raw[at + 2]
                self.short_message = b""
                self.at_schedule = self.at_validity = self.at_sm = -1
                self.at_tlvs = at + 3
                return
            self.at_schedule = at = at + 3
            if raw[at]:
                at = find(0, at, at + 17)
                if at != self.at_schedule + 16:
                    raise _not_16(raw, self.at_schedule, at, Status.RINVSCHED, "schedule_delivery_time")
            self.at_validity = at = at + 1
            if raw[at]:
                at = find(0, at, at + 17)
                if at != self.at_validity + 16:
                    raise _not_16(raw, self.at_validity, at, Status.RINVEXPIRY, "validity_period")
            self.registered = raw[at + 1]
            self.data_coding = raw[at + 3]
            length = raw[at + 5]
            self.at_sm = at = at + 6
            self.at_tlvs = stop = at + length
            if stop > len(raw):
                raise BodyError(Status.RINVMSGLEN, "sm_length is longer than the PDU")
            self.short_message = raw[at:stop]
        except (IndexError, StructError):
            raise BodyError(Status.RINVMSGLEN, "the PDU ends before its mandatory fields do") from None

    def __repr__(self) -> str:
        return f"<{command_name(self.command)} of {len(self.raw)} octets>"

    @property
    def sequence(self) -> int:
        """sequence_number of the header."""
        return int(_U32.unpack_from(self.raw, 12)[0])

    @property
    def service_type(self) -> bytes:
        """service_type without its NUL."""
        return self.raw[16 : self.at_source - 1]

    @property
    def source_ton(self) -> int:
        """source_addr_ton."""
        return self.raw[self.at_source]

    @property
    def source_npi(self) -> int:
        """source_addr_npi."""
        return self.raw[self.at_source + 1]

    @property
    def destination_ton(self) -> int:
        """dest_addr_ton."""
        return self.raw[self.at_dest]

    @property
    def destination_npi(self) -> int:
        """dest_addr_npi."""
        return self.raw[self.at_dest + 1]

    @property
    def source_field(self) -> bytes:
        """TON, NPI and source_addr with its NUL, as they stand."""
        return self.raw[self.at_source : self.at_dest]

    @property
    def destination_field(self) -> bytes:
        """TON, NPI and destination_addr with its NUL, as they stand."""
        return self.raw[self.at_dest : self.at_flags]

    @property
    def protocol_id(self) -> int:
        """protocol_id; 0 in a data_sm, which has none."""
        return self.raw[self.at_flags + 1] if self.at_sm >= 0 else 0

    @property
    def priority(self) -> int:
        """priority_flag; 0 in a data_sm, which has none."""
        return self.raw[self.at_flags + 2] if self.at_sm >= 0 else 0

    @property
    def schedule(self) -> bytes:
        """schedule_delivery_time without its NUL, empty for at once."""
        return self.raw[self.at_schedule : self.at_validity - 1] if self.at_sm >= 0 else b""

    @property
    def validity(self) -> bytes:
        """validity_period without its NUL, empty for the default."""
        return self.raw[self.at_validity : self.at_sm - 6] if self.at_sm >= 0 else b""

    @property
    def replace_if_present(self) -> bool:
        """replace_if_present_flag."""
        return self.at_sm >= 0 and self.raw[self.at_sm - 4] == 1

    @property
    def tlvs(self) -> list[tuple[int, bytes]]:
        """All TLVs in order. Raises ``BodyError`` on a broken stream, too many, or a standard one given twice."""
        tlvs = self._tlvs
        if tlvs is None:
            tlvs = self._tlvs = [] if self.at_tlvs == len(self.raw) else read_tlvs(self.raw, self.at_tlvs)
        return tlvs

    def tlv(self, tag: int) -> bytes | None:
        """The value of the first TLV with this tag, None when there is none."""
        if self.at_tlvs == len(self.raw):
            return None
        for found, value in self.tlvs:
            if found == tag:
                return value
        return None

    @property
    def body(self) -> bytes:
        """The user data, with any UDH: short_message, or message_payload where short_message is empty."""
        if self.short_message or self.at_tlvs == len(self.raw):
            return self.short_message
        payload = self.tlv(Tag.MESSAGE_PAYLOAD)
        return b"" if payload is None else payload


def _unended(raw: bytes, at: int, most: int, status: int, what: str) -> BodyError:
    """Why no NUL stands within ``most`` octets from ``at``: the PDU is over, or the string too long."""
    if len(raw) < at + most:
        return BodyError(Status.RINVMSGLEN, f"the PDU ends inside {what}")
    return BodyError(status, f"{what} is longer than {most - 1} characters")


def _not_16(raw: bytes, at: int, stop: int, status: int, what: str) -> BodyError:
    """Why a time field, whose NUL is at ``stop`` if anywhere, is neither empty nor 16 characters (section 7.1.1)."""
    if stop < 0 and len(raw) < at + 17:
        return BodyError(Status.RINVMSGLEN, f"the PDU ends inside {what}")
    return BodyError(status, f"{what} is not 16 characters")


def read_tlvs(raw: bytes, at: int) -> list[tuple[int, bytes]]:
    """The TLVs from offset ``at`` to the end of ``raw``, in order (SMPP 3.4 section 5.3.1). Raises ``BodyError``."""
    tlvs: list[tuple[int, bytes]] = []
    seen: set[int] = set()
    end = len(raw)
    while at < end:
        try:
            tag, length = _TLV.unpack_from(raw, at)
        except StructError:
            raise BodyError(Status.RINVOPTPARSTREAM, "the PDU ends inside a TLV's head") from None
        at += 4
        if at + length > end:
            raise BodyError(Status.RINVPARLEN, "a TLV is longer than the PDU")
        if tag in seen and tag in ONCE_ONLY:
            raise BodyError(Status.ROPTPARNOTALLWD, "a standard TLV is given twice")
        seen.add(tag)
        tlvs.append((tag, raw[at : at + length]))
        if len(tlvs) > MAX_TLVS:
            raise BodyError(Status.RINVOPTPARSTREAM, f"more than {MAX_TLVS} TLVs")
        at += length
    return tlvs


def pdu(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    """A whole PDU from its header fields and body."""
    return HEADER.pack(16 + len(body), command, status, sequence) + body


def tlv(tag: int, value: bytes) -> bytes:
    """One encoded TLV."""
    return _TLV.pack(tag, len(value)) + value


def request_command(raw: bytes) -> int:
    """The command_id of a request (SMPP 3.4 section 5.1.2.1), whose upper two octets are 0: two single octets cost less than a
    slice that is read as a number, and this is asked for each message."""
    return raw[7] | raw[6] << 8


def sequence_number(raw: bytes) -> int:
    """The sequence_number of a PDU (SMPP 3.4 section 3.2)."""
    return int.from_bytes(raw[12:16], "big")


def pdu_body(raw: bytes) -> bytes:
    """A PDU without its header: what two sendings of the same have in common."""
    return raw[HEADER_LENGTH:]


def with_sequence(raw: bytes, sequence: int) -> bytes:
    """The same frame under another sequence number: every other octet is the sender's."""
    return raw[:12] + _U32.pack(sequence) + raw[16:]


def id_response(command: int, sequence: int, message_id: bytes) -> bytes:
    """A successful submit_sm_resp, data_sm_resp or deliver_sm_resp to ``command``; ``message_id`` comes without NUL."""
    return HEADER.pack(17 + len(message_id), command | RESPONSE, 0, sequence) + message_id + b"\0"


# What a response carries with any status (SMPP 3.4 sections 4.5.2, 4.6.2, 4.7.2, 4.8.2): message_id, and behind it
# no_unsuccess, or final_date, message_state and error_code. Strict peers end the session over one without them. A
# message_state of 0 is none before 5.0: UNKNOWN (7) is.
_EMPTY_BODIES: Final = {
    int(Command.DELIVER_SM): b"\0",
    int(Command.DATA_SM): b"\0",
    int(Command.SUBMIT_MULTI): b"\0\0",
    int(Command.QUERY_SM): b"\0\0\7\0",
}


def refusal(command: int, status: int, sequence: int, reason: str = "") -> bytes:
    """An error response to the request ``command``.

    submit_sm_resp (SMPP 3.4 section 4.4.2) and bind responses leave their body out, cancel_sm_resp and its like have none;
    the others carry their mandatory fields, empty. A ``reason`` goes along in additional_status_info_text, which the caller
    gives only where the session's version defines it.
    """
    body = _EMPTY_BODIES.get(command, b"")
    if reason:
        info = tlv(Tag.ADDITIONAL_STATUS_INFO_TEXT, reason.encode()[:255] + b"\0")
        body = (body or b"\0") + info
    return HEADER.pack(16 + len(body), command | RESPONSE, status, sequence) + body


def splice(
    sm: Sm,
    *,
    source: bytes | None = None,
    destination: bytes | None = None,
    drop: frozenset[int] = frozenset(),
    validity: bytes | None = None,
    schedule: bytes | None = None,
    registered: int | None = None,
    data_coding: int | None = None,
    short_message: bytes | None = None,
    replace: dict[int, bytes] | None = None,
    put: dict[int, bytes] | None = None,
) -> bytes:
    """The frame of ``sm`` with the given fields exchanged and every other octet kept, in order.

    ``source``/``destination`` are whole fields (TON, NPI, address, NUL); ``validity``/``schedule`` come without NUL;
    ``drop`` and ``replace`` name TLVs by tag: every other one keeps its place, and one that is not there is not added.
    ``put`` names those that are there afterwards, once: in the place of the first, else behind all others, in its order.
    A data_sm has no schedule, validity or short_message and gets none. The sequence number stays. Raises ``BodyError``
    for a short_message over 255 octets, and for a broken TLV stream where ``drop``, ``replace`` or ``put`` has to read it.
    """
    raw = sm.raw
    parts = [
        raw[16 : sm.at_source],
        sm.source_field if source is None else source,
        sm.destination_field if destination is None else destination,
    ]
    if sm.at_sm < 0:
        flags = bytearray(raw[sm.at_flags : sm.at_tlvs])
        if registered is not None:
            flags[1] = registered
        if data_coding is not None:
            flags[2] = data_coding
        parts.append(bytes(flags))
    else:
        parts.append(raw[sm.at_flags : sm.at_schedule])
        parts.append((sm.schedule if schedule is None else schedule) + b"\0")
        parts.append((sm.validity if validity is None else validity) + b"\0")
        flags = bytearray(raw[sm.at_sm - 5 : sm.at_sm])
        if registered is not None:
            flags[0] = registered
        if data_coding is not None:
            flags[2] = data_coding
        text = sm.short_message if short_message is None else short_message
        if len(text) > 255:
            raise BodyError(Status.RINVMSGLEN, "short_message is longer than its length octet can say")
        flags[4] = len(text)
        parts.append(bytes(flags))
        parts.append(text)
    if not drop and not replace and not put:
        parts.append(raw[sm.at_tlvs :])
    else:
        left = dict(put) if put else {}
        for tag, value in sm.tlvs:
            if put and tag in put:
                if tag in left:
                    parts.append(tlv(tag, left.pop(tag)))
            elif tag not in drop:
                parts.append(tlv(tag, replace[tag] if replace and tag in replace else value))
        for tag, value in left.items():
            parts.append(tlv(tag, value))
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), sm.command, _U32.unpack_from(raw, 8)[0], sm.sequence) + body


def address_field(ton: int, npi: int, digits: bytes) -> bytes:
    """TON, NPI, address and NUL as they stand in a PDU."""
    return bytes((ton, npi)) + digits + b"\0"


class Fields(NamedTuple):
    """What ``build_sm`` takes beside addresses and text; the zero values are the usual ones."""

    service_type: bytes = b""
    esm_class: int = 0
    protocol_id: int = 0
    priority: int = 0
    schedule: bytes = b""
    validity: bytes = b""
    registered: int = 0
    replace_if_present: int = 0
    data_coding: int = 0
    default_message: int = 0


_PLAIN: Final = Fields()


def build_sm(
    command: int,
    sequence: int,
    source: bytes,
    destination: bytes,
    text: bytes,
    fields: Fields = _PLAIN,
    tlvs: bytes = b"",
) -> bytes:
    """A submit_sm or deliver_sm of our own making.

    ``source``/``destination`` are whole fields, ``tlvs`` already encoded. Raises ValueError for a text over 255 octets.
    """
    body = b"".join(
        (
            fields.service_type,
            b"\0",
            source,
            destination,
            bytes((fields.esm_class, fields.protocol_id, fields.priority)),
            fields.schedule,
            b"\0",
            fields.validity,
            b"\0",
            bytes(
                (
                    fields.registered,
                    fields.replace_if_present,
                    fields.data_coding,
                    fields.default_message,
                    len(text),
                )
            ),
            text,
            tlvs,
        )
    )
    return HEADER.pack(16 + len(body), command, 0, sequence) + body


__all__ = [
    "BodyError",
    "Command",
    "FrameError",
    "Fields",
    "HEADER",
    "HEADER_LENGTH",
    "MAX_TLVS",
    "ONCE_ONLY",
    "RESPONSE",
    "Sm",
    "Splitter",
    "Status",
    "Tag",
    "address_field",
    "build_sm",
    "command_name",
    "id_response",
    "pdu",
    "read_tlvs",
    "refusal",
    "splice",
    "known_status",
    "status_name",
    "status_value",
    "tlv",
    "with_sequence",
]
