"""20,000 messages over 10 TLS binds: each acknowledged once, arrived once and unharmed, each receipt once with our id."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.e2e.bulk import BulkSmsc, Ledger, bodies, customers
from tests.e2e.children import CLIENTS, ROOT, Child, Smsc
from tests.e2e.harness import PASSWORD, Gateway, Upstream


async def _exchange(
    make_gateway: Callable[..., Gateway], count: int, ids: str, binds: int, sessions: int = 1
) -> tuple[Ledger, float]:
    ledger = Ledger(count, bodies=bodies(count))
    smsc = BulkSmsc(ledger, ids)
    upstream = Upstream(await smsc.start(), sessions=sessions)
    gateway = make_gateway([upstream])
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(None, gateway.start)
        context = ssl.create_default_context(cafile=str(gateway.certificates / "ca.pem"))
        took = await customers(ledger, gateway.tls_port, context, binds, 50, ("acme", PASSWORD), patience=20)
        await loop.run_in_executor(None, gateway.finish)
    except BaseException:
        gateway.kill()
        print(gateway.log_text()[-3000:])
        raise
    finally:
        smsc.stop()
    return ledger, took


def test_twenty_thousand_over_ten_tls_binds(make_gateway: Callable[..., Gateway]) -> None:
    ledger, took = asyncio.run(_exchange(make_gateway, 20_000, "decimal", binds=10, sessions=2))
    assert ledger.faults() == []
    print(f"20,000 messages and receipts in {took:.1f} s")


@pytest.mark.parametrize("ids", ["hexdec", "early"])
def test_ids_in_two_forms_and_receipts_before_the_response(ids: str, make_gateway: Callable[..., Gateway]) -> None:
    ledger, _took = asyncio.run(_exchange(make_gateway, 3_000, ids, binds=4, sessions=2))
    assert ledger.faults() == []


def test_the_ledger_sees_every_kind_of_fault() -> None:
    async def direct(ids: str) -> Ledger:
        ledger = Ledger(500, bodies=bodies(500))
        smsc = BulkSmsc(ledger, ids)
        try:
            await customers(ledger, await smsc.start(), None, 2, 20, ("gateway", "any"), patience=1)
        finally:
            smsc.stop()
        return ledger

    good = asyncio.run(direct("decimal"))
    assert good.faults() == []
    assert "500 receipts missing" in asyncio.run(direct("hexdec")).faults()
    first = next(iter(good.ids))
    for change, words in (
        ({"answers": good.answers + good.answers}, "acknowledged, at most 2"),
        ({"arrived": good.arrived + good.arrived}, "at most 2 times"),
        ({"strangers": 1}, "changed"),
        ({"receipts": good.receipts + type(good.receipts)({first: 1})}, "more than once"),
        ({"disagreeing": 1}, "two ids"),
        ({"ids": {first: 0}}, "never given"),
    ):
        assert any(words in fault for fault in replace(good, **change).faults()), words


@pytest.mark.parametrize("ids", ["hexdec", "uuid", "zeros", "decimal"])
def test_the_same_against_an_smsc_of_another_make(ids: str, smsc: Smsc, make_gateway: Callable[..., Gateway]) -> None:
    """smpp.twisted on both sides: throttled answers, late answers, half of the receipts early, some undelivered."""
    smsc.ask(
        "set",
        behaviour={"ids": ids, "early": 0.5, "throttled": 0.05, "undelivered": 0.1, "response_delay": 0.005},
    )
    before = smsc.ask("stats")
    with (
        make_gateway([Upstream(smsc.port, tls=True, sessions=2)]) as gateway,
        Child(CLIENTS["smpp.twisted"], gateway.login(binds=10, window=20), ROOT) as customer,
    ):
        customer.expect("bound")
        customer.order("run", count=400, wait=10)
        done = customer.expect("done", patience=60)
        customer.ask("unbind", "unbound")
    after = smsc.ask("stats")
    assert done["acknowledged"] == done["receipts"] == after["accepted"] - before["accepted"] == 400
    assert done["complete"] and not done["refused"] and not done["lost"]
    assert not done["duplicate_ids"] and not done["duplicate_receipts"] and not done["unknown_receipts"]
    assert done["states"]["DELIVRD"] + done["states"]["UNDELIV"] == 400
    assert after["throttled"] > before["throttled"]
