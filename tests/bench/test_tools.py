"""The bench's C tools against each other: they count right, and they notice what a relay could do wrong."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import build, config
from bench.process import Process

MESSAGES = 2000


@pytest.fixture(scope="module")
def tools() -> dict[str, Path]:
    return build.tools()


@pytest.fixture
def drive(tools: dict[str, Path], tmp_path: Path) -> Iterator[Any]:
    """drive(smsc options, load options) -> (load's status, its report, SMSC's status, its report)."""

    def driven(smsc_options: str, load_options: str) -> tuple[int, dict[str, Any], int, dict[str, Any]]:
        with Process("smsc", [str(tools["smsc"]), *smsc_options.split()], tmp_path) as smsc:
            port = smsc.line(10)["listening"]
            command = [str(tools["load"]), "--port", str(port), *load_options.split()]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            status = smsc.stop(5)
            report = json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}
            return done.returncode, report, status, smsc.line(5)

    yield driven


@pytest.mark.parametrize(
    ("smsc_options", "load_options"),
    [
        ("", "--binds 10 --window 50"),
        ("", "--binds 10 --window 50 --mix"),
        ("--early", "--binds 3 --mix"),
        ("--early --window 1", "--binds 3 --mix"),
        ("--receipt-delay 5 --ids hex", "--binds 1 --window 7 --mix --first 123456"),
        ("", "--binds 2 --rate 20000"),
    ],
)
def test_every_message_is_answered_and_receipted_once(drive: Any, smsc_options: str, load_options: str) -> None:
    status, load, smsc_status, smsc = drive(smsc_options, f"{load_options} --messages {MESSAGES} --deadline 10")
    assert (status, smsc_status) == (0, 0)
    assert load["ok"] and smsc["ok"]
    assert load["sent"] == load["acked"] == load["accepted"] == load["receipts"] == MESSAGES
    assert smsc["submits"] == smsc["receipts"] == smsc["acked"] == MESSAGES
    assert smsc["unacked"] == smsc["waiting"] == smsc["unknown"] == 0
    assert load["answer_us"]["count"] == load["receipt_us"]["count"] == MESSAGES
    for latency in (load["answer_us"], load["receipt_us"]):
        assert latency["p50"] <= latency["p99"] <= latency["p999"] <= latency["max"]


def test_a_pace_is_kept(drive: Any) -> None:
    status, load, _, _ = drive("", "--binds 2 --rate 5000 --duration 0.4 --deadline 10")
    assert status == 0
    assert load["sent"] == 2000
    assert load["elapsed"] >= 0.39


def test_a_duration_ends(drive: Any) -> None:
    status, load, _, _ = drive("", "--binds 2 --duration 0.2 --deadline 10")
    assert status == 0
    assert load["sent"] == load["receipts"] > 100


def test_a_receipt_delay_is_waited_for(drive: Any) -> None:
    _, load, _, smsc = drive("--receipt-delay 50", "--messages 100 --window 100 --deadline 10")
    # The mean is of the values themselves; a percentile is the lower edge of its step.
    assert load["receipt_us"]["mean"] >= 50_000 > load["answer_us"]["p50"]
    assert smsc["ok"]


def test_early_receipts_come_before_their_answers(drive: Any) -> None:
    _, load, _, smsc = drive("--early", "--messages 500 --window 10 --deadline 10")
    assert smsc["early"] == load["early_receipts"] == 500


def test_tls(drive: Any, tmp_path: Path) -> None:
    certificate, key = config.make_certificate(tmp_path)
    server = f"--tls-cert {certificate} --tls-key {key}"
    status, load, smsc_status, _ = drive(
        server, f"--binds 4 --mix --messages 2000 --deadline 10 --tls-ca {certificate} --tls-name localhost"
    )
    assert (status, smsc_status, load["tls"], load["receipts"]) == (0, 0, True, 2000)
    status, load, _, smsc = drive(server, f"--messages 10 --tls-ca {certificate} --tls-name other.example")
    assert status == 2
    assert "verify failed" in load["stderr"]
    assert smsc["submits"] == 0


FAULTY = 40  # messages; every 7th of them is treated badly: 5


@pytest.mark.parametrize(
    ("fault", "tool", "count", "times"),
    [
        ("drop", "load", "missing_receipts", 5),
        ("dup", "load", "duplicate_receipts", 5),
        ("wrongid", "load", "orphan_receipts", 5),
        ("swap", "load", "wrong", 5),
        ("noanswer", "load", "missing_answers", 5),
        ("dupanswer", "load", "unexpected_answers", 5),
        ("sameid", "load", "duplicate_ids", 5),
        ("mangle", "smsc", "mangled", 5),
    ],
)
def test_a_fault_is_noticed(drive: Any, fault: str, tool: str, count: str, times: int) -> None:
    status, load, smsc_status, smsc = drive(
        f"--fault {fault}=7", f"--binds 3 --window 5 --messages {FAULTY} --deadline 10 --quiet 0.4"
    )
    assert smsc["faults"] == 5
    report, bad, good = (load, status, smsc_status) if tool == "load" else (smsc, smsc_status, status)
    assert (bad, good) == (1, 0)
    assert not report["ok"]
    assert report[count] == times


def test_a_refusal_is_counted_by_status(drive: Any) -> None:
    status, load, _, _ = drive("--fault reject=7", f"--messages {FAULTY} --deadline 5")
    assert status == 1
    assert load["errors"] == {"0x00000008": 5}
    assert load["missing"] == 0


def test_ids_that_differ_between_answer_and_receipt_are_wrong_to_a_customer(drive: Any) -> None:
    # The daemon must translate them; a customer that is shown both forms has not got its receipt.
    status, load, _, _ = drive("--ids hexdec", "--messages 20 --deadline 10 --quiet 0.4")
    assert (status, load["orphan_receipts"], load["missing_receipts"]) == (1, 20, 20)


def test_a_text_sent_twice_is_noticed_by_the_smsc(tools: dict[str, Path], tmp_path: Path) -> None:
    with Process("smsc", [str(tools["smsc"])], tmp_path) as smsc:
        command = [str(tools["load"]), "--port", str(smsc.line(10)["listening"]), "--messages", "10"]
        for _ in range(2):
            subprocess.run(command, capture_output=True, timeout=10, check=True)
        assert smsc.stop(5) == 1
        assert smsc.line(5)["duplicate_texts"] == 10


def test_a_peer_that_goes_away_is_noticed(tools: dict[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        command = [str(tools["load"]), "--port", str(server.getsockname()[1]), "--messages", "10", "--deadline", "9"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
            peer, _ = server.accept()
            with peer:
                bind = peer.recv(1024)
                peer.sendall(struct.pack(">IIII", 17, 0x80000009, 0, int.from_bytes(bind[12:16], "big")) + b"\0")
                peer.recv(16)
            output, _ = load.communicate(timeout=10)
    report = json.loads(output)
    assert (load.returncode, report["lost_sessions"], report["missing_answers"]) == (1, 1, 10)


@pytest.mark.parametrize("tool", ["load", "smsc"])
def test_bad_options_are_refused(tools: dict[str, Path], tool: str) -> None:
    done = subprocess.run([tools[tool], "--nonsense"], capture_output=True, text=True, timeout=5, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
