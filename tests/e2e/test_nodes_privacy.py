"""What is promised to a person holds whichever of two nodes has his data, and whichever machine the command runs on."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from smppd.store.postgres.connection import Connection, Server
from tests.e2e.children import Smsc
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Upstream, account, wait_for
from tests.e2e.nodes import Node, Nodes
from tests.e2e.probes import Probe, status, submit_body

NUMBER = "+44 7700 900123"
WORDS = ("--reason", "support", "--note", "ticket 17")
TRANSMITTER = 0x02


def submits(node: Node, *texts: str) -> list[int]:
    """The statuses of the answers."""
    with Probe(node.plain_port) as probe:
        assert probe.bind("acme", PASSWORD, TRANSMITTER) == 0
        found = [status(probe.ask(0x04, submit_body(text.encode(), registered=1))) for text in texts]
        probe.ask(0x06)
    return found


def said(node: Node, *words: str, status: int = 0) -> Any:
    done = node.command(*words, "--json")
    assert done.returncode == status, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_a_person_is_found_refused_and_erased_at_every_node(certificates: Path, tmp_path: Path) -> None:
    """The carrier is gone, so messages wait at both nodes."""
    with ExitStack() as carrier, ExitStack() as stack:
        port = carrier.enter_context(Smsc({"system_id": "gateway", "password": UPSTREAM_PASSWORD})).port
        nodes = stack.enter_context(Nodes(tmp_path, certificates, [Upstream(port)], account()))
        carrier.close()
        one, two = nodes[1], nodes[2]
        for node in (one, two):
            # A key that both make at the same time costs one of them an answer: try again.
            wait_for("a message is taken", lambda node=node: submits(node, "a text of theirs") == [0])  # type: ignore[misc]
            assert submits(node, "and another") == [0]
        assert len(said(one, "log", "search", NUMBER, *WORDS)["records"]) == 4
        # Who opts out at one node is heard by the other at once.
        told = one.command("optout", "add", NUMBER, "--account", "acme", "--note", "a call")
        assert told.returncode == 0, told.stderr
        wait_for("node 2 refuses too", lambda: submits(two, "not wanted") != [0])
        assert submits(one, "not wanted") != [0]
        told = two.command("optout", "remove", NUMBER, "--account", "acme", "--note", "a call")
        assert told.returncode == 0, told.stderr
        wait_for("node 1 takes messages again", lambda: submits(one, "a text of theirs") == [0])
        erased = said(two, "subject", "erase", NUMBER, "--reason", "law", "--note", "ticket 17", "--yes")
        assert erased["complete"] and erased["erased"] == erased["records"] >= 5
        assert sum(erased["on_its_way"].values()) >= 5
        assert said(one, "log", "search", NUMBER, *WORDS, status=1)["records"] == []
        # A node that was killed a moment ago has something of the person: it is taken over first.
        assert submits(two, "a text of theirs") == [0]
        two.kill()
        erased = said(one, "subject", "erase", NUMBER, "--reason", "law", "--note", "ticket 18", "--yes")
        assert erased["complete"] and erased["erased"] == 1 and erased["on_its_way"]["messages"] >= 1
        verified = said(one, "log", "verify")
        assert verified["ok"] and verified["node"] == 1, verified["faults"]
        assert [(each["node"], each["running"], each["heir"], each["ok"]) for each in verified["nodes"]] == [
            (2, False, 1, True)
        ]
        exported = one.command("log", "export", "--node", "2", "--format", "jsonl")
        assert len(exported.stdout.splitlines()) >= 3, exported.stderr
        names = [row[0] for row in _tables(one)]
        assert not [name for name in names if b"447700900123" in _octets(one, name)]
    assert all("900123" not in node.log_text() for node in (one, two))


def _tables(node: Node) -> list[tuple[str]]:
    return _asked(node, "SELECT tablename FROM pg_tables WHERE schemaname = 'smppd'")


def _octets(node: Node, table: str) -> bytes:
    return repr(_asked(node, f"SELECT * FROM {table}")).encode()


def _asked(node: Node, query: str) -> list[Any]:
    with closing(Connection(Server(node.config["store"]["url"]))) as db:
        return db.all(query)
