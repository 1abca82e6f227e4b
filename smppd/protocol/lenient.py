"""Message PDUs that are not to the letter, made whole: what can be read of them is kept, what is broken is left out.

Only what ``wire.Sm`` refuses comes here. A carrier's deliver_sm and data_sm are read as far as they go, since to refuse one
loses the receipt that it brings. A customer's submit_sm and submit_multi are helped in one case only, in which nothing has to
be guessed. What comes out is a frame to the letter of SMPP 3.4 sections 4.4.1 to 4.7.1, for the strict ones who read it next.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from smppd.protocol.wire import MAX_TLVS, ONCE_ONLY, BodyError, Command, Sm, Status, Tag, pdu, read_tlvs, tlv


class Fault(StrEnum):
    """What was not to the letter: labels of metrics and words of the log."""

    FIELD = "field too long"
    TIME = "time"
    LENGTH = "length"
    STRAY = "stray octet"
    SHORT = "cut short"
    TLV = "broken tlv"
    REPEATED = "repeated tlv"
    MANY = "too many tlvs"
    UNREADABLE = "unreadable"


class Mended(NamedTuple):
    """A whole frame, and the first thing that had to be mended in it."""

    frame: bytes
    fault: Fault

    def __repr__(self) -> str:
        return f"<Mended {self.fault.value}, {len(self.frame)} octets>"


class _Chain(NamedTuple):
    """The TLVs from some offset on, those that are whole. ``fault``: why it is not all, or not each."""

    tlvs: list[tuple[int, bytes]]
    fault: Fault | None

    @property
    def whole(self) -> bool:
        """Whether it reaches to the end of the PDU."""
        return self.fault is None or self.fault is Fault.REPEATED or self.fault is Fault.MANY


class _Tail(NamedTuple):
    """A reading of what follows priority_flag. ``score``: 0 where everything fits, more for a worse one."""

    score: int
    schedule: bytes
    validity: bytes
    flags: bytes  # registered_delivery, replace_if_present_flag, data_coding, sm_default_msg_id
    text: bytes
    tlvs: list[tuple[int, bytes]]
    fault: Fault | None


_FITS: Final = 0
_NEARLY: Final = 1  # but for one octet behind short_message
_OTHER_LAYOUT: Final = 2
_COUNTED: Final = 5  # but for sm_length
_BROKEN: Final = 10
_RUN: Final = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]*")  # no octet that a TLV's tag begins with
_FAR: Final = 32  # a time field that is longer is none: its NUL is missing
_TIMES: Final = 2  # schedule_delivery_time, validity_period


def delivered(raw: bytes, tlvs: int = MAX_TLVS) -> Mended:
    """A carrier's deliver_sm or data_sm that ``Sm`` does not read, or that has more than ``tlvs`` TLVs.

    Strings over their limit are cut to it, a time that is neither empty nor 16 characters is left out, sm_length is set
    right, what the PDU ends before is 0, of two TLVs alike the first stays, and from a broken one on there are none. Raises
    ``BodyError`` where the PDU ends before esm_class: nothing tells what it was.
    """
    command = int.from_bytes(raw[4:8], "big")
    short = command == Command.DATA_SM
    most = 64 if short else 20
    faults: list[Fault] = []
    parts: list[bytes] = []
    service, at = _string(raw, 16, 5, faults)
    parts.append(service + b"\0")
    for _ in range(2):
        kind = raw[at : at + 2]
        digits, at = _string(raw, at + 2, most, faults)
        parts.append(kind + digits + b"\0")
    if at >= len(raw):
        raise BodyError(Status.RINVMSGLEN, "the PDU ends before esm_class")
    flags = raw[at : at + 3]
    if len(flags) < 3:
        faults.append(Fault.SHORT)
    parts.append(flags.ljust(3, b"\0"))
    at += 3
    if short:
        chain = _chain(raw, at, tlvs)
        if chain.fault is not None:
            faults.append(chain.fault)
        kept = chain.tlvs
    else:
        tail = _tail(raw, at, tlvs)
        if tail.fault is not None:
            faults.append(tail.fault)
        schedule, validity = (_time(field, faults) for field in (tail.schedule, tail.validity))
        parts += [schedule, validity, tail.flags, bytes((len(tail.text),)), tail.text]
        kept = tail.tlvs
    parts += [tlv(tag, value) for tag, value in kept]
    status, sequence = (int.from_bytes(raw[at : at + 4], "big") for at in (8, 12))
    return Mended(pdu(command, status, sequence, b"".join(parts)), faults[0] if faults else Fault.LENGTH)


def _string(raw: bytes, at: int, most: int, faults: list[Fault]) -> tuple[bytes, int]:
    """A C-octet string, cut to ``most`` octets, and where the next field begins."""
    stop = raw.find(0, at)
    if stop < 0 or at >= len(raw):
        raise BodyError(Status.RINVMSGLEN, "the PDU ends before esm_class")
    if stop - at > most:
        faults.append(Fault.FIELD)
    return raw[at : min(stop, at + most)], stop + 1


def _time(field: bytes, faults: list[Fault]) -> bytes:
    """A time field with its NUL; empty where it is not 16 characters (section 7.1.1)."""
    if len(field) in (0, 16):
        return field + b"\0"
    faults.append(Fault.TIME)
    return b"\0"


def _tail(raw: bytes, at: int, most: int) -> _Tail:
    """The best reading of what follows priority_flag: both time fields, or where an octet is missing one or none of them, if
    all that follows fits then to the octet."""
    best = _reading(raw, at, _TIMES, most)
    for times in (1, 0):
        if best.score < _OTHER_LAYOUT:
            break
        other = _reading(raw, at, times, most)
        if other.score <= _NEARLY:
            return other._replace(score=other.score + _OTHER_LAYOUT, fault=Fault.SHORT)
    return best


def _reading(raw: bytes, at: int, times: int, most: int) -> _Tail:
    """The reading with so many time fields."""
    fields = [b"", b""]
    for number in range(times):
        stop = raw.find(0, at, at + _FAR)
        if stop < 0:
            # Neither an end nor a time: nothing behind it can be found.
            return _Tail(_BROKEN, b"", b"", bytes(4), b"", [], Fault.SHORT)
        fields[number], at = raw[at:stop], stop + 1
    schedule, validity = fields
    flags = raw[at : at + 4].ljust(4, b"\0")
    if at + 4 >= len(raw):
        return _Tail(_BROKEN, schedule, validity, flags, b"", [], Fault.SHORT)
    at += 5
    stop = at + raw[at - 1]
    exact = _chain(raw, stop, most) if stop <= len(raw) else None
    if exact is not None and exact.whole:
        return _Tail(_FITS, schedule, validity, flags, raw[at:stop], exact.tlvs, exact.fault)
    if exact is not None and raw[stop : stop + 1] == b"\0":
        behind = _chain(raw, stop + 1, most)
        if behind.whole:
            return _Tail(_NEARLY, schedule, validity, flags, raw[at:stop], behind.tlvs, Fault.STRAY)
    if at < stop <= len(raw) + 1:
        # sm_length counts a NUL that is not there: its octet is the first of what follows.
        before = _chain(raw, stop - 1, most)
        if before.whole:
            return _Tail(_NEARLY, schedule, validity, flags, raw[at : stop - 1], before.tlvs, Fault.LENGTH)
    run = _RUN.match(raw, at)
    end = run.end() if run is not None else at
    if at < end <= at + 255:
        # Characters were counted instead of octets, or nothing was: what can be printed is the text, if the rest fits then.
        for begin in (end, end + 1) if raw[end : end + 1] == b"\0" else (end,):
            behind = _chain(raw, begin, most)
            if behind.whole:
                return _Tail(_COUNTED, schedule, validity, flags, raw[at:end], behind.tlvs, Fault.LENGTH)
    if exact is None:
        return _Tail(_BROKEN, schedule, validity, flags, raw[at:], [], Fault.LENGTH)
    return _Tail(_BROKEN, schedule, validity, flags, raw[at:stop], exact.tlvs, exact.fault)


def _chain(raw: bytes, at: int, most: int) -> _Chain:
    """The TLVs from ``at`` up to the first broken one, ``most`` at the most, and of two alike the first. Whatever the PDU's
    size, ``MAX_TLVS`` of them are looked at."""
    tlvs: list[tuple[int, bytes]] = []
    seen: set[int] = set()
    fault: Fault | None = None
    end = len(raw)
    for _ in range(MAX_TLVS):
        if at >= end:
            return _Chain(tlvs, fault)
        tag, length = int.from_bytes(raw[at : at + 2], "big"), int.from_bytes(raw[at + 2 : at + 4], "big")
        stop = at + 4 + length
        if at + 4 > end or stop > end:
            if tag == Tag.MESSAGE_PAYLOAD and at + 4 < end and tag not in seen:
                tlvs.append((tag, raw[at + 4 :]))  # as a short_message that is shorter than it says
            return _Chain(tlvs, Fault.TLV)
        if tag in seen and tag in ONCE_ONLY:
            fault = fault or Fault.REPEATED
        elif len(tlvs) < most:
            seen.add(tag)
            tlvs.append((tag, raw[at + 4 : stop]))
        else:
            fault = fault or Fault.MANY
        at = stop
    return _Chain(tlvs, fault if at >= end else Fault.MANY)


def submitted(raw: bytes) -> bytes | None:
    """A customer's submit_sm less the one NUL behind short_message that sm_length does not count, as some libraries write by
    default: the PDU ends there, or its TLVs begin. None where anything else is wrong."""
    try:
        sm = Sm(raw)
    except BodyError:
        return None
    if sm.at_sm < 0:
        return None
    return without_stray(raw, sm.at_tlvs)


def without_stray(raw: bytes, at: int) -> bytes | None:
    """The PDU less the octet at ``at``, the end of its short_message, if that is a NUL before the end or before TLVs that are
    whole then."""
    if raw[at : at + 1] != b"\0":
        return None
    try:
        read_tlvs(raw, at + 1)
    except BodyError:
        return None
    return (len(raw) - 1).to_bytes(4, "big") + raw[4:at] + raw[at + 1 :]


__all__ = ["Fault", "Mended", "delivered", "submitted", "without_stray"]
