"""What an operator does to the running daemon, by `smppd act`, under load: each act once. Nothing acknowledged is lost, nothing
is sent twice unflagged, and what has to survive stands after kill -9."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from smppd.control.client import ask
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe
from tests.torture.customer import Customer
from tests.torture.ledger import compare
from tests.torture.peers import Peers
from tests.torture.record import read_record
from tests.torture.smsc import Step

RATE = 500.0
MakeGateway = Callable[..., Gateway]


class Loaded:
    """A gateway with two upstreams, whose SMSCs have one book, and a customer who submits 500 messages a second."""

    def __init__(self, gateway: Gateway, peers: Peers) -> None:
        self.gateway = gateway
        self.peers = peers
        self.customer = Customer(gateway.plain_port, PASSWORD, rate=RATE)

    def acts(self, *words: str, status: int = 0) -> str:
        """Runs `smppd act`; what it said."""
        done = self.gateway.command("act", *words, "--reason", "a test")
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return (done.stdout + done.stderr).strip()

    def told(self) -> int:
        """Receipts of delivery that the customer has."""
        return sum(state == b"DELIVRD" for state in list(self.customer.book.states.values()))

    def flows(self) -> bool:
        """Whether messages are acknowledged, and reach the SMSC."""
        before, came = len(self.customer.book.ids), len(self.peers.smsc.book.submits)
        time.sleep(0.3)
        return len(self.customer.book.ids) > before and len(self.peers.smsc.book.submits) > came

    def by(self, upstream: str) -> float:
        """Messages that an upstream took."""
        return self.gateway.metric("smppd_messages_submitted_total", upstream=upstream)

    def bound(self) -> set[str]:
        """Ids of the customer's sessions."""
        sessions = ask(self.gateway.directory / "store", {"do": "show sessions", "account": "acme"})["sessions"]
        return {one["id"] for one in sessions if one["side"] == "customer" and one["state"] == "bound"}

    def queued(self) -> float:
        """Messages that wait."""
        return self.gateway.metric("smppd_messages_queued", account="acme")

    def in_force(self, act: str) -> float:
        """How many of an act stand."""
        return self.gateway.metric("smppd_acts_in_force", act=act)

    def restarts(self) -> None:
        """kill -9, and a start."""
        self.gateway.kill()
        upstreams, self.gateway.upstreams = self.gateway.upstreams, []  # not all of them may be bound again
        self.gateway.start()
        self.gateway.upstreams = upstreams

    def ends(self) -> None:
        """The load stops; each message comes to its end, and the three books are compared."""
        self.customer.sending = False
        book = self.customer.book
        wait_for("every receipt", lambda: book.ids.keys() <= book.receipts.keys() and not self.queued(), 40)
        assert self.gateway.metric("smppd_internal_errors_total") == 0
        assert self.gateway.terminate() == 0
        record = read_record(self.gateway.directory / "store", self.gateway.config_file)
        _figures, faults = compare(book, self.peers.smsc.book, record)
        assert faults == []


@contextmanager
def loaded(make_gateway: MakeGateway, **sections: Any) -> Iterator[Loaded]:
    """One that runs, under load."""
    with Peers(lambda _submit, _attempt: Step(receipt=0.02, delay=0.005), smscs=2) as peers:
        upstreams = [Upstream(peers.smsc.port, name="one"), Upstream(peers.others[0].port, name="two")]
        acme = account("acme", unknown_after="1s", **sections.pop("acme", {}))
        with make_gateway(upstreams, [acme], **sections) as gateway:
            here = Loaded(gateway, peers)
            peers.add(here.customer)
            here.customer.sending = True
            wait_for("messages flow", here.flows)
            yield here


def test_pause_drain_and_unpause_under_load(make_gateway: MakeGateway) -> None:
    with loaded(make_gateway) as here:
        gateway = here.gateway
        assert here.acts("pause", "one") == "No message is released to one until it is unpaused."
        assert "already" in here.acts("pause", "one")
        assert "there is no upstream" in here.acts("pause", "three", status=1)
        shown = {one["name"]: one for one in ask(gateway.directory / "store", {"do": "show upstreams"})["upstreams"]}
        assert (
            shown["one"]["state"] == "paused"
            and shown["one"]["act"]["reason"] == "a test"
            and shown["two"]["act"] is None
        )
        before = here.by("one")
        wait_for("the other one takes all", lambda: here.flows() and here.by("two") > 100)
        assert here.by("one") - before < 100 and gateway.metric("smppd_upstream_links", upstream="one") == 1
        assert "paused by act: one" in gateway.http("/readyz")[1]
        here.restarts()
        assert here.in_force("pause") == 1 and "paused by act: one" in gateway.http("/readyz")[1]
        wait_for("messages flow", here.flows)
        assert here.by("one") == 0
        assert here.acts("unpause", "one") == "one takes messages again."
        assert "is not paused" in here.acts("unpause", "one")
        wait_for("it takes messages again", lambda: here.by("one") > 0)
        here.acts("drain", "one", "--for", "1s")
        wait_for("its link is unbound", lambda: 'upstream_links{upstream="one"' not in gateway.http("/metrics")[1])
        assert here.flows() and here.in_force("drain") == 1
        here.restarts()
        wait_for("messages flow", here.flows)
        assert here.by("one") == 0 and here.in_force("drain") == 1
        assert 'upstream_links{upstream="one"' not in gateway.http("/metrics")[1]
        here.acts("unpause", "one")
        gateway.wait_links("one", 1)
        here.ends()


def test_kick_suspend_and_the_daemon_itself_under_load(make_gateway: MakeGateway) -> None:
    with loaded(make_gateway) as here:
        gateway, customer, smsc = here.gateway, here.customer, here.peers.smsc
        binds = smsc.book.binds
        assert "unbound" in here.acts("kick", "one")
        wait_for("the link is bound again", lambda: smsc.book.binds > binds)
        before = here.bound()
        assert "2 sessions" in here.acts("kick", "acme")
        wait_for("the customer is bound again", lambda: len(here.bound() - before) == len(here.bound()) == 2)
        before = here.bound()
        assert "1 session" in here.acts("kick", max(before))
        wait_for("it is bound again", lambda: len(here.bound() & before) == 1 and len(here.bound()) == 2)
        assert "there is no" in here.acts("kick", "c999999", status=1)
        before = here.bound()
        assert "2 sessions" in here.acts("kick", "127.0.0.1")
        wait_for("the customer is bound again", lambda: len(here.bound() - before) == len(here.bound()) == 2)
        assert "each message it submits is refused" in here.acts("suspend", "acme")
        assert "already" in here.acts("suspend", "acme")
        wait_for("it is refused", lambda: customer.book.refused[0x45] > 0)
        here.restarts()
        refused = customer.book.refused[0x45]
        wait_for("it is still refused", lambda: customer.book.refused[0x45] > refused)
        (stands,) = json.loads(gateway.command("suspensions", "list", "--json").stdout)["suspensions"]
        assert stands["reason"] == "a test"
        assert here.acts("resume", "acme") == "acme may submit again."
        assert "not suspended" in here.acts("resume", "acme")
        wait_for("messages flow", here.flows)
        here.acts("log-level", "warning", "--for", "1s")
        assert here.in_force("log-level") == 1
        wait_for("it is as configured again", lambda: here.in_force("log-level") == 0)
        assert "is not banned" in here.acts("unban", "192.0.2.1")
        here.acts("reload")
        wait_for("it was read again", lambda: gateway.metric("smppd_reloads_total", outcome="done") >= 1)
        # What was submitted behind our unbind is answered ESME_RINVBNDSTS.
        assert set(customer.book.refused) <= {0x45, 0x04}
        here.ends()
        shown = gateway.command("audit", "show", "--event", "act", "--json").stdout
        assert all(f'"{act}"' in shown for act in ("kick", "suspend", "resume", "log-level", "unban", "reload"))
        assert '"login":"none"' in shown


@pytest.mark.parametrize("what", ["expire", "requeue", "move"])
def test_what_waits_over_a_kill_in_the_middle(what: str, make_gateway: MakeGateway) -> None:
    store = {"path": "store", "reserve": "16MiB", "hot": 300}
    with loaded(make_gateway, store=store) as here:
        gateway, book = here.gateway, here.customer.book
        here.acts("pause", "one")
        here.acts("pause", "two")
        wait_for("messages wait, on disk too", lambda: here.queued() > 1500)
        options = {"expire": ("acme", "--yes"), "requeue": ("one",), "move": ("one", "--to", "two")}[what]
        store_path = gateway.directory / "store"
        request: dict[str, object] = {"do": "act", "act": what, "target": options[0], "reason": "a test", "to": "two"}
        asking = Thread(target=lambda: _asks(store_path, request))
        asking.start()
        wait_for("it has begun", lambda: bool(here.in_force(what)) or not asking.is_alive(), 5)
        here.restarts()
        asking.join(30)
        wait_for("it is through", lambda: not here.in_force(what), 30)
        assert here.in_force("pause") == 2
        if what == "expire":
            wait_for("receipts", lambda: sum(state == b"EXPIRED" for state in list(book.states.values())) > 1000, 30)
            before = sum(state == b"EXPIRED" for state in list(book.states.values()))
            wait_for("more wait", lambda: here.queued() > 100)
            said = here.acts(what, *options)
            assert "ended EXPIRED" in said
            wait_for("these too", lambda: sum(s == b"EXPIRED" for s in list(book.states.values())) > before)
        elif what == "move":
            here.acts("unpause", "two")
            wait_for("two takes what waited for one", lambda: here.by("two") > 1500, 30)
            assert here.by("one") == 0
        here.acts("unpause", "one")
        if what != "move":
            here.acts("unpause", "two")
        wait_for("messages flow", here.flows)
        here.ends()


def _asks(store: Path, request: dict[str, object]) -> None:
    try:
        ask(store, request)
    except Exception:  # noqa: BLE001  it is killed meanwhile
        return


def test_who_may_not_and_what_is_not_answered(make_gateway: MakeGateway) -> None:
    with Peers() as peers, make_gateway([Upstream(peers.smsc.port, name="acme")]) as gateway:
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            done = gateway.command("act", "kick", "acme", "--reason", "a test")
            assert done.returncode == 1 and "say account:acme or upstream:acme" in done.stderr
            done = gateway.command("act", "kick", "account:acme", "--reason", "a test", "--json")
            assert json.loads(done.stdout) == {
                "said": "1 session unbound when its answers are through.",
                "changed": True,
            }
        done = gateway.command("act", "expire", "account:acme", "--reason", "a test")
        assert done.returncode == 2 and "--yes" in done.stderr
        done = gateway.command("act", "expire", "account:acme", "--reason", "a test", "--yes")
        assert done.returncode == 0 and done.stdout.startswith("Nothing of account:acme")
        done = gateway.command("act", "pause", "acme", "--reason", " ")
        assert done.returncode == 2
    done = gateway.command("act", "pause", "acme", "--reason", "a test")
    assert done.returncode == 2 and "no smppd runs" in done.stderr
