"""`smppd status`: asks the running daemon's HTTP port how it does, and shows upstreams, accounts and the store."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.tables import age, cell, console_for, table
from smppd.config import Settings
from smppd.config.units import parse_duration

READY: Final = 0
NOT_READY: Final = 1
UNREACHABLE: Final = 2
"""Exit statuses."""

_TIMEOUT: Final = 5.0
_MAX_ANSWER: Final = 16 << 20


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "status",
        description="Show how the running daemon does: readiness, upstreams, accounts, store. Asks `http.address` of the"
        " configuration. Exit status: 0 ready, 1 not ready (or a fault in the configuration), 2 not reachable.",
    )
    add_config(parser)
    parser.add_argument(
        "--over", metavar="TIME", default="500ms", help="time over which rates are measured (default: %(default)s)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints tables, or one JSON object with `--json`. CommandError, status 2, when no smppd answers."""
    settings = load_settings(args)
    try:
        interval = parse_duration(args.over)
    except ValueError as error:
        raise CommandError(f"--over: {error}", 2) from None
    try:
        host, port = target(settings)
        _, readiness = fetch(host, port, "/readyz")
        code, state = fetch(host, port, "/status")
        if code != 200 or not isinstance(readiness.get("ready"), bool):
            raise CommandError(f"what answers at {_join(host, port)} does not speak like smppd", UNREACHABLE)
        before, began = state, time.monotonic()
        time.sleep(interval)
        _, state = fetch(host, port, "/status")
        add_rates(before, state, time.monotonic() - began)
    except CommandError as error:
        if args.json:
            print(json.dumps({"reachable": False, "ready": False, "error": str(error)}))
        raise
    ready = readiness["ready"]
    if args.json:
        print(json.dumps({"reachable": True, **state, **readiness}, indent=2))
    else:
        show(state, readiness)
        say(sentence(_join(host, port), readiness))
    return READY if ready else NOT_READY


# -- asking ------------------------------------------------------------------------------------------------------------


def target(settings: Settings) -> tuple[str, int]:
    """Where to ask. CommandError when the configuration leaves it open."""
    if settings.http is None:
        raise CommandError(
            "the configuration turns the HTTP port off (http: null), so nobody can be asked", UNREACHABLE
        )
    host, port = settings.http.host, settings.http.port
    if port == 0:
        raise CommandError("http.address has port 0, so the daemon's port cannot be known", UNREACHABLE)
    # A wildcard is where to listen and nowhere to connect to.
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def fetch(host: str, port: int, path: str) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON object of a path. No proxy is asked, no redirect followed. CommandError when it fails."""
    where = _join(host, port)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read(_MAX_ANSWER)
        value = json.loads(body)
    except (http.client.HTTPException, ValueError, RecursionError):
        raise CommandError(f"what answers at {where} does not speak like smppd", UNREACHABLE) from None
    except OSError as error:
        raise CommandError(
            f"no smppd answers at {where}: {error.strerror or 'no answer in time'}", UNREACHABLE
        ) from None
    finally:
        connection.close()
    if not isinstance(value, dict):
        raise CommandError(f"what answers at {where} does not speak like smppd", UNREACHABLE)
    return answer.status, value


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def add_rates(before: Mapping[str, Any], state: Mapping[str, Any], seconds: float) -> None:
    """Puts into each account and upstream of `state` how many messages a second it took since `before`: `rate`."""
    for section, key in (("accounts", "accepted"), ("upstreams", "submitted")):
        rows = {row["name"]: row for row in before.get(section) or () if isinstance(row, dict) and "name" in row}
        for row in state.get(section) or ():
            old = rows.get(row.get("name"), {}).get(key) if isinstance(row, dict) else None
            if isinstance(old, (int, float)) and isinstance(row.get(key), (int, float)) and seconds > 0:
                row["rate"] = round(max(0.0, row[key] - old) / seconds, 1)


# -- showing -----------------------------------------------------------------------------------------------------------

_UPSTREAMS: Final = (
    ("upstream", "name"),
    ("address", "address"),
    ("links", "links"),
    ("msg/s", "rate"),
    ("window", "window_used"),
    ("waiting", "ready"),
    ("unknown", "unknown"),
    ("receipts due", "waiting_receipts"),
    ("paused", "paused"),
    ("enabled", "enabled"),
)
_ACCOUNTS: Final = (
    ("account", "name"),
    ("sessions", "sessions"),
    ("from", "peers"),
    ("msg/s", "rate"),
    ("queued", "queued"),
    ("oldest, s", "oldest"),
    ("mailbox", "mailbox"),
)
_NODES: Final = (
    ("node", "node"),
    ("name", "name"),
    ("here", "here"),
    ("life", "life"),
    ("state", "state"),
    ("version", "version"),
    ("binds", "binds"),
    ("links", "links"),
    ("waiting", "waiting"),
    ("mail", "mail"),
    ("unknown", "unknown"),
)
_LISTENERS: Final = (("listener", "address"), ("tls", "tls"))


def sentence(where: str, readiness: Mapping[str, Any]) -> str:
    """The last line: ready or not, and what is wrong."""
    checks = readiness.get("checks")
    wrong = [
        f"{cell(name)} {cell(text)}"
        for name, text in (checks.items() if isinstance(checks, dict) else ())
        if str(text).partition(":")[0] != "ok"
    ]
    because = f": {'; '.join(wrong)}" if wrong else ""
    if not readiness["ready"]:
        return f"smppd at {where} is NOT ready{because}."
    return f"smppd at {where} is ready, but degraded{because}." if wrong else f"smppd at {where} is ready."


def show(state: Mapping[str, Any], readiness: Mapping[str, Any]) -> None:
    """The tables, on standard output."""
    console = console_for(sys.stdout)
    store = state.get("store")
    store = store if isinstance(store, dict) else {}
    full = store.get("full")
    space = ("FULL" if full else "ok") if isinstance(full, bool) else "?"
    head = [
        f"smppd {cell(state.get('version', '?'))} ({_form(state)})",
        f"up {age(state.get('uptime'))}",
        *(["draining"] if state.get("draining") is True else []),
        f"store {space}, {cell(store.get('commits', '?'))} commits,"
        f" {cell(store.get('entries', '?'))} entries in memory",
    ]
    damaged = store.get("damaged")
    if isinstance(damaged, int) and damaged > 0:
        head.append(f"{damaged} damaged set aside (`smppd damaged list`)")
    console.print("; ".join(head))
    for columns, rows in (
        (_UPSTREAMS, state.get("upstreams")),
        (_ACCOUNTS, state.get("accounts")),
        (_LISTENERS, state.get("listeners")),
        (_NODES, state.get("nodes")),
    ):
        table(console, columns, rows)
    checks = readiness.get("checks")
    if isinstance(checks, dict):
        table(console, (("check", "name"), ("", "text")), [{"name": n, "text": t} for n, t in checks.items()])


def _form(state: Mapping[str, Any]) -> str:
    """Whether the message path runs compiled, and why not."""
    if state.get("compiled") is True:
        return "compiled"
    why = state.get("interpreted_because")
    return f"interpreted: {cell(why)}" if why else "interpreted"
