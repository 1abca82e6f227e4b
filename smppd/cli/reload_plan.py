"""`smppd check --plan`: asks the running daemon what a reload would change, and says it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from smppd.cli.commands import CommandError
from smppd.config import Settings
from smppd.control.client import ask
from smppd.control.wire import ControlError

WITHIN: Final = 60.0
"""Seconds that the daemon may take. A thousand accounts take half a second."""
UNREACHABLE: Final = 2
SHOWN: Final = 50
"""Lines of one kind that are printed; `--json` has all."""
_EVERY: Final = 0.05


def plan_of(settings: Settings, config: Path) -> dict[str, Any]:
    """The plan (`daemon.plan.Plan`) with its sessions, from the daemon on this configuration's store. CommandError, status 2,
    where none answers, or where it reads another file than ``config``."""
    directory = settings.store.directory
    try:
        job = ask(directory, {"do": "plan"}).get("job")
        deadline = time.monotonic() + WITHIN
        while not (state := ask(directory, {"do": "plan state", "job": job})).get("over"):
            if time.monotonic() > deadline:
                raise ControlError(f"the daemon has no plan after {WITHIN:g} s")
            time.sleep(_EVERY)
        plan = state["plan"]
        if not isinstance(plan, dict):
            raise ControlError("what answers does not speak like smppd")
        plan["sessions"] = ask(directory, {"do": "plan sessions", "job": job})["sessions"]
    except (ControlError, KeyError) as error:
        said = str(error) if isinstance(error, ControlError) else "what answers does not speak like smppd"
        raise CommandError(said, UNREACHABLE) from None
    if Path(str(plan.get("path"))).resolve() != config.resolve():
        raise CommandError(
            f"the daemon reads {plan.get('path')}, and not {config}: ask with --config {plan.get('path')}", UNREACHABLE
        )
    return plan


def show(plan: Mapping[str, Any]) -> None:
    """The plan for people, on standard output."""
    for line in lines(plan):
        sys.stdout.write("".join(char if char.isprintable() else "?" for char in line) + "\n")


def lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """The plan in sentences."""
    if plan["faults"]:
        yield "A reload would be refused, and nothing would change:"
        yield from _some(plan["faults"])
        restart = set(plan["restart"])
        others = [change for change in plan["changes"] if change not in restart]
        if others:
            yield "What else is different, and would be used by a restart:"
            yield from _some(others)
        return
    if not plan["changes"] and plan["hash"] == plan["in_force"]:
        yield f"A reload would change nothing: {_hash(plan['hash'])} is in force."
    elif not plan["changes"]:
        yield f"No setting is different between {_hash(plan['in_force'])} and {_hash(plan['hash'])}."
    else:
        yield f"A reload would change, from {_hash(plan['in_force'])} to {_hash(plan['hash'])}:"
        yield from _some(plan["changes"])
    yield from _sessions(plan["sessions"])
    if plan["links"]:
        yield "Links to carriers:"
        yield from _some([_link(one) for one in plan["links"]])
    if plan["stranded"]:
        yield "Messages that wait for carriers which leave:"
        yield from _some([_stranded(one) for one in plan["stranded"]])
    if plan["unrouted"]:
        yield "Accounts that have a route now and would have none, so that their messages are refused (ESME_RINVDSTADR):"
        yield from _some(plan["unrouted"])
    if plan["lists"]:
        yield f"Lists that would be compiled: {', '.join(plan['lists'])}"


def _some(entries: list[str]) -> Iterator[str]:
    yield from (f"  {entry}" for entry in entries[:SHOWN])
    if len(entries) > SHOWN:
        yield f"  and {len(entries) - SHOWN} more; --json has all"


def _hash(digest: object) -> str:
    return f"configuration {str(digest)[:12]}"


def _sessions(sessions: list[dict[str, Any]]) -> Iterator[str]:
    count = len(sessions)
    if not count:
        yield "It would end no session."
        return
    yield f"It would end {count} session{'s' * (count > 1)}, when what {'they' if count > 1 else 'it'} sent is answered:"
    yield from _some([_session(one) for one in sessions])


def _session(one: Mapping[str, Any]) -> str:
    tls = f", {one['tls']}" if one["tls"] else ""
    return f"{one['id']} of {one['account']} from {one['address']}, {one['mode']}{tls}: {one['why']}"


def _link(one: Mapping[str, Any]) -> str:
    ends, again, waiting = one["links"], one["again"], one["waiting"]
    what = (
        f"{ends} end and {again} are bound anew" if ends and again else f"{ends} end" if ends else f"{again} are bound"
    )
    open_ = f"; {waiting} answers are waited for first" if waiting else ""
    return f"{one['upstream']}: {what} ({one['why']}){open_}"


def _stranded(one: Mapping[str, Any]) -> str:
    waiting, tried, routed = one["waiting"], one["tried"], one["routed"]
    line = f"{one['account']}: {waiting} for {', '.join(one['upstreams'])}"
    if not tried:
        return f"{line}, all on disk: they take the route that they have then, or wait"
    return f"{line}; of the oldest {tried}, {routed} have another route, and {tried - routed} would wait without one"
