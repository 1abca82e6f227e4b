"""Three independent client libraries over TLS through the daemon: every kind of message, receipts and MO, byte for byte.

What passes is written down in docs/clients.md; a test holds that page to what the run shows (SMPPD_WRITE_DOCS=1 writes it).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

import pytest

from tests.e2e.children import CLIENTS, ROOT, Smsc, client
from tests.e2e.exchange import Outcome, transceiver, transmitter_receiver
from tests.e2e.harness import Gateway, Upstream, account

PAGE: Final = ROOT / "docs/clients.md"
ACCOUNTS: Final = {"smpp.twisted": "twisted", "smpplib": "smpplib", "node-smpp": "node"}
NUMBERS: Final = {"smpp.twisted": "447700900501", "smpplib": "447700900502", "node-smpp": "447700900503"}
VERSIONS: Final = {
    "smpp.twisted": f"smpp.twisted3 {version('smpp.twisted3')}",
    "smpplib": f"smpplib {version('smpplib')}",
    "node-smpp": f"node-smpp {json.loads((ROOT / 'tests/peers/package.json').read_text())['dependencies']['smpp']}",
}
COLUMNS: Final = {
    "transceiver": "bind_transceiver",
    "transmitter": "bind_transmitter",
    "receiver": "bind_receiver",
    "GSM": "GSM 03.38 with extension table",
    "UCS-2": "UCS-2, with surrogate pairs",
    "binary": "binary, data_coding 4",
    "UDH parts": "concatenated, UDH",
    "SAR parts": "concatenated, SAR TLVs",
    "payload": "message_payload",
    "vendor TLVs": "vendor TLVs 0x1400 to 0x1402",
    "receipts": "receipts",
    "MO": "MO messages",
    "unbind": "unbind",
}


@pytest.fixture(scope="module")
def gateway(smsc: Smsc, make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    """One daemon with an account for each library."""
    accounts = [account(ACCOUNTS[name], numbers=[NUMBERS[name]]) for name in CLIENTS]
    with make_gateway([Upstream(smsc.port, tls=True)], accounts) as running:
        yield running


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """What the tests of this module found, by library."""
    return {}


@pytest.mark.parametrize("library", list(CLIENTS))
def test_every_kind_of_message_its_receipt_and_mo_pass_byte_for_byte(
    library: str, gateway: Gateway, smsc: Smsc, outcomes: dict[str, Outcome]
) -> None:
    login = gateway.login(ACCOUNTS[library])
    outcome = transceiver(library, login, smsc, NUMBERS[library])
    outcome.columns |= transmitter_receiver(library, login, smsc).columns
    outcomes[library] = outcome


@pytest.mark.parametrize("library", list(CLIENTS))
def test_a_wrong_password_is_refused(library: str, gateway: Gateway) -> None:
    with client(library, {**gateway.login(ACCOUNTS[library]), "password": "wr0ng-Pw"}) as peer:
        failed = peer.expect("failed")
    assert failed["what"] == "bind" and failed["status"] in ("ESME_RBINDFAIL", "0x0000000D")


def page(outcomes: dict[str, Outcome]) -> str:
    """docs/clients.md."""
    head = " | ".join(VERSIONS[name] for name in outcomes)
    rows = [
        f"| {text} | " + " | ".join(outcome.columns[column] for outcome in outcomes.values()) + " |"
        for column, text in COLUMNS.items()
    ]
    table = "\n".join((f"| | {head} |", "|---" * (len(outcomes) + 1) + "|", *rows))
    return (
        "# Clients\n\n"
        "Three SMPP libraries that are not ours, each bound to a running smppd over TLS, with a simulated SMSC behind it\n"
        "(smpp.twisted's server, TLS too). Written by `tests/e2e/test_clients.py`, which fails when this page and the run\n"
        "differ.\n\n"
        f"{table}\n\n"
        "*Same bytes*: the frame that left the library is the frame that reached the SMSC, and for MO the frame that left\n"
        "the SMSC is the one that reached the library, every octet but the sequence number. *Once each, our id*: each\n"
        "receipt arrived once, on the bind it belongs to, as the SMSC sent it but for the message id, which is the one\n"
        "from our submit_sm_resp in the text and in receipted_message_id.\n\n"
        "smpp.twisted and smpplib send passwords of at most 8 characters.\n"
    )


def test_the_page_says_what_the_run_showed(outcomes: dict[str, Outcome]) -> None:
    assert set(outcomes) == set(CLIENTS), "a library is missing, see the tests before this one"
    text = page({name: outcomes[name] for name in CLIENTS})
    if os.environ.get("SMPPD_WRITE_DOCS"):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text
