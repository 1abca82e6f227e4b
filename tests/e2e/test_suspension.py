"""Refusals end an account's right to submit, on the real daemon: over a kill and a restart, until an operator lifts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import repeat

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step

RSUBMITFAIL = 0x45
SUBMIT = 0x04


def test_suspended_killed_still_suspended_lifted(make_gateway: Callable[..., Gateway]) -> None:
    rules = {"spam": [{"name": "prize", "when": {"text": "prize"}, "do": "refuse"}]}
    after = {"hits": 3, "within": "1h", "rules": ["spam"]}
    acme = account(policies=["spam"], suspend_after=after, traffic={"caps": {"GB": "1000/d"}, "runs": "block"})
    with RawSmsc(repeat(Step())) as smsc, make_gateway([Upstream(smsc.port)], [acme], policies=rules) as gateway:

        def submits(probe: Probe, text: bytes, to: bytes = b"447700900123") -> int:
            return status(probe.ask(SUBMIT, submit_body(text, to)))

        def says(*words: str) -> str:
            done = gateway.command(*words)
            assert done.returncode == 0, done.stderr
            return done.stdout

        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            assert [submits(probe, text) for text in (b"hello", b"a prize", b"a prize", b"a prize", b"hello")] == [
                0,
                *[RSUBMITFAIL] * 4,
            ]
            assert status(probe.ask(0x15, b"")) == 0, "the bind stays"
        assert gateway.metric("smppd_suspended", account="acme") == 1

        def stored() -> list[dict[str, object]]:
            return list(json.loads(says("suspensions", "list", "--json"))["suspensions"])

        wait_for("it is durable", lambda: len(stored()) == 1)
        gateway.kill()
        gateway.start()
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            assert submits(probe, b"hello") == RSUBMITFAIL
            records = json.loads(says("suspensions", "show", "acme", "--json"))["records"]
            shown = json.loads(says("log", "show", records[0], "--reason", "support", "--json"))
            assert len(records) == 3 and shown["account"] == "acme"
            assert says("suspensions", "lift", "acme", "--reason", "settled") == "acme may submit again.\n"
            assert submits(probe, b"hello") == 0, "at once, on the bind that stands"
            # Numbers one after another, on the same daemon.
            answers = [submits(probe, b"your code", b"447700900%03d" % one) for one in range(20)]
            assert answers[0] == 0 and answers[-1] == RSUBMITFAIL
        (one,) = json.loads(says("traffic", "list", "--json"))["decisions"]
        assert (one["signal"], one["action"], one["target"]) == ("runs", "block", "GB 44***")
        says("traffic", "release", "acme", str(one["number"]), "--reason", "a staff list")
        gateway.terminate()
        gateway.start()
        with Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            assert submits(probe, b"hello") == 0
        told = says("audit", "show", "--event", "suspension", "--json") + says(
            "audit", "show", "--event", "traffic", "--json"
        )
        assert "spam/prize 3" in told and "settled" in told and "a staff list" in told and "7700900" not in told
        assert "7700900" not in gateway.log_text()
