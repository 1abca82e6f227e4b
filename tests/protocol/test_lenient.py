"""Carriers' and customers' PDUs that are not to the letter: what is kept of them, and that what comes out is to the letter."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smppd.protocol import lenient
from smppd.protocol.lenient import Fault
from smppd.protocol.wire import BodyError, Command, Sm, Status, pdu, tlv

TEXT = b"id:71000001 sub:001 dlvrd:001 submit date:2611290000 done date:2611290001 stat:DELIVRD err:000 text:"
SOURCE, DESTINATION = b"\1\1" + b"447700900123\0", b"\1\1" + b"447700900001\0"
ID, STATE = tlv(0x1E, b"71000001\0"), tlv(0x427, b"\2")


def frame(
    *,
    service: bytes = b"",
    source: bytes = SOURCE,
    destination: bytes = DESTINATION,
    times: bytes = b"\0\0",
    text: bytes = TEXT,
    length: int | None = None,
    behind: bytes = b"",
    command: int = Command.DELIVER_SM,
) -> bytes:
    """A deliver_sm, any field of it as it should not be."""
    size = len(text) if length is None else length
    body = service + b"\0" + source + destination + b"\4\0\0" + times + b"\0\0\0\0" + bytes((size,)) + text + behind
    return pdu(command, 0, 7, body)


PLAIN = frame()


@pytest.mark.parametrize(
    ("raw", "whole", "fault"),
    [
        (frame(behind=b"\0"), PLAIN, Fault.STRAY),
        (frame(behind=b"\0" + ID + STATE), frame(behind=ID + STATE), Fault.STRAY),
        (frame(behind=STATE + STATE), frame(behind=STATE), Fault.REPEATED),
        (frame(behind=STATE + tlv(0x427, b"\5") + ID), frame(behind=STATE + ID), Fault.REPEATED),
        (frame(behind=b"\0" + STATE + STATE), frame(behind=STATE), Fault.STRAY),
        (frame(times=b"261129000000\0\0"), PLAIN, Fault.TIME),
        (frame(times=b"\x002611290000\0", behind=ID), frame(behind=ID), Fault.TIME),
        (frame(times=b"261129000000000+\0" + b"2611\0"), frame(times=b"261129000000000+\0\0"), Fault.TIME),
        (frame(times=b"2611290000000000000+\0\0"), PLAIN, Fault.TIME),
        (frame(times=b"\0", behind=ID), frame(behind=ID), Fault.SHORT),
        (frame(times=b"", behind=ID), frame(behind=ID), Fault.SHORT),
        (frame(length=len(TEXT) + 1), PLAIN, Fault.LENGTH),
        (frame(length=len(TEXT) + 1, behind=ID), frame(behind=ID), Fault.LENGTH),
        (frame(length=255), PLAIN, Fault.LENGTH),
        (frame(length=0), PLAIN, Fault.LENGTH),
        (frame(length=len(TEXT) - 4), PLAIN, Fault.LENGTH),
        (frame(length=len(TEXT) - 4, behind=ID + STATE), frame(behind=ID + STATE), Fault.LENGTH),
        (frame(length=len(TEXT) - 4, behind=b"\0" + ID), frame(behind=ID), Fault.LENGTH),
        (frame(length=len(TEXT) + 5, behind=ID + STATE), frame(behind=ID + STATE), Fault.LENGTH),
        (frame(text=b"caf\xc3\xa9 " + TEXT, length=len(TEXT) + 5), frame(text=b"caf\xc3\xa9 " + TEXT), Fault.LENGTH),
        (frame(behind=ID + b"\4\x27\0"), frame(behind=ID), Fault.TLV),
        (frame(behind=ID + b"\4\x27\0\2\2"), frame(behind=ID), Fault.TLV),
        (frame(behind=b"\0\0"), PLAIN, Fault.TLV),
        (frame(text=b"", behind=b"\4\x24\0\xff" + TEXT), frame(text=b"", behind=tlv(0x424, TEXT)), Fault.TLV),
        (frame(service=b"SERVICE"), frame(service=b"SERVI"), Fault.FIELD),
        (frame(source=b"\5\0" + b"A" * 30 + b"\0"), frame(source=b"\5\0" + b"A" * 20 + b"\0"), Fault.FIELD),
        (frame(destination=b"\1\1" + b"4" * 21 + b"\0"), frame(destination=b"\1\1" + b"4" * 20 + b"\0"), Fault.FIELD),
        (frame()[: -len(TEXT) - 1], frame(text=b""), Fault.SHORT),
        (frame()[: -len(TEXT) - 5], frame(text=b""), Fault.SHORT),
        (frame()[: -len(TEXT) - 7], frame(text=b""), Fault.SHORT),
    ],
)
def test_what_a_carrier_s_receipt_keeps(raw: bytes, whole: bytes, fault: Fault) -> None:
    raw, whole = (len(one).to_bytes(4, "big") + one[4:] for one in (raw, whole))
    with pytest.raises(BodyError):
        Sm(raw).tlvs  # noqa: B018
    mended = lenient.delivered(raw)
    assert (mended.frame, mended.fault) == (whole, fault)
    assert repr(mended) == f"<Mended {fault.value}, {len(whole)} octets>"


def test_a_data_sm_is_read_as_far_as_it_goes() -> None:
    head = b"\0\1\1" + b"4" * 70 + b"\0" + DESTINATION + b"\4\0\0"
    raw = pdu(Command.DATA_SM, 0, 7, head + tlv(0x424, TEXT) + tlv(0x424, TEXT) + b"\0")
    mended = lenient.delivered(raw)
    assert mended.fault is Fault.FIELD
    assert mended.frame[16:] == b"\0\1\1" + b"4" * 64 + b"\0" + DESTINATION + b"\4\0\0" + tlv(0x424, TEXT)
    assert lenient.delivered(pdu(Command.DATA_SM, 0, 7, head[:-2])).frame[-3:] == b"\4\0\0"


def test_of_too_many_tlvs_the_first_stay() -> None:
    mended = lenient.delivered(frame(behind=tlv(0x1400, b"a") * 5), 3)
    assert mended == (frame(behind=tlv(0x1400, b"a") * 3), Fault.MANY)


def test_a_pdu_full_of_tlvs_costs_no_more_than_a_limited_number(monkeypatch: pytest.MonkeyPatch) -> None:
    full = frame(behind=tlv(0x1400, b"") * 16_000 + b"\1")
    assert lenient.delivered(full, 3) == (frame(behind=tlv(0x1400, b"") * 3), Fault.MANY)
    monkeypatch.setattr(lenient, "MAX_TLVS", 2)
    broken = frame(behind=tlv(0x1400, b"") * 2 + b"\1")
    assert lenient.delivered(broken) == (frame(behind=tlv(0x1400, b"") * 2), Fault.MANY), "no further look"


def test_a_pdu_that_says_nothing_is_refused() -> None:
    for raw in (pdu(5, 0, 7), PLAIN[:20], PLAIN[: 17 + len(SOURCE + DESTINATION)]):
        with pytest.raises(BodyError) as refused:
            lenient.delivered(raw)
        assert refused.value.status == Status.RINVMSGLEN


_BODIES = st.one_of(
    st.binary(max_size=120),
    st.builds(
        lambda at, gone, new, tail: PLAIN[16 : 16 + at] + new + PLAIN[16 + at + gone :] + tail,
        st.integers(0, len(PLAIN) - 16),
        st.integers(0, 30),
        st.binary(max_size=30),
        st.one_of(st.just(b""), st.just(ID + STATE), st.binary(max_size=12)),
    ),
)


@settings(deadline=None, max_examples=400)
@given(command=st.sampled_from([Command.DELIVER_SM, Command.DATA_SM]), body=_BODIES, most=st.integers(1, 5))
@example(command=Command.DELIVER_SM, body=PLAIN[16:] + b"\0" + ID + STATE, most=5)
def test_what_comes_out_is_always_to_the_letter(command: int, body: bytes, most: int) -> None:
    raw = pdu(command, 0, 7, body)
    try:
        mended = lenient.delivered(raw, most)
    except BodyError as error:
        assert error.status == Status.RINVMSGLEN
        return
    sm = Sm(mended.frame)
    assert len(sm.tlvs) <= most
    assert (sm.command, sm.sequence, len(mended.frame)) == (command, 7, int.from_bytes(mended.frame[:4], "big"))
    assert len(sm.service_type) <= 5 and len(sm.source_digits) <= 64
    try:
        before = Sm(raw)
        whole = len(before.tlvs) <= most
    except BodyError:
        return
    if whole:
        assert mended.frame == raw, "it was to the letter, and lost something"


@pytest.mark.parametrize("behind", [b"", ID, tlv(0x1400, b"1101") + tlv(0x1401, b"1207")])
def test_one_nul_behind_a_customers_text_is_left_out(behind: bytes) -> None:
    raw = frame(command=Command.SUBMIT_SM, behind=b"\0" + behind)
    assert lenient.submitted(raw) == frame(command=Command.SUBMIT_SM, behind=behind)
    payload = frame(command=Command.SUBMIT_SM, text=b"", behind=b"\0" + tlv(0x424, TEXT))
    assert lenient.submitted(payload) == frame(command=Command.SUBMIT_SM, text=b"", behind=tlv(0x424, TEXT))


@pytest.mark.parametrize(
    "raw",
    [
        frame(command=Command.SUBMIT_SM, behind=b"\0\0"),
        frame(command=Command.SUBMIT_SM, behind=b"\1"),
        frame(command=Command.SUBMIT_SM, behind=b"\0" + STATE + STATE),
        frame(command=Command.SUBMIT_SM, behind=b"\0" + ID + b"\4"),
        frame(command=Command.SUBMIT_SM, times=b"\0"),
        frame(command=Command.SUBMIT_SM, length=255),
        pdu(Command.DATA_SM, 0, 7, b"\0" + SOURCE + DESTINATION + b"\0\0\0\0"),
    ],
)
def test_nothing_else_of_a_customer_s_is_guessed(raw: bytes) -> None:
    assert lenient.submitted(raw) is None
