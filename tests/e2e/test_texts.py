"""Texts, numbers and parts on the running daemon: alphabets that differ, numbers in every notation, rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status
from tests.e2e.rawsmsc import RawSmsc


def address(ton: int, digits: bytes) -> bytes:
    return bytes((ton, 1)) + digits + b"\0"


TO = address(1, b"447700900123")
FROM = address(1, b"447700900001")
RULES = [{"name": "spam", "when": {"keywords": ["prize"]}, "do": {"refuse": {"status": "ESME_RX_P_APPN"}}}]


@pytest.fixture(scope="module")
def smsc() -> Iterator[RawSmsc]:
    with RawSmsc() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(smsc: RawSmsc, make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    """Two accounts: one whose data_coding 0 is GSM, for a carrier where it is Latin-1, and one under rules that hold parts."""
    with make_gateway(
        [Upstream(smsc.port, settings=(("default_alphabet", "latin1"),))],
        [
            account(expire_after=None, numbers=["+447700900321"], throughput=None),
            account("ruled", policies=["p"], window=1000, expire_after=None),
        ],
        routes=[{"destination": ["+44"], "upstreams": ["sim"]}],
        policies={"p": {"hold_parts": True, "rules": RULES}},
        region="GB",
    ) as running:
        yield running


def body(text: bytes, to: bytes = TO, esm: int = 0, coding: int = 0, tlvs: bytes = b"") -> bytes:
    return b"\0" + FROM + to + bytes((esm, 0, 0, 0, 0, 1, 0, coding, 0, len(text))) + text + tlvs


def submitted(smsc: RawSmsc, gateway: Gateway, command: int, sent: bytes) -> bytes:
    before = len(smsc.submits())
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        assert status(probe.ask(command, sent)) == 0
    smsc.wait(lambda: len(smsc.submits()) > before)
    return smsc.submits()[before][16:]


def test_a_payload_is_text_in_submit_sm_and_data_sm(smsc: RawSmsc, gateway: Gateway) -> None:
    gsm, latin = b"\x04\x24\0\x09\0\x05 to you", b"\x04\x24\0\x09\x40\xe9 to you"
    assert submitted(smsc, gateway, 0x04, body(b"", tlvs=gsm)).endswith(latin)
    data = b"\0" + FROM + TO + b"\0\0\0"
    assert submitted(smsc, gateway, 0x103, data + gsm) == data + latin


def test_what_latin1_lacks_goes_as_ucs2_in_the_payload(smsc: RawSmsc, gateway: Gateway) -> None:
    came = submitted(smsc, gateway, 0x04, body(b"\0\x05\x1b\x65" + b"x" * 96))
    text = ("@é€" + "x" * 96).encode("utf-16-be")
    assert came == body(b"", coding=8, tlvs=b"\x04\x24" + len(text).to_bytes(2) + text)


def test_a_full_part_gets_the_nearest_letters_and_is_counted(smsc: RawSmsc, gateway: Gateway) -> None:
    head = bytes((5, 0, 3, 7, 2, 1))
    came = submitted(smsc, gateway, 0x04, body(head + b"\0\x05\x1b\x65" + b"x" * 149, esm=0x40))
    assert came == body(head + "@éE".encode("latin-1") + b"x" * 149, esm=0x40)
    assert gateway.metric("smppd_text_nearest_total", account="acme", direction="MT") == 1


def test_mo_to_a_number_behind_two_zeros_in_the_customers_alphabet(smsc: RawSmsc, gateway: Gateway) -> None:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        for to in (address(0, b"00447700900321"), address(2, b"07700900321")):
            sent = (
                b"\0"
                + address(1, b"447700900002")
                + to
                + bytes((0, 0, 0, 0, 0, 0, 0, 0, 0, 2))
                + "@é".encode("latin-1")
            )
            smsc.deliver(sent)
            got = probe.read()
            assert got[16:] == sent[:-2] + b"\0\x05"
            probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))


NOTATIONS = [
    address(1, b"447700900777"),
    address(0, b"+447700900777"),
    address(0, b"00447700900777"),
    address(2, b"07700900777"),
    address(2, b"7700900777"),
]


def test_every_notation_has_a_route_and_is_found_by_every_notation(smsc: RawSmsc, gateway: Gateway) -> None:
    for number, to in enumerate(NOTATIONS):
        assert submitted(smsc, gateway, 0x04, body(b"no %d" % number, to)) == body(b"no %d" % number, to), "as it came"
    for typed in ("+44 7700 900777", "00447700900777", "447700900777", "07700 900777", "7700 900777"):
        found = gateway.command("log", "search", typed, "--reason", "support", "--json")
        assert found.returncode == 0, found.stderr
        assert len(json.loads(found.stdout)["records"]) == len(NOTATIONS), typed


def test_ten_thousand_unfinished_parts_and_a_held_one(smsc: RawSmsc, gateway: Gateway) -> None:
    before = len(smsc.submits())

    def part(seq: int, text: bytes, ref: int = 7, to: bytes = TO) -> bytes:
        return body(bytes((5, 0, 3, ref, 2, seq)) + text, to, esm=0x40)

    with Probe(gateway.plain_port) as probe:
        assert probe.bind("ruled", PASSWORD) == 0
        assert status(probe.ask(0x04, part(1, b"a pri"))) == 0
        heard: dict[int, int] = {}
        for first in range(0, 10_200, 500):
            most = min(500, 10_200 - first)
            for n in range(first, first + most):
                probe.send(frame(0x04, 0, n + 100, part(1, b"x", n % 250, address(1, b"44770091%04d" % (n // 250)))))
            for _ in range(most):
                answer = status(probe.read())
                heard[answer] = heard.get(answer, 0) + 1
        assert heard.keys() == {0, 0x14} and heard[0x14] >= 200
        assert status(probe.ask(0x04, part(2, b"ze"))) == 0x65
    assert len(smsc.submits()) == before, "nothing left without a verdict"
    assert gateway.metric("smppd_internal_errors_total") == 0


def test_a_replaced_part_is_judged_with_the_other(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc() as smsc:
        with (
            make_gateway(
                [Upstream(smsc.port, settings=(("throughput", "1/s"), ("burst", 1), ("window", 1)))],
                [account(policies=["p"])],
                policies={"p": RULES},
            ) as gateway,
            Probe(gateway.plain_port) as probe,
        ):
            assert probe.bind("acme", PASSWORD) == 0
            names = []
            for text, esm in [*[(b"before", 0)] * 3, (b"\5\0\3\7\2\1a pri", 0x40), (b"\5\0\3\7\2\2vate", 0x40)]:
                answer = probe.ask(0x04, body(text, esm=esm))
                assert status(answer) == 0
                names.append(answer[16:])
            # The carrier takes one a second: behind the others both parts still wait.
            for text, wanted in ((b"\5\0\3\7\2\2ze", 0x65), (b"\5\0\3\7\2\2cy", 0)):
                replace = names[-1] + FROM + b"\0\0\1\0" + bytes((len(text),)) + text
                assert status(probe.ask(0x07, replace)) == wanted
            wait_for("all five", lambda: len(smsc.submits()) == 5)
            assert smsc.submits()[4].endswith(b"\5\0\3\7\2\2cy")
