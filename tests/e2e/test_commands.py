"""`smppd send` and `smppd demo`, run as people run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.children import ROOT, Smsc
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Gateway, Upstream, descendants, wait_for
from tests.ports import free_port

TO = "+44 7700 900123"


@pytest.fixture(scope="module")
def gateway(smsc: Smsc, make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    """A daemon before the simulated SMSC, and the account's password in a file."""
    with make_gateway([Upstream(smsc.port, tls=True)]) as running:
        (running.directory / "password").write_text(PASSWORD + "\n")
        yield running
        (running.directory / "password").unlink()


def _send(gateway: Gateway, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    basic = ["--account", "acme", "--from", "+447700900001", "--to", TO]
    if "--password-file" not in arguments:
        basic += ["--password-file", str(gateway.directory / "password")]
    return gateway.command("send", *basic, *arguments, stdin=stdin)


@pytest.mark.parametrize("way", [(), ("--plain",)])
def test_send_prints_the_id_and_waits_for_the_receipt(way: tuple[str, ...], gateway: Gateway) -> None:
    done = _send(gateway, "--text", "Hello", "--receipt", *way)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ESME_ROK, id ") and done.stdout.endswith("receipt DELIVRD\n")


def test_send_cuts_a_long_text_into_parts(gateway: Gateway, smsc: Smsc) -> None:
    before = len(smsc.submits())
    done = _send(gateway, "--text", "Привет, мир! " * 20, "--receipt", "--json")
    assert done.returncode == 0, done.stderr
    parts = json.loads(done.stdout)["parts"]
    assert [part["receipt"] for part in parts] == ["DELIVRD"] * 4
    assert len({part["id"] for part in parts}) == 4
    assert len(smsc.submits()) - before == 4


def test_send_reads_the_password_from_standard_input(gateway: Gateway) -> None:
    done = _send(gateway, "--text", "Hello", "--password-file", "-", stdin=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr


def test_send_takes_another_address_and_checks_its_certificate(gateway: Gateway) -> None:
    address = ("--address", f"localhost:{gateway.tls_port}", "--text", "Hello")
    done = _send(gateway, *address, "--ca", str(gateway.certificates / "ca.pem"))
    assert done.returncode == 0, done.stderr
    untrusted = _send(gateway, *address)
    assert untrusted.returncode == 1 and "certificate" in untrusted.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--account", "nobody"), 1, "no account nobody"),
        (("--password-file", "-"), 1, "ESME_RBINDFAIL"),
        (("--password-file", "/nonexistent"), 1, "cannot be read"),
        (("--wait", "soon"), 2, "--wait"),
        (("--to", "somebody else"), 2, "destination is a number"),
        (("--ca", "/nonexistent", "--address", "localhost:1"), 1, "--ca"),
        (("--address", "localhost"), 2, "--address"),
    ],
)
def test_send_says_what_is_wrong(arguments: tuple[str, ...], status: int, words: str, gateway: Gateway) -> None:
    done = _send(gateway, "--text", "Hello", *arguments, stdin="wr0ng-Pw\n")
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


def test_send_says_that_nobody_listens(gateway: Gateway) -> None:
    done = _send(gateway, "--text", "Hello", "--address", f"localhost:{free_port()}", "--plain")
    assert done.returncode == 1 and "cannot connect" in done.stderr


def _processes(directory: Path) -> list[int]:
    """Processes whose command line names the directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_the_demo_ends_by_itself_with_everything_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    command = [sys.executable, "-m", "smppd", "demo", "--directory", str(directory), "--messages", "300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 acknowledged, 300 relayed, 300 receipts" in done.stdout
    assert "+44770***0" in done.stdout
    assert "To go on" in done.stdout
    assert not _processes(directory)
    # Again in the same place, and not in a place with something else in it.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    command[command.index(str(directory))] = str(tmp_path / "other")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=ROOT)
    assert refused.returncode == 1 and "not a demo's" in refused.stderr
    assert (tmp_path / "other" / "letter.txt").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_leaves_nothing_behind_when_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    command = [sys.executable, "-m", "smppd", "demo", "--directory", str(directory), "--messages", "5000"]
    demo = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
        # A shell that runs the tests in the background has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if line.startswith(b"accepted"):
                break
        children = descendants(demo.pid)
        assert len(children) >= 3, said
        os.kill(demo.pid, number)
        began = time.monotonic()
        rest = demo.stdout.read()
        assert demo.wait(30) == 130
        assert b"Traceback" not in rest
        assert time.monotonic() - began < 20
        wait_for("the children's end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
        if demo.stdout is not None:
            demo.stdout.close()


def test_a_demo_that_is_kept_can_be_used_until_it_is_interrupted(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    command = [sys.executable, "-m", "smppd", "demo", "--keep", "--directory", str(directory), "--messages", "100"]
    demo = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert demo.stdout is not None
        said = b""
        for line in demo.stdout:
            said += line
            if b"for an SMPP client of your own" in line:
                break
        assert b"still running" in said
        simulated = [sys.executable, "-m", "smppd", "simulate", "customer", "--config", str(directory / "smppd.yaml")]
        simulated += ["--account", "demo", "--password-file", str(directory / "secrets/customer"), "--messages", "50"]
        done = subprocess.run([*simulated, "--rate", "100/s"], capture_output=True, text=True, timeout=90, cwd=ROOT)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "All acknowledged with a receipt: " in done.stdout
        children = descendants(demo.pid)
        os.kill(demo.pid, signal.SIGINT)
        rest = demo.stdout.read()
        assert demo.wait(30) == 0
        assert b"All as promised" in rest and b"Traceback" not in rest
        wait_for("the children's end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
        if demo.stdout is not None:
            demo.stdout.close()


def test_a_simulated_smsc_serves_a_daemon_and_a_simulated_customer(
    tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> None:
    """What README's next step does: the three of them by their commands alone."""
    secret = tmp_path / "carrier"
    secret.write_text(UPSTREAM_PASSWORD + "\n")
    port = free_port()
    smsc = [sys.executable, "-m", "smppd", "simulate", "smsc", "--address", f"127.0.0.1:{port}"]
    smsc += ["--password-file", str(secret), "--receipt-delay", "10ms", "--throttled", "0.1", "--ids", "hexdec"]
    with subprocess.Popen(smsc, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"A simulated SMSC listens on 127.0.0.1:{port} for gateway")
            with make_gateway([Upstream(port)]) as gateway:
                (gateway.directory / "password").write_text(PASSWORD + "\n")
                password = str(gateway.directory / "password")
                for way in ((), ("--plain",)):
                    customer = [sys.executable, "-m", "smppd", "simulate", "customer", "--account", "acme", *way]
                    customer += ["--config", str(gateway.config_file), "--password-file", password, "--rate", "200/s"]
                    done = subprocess.run(customer, capture_output=True, text=True, timeout=90, cwd=ROOT)
                    assert (done.returncode, done.stderr) == (0, "")
                    assert done.stdout.endswith("All acknowledged with a receipt: 100 DELIVRD.\n")
                (gateway.directory / "password").unlink()
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read() if process.stdout is not None else ""
    assert process.returncode == 0 and "200 accepted" in rest and "stopped" in rest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("smsc", "--address", "0.0.0.0:2776"), "127.0.0.1 only"),
        (("smsc", "--throttled", "2"), "a share, from 0 to 1"),
        (("smsc", "--certificate", "a.pem"), "both or not at all"),
        (("smsc", "--delay", "1"), "--delay"),
    ],
)
def test_a_simulator_that_is_called_wrongly_says_so(arguments: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smppd", "simulate", *arguments, "--password-file", "-"],
        capture_output=True,
        text=True,
        input="pw\n",
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 2 and words in done.stderr
