"""The daemon between a customer and a carrier whose receipts are of every kind that carriers write."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import repeat

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step

NUMBER = b"\1\x01447700900123\0"
SENDER = b"\1\x01447700900001\0"
SAR = b"SAR-447700900123-1eedf843-2-1"


def tlv(tag: int, value: bytes) -> bytes:
    return struct.pack(">HH", tag, len(value)) + value


def body(text: bytes, *, esm: int = 4, coding: int = 0, tlvs: bytes = b"") -> bytes:
    """The body of a deliver_sm from the number to the sender."""
    flags = bytes((esm, 0, 0, 0, 0, 0, 0, coding, 0, len(text)))
    return b"\0" + NUMBER + SENDER + flags + text + tlvs


def pair(name: bytes) -> bytes:
    return tlv(0x1E, name + b"\0") + tlv(0x427, b"\2")


# The id in the answer, and the receipts for it; the state that the last of them tells is DELIVRD.
KINDS: tuple[tuple[bytes, tuple[bytes, ...]], ...] = (
    (b"1054BC61", (body(b"id:1054BC61 stat:TRYING"), body(b"id:1054BC61 stat:DELIVRD"))),
    (b"1054BC62", (body(b"id:1054BC62 stat:BUFFERD"), body(b"id:1054BC62 stat:DELIVRD"))),
    (b"1054BC63", (body(b"id:1054BC63 stat:0 err:0", tlvs=b""),)),
    (b"1054BC64", (body(b"447700900123SMSAlert^id:1054BC64 sub:0 dlvrd:1 stat:DELIVRD err: text:"),)),
    (b"1054BC66", (body(b"447700900123SMSAlertid:1054BC66 sub:0 dlvrd:1 stat:DELIVRD err: text:"),)),
    (b"0x1054BC67", (body(b"id:1054bc67 stat:DELIVRD err:000 text:"),)),
    (b"1054BC65", (body(b"\xfe\xff" + "id:1054BC65 stat:DELIVRD text:".encode("utf-16-be"), coding=8),)),
    (b"73000001", (body(b"id:73000001 stat:DELIVRD", esm=8, tlvs=pair(b"73000001")),)),
    (b"73000002", (body(b"id:73000002 stat:DELIVRD", esm=0),)),
    (SAR, (body(b"id:" + SAR.upper() + b" stat:DELIVRD"),)),
    (b"71000008", (body(b"stat:DELIVRD err:000 text:Order id:991 is ready", tlvs=pair(b"71000008")),)),
    (b"L" * 300, (body(b"stat:DELIVRD", tlvs=pair(b"L" * 300)),)),
    (b"71000009", (body(b"err:" + b"9" * 200 + b" stat:DELIVRD", tlvs=pair(b"71000009")),)),
)


def receipts(probe: Probe) -> Iterator[bytes]:
    """The deliver_sm that come, acknowledged."""
    while True:
        got = probe.read()
        if got[4:8] == b"\0\0\0\5":
            probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
            yield got


def test_each_kind_reaches_its_customer(make_gateway: Callable[..., Gateway]) -> None:
    names = iter([given for given, _ in KINDS])
    with RawSmsc(repeat(Step()), ids=lambda _number: next(names)) as smsc:
        upstream = Upstream(smsc.port, settings=(("receipt_states", {"0": "delivered"}),))
        with make_gateway([upstream], [account(numbers=["+447700900001"])]) as gateway:
            with Probe(gateway.plain_port) as probe:
                assert probe.bind("acme", PASSWORD) == 0
                ours = []
                for number, _ in enumerate(KINDS):
                    answer = probe.ask(0x04, submit_body(b"%d" % number, registered=1))
                    assert status(answer) == 0
                    ours.append(answer[16:-1])
                count = len(KINDS)
                wait_for("the answers", lambda: gateway.metric("smppd_messages_submitted_total") == count)
            assert gateway.terminate() == 0
            gateway.start()
            gateway.wait_links(upstream.name, 1)
            with Probe(gateway.plain_port) as probe:
                assert probe.bind("acme", PASSWORD) == 0
                came = receipts(probe)
                for shown, (given, bodies) in zip(ours, KINDS, strict=True):
                    for number, one in enumerate(bodies):
                        smsc.deliver(one)
                        if b"BUFFERD" in one:
                            continue  # nobody asked for an intermediate one
                        got = next(came)
                        assert shown in got.replace(b"\0", b"") and given not in got.replace(b"\0", b"")
                        assert number or len(bodies) == 1 or b"TRYING" in got or b"BUFFERD" in bodies[0]
                    smsc.deliver(bodies[-1])  # it brings it again, and that is the end of it
                smsc.deliver(body(b"delivered"))
                delivered = sum(len(bodies) + 1 for _, bodies in KINDS) + 1
                smsc.wait(lambda: len(smsc.responses()) == delivered)
                assert all(int.from_bytes(each[8:12]) == 0 for each in smsc.responses())
            assert gateway.metric("smppd_receipts_total", outcome="unreadable") == 1
            assert gateway.metric("smppd_receipts_total", outcome="again") == len(KINDS)
            assert gateway.metric("smppd_internal_errors_total") == 0
            wait_for("the log to say so", lambda: '"receipts not read"' in gateway.log_text())
            log = gateway.log_text()
            assert '"receipt with a state that is not known"' in log and "TRYING" not in log
            assert gateway.terminate() == 0
            gateway.start()
            assert gateway.ready()
