"""Every response that smppd can send, with every status, in every version: read by a codec that is not ours, and by the rules
of SMPP 3.3, 3.4 and 5.0 written out here. Strict peers end the session over a response that lacks its mandatory fields."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from smpp.pdu.pdu_encoding import PDUEncoder

from smppd.protocol.operations import Bind, bind_response, multi_response, query_response
from smppd.protocol.session import Role
from smppd.protocol.wire import Command, Status, address_field, id_response, pdu, read_tlvs, refusal
from tests.protocol.sessions import S, standing

VERSIONS = (0x33, 0x34, 0x50)
# May leave its body out where it refuses (SMPP 3.4 sections 4.1.2, 4.1.4, 4.1.6, 4.4.2).
BODILESS = (Command.SUBMIT_SM, Command.BIND_RECEIVER, Command.BIND_TRANSMITTER, Command.BIND_TRANSCEIVER)
# Strings and octets of the mandatory part (sections 4.5.2 to 4.10.2); None is a string with its NUL.
LAYOUT: dict[int, tuple[int | None, ...]] = {
    Command.SUBMIT_SM: (None,),
    Command.DELIVER_SM: (None,),
    Command.DATA_SM: (None,),
    Command.SUBMIT_MULTI: (None, 1),
    Command.QUERY_SM: (None, None, 1, 1),
    **dict.fromkeys((Command.BIND_RECEIVER, Command.BIND_TRANSMITTER, Command.BIND_TRANSCEIVER), (None,)),
    **dict.fromkeys((Command.CANCEL_SM, Command.REPLACE_SM, Command.UNBIND, Command.ENQUIRE_LINK), ()),
}


def read(raw: bytes, version: int) -> tuple[list[bytes], list[tuple[int, bytes]]]:
    """The mandatory fields and TLVs of a response, by the rules."""
    length, command, status = (int.from_bytes(raw[at : at + 4]) for at in (0, 4, 8))
    assert length == len(raw) and command & 0x80000000
    if command == Command.GENERIC_NACK:
        assert length == 16
        return [], []
    request = command & 0x7FFFFFFF
    if length == 16 and status and request in BODILESS:
        return [], []
    at, fields = 16, []
    for size in LAYOUT[request]:
        stop = raw.index(0, at) + 1 if size is None else at + size
        assert stop <= length, "a mandatory field is missing"
        fields.append(raw[at:stop])
        at = stop
    if request == Command.SUBMIT_MULTI:
        for _ in range(fields[1][0]):
            at = raw.index(0, at + 2) + 1 + 4
            assert at <= length
    if request == Command.QUERY_SM:
        assert 1 <= fields[2][0] <= (9 if version >= 0x50 else 8)
    tlvs = read_tlvs(raw, at)
    assert not tlvs or (version >= 0x34 and LAYOUT[request])
    return fields, tlvs


def decode(raw: bytes) -> Any:
    """The same by smpp.pdu, all octets of it."""
    stream = BytesIO(raw)
    decoded = PDUEncoder().decode(stream)
    assert stream.tell() == len(raw)
    return decoded


def refusals() -> Iterator[tuple[bytes, int]]:
    """(response, version) of every refusal of every request with every status."""
    for request, status, version in itertools.product(LAYOUT, Status, VERSIONS):
        if not status:
            continue
        yield refusal(request, status, 7), version
        if request in (Command.SUBMIT_SM, Command.DATA_SM, Command.SUBMIT_MULTI):
            if version >= (0x34 if request == Command.DATA_SM else 0x50):
                yield refusal(request, status, 7, "the reason"), version


def acceptances() -> Iterator[tuple[bytes, int]]:
    """(response, version) of what is answered where nothing is refused."""
    for version in VERSIONS:
        name = b"0000002A" if version == 0x33 else b"0123456789abcdef"
        for request in (Command.SUBMIT_SM, Command.DATA_SM):
            yield id_response(request, 7, name), version
        yield id_response(Command.DELIVER_SM, 7, b""), version
        for command in (Command.BIND_RECEIVER, Command.BIND_TRANSMITTER, Command.BIND_TRANSCEIVER):
            bind = Bind(command, 7, b"acme", b"secret", b"", version, 0, 0, b"")
            yield bind_response(bind, 0, b"smppd", version), version
            yield bind_response(bind, Status.RBINDFAIL, b"smppd", version), version
        for state in range(1, 9):
            yield query_response(7, name, b"261129120000000+" if state > 1 else b"", state, 255), version
        failed = [(address_field(1, 1, b"447700900123"), int(Status.RINVDSTADR))] * 254
        for number in (0, 1, 254):
            yield multi_response(7, name, failed[:number]), version
        yield multi_response(7, b"", failed, Status.RINVDSTADR), version


@pytest.mark.parametrize("version", VERSIONS)
def test_each_response_has_what_its_version_asks_for(version: int) -> None:
    number = 0
    for raw, of in itertools.chain(refusals(), acceptances()):
        if of == version:
            read(raw, version)
            number += 1
    assert number > 300


def test_an_independent_codec_reads_each_of_them() -> None:
    for raw, _version in itertools.chain(refusals(), acceptances()):
        if int.from_bytes(raw[4:8]) == Command.SUBMIT_MULTI_RESP:
            continue  # the library has no codec for no_unsuccess
        assert decode(raw).seqNum == 7


def test_what_a_refusal_says_in_its_fields() -> None:
    status = int(Status.RX_P_APPN)
    assert refusal(Command.DELIVER_SM, status, 7)[16:] == b"\0"
    assert refusal(Command.DATA_SM, status, 7)[16:] == b"\0"
    assert refusal(Command.SUBMIT_MULTI, status, 7)[16:] == b"\0\0"
    assert refusal(Command.QUERY_SM, status, 7)[16:] == b"\0\0\7\0"
    assert refusal(Command.SUBMIT_SM, status, 7)[16:] == b""
    assert decode(refusal(Command.QUERY_SM, status, 7)).params["message_state"].name == "UNKNOWN"


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", [state for state in S if state is not S.CLOSED])
def test_what_a_session_answers_by_itself_is_no_other(role: Role, state: S) -> None:
    for command in [*(c for c in Command if c < 0x80000000), 0x0000000A, 0x111, 0x7FFFFFFF]:
        session = standing(role, state)
        session.receive(pdu(command, 0, 77), 1.0)
        out = session.take()
        while out:
            length = int.from_bytes(out[:4])
            read(out[:length], 0x33)
            if int.from_bytes(out[4:8]) != Command.SUBMIT_MULTI_RESP:
                assert decode(out[:length]).seqNum == 77
            out = out[length:]
