"""A scripted SMSC has bad days, the daemon is killed: every message ends in a state that its customer can see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body

NUMBER = b"\1\x01447700900123\0"
SENDER = b"\1\x01447700900001\0"


def _receipt(message_id: bytes) -> bytes:
    return receipt_body(NUMBER, SENDER, message_id)


def _ids(probe: Probe, count: int) -> list[bytes]:
    ids = []
    for number in range(count):
        answer = probe.ask(0x04, submit_body(f"message {number}".encode(), registered=1))
        assert status(answer) == 0
        ids.append(answer[16:-1])
    return ids


def _receipts(probe: Probe, count: int) -> list[bytes]:
    """The texts of ``count`` receipts, acknowledged."""
    texts: list[bytes] = []
    while len(texts) < count:
        got = probe.read()
        assert got[4:8] == b"\0\0\0\5"
        probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
        texts.append(got[got.index(b"id:") :])
    return texts


def _silent(probe: Probe) -> bool:
    probe.socket.settimeout(0.7)
    try:
        probe.read()
    except TimeoutError:
        return True
    return False


def test_receipts_wait_for_the_customer_across_a_kill(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc(repeat(Step(then=(_receipt,)))) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x02) == 0
            ids = _ids(probe, 25)
        # The SMSC may forget a receipt once it is acknowledged, and it is only then that it counts.
        smsc.wait(lambda: len(smsc.responses()) >= 25)
        gateway.kill()
        gateway.start()
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x01) == 0
            texts = _receipts(probe, 25)
            assert sorted(text[3 : 3 + len(ids[0])] for text in texts) == sorted(ids)
            assert _silent(probe), "a receipt came twice"
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD, 0x01) == 0
            assert _silent(probe), "an acknowledged receipt came again"


def test_a_submit_without_an_answer_is_sent_once_more(make_gateway: Callable[..., Gateway]) -> None:
    script = chain([Step(times=0, cut=True)], repeat(Step(then=(_receipt,))))
    with RawSmsc(script) as smsc, make_gateway([Upstream(smsc.port)], [account(unknown_after="1s")]) as gateway:
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            (message_id,) = _ids(probe, 1)
            smsc.wait(lambda: len(smsc.submits()) == 2)
            assert smsc.submits()[0][16:] == smsc.submits()[1][16:]
            (text,) = _receipts(probe, 1)
            assert text.startswith(b"id:" + message_id + b" ")
            assert _silent(probe)
        assert gateway.metric("smppd_messages_resent_total") == 1
        assert len(smsc.submits()) == 2


def test_a_throttled_smsc_gets_the_messages_again_in_order(make_gateway: Callable[..., Gateway]) -> None:
    script = chain([Step(status=0x58), Step(status=0x14)], repeat(Step()))
    with RawSmsc(script) as smsc, make_gateway([Upstream(smsc.port)]) as gateway:
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            _ids(probe, 10)
        wait_for("ten accepted by the SMSC", lambda: gateway.metric("smppd_messages_submitted_total") == 10)
        texts = [each[each.index(b"message ") :] for each in smsc.submits()]
        assert sorted(texts[2:]) == [f"message {number}".encode() for number in range(10)]
        # What was already on its way when the SMSC began to refuse cannot be called back; the rest keeps its order.
        again = texts.index(texts[0], 1)
        assert texts[again:] == sorted(texts[again:])


@pytest.mark.parametrize("acknowledge", ["stored", "upstream"])
def test_a_final_refusal_of_the_smsc_reaches_the_customer(
    acknowledge: str, make_gateway: Callable[..., Gateway]
) -> None:
    with (
        RawSmsc(repeat(Step(status=0x0B))) as smsc,
        make_gateway([Upstream(smsc.port)], [account(acknowledge=acknowledge)]) as gateway,
        Probe(gateway.plain_port) as probe,
    ):
        assert probe.bind("acme", PASSWORD) == 0
        if acknowledge == "upstream":
            assert status(probe.ask(0x04, submit_body(b"hello", registered=1))) == 0x0B
            return
        (message_id,) = _ids(probe, 1)
        (text,) = _receipts(probe, 1)
        assert text.startswith(b"id:" + message_id + b" ")
        assert b"stat:REJECTD" in text or b"stat:UNDELIV" in text


def test_an_answer_given_twice_does_no_harm(make_gateway: Callable[..., Gateway]) -> None:
    with (
        RawSmsc(repeat(Step(times=2, then=(_receipt,)))) as smsc,
        make_gateway([Upstream(smsc.port)]) as gateway,
        Probe(gateway.plain_port) as probe,
    ):
        assert probe.bind("acme", PASSWORD) == 0
        ids: list[bytes] = []
        texts: list[bytes] = []
        for number in range(5):
            probe.send(frame(0x04, 0, 100 + number, submit_body(b"hello", registered=1)))
        while len(ids) < 5 or len(texts) < 5:
            got = probe.read()
            if got[4:8] == b"\x80\0\0\4":
                ids.append(got[16:-1])
            else:
                probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
                texts.append(got[got.index(b"id:") + 3 :].split(b" ")[0])
        assert sorted(ids) == sorted(texts)
        assert _silent(probe)


def test_without_the_smsc_stored_accounts_go_on_and_upstream_accounts_are_told(
    make_gateway: Callable[..., Gateway],
) -> None:
    accounts = [account("stored"), account("strict", acknowledge="upstream")]
    with RawSmsc() as smsc, make_gateway([Upstream(smsc.port)], accounts) as gateway:
        smsc.stop()
        gateway.wait_links("sim", 0)
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("strict", PASSWORD) == 0
            assert status(probe.ask(0x04, submit_body(b"hello"))) == 0x14
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("stored", PASSWORD) == 0
            assert status(probe.ask(0x04, submit_body(b"hello"))) == 0


def test_receipts_before_the_first_response_with_ids_that_lose_their_zeros(
    make_gateway: Callable[..., Gateway],
) -> None:
    def script() -> Iterator[Step]:
        while True:
            yield Step(first=(lambda message_id: _receipt(message_id.lstrip(b"0")),), delay=0.05)

    with (
        RawSmsc(script(), ids=lambda number: b"%010d" % (41136 + number)) as smsc,
        make_gateway([Upstream(smsc.port)]) as gateway,
        Probe(gateway.plain_port) as probe,
    ):
        assert probe.bind("acme", PASSWORD) == 0
        (message_id,) = _ids(probe, 1)
        (text,) = _receipts(probe, 1)
        assert text.startswith(b"id:" + message_id + b" ")
