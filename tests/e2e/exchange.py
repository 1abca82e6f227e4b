"""What every client library is put through, and how the frames on both sides of the relay are compared.

Nothing here uses smppd's own parser: frames are compared as bytes, receipts are rewritten by bytes.replace.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

from tests.e2e.children import Child, Smsc, client

SENDER: Final = [1, 1, "447700900001"]
NAME: Final = [5, 0, "Acme"]
TO: Final = [1, 1, "447700900123"]
# "Hello @£$ ÄÖÜ" in GSM 03.38, written out so that no codec of ours is trusted.
_GSM: Final = b"Hello \x00\x01\x02 \x5b\x5c\x5e"
_LONG: Final = b"The quick brown fox jumps over the lazy dog. " * 3
_UCS2: Final = "Ünïcödé, Привет, 你好, 📦".encode("utf-16-be")
_VENDOR: Final = [[0x1400, b"110100000001".hex()], [0x1401, b"120700000042".hex()], [0x1402, b"1302".hex() + "00ff"]]


def _message(body: bytes, **values: Any) -> dict[str, Any]:
    return {"from": SENDER, "to": TO, "body": body.hex(), "registered": 1, **values}


# What is sent, by kind; each kind is one column of the table in docs/clients.md.
MESSAGES: Final[dict[str, list[dict[str, Any]]]] = {
    "GSM": [_message(_GSM), _message(b"\x1b\x65 5 \x1b\x3cnow\x1b\x3e", **{"from": NAME})],
    "UCS-2": [_message(_UCS2, data_coding=8)],
    "binary": [_message(bytes(range(1, 141)), data_coding=4)],
    "UDH parts": [_message(bytes((5, 0, 3, 7, 2, part)) + _LONG[:130], esm_class=0x40) for part in (1, 2)],
    "SAR parts": [_message(_LONG[:130], sar=[300, 2, part]) for part in (1, 2)],
    "payload": [_message(b"", payload=(_LONG * 4).hex())],
    "vendor TLVs": [_message(b"with vendor TLVs", vendor=_VENDOR)],
}


@dataclass(slots=True)
class Outcome:
    """How one client fared: column -> what was compared. A failed comparison raises, so all here is good."""

    library: str
    columns: dict[str, str] = field(default_factory=dict)


def after_sequence(frame: bytes) -> bytes:
    """A frame without its sequence number."""
    return frame[:12] + frame[16:]


def message_frames(number: str) -> list[dict[str, Any]]:
    """MO messages to ``number``: text, 16-bit text, binary part with a header, vendor TLV."""
    base = {"from": "447700900777", "to": number}
    return [
        {**base, "body": b"Hello from a phone".hex()},
        {**base, "body": _UCS2.hex(), "data_coding": 8},
        {**base, "body": (bytes((5, 0, 3, 9, 2, 1)) + bytes(range(100))).hex(), "data_coding": 4, "esm_class": 0x40},
        {**base, "body": b"tagged".hex(), "vendor": _VENDOR[:1]},
    ]


def rewritten(receipt: bytes, old: bytes, new: bytes) -> bytes:
    """A receipt as the customer must get it: the SMSC's with the id exchanged in the text and in receipted_message_id."""
    at = receipt.index(b"\0", 16) + 3  # source digits
    at = receipt.index(b"\0", at) + 3  # destination digits
    at = receipt.index(b"\0", at) + 4  # esm_class
    at = receipt.index(b"\0", at) + 1
    at = receipt.index(b"\0", at) + 5  # sm_length
    length = receipt[at]
    text, tlvs = receipt[at + 1 : at + 1 + length], receipt[at + 1 + length :]
    assert text.count(b"id:" + old + b" ") == 1
    text = text.replace(b"id:" + old + b" ", b"id:" + new + b" ")[:254]
    told = struct.pack(">HH", 0x1E, len(old) + 1) + old + b"\0"
    assert tlvs.count(told) == 1
    tlvs = tlvs.replace(told, struct.pack(">HH", 0x1E, len(new) + 1) + new + b"\0")
    body = receipt[16:at] + bytes((len(text),)) + text + tlvs
    return struct.pack(">I", 16 + len(body)) + receipt[4:16] + body


def _receipt_id(frame: bytes) -> bytes:
    return frame.split(b"id:", 1)[1].split(b" ", 1)[0]


def transceiver(library: str, login: dict[str, Any], smsc: Smsc, number: str) -> Outcome:
    """Every kind of message over one transceiver bind, their receipts, and MO messages to ``number``."""
    outcome = Outcome(library)
    with client(library, login) as peer:
        peer.expect("bound")
        outcome.columns["transceiver"] = "bound over TLS"
        for kind, messages in MESSAGES.items():
            _submit(kind, messages, peer, smsc)
            outcome.columns[kind] = "same bytes"
        outcome.columns["receipts"] = "once each, our id"
        sent_before = len(smsc.deliveries())
        orders = message_frames(number)
        for order in orders:
            smsc.ask("mo", **order)
        came = [bytes.fromhex(event["frame"]) for event in peer.collect("deliver", len(orders))]
        sent = smsc.deliveries()[sent_before:]
        assert sorted(map(after_sequence, came)) == sorted(map(after_sequence, sent))
        outcome.columns["MO"] = "same bytes"
        assert not peer.pending("deliver"), "something was delivered twice"
        assert smsc.ask("stats")["mo_acked"] >= len(orders)
        peer.order("unbind")
        peer.expect("unbound")
        outcome.columns["unbind"] = "answered"
    return outcome


def _submit(kind: str, messages: list[dict[str, Any]], peer: Child, smsc: Smsc, receiver: Child | None = None) -> None:
    """Submits, then compares what left the library with what came to the SMSC, and the receipts with those sent."""
    frames_before, receipts_before = len(smsc.submits()), len(smsc.deliveries())
    ids_before = len(smsc.ask("ids")["ids"])
    peer.order("submit", messages=messages)
    sent = [bytes.fromhex(event["frame"]) for event in peer.collect("sent", len(messages))]
    answers = sorted(peer.collect("answer", len(messages)), key=lambda answer: int(answer["n"]))
    assert {answer["status"] for answer in answers} == {"ESME_ROK"}, f"{kind}: {answers}"
    ours = [answer["id"].encode() for answer in answers]
    assert len(set(ours)) == len(ours)
    receipts = [bytes.fromhex(event["frame"]) for event in (receiver or peer).collect("deliver", len(messages))]
    arrived = smsc.submits()[frames_before:]
    assert list(map(after_sequence, arrived)) == list(map(after_sequence, sent)), f"{kind}: the SMSC got other bytes"
    theirs = [reported.encode() for _given, reported in smsc.ask("ids")["ids"][ids_before:]]
    expected = {
        after_sequence(rewritten(frame, _receipt_id(frame), ours[theirs.index(_receipt_id(frame))]))
        for frame in smsc.deliveries()[receipts_before:]
    }
    assert {after_sequence(frame) for frame in receipts} == expected, f"{kind}: a receipt came with other bytes"
    assert {_receipt_id(frame) for frame in receipts} == set(ours)


def transmitter_receiver(library: str, login: dict[str, Any], smsc: Smsc) -> Outcome:
    """Submits on a transmitter bind, receipts on a receiver bind of the same account."""
    outcome = Outcome(library)
    with (
        client(library, {**login, "mode": "receiver"}) as receiver,
        client(library, {**login, "mode": "transmitter"}) as transmitter,
    ):
        receiver.expect("bound")
        transmitter.expect("bound")
        _submit("transmitter", MESSAGES["GSM"], transmitter, smsc, receiver)
        assert not transmitter.pending("deliver"), "a transmitter got a deliver_sm"
        outcome.columns["transmitter"] = "bound over TLS"
        outcome.columns["receiver"] = "bound over TLS, receipts"
    return outcome
