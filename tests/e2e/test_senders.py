"""Senders through the daemon, with a client library that is not ours: one that looks like another's is refused; one is
replaced, and comes back in the receipt and in the reply of the handset, also after the daemon was killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

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


def test_a_sender_is_replaced_and_restored_and_a_likeness_refused(
    smsc: Smsc, make_gateway: Callable[..., Gateway]
) -> None:
    acme = account(policies=["senders"], numbers=[f"+{REPLIES}"])
    gateway = make_gateway([Upstream(smsc.port, tls=True)], [acme], policies={"senders": RULES}, senders=SENDERS)

    def message(name: str) -> dict[str, Any]:
        return {"from": [5, 0, name], "to": TO, "body": b"hello".hex(), "registered": 1}

    def replied(peer: Any) -> tuple[bytes, bytes]:
        smsc.ask("mo", **{"from": TO[2], "to": REPLIES, "body": b"yes please".hex()})
        return fields(bytes.fromhex(peer.expect("deliver")["frame"]))

    with gateway:
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
