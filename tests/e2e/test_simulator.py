"""The test peers against each other, with no daemon between: what they prove later is only worth what they show here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.children import CLIENTS, Child, Smsc, client
from tests.e2e.exchange import transceiver, transmitter_receiver


def _login(certificates: Path, smsc: Smsc) -> dict[str, Any]:
    return {"port": smsc.port, "ca": str(certificates / "ca.pem"), "system_id": "gateway", "password": "sm5c-Pw1"}


@pytest.mark.parametrize("library", list(CLIENTS))
def test_each_client_exchanges_every_kind_of_message_with_the_simulated_smsc(
    library: str, certificates: Path, smsc: Smsc
) -> None:
    outcome = transceiver(library, _login(certificates, smsc), smsc, "447700900500")
    assert len(outcome.columns) == 11
    transmitter_receiver(library, _login(certificates, smsc), smsc)


@pytest.mark.parametrize("library", list(CLIENTS))
def test_a_certificate_of_another_ca_is_refused_by_each_client(library: str, smsc: Smsc, tmp_path: Path) -> None:
    import subprocess
    import sys

    subprocess.run([sys.executable, "certs/make.py", str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    with client(library, {**_login(tmp_path, smsc)}) as peer:
        peer.expect("failed")


@pytest.mark.parametrize("library", list(CLIENTS))
def test_a_wrong_password_is_told_by_each_client(library: str, certificates: Path, smsc: Smsc) -> None:
    with client(library, {**_login(certificates, smsc), "password": "other"}) as peer:
        assert peer.expect("failed")["what"] == "bind"


def _run(certificates: Path, behaviour: dict[str, Any], count: int = 300) -> tuple[dict[str, Any], dict[str, Any]]:
    server = {"system_id": "gateway", "password": "sm5c-Pw1", "behaviour": behaviour}
    with (
        Smsc(server) as smsc,
        Child(
            CLIENTS["smpp.twisted"],
            {"port": smsc.port, "system_id": "gateway", "password": "sm5c-Pw1", "binds": 2},
        ) as peer,
    ):
        peer.expect("bound")
        peer.order("run", count=count, wait=1)
        return peer.expect("done"), smsc.ask("stats")


def test_the_customer_settles_receipts_that_come_before_the_response(certificates: Path) -> None:
    done, stats = _run(certificates, {"early": 1.0, "response_delay": 0.01, "throttled": 0.05})
    assert done["complete"] and done["receipts"] == 300 == done["acknowledged"]
    assert stats["throttled"] > 0 and stats["receipts_acked"] == 300


def test_the_customer_sees_receipts_with_ids_that_it_never_got(certificates: Path) -> None:
    done, _stats = _run(certificates, {"ids": "hexdec"}, 30)
    assert not done["complete"] and done["unknown_receipts"] == 30


def test_the_customer_counts_refusals_and_undelivered_states(certificates: Path) -> None:
    done, stats = _run(certificates, {"refused": 0.3, "undelivered": 0.5})
    assert done["complete"] and done["refused"] == {"ESME_RSUBMITFAIL": stats["refused"]}
    assert done["states"]["UNDELIV"] + done["states"]["DELIVRD"] == done["acknowledged"] == 300 - stats["refused"]
