"""The event feed of the running daemon: each event once in the file, and once at a consumer, over kill -9; and `log export`."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

from tests.crash.load import Smsc
from tests.e2e.feeding import Consumer, SteadyCustomer, expected, faults, keys, lines_of
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step
from tests.e2e.test_opt_outs import OWN, PERSON, says

KILLS = int(os.environ.get("SMPPD_KILLS", "3"))
RATE = 500.0


def test_each_event_once_over_kills(make_gateway: Callable[..., Gateway]) -> None:
    rng = random.Random(20261130)
    with Smsc() as smsc:
        feed = {"file": {"path": "feed.jsonl", "rotate": "128KiB", "keep": 1000}, "socket": {"path": "feed.sock"}}
        acme = account(receipts={"window": 50, "retry": "1s"}, unknown_after="1s")
        gateway = make_gateway([Upstream(smsc.port)], [acme], feed=feed)
        store, file = gateway.directory / "store", gateway.directory / "feed.jsonl"
        consumer = Consumer(gateway.directory / "feed.sock")
        customer = SteadyCustomer(gateway.plain_port, RATE)
        consumer.start()
        for number in range(KILLS):
            gateway.start()
            if number == 1:
                wait_for("the consumer", lambda: gateway.metric("smppd_feed_consumers") == 1)
            customer.run(gateway, rng.uniform(0.6, 1.6))
        with gateway:
            customer.run(gateway, 1.0, kill=False)
            assert customer.receipts > 0
            wait_for("the consumer", lambda: not faults(keys(consumer.lines), store), 30)
            wait_for("the file", lambda: not faults(keys(lines_of(file)), store), 30)
            assert gateway.metric("smppd_feed_gaps_total") == 0
            assert "feed" in json.loads(gateway.http("/readyz")[1])["checks"]
        assert faults(keys(lines_of(file)), store) == [], "the end itself is told before the daemon is over"
        consumer.end()
        assert consumer.connections > 1
        assert customer.acknowledged > 20 * KILLS and len(expected(store)) > 2 * customer.acknowledged
        assert all("4477009" not in json.dumps(line) for line in lines_of(file)[::50]), "no numbers unless asked for"
        _export(gateway, customer.acknowledged)


def _export(gateway: Gateway, least: int) -> None:
    """Every message once, by chained exports, as the log has them."""
    wanted = {f"{one:016x}" for what, one in expected(gateway.directory / "store").values() if what == "record"}
    assert len(wanted) >= least
    found: list[dict[str, str]] = []
    after: list[str] = []
    while True:
        done = gateway.command("log", "export", "--limit", "700", *after)
        assert done.returncode == 0, done.stderr
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        found += rows
        if not rows:
            break
        after = ["--after", rows[-1]["cursor"]]
    assert len(found) == len(wanted) and {row["id"] for row in found} == wanted
    assert sum(row["state"] == "DELIVERED" for row in found) >= least // 2
    assert {row["to"] for row in found} == {"'+44770***0123"}


def test_the_daemon_alone_is_killed_and_its_feed_ends(make_gateway: Callable[..., Gateway]) -> None:
    with RawSmsc(repeat(Step())) as smsc:
        gateway = make_gateway([Upstream(smsc.port)], feed={"file": {"path": "feed.jsonl"}, "numbers": "masked"})
        file = gateway.directory / "feed.jsonl"
        gateway.start()
        with Probe(gateway.plain_port) as probe:
            probe.bind("acme", PASSWORD, 0x02)
            assert status(probe.ask(0x04, submit_body(b"one"))) == 0
            os.kill(gateway.pid, signal.SIGKILL)
        wait_for("the last lines", lambda: not faults(keys(lines_of(file)), gateway.directory / "store"))
        gateway.kill()
        with gateway, Probe(gateway.plain_port) as probe:
            probe.bind("acme", PASSWORD, 0x02)
            assert status(probe.ask(0x04, submit_body(b"two"))) == 0
            wait_for("both", lambda: [one["event"] for one in lines_of(file)].count("accepted") == 2)
        lines = lines_of(file)
        assert {line["to"] for line in lines} == {"+44770***0123"}
        assert faults(keys(lines), gateway.directory / "store") == []


def test_a_feed_by_reload_words_of_handsets_and_a_file_that_cannot_be_written(
    make_gateway: Callable[..., Gateway],
) -> None:
    acme = account(numbers=["+" + OWN.decode()])
    with RawSmsc(repeat(Step())) as smsc, make_gateway([Upstream(smsc.port)], [acme]) as gateway:
        with Probe(gateway.plain_port) as probe:
            probe.bind("acme", PASSWORD, 0x02)
            assert status(probe.ask(0x04, submit_body(b"before"))) == 0
            (gateway.directory / "out").mkdir()
            gateway.config["feed"] = {"file": {"path": "out/feed.jsonl"}, "alarm_after": "1s"}
            gateway.write_config()
            gateway.reload()
            place = gateway.directory / "store" / "feed-file.json"
            wait_for("the place", place.exists)
            says(smsc, PERSON, b"Stop.")
            assert status(probe.ask(0x04, submit_body(b"refused", PERSON, OWN))) == 0x0B
            file = gateway.directory / "out" / "feed.jsonl"
            wait_for("four lines", lambda: len(lines_of(file)) >= 3)
            told = [line["event"] for line in lines_of(file)]
            assert told == ["received", "opted_out", "refused"]
            done = gateway.command("suspensions", "add", "acme", "--reason", "test of the feed")
            assert done.returncode == 0, done.stderr
            wait_for("the suspension", lambda: lines_of(file)[-1]["event"] == "suspended")
            done = gateway.command("suspensions", "lift", "acme", "--reason", "test of the feed")
            assert done.returncode == 0, done.stderr
            wait_for("its end", lambda: lines_of(file)[-1]["event"] == "resumed")
            _out_of_the_way(gateway, probe, file)


def _out_of_the_way(gateway: Gateway, probe: Probe, file: Path) -> None:
    """The file's directory is gone for a while: messages flow, an alarm stands, and then all is told."""
    away = file.parent.with_name("away")
    file.parent.rename(away)
    for _ in range(5):
        assert status(probe.ask(0x04, submit_body(b"meanwhile"))) == 0
    wait_for("the alarm", lambda: "degraded: it is" in gateway.http("/readyz")[1])
    assert gateway.metric("smppd_feed_failures_total") > 0
    away.rename(file.parent)
    wait_for("the rest", lambda: [one["event"] for one in lines_of(file)].count("submitted") == 5)
    wait_for("the calm", lambda: "degraded" not in gateway.http("/readyz")[1])
    text = gateway.log_text()
    assert text.count("the feed waits, nothing of it is lost") >= 1 and "the feed goes on" in text
