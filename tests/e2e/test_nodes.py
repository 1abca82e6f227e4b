"""Two daemons on one database: what one acknowledged goes on at the other, whatever becomes of the one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smppd.demo.process import Child, simulator
from tests.e2e.children import ROOT, Smsc
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Upstream, account, wait_for
from tests.e2e.nodes import DEATH, Node, Nodes
from tests.e2e.probes import Probe, frame, status, submit_body

UNKNOWN_AFTER = "2s"
TRANSMITTER, RECEIVER = 0x02, 0x01
ALREADY_BOUND = 5

Make = Callable[..., Nodes]


@pytest.fixture
def make(certificates: Path, tmp_path: Path) -> Make:
    """Makes nodes that are not started yet."""
    return lambda upstreams, *accounts, **sections: Nodes(tmp_path, certificates, upstreams, *accounts, **sections)


def smsc(**behaviour: Any) -> Smsc:
    return Smsc({"system_id": "gateway", "password": UPSTREAM_PASSWORD, "behaviour": behaviour})


def bound(node: Node, command: int) -> Probe:
    probe = Probe(node.plain_port)
    assert probe.bind("acme", PASSWORD, command) == 0
    return probe


def submits(node: Node, *texts: str) -> list[str]:
    """Submits, and gives the ids."""
    with bound(node, TRANSMITTER) as probe:
        answers = [probe.ask(0x04, submit_body(text.encode(), registered=1)) for text in texts]
        probe.ask(0x06)
    assert not any(map(status, answers))
    return [answer[16:-1].decode() for answer in answers]


def takes(probe: Probe, count: int) -> set[str]:
    """Takes so many receipts; the ids that they are about."""
    found = set()
    for _ in range(count):
        got = probe.read()
        assert got[4:8] == b"\0\0\0\5"
        probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
        found.add(got.partition(b"id:")[2].partition(b" ")[0].decode())
    return found


def test_one_account_at_two_nodes_and_the_drain_of_one(make: Make) -> None:
    with smsc() as carrier, make([Upstream(carrier.port)], account(max_binds=2)) as nodes:
        one, two = nodes[1], nodes[2]
        receiver = bound(two, RECEIVER)
        wait_for("the other node counts the bind", lambda: len(one.said("show", "sessions")["elsewhere"]) == 2)
        assert one.said("show", "accounts")["accounts"][0]["elsewhere"] == 1
        # The carrier gives its receipts to the links of both; the account takes them at one.
        ids = submits(one, *(f"first {number}" for number in range(10)))
        assert takes(receiver, 10) == set(ids)
        # max_binds is for both.
        with bound(one, TRANSMITTER):
            wait_for("the other node counts it", lambda: two.said("show", "accounts")["accounts"][0]["elsewhere"] == 1)
            for node in (one, two):
                with Probe(node.plain_port) as more:
                    assert more.bind("acme", PASSWORD, TRANSMITTER) == ALREADY_BOUND
        receiver.ask(0x06)
        receiver.socket.close()
        shown = {each["node"]: each for each in two.said("show", "nodes")["nodes"]}
        assert {number: each["life"] for number, each in shown.items()} == {1: "live", 2: "live"}
        assert (shown[1]["housekeeper"], shown[2]["housekeeper"], shown[2]["here"]) == (True, False, True)
        assert two.command("show", "nodes").stdout.count(" live ") == 2
        # Nobody takes these receipts at node 1; told to stop, it hands them over.
        ids = submits(one, *(f"second {number}" for number in range(10)))
        wait_for(
            "all receipts wait", lambda: sum(node.metric("smppd_mailbox", account="acme") for node in (one, two)) == 10
        )
        assert one.terminate() == 0
        assert "the other nodes have what this one held" in one.log_text()
        wait_for("it has left", lambda: two.life_of(1) == "left")
        assert two.said("show", "nodes")["nodes"][1]["housekeeper"]
        with bound(two, RECEIVER) as receiver:
            assert takes(receiver, 10) == set(ids)
        one.start()
        nodes.see_each_other()


def test_a_killed_node_loses_nothing_that_it_acknowledged(make: Make) -> None:
    count = 900
    with (
        smsc(response_delay=0.02, receipt_delay=0.5) as carrier,
        make([Upstream(carrier.port)], account(unknown_after=UNKNOWN_AFTER)) as nodes,
        customer(nodes, window=10, binds=2) as both,
    ):
        both.order("run", count=count, rate=150, wait=30)
        while both.expect("progress")["acknowledged"] < count / 3:
            pass
        nodes[1].kill()
        killed = time.monotonic()
        wait_for("node 1 is taken over", lambda: nodes[2].life_of(1) == "taken over", DEATH)
        assert time.monotonic() - killed > 5
        done = both.expect("done", patience=60)
        resent = nodes[2].metric("smppd_messages_resent_total")
        accepted = carrier.ask("stats")["accepted"]
        assert (done["acknowledged"], done["receipts"], done["complete"]) == (count, count, True), done
        assert not done["duplicate_ids"] and done["unknown_receipts"] <= done["unanswered"], done
        assert count <= accepted <= count + done["unanswered"] + resent
        assert nodes[2].metric("smppd_node_takeovers_total") == 1
        both.ask("unbind", "unbound")


def test_a_node_that_sleeps_past_its_lease_commits_nothing_more_and_ends(make: Make) -> None:
    with (
        smsc(response_delay=1.0, receipt_delay=0.2) as carrier,
        make([Upstream(carrier.port)], account(unknown_after=UNKNOWN_AFTER)) as nodes,
    ):
        one, two = nodes[1], nodes[2]
        with bound(two, RECEIVER) as receiver:
            ids = submits(one, *(f"asleep {number:02}" for number in range(30)))
            one.freeze()  # with most of them sent and not answered
            try:
                wait_for("node 1 is taken over", lambda: two.life_of(1) == "taken over", DEATH)
            finally:
                one.wake()
            assert one.process is not None and one.process.wait(20) == 3
            assert "another node has taken this one's place" in one.log_text() or "the store failed" in one.log_text()
            got: set[str] = set()
            while len(got) < len(ids):
                got |= takes(receiver, 1)
            assert got == set(ids)
        # What went twice is on record as a possible duplicate.
        texts = [one[-len("asleep 00") :] for one in carrier.submits()]
        twice = [number for number in range(30) if texts.count(f"asleep {number:02}".encode()) > 1]
        assert twice and len(twice) <= two.metric("smppd_messages_resent_total")
        for number in twice[:3]:
            why = ("--reason", "support", "--note", "ticket 17")
            events = two.said("log", "show", ids[number], *why)["events"]
            assert any(event["possible_duplicate"] for event in events), events


def customer(nodes: Nodes, **values: Any) -> Child:
    made = simulator(
        "customer",
        {
            "ports": [one.tls_port for one in nodes.nodes],
            "ca": nodes[1].login()["ca"],
            "system_id": "acme",
            "password": PASSWORD,
            "submits_again": True,
            **values,
        },
        ROOT,
    )
    made.expect("bound")
    return made
