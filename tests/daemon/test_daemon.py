"""The daemon as an operator has it: what keeps it from starting, reload, drain, a full disk, a broken one, the service manager.

Certificates under reload, and drains in the middle of work: tests/e2e/test_reload.py. Kill -9: tests/crash.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from smppd import config
from smppd.daemon.daemon import Daemon, StartError
from smppd.store.lock import Lock
from smppd.store.opening import embedded
from smppd.store.sqlite.keys import KeyStore
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.kek import blob_info, create_kek
from tests.e2e.children import ROOT
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step
from tests.net.pipes import load_make

Make = Callable[..., Gateway]
MemoryReactor: Any = MemoryReactorClock  # has no types


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    load_make().make(directory, datetime.now(UTC))
    return directory


@pytest.fixture
def make(certificates: Path, tmp_path: Path) -> Make:
    """Makes a gateway, not started yet."""

    def made(smscs: list[RawSmsc], accounts: list[dict[str, Any]] | None = None, **sections: Any) -> Gateway:
        if not smscs:
            sections["routes"] = []
        upstreams = [Upstream(one.port, name=f"sim{number or ''}") for number, one in enumerate(smscs)]
        return Gateway(tmp_path / "gateway", certificates, upstreams, accounts or [account()], **sections)

    return made


@pytest.fixture
def smsc() -> Iterator[RawSmsc]:
    with RawSmsc() as running:
        yield running


# -- what keeps it from starting ---------------------------------------------------------------------------------------


def refused_start(gateway: Gateway) -> str:
    """Starts a daemon in this process, which must not come up; what it says."""
    reactor = MemoryReactor()
    reactor.callFromThread = lambda function, *arguments: None
    reactor.soon = lambda function: None
    reactor.later = reactor.callLater
    daemon = Daemon(config.load(gateway.config_file), reactor, lambda _status: None)
    with pytest.raises(StartError) as caught:
        daemon.start()
    text = str(caught.value)
    assert text and "\n" not in text
    return text


def test_without_keys_it_says_what_to_do(make: Make) -> None:
    gateway = make([])
    assert "smppd keys init" in refused_start(gateway), "no KEK"
    create_kek(gateway.directory / "keys" / "kek")
    assert "smppd keys init --config" in refused_start(gateway), "no key store"


def test_a_locked_store_and_a_wrong_kek_and_a_store_that_is_not_ours_are_named(make: Make) -> None:
    gateway = make([])
    assert gateway.command("keys", "init").returncode == 0
    lock = Lock(gateway.directory / "store")
    assert refused_start(gateway).endswith("store: another smppd is using this store")
    lock.release()
    kek = gateway.directory / "keys" / "kek"
    kek.unlink()
    create_kek(kek)
    assert "KEK" in refused_start(gateway)


@pytest.mark.parametrize("file", ["data.db", "audit.db", "keys.db"])
def test_a_damaged_file_is_one_sentence(make: Make, file: str) -> None:
    gateway = make([])
    assert gateway.command("keys", "init").returncode == 0
    for path in (gateway.directory / "store").glob(f"{file}*"):
        path.unlink()
    (gateway.directory / "store" / file).write_bytes(b"not a database" * 100)
    assert "store" in refused_start(gateway)


def test_a_port_in_use_is_one_sentence_and_status_1(make: Make) -> None:
    gateway = make([])
    assert gateway.command("keys", "init").returncode == 0
    with socket.create_server(("127.0.0.1", gateway.plain_port)):
        ended = gateway.command("run")
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{gateway.plain_port}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def _without_override() -> None:
    """Root may write anywhere: not without CAP_DAC_OVERRIDE (prctl(2), PR_CAPBSET_DROP)."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_store_that_cannot_be_written_is_one_sentence(make: Make) -> None:
    gateway = make([])
    assert gateway.command("keys", "init").returncode == 0
    store = gateway.directory / "store"
    (store / "lock").unlink(missing_ok=True)
    store.chmod(0o555)
    ended = subprocess.run(
        [sys.executable, "-B", "-m", "smppd", "run", "--config", str(gateway.config_file)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        preexec_fn=_without_override,
    )
    store.chmod(0o700)
    assert ended.returncode == 1 and "store" in ended.stderr and "Permission denied" in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_error_in_hearing_of_a_commit_ends_the_daemon(make: Make) -> None:
    # What follows in that commit would be neither answered nor sent, and nobody would see it.
    reactor = MemoryReactor()
    reactor.callFromThread = lambda function, *arguments: None
    ends: list[str] = []

    class Ending(Daemon):
        def broken(self, reason: str) -> None:
            ends.append(reason)

    daemon = Ending(config.load(make([]).config_file), reactor, lambda _status: None)

    def hears() -> None:
        raise KeyError("447700900123")

    daemon._from_store(hears)
    assert ends == ["an error after a commit"]
    assert daemon.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "store"}) == 1
    daemon._from_store(lambda: None)
    assert len(ends) == 1


def test_an_error_in_handing_over_a_batch_ends_the_daemon(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # The batch would be gone, and its messages neither answered nor sent.
    gateway = make([])
    assert gateway.command("keys", "init").returncode == 0
    turn: list[Callable[[], None]] = []
    reactor = MemoryReactor()
    reactor.callFromThread = lambda function, *arguments: None
    reactor.soon = turn.append
    reactor.later = reactor.callLater
    ends: list[str] = []

    class Ending(Daemon):
        def broken(self, reason: str) -> None:
            ends.append(reason)

    def fails(_store: SqliteStore, *_words: object) -> None:
        raise KeyError("447700900123")

    monkeypatch.setattr(SqliteStore, "commit", fails)
    settings = config.load(gateway.config_file)
    daemon = Ending(settings, reactor, lambda _status: None)
    daemon._open_store(embedded(settings.store.directory), settings)
    daemon.store.batch.marks.append(b"mark")
    daemon.store.kick()
    (handing_over,) = turn
    handing_over()
    daemon.store.close()
    assert len(ends) == 1


# -- reload ------------------------------------------------------------------------------------------------------------


def reload(gateway: Gateway, outcome: str) -> None:
    """Writes the configuration, reloads, and waits for the outcome."""
    gateway.write_config()
    before = gateway.metric("smppd_reloads_total", outcome=outcome)
    gateway.reload()
    wait_for("the reload", lambda: gateway.metric("smppd_reloads_total", outcome=outcome) > before)


def test_a_reload_reaches_everything_and_drops_nobody_who_may_stay(make: Make, smsc: RawSmsc) -> None:
    gone = account("gone")
    with RawSmsc() as second:
        gateway = make([smsc, second], [account(), gone], routes=[{"upstreams": ["sim"]}], log={"level": "warning"})
        with gateway, Probe(gateway.plain_port) as probe, Probe(gateway.plain_port) as leaving:
            assert probe.bind("acme", PASSWORD) == 0 and leaving.bind("gone", PASSWORD) == 0
            assert status(probe.ask(0x04, submit_body(b"one"))) == 0
            smsc.wait(lambda: len(smsc.submits()) == 1)
            ends = gateway.metric("smppd_certificate_expiry_timestamp_seconds")
            assert ends > time.time()

            # What a restart is needed for refuses all of it.
            gateway.config["accounts"] = [account(throughput="1/s", burst=1)]
            gateway.config["store"]["reserve"] = "32MiB"
            reload(gateway, "refused")
            for _ in range(3):
                assert status(probe.ask(0x04, submit_body(b"two"))) == 0
            gateway.config["store"]["reserve"] = "16MiB"

            # Route, policy, rate, an account gone, the log's level.
            gateway.config["accounts"] = [account(policies=["house"])]
            gateway.config["policies"] = {"house": [_rule()]}
            gateway.config["routes"] = [{"upstreams": ["sim1"]}]
            gateway.config["log"] = {"level": "info"}
            reload(gateway, "done")
            assert leaving.read()[4:8] == b"\0\0\0\6", "an account that is gone is asked to leave"
            with Probe(gateway.plain_port) as late:
                assert late.bind("gone", PASSWORD) == 0x0D
            assert status(probe.ask(0x04, submit_body(b"three"))) == 0
            second.wait(lambda: len(second.submits()) == 1)
            assert status(probe.ask(0x04, submit_body(b"casino"))) != 0
            assert "account gone removed" in gateway.log_text()

            # An upstream that changes binds anew, one that is gone is left; nothing is lost on the way.
            gateway.config["upstreams"][1]["system_type"] = "vma"
            gateway.config["upstreams"] = gateway.config["upstreams"][1:]
            reload(gateway, "done")
            second.wait(lambda: second.connections == 2)
            smsc.wait(lambda: smsc.received[-1][4:8] == b"\0\0\0\6")
            assert status(probe.ask(0x04, submit_body(b"four"))) == 0
            second.wait(lambda: len(second.submits()) == 2)

            # And the rate, and the key-encryption key: keys made from now on are wrapped under its new version.
            rotated = gateway.command("keys", "rotate")
            assert rotated.returncode == 0, rotated.stderr
            gateway.config["accounts"] = [account(throughput="1/s", burst=1), account("new")]
            reload(gateway, "done")
            with Probe(gateway.plain_port) as newcomer:
                assert newcomer.bind("new", PASSWORD) == 0
                assert status(newcomer.ask(0x04, submit_body(b"five"))) == 0
            assert _kek_version(gateway, "period/new/") == 2
            assert 0x58 in [status(probe.ask(0x04, submit_body(b"five"))) for _ in range(4)]
        # The trail is written by a thread of its own, a moment after the reload is done.
        deadline = time.monotonic() + 10
        while (audit := gateway.command("audit", "show")).stdout.count("reload") < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert audit.stdout.count("reload") == 4, audit.stdout


def _kek_version(gateway: Gateway, scope: str) -> int:
    rows = KeyStore(gateway.directory / "store")
    versions = {blob_info(wrapped).kek_version for _, wrapped in rows.scan(scope.encode())}
    rows.close()
    (version,) = versions
    return version


def _rule() -> dict[str, Any]:
    return {"name": "no-casino", "when": {"keywords": ["casino"]}, "do": {"refuse": {"reason": "content refused"}}}


# -- SIGTERM -----------------------------------------------------------------------------------------------------------


def test_a_carrier_that_is_silent_costs_a_drain_its_time_and_no_more_and_a_second_sigterm_ends_at_once(
    make: Make,
) -> None:
    with RawSmsc(repeat(Step(times=0))) as smsc:
        gateway = make([smsc], [account(acknowledge="upstream")], drain="2s")
        gateway.start()
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            probe.send(frame(0x04, 0, 5, submit_body(b"hello")))
            smsc.wait(lambda: len(smsc.submits()) == 1)
            began = time.monotonic()
            assert gateway.terminate() == 0
            assert time.monotonic() - began < 8.0  # 2, one for the unbind, and a slow machine
        assert "drain time is over" in gateway.log_text()
        assert any(one[4:8] == b"\0\0\0\6" for one in smsc.received), "the SMSC was left without unbind"

        gateway.config["drain"] = "60s"
        gateway.write_config()
        gateway.start()
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            probe.send(frame(0x04, 0, 5, submit_body(b"hello")))
            smsc.wait(lambda: len(smsc.submits()) == 2)
            os.kill(gateway.pid, signal.SIGTERM)
            wait_for("the drain", lambda: not gateway.ready())
            assert gateway.process is not None and gateway.process.poll() is None
            began = time.monotonic()
            assert gateway.terminate() == 0
            assert time.monotonic() - began < 10.0
        gateway.finish()


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_below_its_reserve_it_takes_nothing_and_recovers_when_there_is_space(make: Make, smsc: RawSmsc) -> None:
    gateway = make([smsc])
    step = 200 << 20
    gateway.config["store"]["reserve"] = f"{(shutil.disk_usage(gateway.directory).free - step) >> 10}KiB"
    gateway.write_config()
    ballast = gateway.directory / "ballast"
    with gateway, Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        assert status(probe.ask(0x04, submit_body(b"before"))) == 0
        try:
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 2 * step)
            wait_for("not ready", lambda: not gateway.ready())
            assert status(probe.ask(0x04, submit_body(b"full"))) == 0x14
            assert gateway.http("/readyz")[0] == 503 and gateway.http("/healthz")[0] == 200
            assert gateway.metric("smppd_store_full") == 1
        finally:
            ballast.unlink()
        wait_for("ready again", gateway.ready)
        assert status(probe.ask(0x04, submit_body(b"after"))) == 0
        smsc.wait(lambda: len(smsc.submits()) == 2)


# The real command, on a store whose disk breaks at the first message. At the end it says which clock deadlines ran by.
_BREAKS = """
import errno, os, sys, time
from smppd.cli import main
from smppd.store.journal.files import JournalFiles
from smppd.store.sqlite.writer import Writer

write, commit = JournalFiles.write, Writer._commit
work = []

def breaks(self, *rest):
    if work and work[-1].batch.records:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return write(self, *rest)

def remembers(self, one):
    work.append(one)
    return commit(self, one)

JournalFiles.write, Writer._commit = breaks, remembers
status = main.main(sys.argv[1:])
from twisted.internet import reactor
print("monotonic" if reactor.seconds is time.monotonic else "wall clock", flush=True)
sys.exit(status)
"""


def test_an_error_of_the_disk_ends_it_with_status_3_and_nothing_is_acknowledged(make: Make, smsc: RawSmsc) -> None:
    gateway = make([smsc])
    assert gateway.command("keys", "init").returncode == 0
    with gateway.log_file.open("ab") as log:
        gateway.process = subprocess.Popen(
            [sys.executable, "-c", _BREAKS, "run", "--config", str(gateway.config_file)],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    wait_for("the start", gateway.ready)
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        probe.send(frame(0x04, 0, 5, submit_body(b"hello")))
        with pytest.raises(ConnectionError):
            probe.read()
    assert gateway.process.wait(10) == 3
    assert not smsc.submits()
    assert "monotonic" in gateway.log_text() and "Traceback" not in gateway.log_text()


# -- the service manager -----------------------------------------------------------------------------------------------


def test_the_service_manager_is_told(
    make: Make, smsc: RawSmsc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        monkeypatch.setenv("WATCHDOG_USEC", "4000000")
        gateway = make([smsc])
        said: list[str] = []

        def until(word: str) -> None:
            while not said or word not in said[-1]:
                said.append(manager.recv(4096).decode())

        with gateway:
            until("READY=1")
            with Probe(gateway.plain_port) as probe:
                assert probe.bind("acme", PASSWORD) == 0
                assert status(probe.ask(0x04, submit_body(b"hello"))) == 0
            until("WATCHDOG=1")
            gateway.reload()
            until("RELOADING=1")
            until("READY=1")
        until("STOPPING=1")
        until("EXTEND_TIMEOUT_USEC=")
        # A start with something to read back asks for patience.
        smsc.stop()
        said.clear()
        gateway.upstreams = []
        gateway.start()
        until("EXTEND_TIMEOUT_USEC=")
        gateway.finish()


# -- acknowledge: upstream ---------------------------------------------------------------------------------------------


def test_an_account_that_wants_the_carrier_s_word_gets_it(make: Make) -> None:
    steps = [Step(status=0x58), Step(status=0x14), Step(status=0x45), Step(), Step(times=0, cut=True), Step()]
    with RawSmsc(iter(steps)) as smsc:
        gateway = make([smsc], [account(acknowledge="upstream", unknown_after="1s")])
        with gateway, Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            said = [status(probe.ask(0x04, submit_body(b"hello", registered=1))) for _ in range(4)]
            assert said == [0x58, 0x14, 0x45, 0]
            # Cut before the answer: sent once more, and answered then.
            assert status(probe.ask(0x04, submit_body(b"cut", registered=1))) == 0
            assert [one[-3:] for one in smsc.submits()[4:]] == [b"cut", b"cut"]
            assert gateway.metric("smppd_messages_resent_total") == 1
            smsc.stop()
            gateway.wait_links("sim", 0)
            began = time.monotonic()
            assert status(probe.ask(0x04, submit_body(b"down"))) == 0x14
            assert time.monotonic() - began < 1.0
            # What was refused is over: no receipt comes for it.
            assert gateway.metric("smppd_mailbox") == 0 and gateway.metric("smppd_messages_queued") == 0


# -- the listener ------------------------------------------------------------------------------------------------------


def test_running_out_of_files_costs_those_who_come_then_and_nobody_else(make: Make, smsc: RawSmsc) -> None:
    gateway = make([smsc])
    with gateway, Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        before = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
        open_files = len(os.listdir(f"/proc/{gateway.pid}/fd"))
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (open_files + 3, before[1]))
        crowd = [Probe(gateway.plain_port, timeout=1.0) for _ in range(10)]
        assert status(probe.ask(0x04, submit_body(b"hello"))) == 0
        for one in crowd:
            one.socket.close()
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, before)
        with Probe(gateway.plain_port) as late:
            assert late.bind("acme", PASSWORD) == 0
