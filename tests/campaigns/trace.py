"""`make trace-check`: traces of the daemon, exported and dissected by tshark (Wireshark): every PDU known, with its status,
nothing malformed, every checksum right, no password.

Ends with 1 where something is not so. tshark is no part of the set-up: `apt-get install tshark`.

    python -m tests.campaigns.trace [--tshark FILE]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from smppd.control.client import ask
from smppd.protocol.wire import command_name, status_name
from tests.campaigns.stacks import certificates
from tests.e2e.children import Smsc
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, submit_body

MESSAGES: Final = 200
BROKEN: Final = len(range(7, MESSAGES, 25))
"""So many of them have no end of an address."""
_FIELDS: Final = ("smpp.command_id", "smpp.command_status", "smpp.password", "tcp.checksum.status", "_ws.malformed")


def flow(gateway: Gateway) -> Counter[str]:
    """A customer over TLS: two wrong binds, a right one, messages, some of them wrong, receipts; what it said, by command."""
    said: Counter[str] = Counter()
    ca = gateway.certificates / "ca.pem"
    for password in ("wrong", "quite-wrong-and-too-long"):
        with Probe(gateway.tls_port, ca) as probe:
            probe.bind("acme", password)
            said["bind_transceiver"] += 1
    with Probe(gateway.tls_port, ca) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        said["bind_transceiver"] += 1
        receipts = answers = 0
        for number in range(MESSAGES):
            text, tlvs = b"hello \x01\x02 %d" % number, b""
            if number % 10 == 0:  # a long text in a TLV
                text, tlvs = b"", b"\x04\x24" + (1200).to_bytes(2) + b"x" * 1200
            if number % 25 == 7:
                probe.send(frame(0x04, 0, 1000 + number, b"\0\1\1no end of the address" + bytes(3)))
            else:
                probe.send(
                    frame(0x04, 0, 1000 + number, submit_body(text, b"447700900%03d" % number, registered=1, tlvs=tlvs))
                )
            said["submit_sm"] += 1
        wanted = MESSAGES - BROKEN
        while answers < MESSAGES or receipts < wanted:
            one = probe.read()
            if one[4:8] == b"\0\0\0\x05":
                receipts += 1
                probe.send(frame(0x80000005, 0, int.from_bytes(one[12:16]), b"\0"))
                said["deliver_sm_resp"] += 1
            else:
                answers += 1
        probe.ask(0x15)
        probe.ask(0x03, b"1234567890abcdef\0\1\x01447700900001\0")
        probe.ask(0x06)
        said.update(("enquire_link", "query_sm", "unbind"))
    return said


def dissect(tshark: str, path: Path) -> list[list[str]]:
    """The fields of each packet in which tshark sees SMPP, or something malformed."""
    fields = [word for name in _FIELDS for word in ("-e", name)]
    options = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", "smpp || _ws.malformed"]
    words = [tshark, "-n", "-r", str(path), *options, "-T", "fields", "-E", "occurrence=a", *fields]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    return [line.split("\t") for line in done.stdout.splitlines()]


def judged(tshark: str, path: Path, pdus: int, broken: int) -> list[str]:
    """Prints what tshark sees, and gives what is wrong. broken: how many submit_sm were malformed when they were sent."""
    rows = dissect(tshark, path)
    commands = Counter(command_name(int(row[0], 16)) for row in rows)
    statuses = Counter(status_name(int(row[1], 16)) for row in rows if row[1])
    print(f"{path.name}: {sum(commands.values())} PDUs dissected of {pdus}")
    print("  " + ", ".join(f"{name} {number}" for name, number in sorted(commands.items())))
    print("  " + ", ".join(f"{name} {number}" for name, number in sorted(statuses.items())))
    wrong = [f"{len(rows)} PDUs were dissected, and {pdus} are in the trace"] if len(rows) != pdus else []
    malformed = [command_name(int(row[0], 16)) for row in rows if row[4]]
    if malformed != ["submit_sm"] * broken:
        wrong.append(f"malformed: {malformed}, and {broken} submit_sm were sent so")
    wrong += [f"checksum: {row}" for row in rows if row[3] != "1"]
    wrong += [f"password: {command_name(int(row[0], 16))}" for row in rows if row[2].strip("*")]
    wrong += [f"{command_name(int(row[0], 16))} has no status" for row in rows if int(row[0], 16) >> 31 and not row[1]]
    whole = path.read_bytes()
    return wrong + [f"{path.name} holds a password" for one in (PASSWORD, UPSTREAM_PASSWORD) if one.encode() in whole]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.trace", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--tshark", default=shutil.which("tshark"), metavar="FILE")
    args = parser.parse_args()
    if args.tshark is None:
        print("there is no tshark on this machine: apt-get install tshark", file=sys.stderr)
        return 2
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        (directory / "certificates").mkdir()
        behaviour = {"receipt_delay": 0.05, "throttled": 0.05, "undelivered": 0.1}
        login = {"system_id": "gateway", "password": UPSTREAM_PASSWORD, "behaviour": behaviour}
        with Smsc(login) as smsc:
            place = directory / "gateway"
            acme = account(window=1000, strict_fields=False)
            with Gateway(place, certificates(directory / "certificates"), [Upstream(smsc.port)], [acme]) as gateway:
                request = {"v": 1, "do": "act", "act": "trace", "reason": "trace-check", "for": 600}
                for target in ("acme", "sim"):
                    print(ask(place / "store", {**request, "target": target})["said"])
                said = flow(gateway)
                wait_for("all is settled", lambda: gateway.metric("smppd_messages_queued") == 0)
                for target in ("acme", "sim"):
                    print(ask(place / "store", {**request, "target": target, "stop": True})["said"])
                for number, name, broken in ((1, "acme", BROKEN), (2, "sim", 0)):
                    out = directory / f"{name}.pcapng"
                    words = ("--out", str(out), "--reason", "support", "--note", "trace-check")
                    done = gateway.command("trace", "export", str(number), *words)
                    assert done.returncode == 0, done.stderr
                    pdus = int(done.stdout.partition(": ")[2].partition(" ")[0])
                    wrong += judged(args.tshark, out, pdus, broken)
                heard = Counter(
                    command_name(int(row[0], 16)) for row in dissect(args.tshark, directory / "acme.pcapng")
                )
                wrong += [
                    f"{heard[name]} {name} for {number}" for name, number in said.items() if heard[name] != number
                ]
    print(
        "\n".join(wrong) or "every PDU dissected, nothing malformed but what was sent so, checksums right, no password"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
