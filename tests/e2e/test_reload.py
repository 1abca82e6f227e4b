"""SIGHUP, certificates and SIGTERM on the running daemon, with sessions that must not notice."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.children import ROOT
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step


@pytest.fixture
def certificate_copies(certificates: Path, tmp_path: Path) -> Path:
    """Certificates that a test may exchange."""
    return Path(shutil.copytree(certificates, tmp_path / "certs"))


@pytest.fixture
def smsc() -> Iterator[RawSmsc]:
    """An SMSC of plain bytes."""
    with RawSmsc() as running:
        yield running


def _reloads(gateway: Gateway) -> float:
    return gateway.metric("smppd_reloads_total")


def _reload(gateway: Gateway) -> None:
    before = _reloads(gateway)
    gateway.reload()
    wait_for("the reload", lambda: _reloads(gateway) > before)


def test_five_mistakes_change_nothing(smsc: RawSmsc, make_gateway: Callable[..., Gateway]) -> None:
    with make_gateway([Upstream(smsc.port)]) as gateway, Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        good = gateway.config_file.read_text()
        broken = dict(gateway.config)
        broken["accounts"] = [account("acme", windw=3, max_binds=0), account("other", throughput="fast")]
        broken["routes"] = [{"upstreams": ["nowhere"]}]
        broken["drain"] = 7
        gateway.write_config()
        gateway.config_file.write_text(_dump(broken))
        check = gateway.command("check")
        assert check.returncode != 0
        lines = [line for line in check.stderr.splitlines() if line.startswith(str(gateway.config_file))]
        assert len(lines) == 5, check.stderr
        assert all(line.split(":")[1].isdigit() and line.split(":")[2].isdigit() for line in lines)
        _reload(gateway)
        assert status(probe.ask(0x04, submit_body(b"still here"))) == 0
        with Probe(gateway.plain_port) as other:
            assert other.bind("other", PASSWORD) == 0x0D
        with Probe(gateway.plain_port) as again:
            assert again.bind("acme", PASSWORD) == 0
        gateway.config_file.write_text(good)


def _dump(config: object) -> str:
    import yaml

    return str(yaml.safe_dump(config, sort_keys=False))


def test_a_new_account_can_bind_and_sessions_stay(smsc: RawSmsc, make_gateway: Callable[..., Gateway]) -> None:
    with make_gateway([Upstream(smsc.port)]) as gateway, Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        with Probe(gateway.plain_port) as early:
            assert early.bind("second", PASSWORD) == 0x0D
        gateway.config["accounts"].append(account("second"))
        gateway.write_config()
        _reload(gateway)
        with Probe(gateway.plain_port) as second:
            assert second.bind("second", PASSWORD) == 0
            assert status(second.ask(0x04, submit_body(b"hello"))) == 0
        assert status(probe.ask(0x04, submit_body(b"still here"))) == 0
        assert smsc.connections == 1, "the link to the SMSC was dropped"


def _serial(port: int, ca: Path) -> int:
    context = ssl.create_default_context(cafile=str(ca))
    with Probe(port, ca) as probe:
        assert isinstance(probe.socket, ssl.SSLSocket)
        certificate = probe.socket.getpeercert()
        assert certificate and context
        return int(str(certificate["serialNumber"]), 16)


def test_certificates_are_exchanged_without_dropping_sessions(
    smsc: RawSmsc, make_gateway: Callable[..., Gateway], certificate_copies: Path
) -> None:
    gateway = make_gateway([Upstream(smsc.port)])
    gateway.certificates = certificate_copies
    tls = {"certificate": str(certificate_copies / "server.pem"), "key": str(certificate_copies / "server.key")}
    gateway.config["listeners"][0]["tls"] = tls
    gateway.write_config()
    ca = certificate_copies / "ca.pem"
    with gateway, Probe(gateway.tls_port, ca) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        first = _serial(gateway.tls_port, ca)
        # A broken one keeps the old.
        kept = (certificate_copies / "server.pem").read_bytes()
        (certificate_copies / "server.pem").write_bytes(kept[:200])
        _reload(gateway)
        assert _serial(gateway.tls_port, ca) == first
        # The script makes a damaged certificate anew, under the same CA.
        make = [sys.executable, "certs/make.py", str(certificate_copies)]
        subprocess.run(make, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        _reload(gateway)
        assert _serial(gateway.tls_port, ca) != first
        assert status(probe.ask(0x04, submit_body(b"same session"))) == 0


def test_sigterm_finishes_what_is_in_flight(make_gateway: Callable[..., Gateway]) -> None:
    def slow() -> Iterator[Step]:
        while True:
            yield Step(delay=0.3)

    with RawSmsc(slow()) as smsc:
        gateway = make_gateway([Upstream(smsc.port)], [account(acknowledge="upstream")])
        gateway.start()
        try:
            with Probe(gateway.plain_port) as probe:
                assert probe.bind("acme", PASSWORD) == 0
                for number in range(5):
                    probe.send(frame(0x04, 0, 100 + number, submit_body(b"hello")))
                smsc.wait(lambda: len(smsc.submits()) >= 1)
                stopping = threading.Thread(target=gateway.terminate)
                stopping.start()
                answers, unbound = [], False
                try:
                    while True:
                        got = probe.read()
                        if got[4:8] == b"\x80\0\0\4":
                            answers.append(status(got))
                        elif got[4:8] == b"\0\0\0\6":
                            unbound = True
                            probe.send(frame(0x80000006, 0, int.from_bytes(got[12:16])))
                except ConnectionError:
                    pass
                stopping.join(30)
                assert len(answers) == 5 and answers[0] == 0
                assert unbound, "the session was closed without unbind"
            accepted = answers.count(0)
            assert len(smsc.submits()) == accepted
            assert any(each[4:8] == b"\0\0\0\6" for each in smsc.received), "the SMSC was left without unbind"
        finally:
            gateway.finish()


def test_what_was_accepted_before_a_kill_is_sent_after_it(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc() as smsc:
        gateway = make_gateway([Upstream(smsc.port)])
        with gateway:
            smsc.stop()
            with Probe(gateway.plain_port) as probe:
                assert probe.bind("acme", PASSWORD) == 0
                texts = [f"kept {number}".encode() for number in range(20)]
                for text in texts:
                    assert status(probe.ask(0x04, submit_body(text))) == 0
            gateway.kill()
            with RawSmsc() as second:
                gateway.config["upstreams"][0]["address"] = f"127.0.0.1:{second.port}"
                gateway.write_config()
                gateway.start()
                second.wait(lambda: len(second.submits()) >= 20)
                assert [each[-len(text) :] for each, text in zip(second.submits(), texts, strict=True)] == texts
                gateway.finish()
