"""kill -9 at random moments under load: nothing acknowledged is lost, no receipt either, and each duplicate is flagged.

The short form: three kills for each way to acknowledge; SMPPD_KILLS makes it longer.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smppd.store.postgres.connection import Connection, Server
from tests import postgres
from tests.crash.load import Customer, Smsc, judge, settles
from tests.e2e.harness import Gateway, Upstream, account, wait_for
from tests.net.pipes import load_make

SEED = 20261122
_STORED = "SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM journal)"
KILLS = int(os.environ.get("SMPPD_KILLS", "3"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    load_make().make(directory, datetime.now(UTC))
    return directory


@pytest.mark.parametrize(
    ("acknowledge", "store"), [("stored", "embedded"), ("upstream", "embedded"), ("stored", "postgres")]
)
def test_nothing_acknowledged_is_lost(
    acknowledge: str, store: str, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMPPD_TEST_STORE", store)
    chance = random.Random(f"{SEED} {acknowledge}")
    with Smsc() as smsc:
        settings = account(acknowledge=acknowledge, unknown_after="1s", receipts={"window": 50, "retry": "1s"})
        gateway = Gateway(tmp_path / "gateway", certificates, [Upstream(smsc.port)], [settings])
        customer = Customer(gateway.plain_port)
        acknowledged = 0
        for _ in range(KILLS):
            gateway.start()
            customer.run(chance.uniform(0.05, 0.6), gateway.kill)
            assert len(customer.acknowledged) > acknowledged, "no load"
            acknowledged = len(customer.acknowledged)
        with gateway:
            done = threading.Event()
            taking = threading.Thread(target=customer.drain, args=(done,))
            taking.start()
            try:
                settles(gateway, smsc, customer)
            finally:
                done.set()
                taking.join()
        judge(gateway, smsc, customer)


def test_the_database_is_killed_under_load(certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon lives on: what it cannot store it refuses, and it goes on when the database is back."""
    monkeypatch.setenv("SMPPD_TEST_STORE", "postgres")
    chance = random.Random(SEED)
    with Smsc() as smsc:
        settings = account(unknown_after="1s", receipts={"window": 50, "retry": "1s"})
        gateway = Gateway(tmp_path / "gateway", certificates, [Upstream(smsc.port)], [settings])
        customer = Customer(gateway.plain_port)

        def kills() -> None:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.05, 0.4))
                postgres.server().kill()
                time.sleep(chance.uniform(0.0, 0.4))
                postgres.server().start()
                before = len(customer.acknowledged)
                wait_for("the next acknowledgement", lambda before=before: len(customer.acknowledged) > before)  # type: ignore[misc]
            gateway.kill()

        gateway.start()
        customer.run(0.1, kills)
        assert gateway.log_text().count("the database is back") == gateway.log_text().count("the database is away") > 0
        with gateway:
            done = threading.Event()
            taking = threading.Thread(target=customer.drain, args=(done,))
            taking.start()
            try:
                settles(gateway, smsc, customer)
            finally:
                done.set()
                taking.join()
            verified = gateway.command("log", "verify")
            assert verified.returncode == 0, verified.stdout
        judge(gateway, smsc, customer)


def test_a_frozen_daemon_whose_place_was_taken_commits_nothing_more(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMPPD_TEST_STORE", "postgres")
    with Smsc() as smsc:
        gateway = Gateway(tmp_path / "gateway", certificates, [Upstream(smsc.port)], [account()])
        gateway.start()
        db = Connection(Server(gateway.config["store"]["url"]))
        taken: list[object] = []

        def takes_over() -> None:
            os.kill(gateway.pid, signal.SIGSTOP)
            db.one("SELECT begin_node(0, 'another')")
            taken.append(db.all(_STORED))
            os.kill(gateway.pid, signal.SIGCONT)

        Customer(gateway.plain_port).run(0.3, takes_over)
        assert gateway.process is not None and gateway.process.wait(30.0) == 3
        assert "the store failed, ending" in gateway.log_text()
        assert taken == [db.all(_STORED)] and taken != [[(0, 0)]]
        db.close()
