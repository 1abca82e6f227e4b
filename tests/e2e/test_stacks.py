"""What is refused ends no link: other people's stacks as customers and as carrier, each strict in a way of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.e2e.children import CLIENTS, ROOT, Child, Smsc
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status
from tests.e2e.rawsmsc import RawSmsc, frame, receipt_body

# Those that each library can write, and its word for ESME_RINVMSGID.
ENQUIRIES: Final = {
    "smpp.twisted": (["query_sm", "cancel_sm"], "ESME_RINVMSGID"),
    "smpplib": (["query_sm"], "0x0000000C"),
    "node-smpp": (["query_sm", "cancel_sm", "replace_sm"], "ESME_RINVMSGID"),
}
NAMES: Final = {"smpp.twisted": "twisted", "smpplib": "smpplib", "node-smpp": "node"}
COMMANDS: Final = {**CLIENTS, "smpp.twisted": [sys.executable, "-m", "tests.peers.twisted_client"]}
MESSAGE: Final = {
    "from": [1, 1, "447700900001"],
    "to": [1, 1, "447700900123"],
    "body": b"after all that".hex(),
    "registered": 1,
}
SOURCE, DESTINATION = b"\1\1" + b"447700900123\0", b"\1\1" + b"447700900001\0"


def peer(library: str, login: dict[str, Any]) -> Child:
    """A client of that library, still binding."""
    return Child(COMMANDS[library], {"frames": True, "answers": True, "retry": False, "window": 10, **login}, ROOT)


def submitted(smsc: RawSmsc, count: int) -> None:
    """Waits until the SMSC has that many."""
    smsc.wait(lambda: len(smsc.submits()) == count)


@pytest.fixture(scope="module")
def gateway(smsc: Smsc, make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    """One daemon, an account for each library, smpp.twisted's server as its carrier."""
    accounts = [account(name) for name in NAMES.values()]
    with make_gateway([Upstream(smsc.port, tls=True)], accounts) as running:
        yield running


@pytest.mark.parametrize("library", list(NAMES))
def test_refused_enquiries_and_mo_without_owner_end_no_link(library: str, gateway: Gateway, smsc: Smsc) -> None:
    what, refused = ENQUIRIES[library]
    binds, ended = smsc.ask("stats")["binds"], gateway.log_text().count('"session ended"')
    with peer(library, gateway.login(NAMES[library])) as client:
        client.expect("bound")
        before = gateway.metric("smppd_mo_messages_total", outcome="no owner")
        smsc.ask("mo", **{"from": "447700900777", "to": "447700900599", "body": b"nobody's".hex()})
        wait_for("the refusal", lambda: gateway.metric("smppd_mo_messages_total", outcome="no owner") > before)
        for name in ("0123456789abcdef", "no such id"):
            client.order("enquire", id=name)
            told = client.collect("enquired", len(what))
            assert sorted((one["what"], one["status"]) for one in told) == sorted((one, refused) for one in what)
        client.order("submit", messages=[MESSAGE])
        (answer,) = client.collect("answer", 1)
        assert answer["status"] == "ESME_ROK"
        client.collect("deliver", 1)
        client.order("enquire", id=answer["id"])
        assert {one["what"] for one in client.collect("enquired", len(what))} == set(what)
        assert gateway.log_text().count('"session ended"') == ended
        client.order("unbind")
        client.expect("unbound")
    stats = smsc.ask("stats")
    assert (stats["binds"], stats["sessions"]) == (binds, 1), "the carrier ended its link"
    assert "upstream lost" not in gateway.log_text()
    assert '"event":"MO message without an owner"' in gateway.log_text()


def test_a_carrier_s_receipts_that_are_not_to_the_letter(make_gateway: Callable[..., Gateway]) -> None:
    spoil: list[Callable[[bytes], bytes]] = [
        lambda body: body + b"\0",
        lambda body: body + b"\4\x27\0\1\2",
        lambda body: body + b"\4",
        lambda body: body.replace(b"\4\0\0\0\0", b"\4\0\x00261129120000\0\0"),
    ]
    with RawSmsc() as smsc, make_gateway([Upstream(smsc.port)], [account("node"), account("twisted")]) as gateway:
        for place, library in enumerate(("node-smpp", "smpp.twisted")):
            with peer(library, gateway.login(NAMES[library])) as client:
                client.expect("bound")
                client.order("submit", messages=[MESSAGE] * len(spoil))
                client.collect("answer", len(spoil))
                first = place * len(spoil) + 1
                submitted(smsc, first + len(spoil) - 1)
                for number, spoilt in enumerate(spoil, first):
                    name = f"raw-{number:06d}".encode()
                    smsc.deliver(spoilt(receipt_body(SOURCE, DESTINATION, name)))
                # smpp.twisted ends its session over what is not to the letter.
                came = [bytes.fromhex(one["frame"]) for one in client.collect("deliver", len(spoil))]
                assert all(b"stat:DELIVRD" in one for one in came)
                client.order("unbind")
                client.expect("unbound")
        for sequence in range(1500):
            smsc.deliver(receipt_body(SOURCE, DESTINATION, b"unknown-%d" % sequence) + b"\0")
        smsc.wait(lambda: len(smsc.responses()) >= 1500 + 2 * len(spoil))
        assert smsc.connections == 1, "the link was ended over the form of receipts"
        assert all(response[8:12] == bytes(4) and response[16:] == b"\0" for response in smsc.responses())


def test_the_largest_payload_and_a_customer_s_stray_nul_through_the_daemon(
    make_gateway: Callable[..., Gateway],
) -> None:
    payload = bytes(range(256)) * 255 + bytes(255)
    with (
        RawSmsc() as smsc,
        make_gateway([Upstream(smsc.port)], [account(numbers=["447700900500"], window=30)]) as gateway,
        Probe(gateway.plain_port) as probe,
    ):
        assert probe.bind("acme", PASSWORD) == 0
        head = b"\0" + DESTINATION + SOURCE + b"\0\0\0\0\0\0\0\0\0"
        whole = head + b"\0" + b"\4\x24\xff\xff" + payload
        stray = head + b"\5hello"
        probe.send(frame(4, 0, 10, whole))
        probe.send(b"".join(frame(4, 0, sequence, stray + b"\0") for sequence in range(11, 31)))
        assert [status(probe.read()) for _ in range(21)] == [0] * 21
        smsc.wait(lambda: len(smsc.submits()) == 21)
        assert smsc.submits()[0][16:] == whole
        assert {each[16:] for each in smsc.submits()[1:]} == {stray}
        mo = b"\0" + SOURCE + b"\1\1" + b"447700900500\0" + b"\0\0\0\0\0\0\0\0\0\0" + b"\4\x24\xff\xff" + payload
        smsc.deliver(mo)
        assert probe.read()[16:] == mo


def test_a_customer_and_a_carrier_of_3_3_through_the_daemon(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc() as smsc:
        upstream = Upstream(smsc.port, settings=(("interface_version", "3.3"),))
        with (
            make_gateway([upstream], [account(numbers=["447700900500"])]) as gateway,
            Probe(gateway.plain_port) as probe,
        ):
            assert status(probe.ask(9, b"acme\0" + PASSWORD.encode() + b"\0\0\x33\0\0\0")) == 0
            bind = next(each for each in smsc.received if each[4:8] == b"\0\0\0\x09")
            assert bind[16:].split(b"\0")[3][:1] == b"\x33"
            body = b"\0" + DESTINATION + SOURCE + b"\0\0\0\0\0\1\0\0\0\0" + b"\4\x24\0\5hello" + b"\x14\0\0\2ab"
            answer = probe.ask(4, body)
            assert status(answer) == 0 and len(answer) == 16 + 8 + 1
            submitted(smsc, 1)
            assert smsc.submits()[0][16:] == body[:-16] + b"\5hello"
            smsc.deliver(receipt_body(SOURCE, DESTINATION, b"raw-000001"))
            told = probe.read()
            assert told.endswith(b" err:000 text:") and b"id:" + answer[16:24] + b" " in told
            probe.send(frame(0x80000005, 0, int.from_bytes(told[12:16]), b"\0"))
            too_long = body[:-15] + b"\4\x24\1\0" + b"x" * 256
            answer = probe.ask(4, too_long)
            assert status(answer) == 0
            assert b"stat:REJECTD err:001" in probe.read()
            assert len(smsc.submits()) == 1
            wait_for("the line", lambda: '"event":"messages too long for SMPP 3.3"' in gateway.log_text())
