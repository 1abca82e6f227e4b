"""`smppd demo --nodes`: two smppd on one PostgreSQL between a simulated customer and a simulated SMSC; one of them is killed
under load.

What is shown is what the customer and the SMSC counted themselves. The exit status is 0 only when every message was
acknowledged and relayed, every acknowledged one got its receipt, and nothing came that the death of a node does not explain.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from smppd.cli.commands import CommandError
from smppd.cli.demo_parts import BEHAVIOUR, START, DemoDaemon, find, run_smppd, short, step
from smppd.demo.postgres import PostgresError, PostgresServer
from smppd.demo.process import ChildError, simulator
from smppd.demo.setup import ACCOUNT, DemoError, prepare_nodes
from smppd.demo.texts import mixed
from smppd.demo.view import View, scrape

if TYPE_CHECKING:
    from smppd.demo.process import Child
    from smppd.demo.setup import Stage

PACE: Final = 200.0
"""Messages a second at the least."""
_KILLED_AT: Final = 0.4
"""The share of the messages that is acknowledged when a node is killed."""
_PATIENCE: Final = 40
"""Seconds without news after which the customer gives up: a node is dead after ten."""


def play(directory: Path, count: int, console: Console, stack: ExitStack) -> int:
    """Plays the demo; the exit status."""
    began = time.monotonic()
    try:
        postgres = stack.enter_context(PostgresServer())
        stages = prepare_nodes(directory, postgres.url)
    except (PostgresError, DemoError) as error:
        raise CommandError(str(error)) from None
    first, second = stages
    step(console, "PostgreSQL of this machine's package, on a socket in a temporary folder")
    run_smppd("keys", "init", "--config", str(first.config))
    step(console, f"certificates, keys and two configurations in {short(directory)}")
    try:
        smsc = stack.enter_context(_smsc(first))
        daemons = [stack.enter_context(DemoDaemon(one.config, one.log, one.http_port)) for one in stages]
        for daemon in daemons:
            daemon.wait_ready()
        _wait_for_each_other(stages)
        step(console, f"smppd as {first.name} and {second.name} on ports {first.tls_port} and {second.tls_port} (TLS)")
        customer = stack.enter_context(_customer(stages))
        step(console, "a simulated customer, 2 binds to each, one account")
        console.print()
        run = _Run(console, stages, daemons, count)
        news = run.play(customer)
        stats = smsc.ask("stats")
        customer.ask("unbind", "unbound")
    except ChildError as error:
        raise CommandError(f"the demo failed: {error}; see {short(second.log)}") from None
    console.print()
    faults = run.faults(news, stats)
    if not faults:
        run.told(news, stats)
    with DemoDaemon(first.config, first.log, first.http_port) as again:
        again.wait_ready()
        _wait_for_each_other(stages)
        step(console, f"{first.name} started again, with nothing on its way: smppd show nodes\n")
        console.print(run_smppd("show", "nodes", "--config", str(second.config)), soft_wrap=True, markup=False)
        number = mixed(min(count, 50))[min(count, 50) // 2].destination[2]
        _, more = find(console, second.config, number)
        faults += more
        for stage, daemon in ((first, again), (second, daemons[1])):
            status = daemon.stop()
            if status:
                faults.append(f"{stage.name} ended with status {status}, see {short(stage.log)}")
    for fault in faults:
        console.print(f"[red]not as promised:[/] {fault}", soft_wrap=True)
    if not faults:
        console.print(f"All as promised, {time.monotonic() - began:.0f} s from beginning to end.\n")
    return 1 if faults else 0


def _smsc(stage: Stage) -> Child:
    child = simulator(
        "smsc",
        {
            "system_id": "gateway",
            "password": stage.upstream_password,
            "port": stage.smsc_port,
            "certificate": str(stage.certificates / "server.pem"),
            "key": str(stage.certificates / "server.key"),
            "behaviour": BEHAVIOUR | {"response_delay": 0.05},  # so that the node that dies waits for some answers
        },
    )
    child.expect("listening")
    return child


def _customer(stages: tuple[Stage, ...]) -> Child:
    child = simulator(
        "customer",
        {
            "ports": [one.tls_port for one in stages],
            "ca": str(stages[0].certificates / "ca.pem"),
            "system_id": ACCOUNT,
            "password": stages[0].password,
            "binds": 2,
            "window": 25,
            "submits_again": True,
        },
    )
    child.expect("bound")
    return child


def _wait_for_each_other(stages: tuple[Stage, ...]) -> None:
    """Until each node sees that the other lives."""
    until = time.monotonic() + START
    while any(_live(one) < len(stages) for one in stages):
        if time.monotonic() > until:
            raise CommandError(f"the nodes do not see each other; see {short(stages[0].log)}")
        time.sleep(0.1)


def _live(stage: Stage) -> float:
    return scrape(stage.http_port, labelled=True).get('smppd_nodes{life="live"}', 0.0)


class _Run:
    """The load, with a node killed in the middle of it."""

    def __init__(self, console: Console, stages: tuple[Stage, ...], daemons: list[DemoDaemon], count: int) -> None:
        self._console = console
        self._stages = stages
        self._daemons = daemons
        self._count = count
        self._seen: dict[str, dict[str, float]] = {}
        self._killed: float | None = None
        self._taken: float | None = None

    def play(self, customer: Child) -> dict[str, Any]:
        """Sends all of them; what the customer counted."""
        pace = max(PACE, self._count / 40)
        customer.order("run", count=self._count, wait=_PATIENCE, rate=pace)
        title = f"{self._count:,} messages over two nodes, sent at a pace of {pace:,.0f} a second"
        with View(self._console, title) as view:
            while True:
                news = customer.expect("progress", "done", patience=_PATIENCE + 20)
                view.update(news, self._both(), last=news["ev"] == "done")
                if self._killed is None and news["acknowledged"] >= _KILLED_AT * self._count:
                    self._kill(news)
                self._look_for_takeover()
                if news["ev"] == "done":
                    break
        until = time.monotonic() + _PATIENCE
        while self._killed is not None and self._taken is None and time.monotonic() < until:
            time.sleep(0.2)
            self._both()
            self._look_for_takeover()
        return news

    def _both(self) -> dict[str, float]:
        """The series of both nodes together; of a dead one as they were."""
        for one in self._stages:
            self._seen[one.name] = scrape(one.http_port) or self._seen.get(one.name, {})
        names = {name for series in self._seen.values() for name in series}
        return {name: sum(series.get(name, 0.0) for series in self._seen.values()) for name in names}

    def _kill(self, news: dict[str, Any]) -> None:
        self._daemons[0].kill()
        self._killed = time.monotonic()
        said = f"kill -9 of {self._stages[0].name}: {news['acknowledged']:,} acknowledged, {news['receipts']:,} receipts so far"
        step(self._console, said)

    def _look_for_takeover(self) -> None:
        heir = self._seen.get(self._stages[1].name, {})
        if self._killed is not None and self._taken is None and heir.get("smppd_node_takeovers_total"):
            self._taken = time.monotonic() - self._killed
            step(self._console, f"{self._stages[1].name} took it over after {self._taken:.0f} s")

    def faults(self, customer: dict[str, Any], smsc: dict[str, Any]) -> list[str]:
        """What is not as promised, in words."""
        count, cut = self._count, customer["unanswered"]
        resent = int(self._both().get("smppd_messages_resent_total", 0))
        found = []
        if self._killed is None:
            found.append("no node was killed: the load was over before")
        elif self._taken is None:
            found.append(f"{self._stages[1].name} did not take {self._stages[0].name} over")
        if customer["acknowledged"] != count:
            found.append(
                f"{customer['acknowledged']} of {count} were acknowledged; refused: {customer['refused'] or 'none'}"
            )
        if not count <= smsc["accepted"] <= count + cut + resent:
            found.append(
                f"the SMSC took {smsc['accepted']}, of {count}, {cut} submitted again, {resent} sent again and flagged"
            )
        if customer["receipts"] != count or not customer["complete"]:
            found.append(f"{customer['receipts']} of {count} receipts came back")
        if customer["duplicate_ids"]:
            found.append(f"{customer['duplicate_ids']} ids were given twice")
        if customer["unknown_receipts"] > cut:
            found.append(
                f"{customer['unknown_receipts']} receipts had an id that was never given, and {cut} were not answered"
            )
        return found

    def told(self, customer: dict[str, Any], smsc: dict[str, Any]) -> None:
        """The figures."""
        resent = int(self._both().get("smppd_messages_resent_total", 0))
        states = ", ".join(f"{number:,} {state}" for state, number in sorted(customer["states"].items()))
        for line in (
            f"{customer['acknowledged']:,} acknowledged, {customer['receipts']:,} with their receipt, none lost: {states}",
            f"{customer['unanswered']:,} were not answered when their connection was cut; the customer submitted them again",
            f"{smsc['accepted']:,} taken by the SMSC; {resent:,} whose fate at the dead node nobody knew went again, flagged",
            f"{customer['unknown_receipts']:,} receipts for what was stored and not answered,"
            f" {customer['duplicate_receipts']:,} receipts twice",
        ):
            step(self._console, line)
