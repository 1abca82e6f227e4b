"""`make haproxy-check`: docs/examples/haproxy.cfg in front of two nodes, by the HAProxy of the machine (Debian: haproxy):
customers are seen by their own addresses, sessions are spread, and a node that is told to stop or killed is passed by.

Ends with 1 where something is not so.

    python -m tests.campaigns.haproxy [--haproxy FILE]
"""

from __future__ import annotations

import argparse
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from tests.campaigns.stacks import certificates
from tests.e2e.children import ROOT, Smsc
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Upstream, account, wait_for
from tests.e2e.nodes import DEATH, Node, Nodes
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.ports import free_port

EXAMPLE: Final = ROOT / "docs/examples/haproxy.cfg"
CUSTOMER: Final = "127.0.0.7"
"""Where the customer of this check connects from."""
SESSIONS: Final = 8
TRANSMITTER: Final = 0x02
TRANSCEIVER: Final = 0x09
_PATIENCE: Final = 20.0


class Customer(Probe):
    """A customer over TLS from an address of its own."""

    def __init__(self, port: int, ca: Path) -> None:
        plain = socket.create_connection(("127.0.0.1", port), 10, source_address=(CUSTOMER, 0))
        self.socket = ssl.create_default_context(cafile=str(ca)).wrap_socket(plain, server_hostname="localhost")
        self._rest = b""
        self._sequence = 1


def configured(port: int, nodes: Nodes, proxied: dict[int, int]) -> str:
    """The example with the addresses of this check."""
    text = EXAMPLE.read_text("utf-8").replace("bind 192.0.2.10:2775", f"bind 127.0.0.1:{port}")
    text = text.replace("check port 9180 ", "check ").replace(
        "maxconn 20000", "maxconn 200"
    )  # so many files may be open
    for number, node in enumerate(nodes.nodes, 1):
        line = f"server node{number} 127.0.0.1:{proxied[number]} port {node.http_port}"
        text = text.replace(f"server node{number} 192.0.2.1{number}:2775", line)
    assert "192.0.2." not in "".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return text


def bind(port: int, ca: Path, stack: ExitStack, command: int = TRANSMITTER) -> Customer:
    """A bound session through HAProxy; tried again, as customers do."""
    until = time.monotonic() + _PATIENCE
    while True:
        with suppress(OSError):
            customer = Customer(port, ca)
            if customer.bind("acme", PASSWORD, command) == 0:
                return stack.enter_context(customer)
            customer.socket.close()
        assert time.monotonic() < until, "no bind went through"
        time.sleep(0.2)


def where(nodes: Nodes) -> Counter[int]:
    """How many sessions each node has, all of them from the customer's own address."""
    found: Counter[int] = Counter()
    for node in nodes.nodes:
        if node.ready():
            sessions = [one for one in node.said("show", "sessions")["sessions"] if one["side"] == "customer"]
            strange = {one["address"] for one in sessions if not one["address"].startswith(CUSTOMER)}
            assert not strange, f"seen from {strange}"
            found[node.number] = len(sessions)
    return found


def receipts(customer: Customer, count: int) -> None:
    """Submits, and waits for the receipts."""
    for number in range(count):
        customer.send(frame(0x04, 0, 1000 + number, submit_body(b"through %d" % number, registered=1)))
    answers = came = 0
    while answers < count or came < count:
        one = customer.read()
        if one[4:8] == b"\0\0\0\5":
            customer.send(frame(0x80000005, 0, int.from_bytes(one[12:16]), b"\0"))
            came += 1
        else:
            assert status(one) == 0
            answers += 1


def up(log: Path, node: Node, word: str, since: int) -> bool:
    """Whether HAProxy has said so of a node since a place in its log."""
    return f"Server nodes/node{node.number} is {word}" in log.read_text()[since:]


def check(haproxy: str) -> None:
    """Raises AssertionError where something is not so."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certs = certificates(directory / "certs")
        config = {"system_id": "gateway", "password": UPSTREAM_PASSWORD, "behaviour": {"receipt_delay": 0.05}}
        carrier = stack.enter_context(Smsc(config))
        nodes = Nodes(directory, certs, [Upstream(carrier.port)], account(max_binds=32))
        proxied = {node.number: free_port() for node in nodes.nodes}
        for node in nodes.nodes:
            tls = node.config["listeners"][0]["tls"]
            node.config["listeners"].append(
                {
                    "address": f"127.0.0.1:{proxied[node.number]}",
                    "tls": tls,
                    "proxy_protocol": "required",
                    "proxy_from": ["127.0.0.1/32"],
                }
            )
            node.write_config()
        stack.enter_context(nodes)
        port = free_port()
        file, log = directory / "haproxy.cfg", directory / "haproxy.log"
        file.write_text(configured(port, nodes, proxied))
        said = subprocess.run([haproxy, "-c", "-f", str(file)], capture_output=True, text=True, check=False)
        assert said.returncode == 0 and "WARNING" not in said.stderr + said.stdout, said.stderr + said.stdout
        with log.open("ab") as out:
            process = subprocess.Popen([haproxy, "-db", "-f", str(file)], stdout=out, stderr=out)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        stack.push(lambda kind, *_error: print(log.read_text()[-3000:], file=sys.stderr) if kind else None)
        ca = certs / "ca.pem"
        with ExitStack() as sessions:
            takes = bind(port, ca, sessions, TRANSCEIVER)
            for _ in range(SESSIONS - 1):
                bind(port, ca, sessions)
            assert where(nodes) == {1: SESSIONS // 2, 2: SESSIONS // 2}, where(nodes)
            print(f"{SESSIONS} sessions through HAProxy, half at each node, all seen from {CUSTOMER}")
            receipts(takes, 20)
            print("20 messages and their receipts through it")
        wait_for("sessions end", lambda: not any(where(nodes).values()))

        place = len(log.read_text())
        one, two = nodes[1], nodes[2]
        with ExitStack() as sessions:
            began = time.monotonic()
            assert one.terminate() == 0
            for _ in range(SESSIONS):
                bind(port, ca, sessions)
            print(
                f"node 1 told to stop: {SESSIONS} binds went to node 2, in {time.monotonic() - began:.1f} s with the stop"
            )
            assert where(nodes)[2] == SESSIONS
            wait_for("HAProxy takes node 1 out", lambda: up(log, one, "DOWN", place))
            one.start()
            wait_for("HAProxy takes node 1 in", lambda: up(log, one, "UP", place))
            for _ in range(SESSIONS):
                bind(port, ca, sessions)
            assert where(nodes) == {1: SESSIONS, 2: SESSIONS}, where(nodes)
            print("node 1 started again: new sessions go to it")
            two.kill()
            began = time.monotonic()
            again = bind(port, ca, sessions, TRANSCEIVER)
            receipts(again, 20)
            print(
                f"node 2 killed: bound again, 20 messages with their receipts, after {time.monotonic() - began:.1f} s"
            )
            wait_for("node 2 is taken over", lambda: one.life_of(2) == "taken over", DEATH)
        two.start()
        nodes.see_each_other()
        print("all as promised")


def main(arguments: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--haproxy", default=shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin"))
    chosen = parser.parse_args(arguments)
    if chosen.haproxy is None:
        print("there is no haproxy on this machine: on Debian, apt install haproxy", file=sys.stderr)
        return 1
    try:
        check(chosen.haproxy)
    except AssertionError as error:
        print(f"not as promised: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
