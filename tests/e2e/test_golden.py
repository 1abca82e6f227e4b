"""Frames through the daemon, byte for byte against frames written out by hand (tests/e2e/golden/*.hex)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account
from tests.e2e.probes import Probe, frame, status
from tests.e2e.rawsmsc import RawSmsc

GOLDEN: Final = Path(__file__).with_name("golden")


def read_hex(path: Path) -> bytes:
    """Octets of a .hex file; # begins a comment."""
    return bytes.fromhex("".join(line.split("#")[0] for line in path.read_text().splitlines()))


@pytest.fixture(scope="module")
def smsc() -> Iterator[RawSmsc]:
    """An SMSC of plain bytes."""
    with RawSmsc() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(smsc: RawSmsc, make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    """A daemon whose account owns the number that the MO messages go to."""
    # A message without validity gets none added, so that every octet can be compared.
    with make_gateway([Upstream(smsc.port)], [account(expire_after=None, numbers=["447700900321"])]) as running:
        yield running


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("submit-*.hex")))
def test_a_submit_reaches_the_smsc_as_it_came(name: str, gateway: Gateway, smsc: RawSmsc) -> None:
    body = read_hex(GOLDEN / f"{name}.hex")
    command = 0x103 if "data_sm" in name else 0x04
    before = len(smsc.submits())
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        answer = probe.ask(command, body)
        assert status(answer) == 0 and answer[4:8] == (command | 1 << 31).to_bytes(4)
    smsc.wait(lambda: len(smsc.submits()) > before)
    arrived = smsc.submits()[before]
    assert arrived[:12] == frame(command, 0, 0, body)[:12]
    assert arrived[16:] == body


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("mo-*.hex")))
def test_a_message_from_a_phone_reaches_the_customer_as_it_came(name: str, gateway: Gateway, smsc: RawSmsc) -> None:
    body = read_hex(GOLDEN / f"{name}.hex")
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        sequence = smsc.deliver(body)
        got = probe.read()
        assert got[4:12] == bytes.fromhex("0000000500000000")
        assert got[16:] == body
        probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
        smsc.wait(lambda: any(int.from_bytes(each[12:16]) == sequence for each in smsc.responses()))
