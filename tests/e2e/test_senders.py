"""Senders and consents through the daemon, with a client library that is not ours. A sender that looks like another's is
refused; one is replaced, and comes back in the receipt and in the reply of the handset, also after the daemon was killed. An
account that needs consents reaches only who is in the register, which commands change while the daemon runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.e2e.children import Smsc, client
from tests.e2e.harness import Gateway, Upstream, account

TO: Final[list[Any]] = [1, 1, "447700900123"]
REPLIES = "447700900555"
SENDERS = {"authorised": [{"account": "acme", "country": "GB", "sender": "Acme"}], "protected": ["PayPal"]}
RULES = [
    {
        "name": "stolen",
        "when": {"sender_is": ["lookalike", "protected"]},
        "do": {"refuse": {"status": "ESME_RINVSRCADR"}},
    },
    {"name": "unknown", "when": {"sender_is": "unauthorised"}, "do": {"tag": "unknown"}},
    {
        "name": "reply",
        "when": {"sender_kind": "alphanumeric"},
        "do": {"replace_sender": {"address": f"+{REPLIES}", "restore": True}},
    },
]


def fields(frame: bytes) -> tuple[bytes, bytes]:
    """(source, destination) digits of a PDU, read by hand."""
    source_end = frame.index(b"\0", 19)
    destination_end = frame.index(b"\0", source_end + 3)
    return frame[19:source_end], frame[source_end + 3 : destination_end]


def message(name: str) -> dict[str, Any]:
    return {"from": [5, 0, name], "to": TO, "body": b"hello".hex(), "registered": 1}


@pytest.fixture(scope="module")
def gateway(smsc: Smsc, make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    accounts = [
        account(policies=["senders"], numbers=[f"+{REPLIES}"]),
        account("shop", consent="required", **{"class": "promotional"}),
    ]
    with make_gateway([Upstream(smsc.port, tls=True)], accounts, policies={"senders": RULES}, senders=SENDERS) as made:
        yield made


def test_a_sender_is_replaced_and_restored_and_a_likeness_refused(smsc: Smsc, gateway: Gateway) -> None:
    def replied(peer: Any) -> tuple[bytes, bytes]:
        smsc.ask("mo", **{"from": TO[2], "to": REPLIES, "body": b"yes please".hex()})
        return fields(bytes.fromhex(peer.expect("deliver")["frame"]))

    with client("node-smpp", gateway.login()) as peer:
        peer.expect("bound")
        peer.order("submit", messages=[message("PayPaI"), message("Acme")])
        answers = sorted(peer.collect("answer", 2), key=lambda answer: int(answer["n"]))
        assert [answer["status"] for answer in answers] == ["ESME_RINVSRCADR", "ESME_ROK"]
        receipt = bytes.fromhex(peer.expect("deliver")["frame"])
        assert fields(smsc.submits()[-1]) == (REPLIES.encode(), TO[2].encode()), "replaced"
        assert fields(receipt) == (TO[2].encode(), b"Acme") and b"DELIVRD" in receipt
        assert replied(peer) == (TO[2].encode(), b"Acme")
    assert gateway.metric("smppd_rule_hits_total", policy="senders", rule="stolen", mode="enforce") == 1
    gateway.kill()
    gateway.start()
    gateway.wait_links("sim", 1)
    with client("node-smpp", gateway.login()) as peer:
        peer.expect("bound")
        assert replied(peer) == (TO[2].encode(), b"Acme"), "known again after a kill"


def test_only_who_is_in_the_register_is_reached(gateway: Gateway) -> None:
    (gateway.directory / "consents.csv").write_text(
        f"account,number,form,time,ip\nshop,+{TO[2]},electronic,2026-01-02T03:04:05Z,192.0.2.7\n"
    )

    def consent(*words: str) -> None:
        done = gateway.command("consent", *words)
        assert done.returncode == 0, done.stderr

    def statuses() -> list[str]:
        with client("node-smpp", gateway.login("shop")) as peer:
            peer.expect("bound")
            peer.order("submit", messages=[message("Shop")])
            return [answer["status"] for answer in peer.collect("answer", 1)]

    assert statuses() == ["ESME_RINVDSTADR"]
    consent("import", str(gateway.directory / "consents.csv"))
    assert statuses() == ["ESME_ROK"]
    assert gateway.metric("smppd_consents") == 1
    gateway.kill()
    gateway.start()
    gateway.wait_links("sim", 1)
    assert statuses() == ["ESME_ROK"], "known again after a kill"
    consent("withdraw", f"+{TO[2]}", "--account", "shop", "--note", "by phone")
    assert statuses() == ["ESME_RINVDSTADR"]
    assert gateway.metric("smppd_messages_refused_total", account="shop", reason="consent") >= 1
