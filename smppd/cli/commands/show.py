"""`smppd show WHAT`: what the running daemon does at this moment, by its control socket; once, or again and again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from smppd.audit.trail import current_actor
from smppd.cli.authority import NOBODY_YET, add_login, identify, is_believed, wanted
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.credentials import claim_of
from smppd.cli.tables import Column, age, cell, console_for, sparkline, table_of
from smppd.config import Settings
from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.office.desk import has_people, open_office, told
from smppd.operators.roles import Act

UNREACHABLE: Final = 2
_EVERY: Final = 2.0
_LEAST: Final = 0.5
_MOST: Final = 3600.0
_BARS: Final = 40


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "show",
        description="Show what the running daemon does: who is bound, what waits and why, which limits are near. Asks it"
        " over its control socket: as root or as its own user, or with --operator over `control.path`. Numbers of people are"
        " masked."
        " Exit status: 0 shown, 1 refused, 2 not reachable.",
    )
    parser.add_argument(
        "what", metavar="WHAT", choices=[*VIEWS, "message"], help=f"one of {', '.join(VIEWS)}; `message ID`"
    )
    parser.add_argument("message", metavar="ID", nargs="?", help="of `show message`: one message on its way")
    parser.add_argument("--account", metavar="A", help="what is of one account alone")
    parser.add_argument("--upstream", metavar="U", help="sessions, upstreams, queues, messages of one upstream alone")
    parser.add_argument("--id", metavar="ID", help="messages: the one with this id")
    parser.add_argument("--limit", metavar="N", type=int, help="messages: how many at the most (100, at most 1000)")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=_EVERY,
        help=f"again every so many seconds ({_EVERY:g}, at least {_LEAST:g}), until Ctrl-C",
    )
    parser.add_argument(
        "--socket", metavar="PATH", type=Path, help="ask there, without a look at the configuration (`control.path`)"
    )
    add_login(parser)
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a table, or the daemon's answer as JSON."""
    request = _request(args)
    place, who = _way(args, load_settings(args)) if args.socket is None else (args.socket, _login(args))
    request |= who
    if args.watch is None:
        answer = _ask(place, request)
        if args.json:
            print(json.dumps(answer, indent=2))
        else:
            _print(args.what, answer)
        return 0
    if "login" in request:
        raise CommandError("a code serves once: --watch needs root or the daemon's own user", 2)
    if not _LEAST <= args.watch <= _MOST:
        raise CommandError(f"--watch takes {_LEAST:g} to {_MOST:g} seconds", 2)
    return _watch(args, place, request)


def _request(args: argparse.Namespace) -> dict[str, Any]:
    what = args.what
    if what == "message":
        if args.message is None or args.id is not None:
            raise CommandError("`show message` needs the ID of a message", 2)
        args.what, args.id = "messages", args.message
    elif args.message is not None:
        raise CommandError(f"`show {what}` takes no ID; `show message ID` does", 2)
    if args.what != "messages" and (args.id is not None or args.limit is not None):
        raise CommandError("--id and --limit are for messages", 2)
    request: dict[str, Any] = {"do": f"show {args.what}"}
    for name in ("account", "upstream", "id", "limit"):
        if getattr(args, name) is not None:
            request[name] = getattr(args, name)
    if args.what == "flow":
        request["since"] = int(time.time()) - _BARS
    return request


# -- asking ------------------------------------------------------------------------------------------------------------


def _way(args: argparse.Namespace, settings: Settings) -> tuple[Path, dict[str, Any]]:
    """Where to ask, and as whom. Whom the daemon believes says a name; anybody else says all that he logs in with."""
    directory = settings.store.directory
    if is_believed(directory):
        return directory, _operator(args, settings)
    name = wanted(args)
    if name is None:
        raise CommandError("only root and the daemon's own user are shown anything without --operator NAME")
    return settings.control_socket, _login(args)


def _login(args: argparse.Namespace) -> dict[str, Any]:
    name = wanted(args)
    return {} if name is None else {"login": claim_of(name, args.credentials)._asdict()}


def _operator(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """The operator who logs in, or has an open session."""
    name = wanted(args)
    if name is None and args.credentials is not None:
        raise CommandError("--credentials are whose? Add --operator NAME", 2)
    try:
        with told():
            peopled = has_people(settings)
        if not peopled:
            if name is not None:
                raise CommandError(NOBODY_YET, 2)
            return {}
        with open_office(settings) as office:
            operator = identify(Act.SEARCH, args, office, current_actor()).operator
    except CommandError as error:
        # In an emergency, with the store or its keys not to be read, whoever asks sees what there is to see all the same: the
        # daemon knows from the kernel that this user is root or its own, and needs no operator's name.
        if name is not None or error.status != UNREACHABLE:
            raise
        return {}
    return {"operator": operator} if operator else {}


def _ask(place: Path, request: Mapping[str, object]) -> dict[str, Any]:
    try:
        return ask(place, request)
    except ControlError as error:
        raise CommandError(str(error), 1 if error.code else UNREACHABLE) from None


# -- again and again ---------------------------------------------------------------------------------------------------


def _watch(args: argparse.Namespace, place: Path, request: dict[str, Any]) -> int:
    """Until Ctrl-C: in place at a terminal, where a daemon that is away is waited for; else one after another."""
    live = sys.stdout.isatty() and not args.json
    try:
        if live:
            _redraw(args, place, request)
        while True:
            answer = _ask(place, request)
            if args.json:
                print(json.dumps(answer), flush=True)
            else:
                print(_clock(answer.get("at")))
                _print(args.what, answer)
                sys.stdout.flush()
            _rest(args, request)
    except KeyboardInterrupt:
        return 0


def _rest(args: argparse.Namespace, request: dict[str, Any]) -> None:
    time.sleep(args.watch)
    if "since" in request:
        request["since"] = int(time.time()) - _BARS


def _redraw(args: argparse.Namespace, place: Path, request: dict[str, Any]) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    console = console_for(sys.stdout)
    head = f"smppd show {args.what}, every {args.watch:g} s, Ctrl-C ends"
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            try:
                answer = ask(place, request)
            except ControlError as error:
                if error.code:
                    raise CommandError(str(error)) from None
                body: list[Any] = [Text(cell(str(error)))]
            else:
                body = [Text(_clock(answer.get("at"))), *_shown(args.what, answer)]
            live.update(Group(Text(head), *body), refresh=True)
            _rest(args, request)


def _clock(at: object) -> str:
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1e11:
        return "?"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


# -- tables ------------------------------------------------------------------------------------------------------------


def _print(what: str, answer: Mapping[str, Any]) -> None:
    console = console_for(sys.stdout)
    for one in _shown(what, answer):
        console.print(one)
    rows = answer.get(what)
    if isinstance(rows, list):
        noun = what[:-1] if len(rows) == 1 and what.endswith("s") else what
        more = ", and there may be more" if answer.get("more") is True else ""
        say(f"{len(rows)} {noun}{more}")


def _shown(what: str, answer: Mapping[str, Any]) -> list[Any]:
    """What rich prints of an answer."""
    from rich.text import Text

    special = _SPECIAL.get(what)
    if special is not None:
        return special(answer.get(what))
    made = table_of(VIEWS[what], answer.get(what))
    return [Text(EMPTY[what]) if made is None else made, *_elsewhere(answer)]


def _elsewhere(answer: Mapping[str, Any]) -> list[Any]:
    """What other nodes have of the same: only numbers, for the rest is known to them alone."""
    from rich.text import Text

    rows = answer.get("elsewhere")
    made = table_of(ELSEWHERE, rows) if isinstance(rows, list) else None
    if made is None:
        return []
    return [Text(f"This is node {cell(answer.get('node'))}. At other nodes, where the same command shows more:"), made]


def _of(key: str, limit: str) -> Callable[[Mapping[str, Any]], str]:
    """How much of a limit, and after a `+` how much of it at other nodes."""

    def value(row: Mapping[str, Any]) -> str:
        others = row.get("elsewhere")
        more = f"+{others}" if isinstance(others, int) and others else ""
        return f"{cell(row.get(key))}{more}/{cell(row.get(limit))}"

    return value


def _time(key: str) -> Callable[[Mapping[str, Any]], object]:
    return lambda row: None if row.get(key) is None else _clock(row.get(key))


def _age(key: str) -> Callable[[Mapping[str, Any]], object]:
    return lambda row: None if row.get(key) is None else age(row.get(key))


def _in(key: str, inner: str) -> Callable[[Mapping[str, Any]], object]:
    def value(row: Mapping[str, Any]) -> object:
        found = row.get(key)
        return found.get(inner) if isinstance(found, dict) else None

    return value


def _suspended(row: Mapping[str, Any]) -> object:
    if isinstance(row.get("suspended"), dict):
        return f"by {row['suspended'].get('by')}"
    return "by the configuration" if row.get("configured_suspended") is True else None


def _part(row: Mapping[str, Any]) -> object:
    part = row.get("part")
    return " of ".join(map(str, part)) if isinstance(part, list) else None


def _share(row: Mapping[str, Any]) -> object:
    share = row.get("share")
    return f"{100 * share:.0f} %" if isinstance(share, int | float) else None


def _compiled(row: Mapping[str, Any]) -> object:
    compiled = row.get("compiled")
    return compiled.replace("+00:00", "Z") if isinstance(compiled, str) else None


VIEWS: Final[dict[str, tuple[Column, ...]]] = {
    "sessions": (
        ("id", "id"),
        ("name", "name"),
        ("address", "address"),
        ("tls", _in("tls", "version")),
        ("certificate", _in("tls", "subject")),
        ("mode", "mode"),
        ("state", "state"),
        ("age", _age("age")),
        ("window", _of("used", "window")),
        ("ours", _of("outstanding", "outstanding_window")),
        ("msg/s", "rate"),
        ("messages", "messages"),
        ("last pdu", "last_pdu"),
        ("idle", _age("idle")),
    ),
    "accounts": (
        ("account", "name"),
        ("binds", _of("sessions", "max_binds")),
        ("msg/s", "rate"),
        ("limit", "throughput"),
        ("queued", "queued"),
        ("oldest", _age("oldest")),
        ("oldest id", "oldest_id"),
        ("held", "held"),
        ("mailbox", "mailbox"),
        ("accepted", "accepted"),
        ("refused", "refused"),
        ("delivered", "delivered"),
        ("suspended", _suspended),
    ),
    "upstreams": (
        ("upstream", "name"),
        ("address", "address"),
        ("state", "state"),
        ("links", _of("links", "sessions")),
        ("window", _of("window_used", "window")),
        ("msg/s", "rate"),
        ("waiting", "waiting"),
        ("ready", "ready"),
        ("unknown", "unknown"),
        ("receipts due", "waiting_receipts"),
        ("again in", _age("again_in")),
        ("act", _in("act", "act")),
        ("last error", "last_error"),
    ),
    "queues": (
        ("account", "account"),
        ("upstreams", "upstreams"),
        ("waiting", "waiting"),
        ("memory", "memory"),
        ("disk", "disk"),
        ("oldest", _age("oldest")),
        ("oldest id", "oldest_id"),
        ("code", "code"),
        ("why", "why"),
        ("opens", _time("opens")),
    ),
    "messages": (
        ("id", "id"),
        ("account", "account"),
        ("phase", "phase"),
        ("upstream", "upstream"),
        ("age", _age("age")),
        ("expires", _time("expires")),
        ("tries", "tries"),
        ("from", "from"),
        ("to", "to"),
        ("part", _part),
        ("duplicate", "duplicate"),
        ("memory", "memory"),
    ),
    "bans": (("address", "address"), ("scope", "scope"), ("who", "who"), ("ends in", _age("left"))),
    "suspensions": (
        ("account", "account"),
        ("since", _time("since")),
        ("by", "by"),
        ("reason", "reason"),
        ("hits", "hits"),
    ),
    "acts": (
        ("act", "act"),
        ("target", "target"),
        ("since", _time("since")),
        ("by", "by"),
        ("reason", "reason"),
        ("until", _time("until")),
        ("survives a restart", "survives"),
    ),
    "config": (),
    "limits": (("limit", "name"), ("of", "of"), ("used", "used"), ("limit is", "limit"), ("share", _share)),
    "rules": (("policy", "policy"), ("rule", "rule"), ("mode", "mode"), ("hits", "hits"), ("shadow", "shadow")),
    "lists": (
        ("list", "name"),
        ("kind", "kind"),
        ("entries", "entries"),
        ("state", "state"),
        ("compiled", _compiled),
    ),
    "nodes": (
        ("node", "node"),
        ("name", "name"),
        ("here", "here"),
        ("life", "life"),
        ("state", "state"),
        ("silent", _age("silent")),
        ("version", "version"),
        ("since", _time("since")),
        ("heir", "heir"),
        ("housekeeper", "housekeeper"),
        ("accounts", "accounts"),
        ("binds", "binds"),
        ("links", "links"),
        ("waiting", "waiting"),
        ("mail", "mail"),
        ("unknown", "unknown"),
    ),
    "health": (),
    "flow": (),
}
"""What can be seen, and its columns."""
ELSEWHERE: Final[tuple[Column, ...]] = (
    ("node", "node"),
    ("name", "name"),
    ("account", "account"),
    ("sessions", "sessions"),
    ("receivers", "receivers"),
    ("upstream", "upstream"),
    ("links", "links"),
)
"""What other nodes have, under a table of this one's."""
EMPTY: Final[dict[str, str]] = {
    "sessions": "nobody is connected",
    "accounts": "there is no such account",
    "upstreams": "there is no such upstream",
    "queues": "nothing waits",
    "messages": "no such message is on its way; `smppd log search` finds what has ended",
    "bans": "nobody is banned",
    "suspensions": "nobody is suspended",
    "acts": "no act is in force: all is as the configuration says",
    "limits": "there are no limits to show",
    "rules": "the configuration has no rules",
    "lists": "the configuration has no lists",
    "nodes": "there is this node alone: several need a store on PostgreSQL (`store.url`)",
}


def _health(health: object) -> list[Any]:
    from rich.text import Text

    found = health if isinstance(health, dict) else {}
    checks = found.get("checks")
    rows = [{"check": name, "text": text} for name, text in checks.items()] if isinstance(checks, dict) else []
    made = table_of((("check", "check"), ("", "text")), rows)
    return [Text(f"smppd is {cell(found.get('state', '?'))}"), *([] if made is None else [made])]


def _config(config: object) -> list[Any]:
    import yaml
    from rich.text import Text

    found = config if isinstance(config, dict) else {}
    lines = [
        f"# {cell(found.get('path'))}, loaded {_clock(found.get('loaded'))}",
        f"# SHA-256 {cell(found.get('hash'))}",
    ]
    last = found.get("last_reload")
    if isinstance(last, dict):
        lines.append(f"# last reload {_clock(last.get('at'))}: {cell(last.get('result'))}")
        faults = last.get("faults")
        lines += [f"#   {cell(fault)}" for fault in faults] if isinstance(faults, list) else []
    acts = found.get("acts")
    for one in acts if isinstance(acts, list) else ():
        if isinstance(one, dict):
            lines.append(f"# act: {cell(one.get('act'))} {cell(one.get('target'))}, by {cell(one.get('by'))}")
    text = yaml.safe_dump(found.get("settings"), sort_keys=False, allow_unicode=False, width=120)
    return [Text("\n".join(lines)), Text(text.rstrip())]


def _flow(flow: object) -> list[Any]:
    from rich.text import Text

    found = flow if isinstance(flow, dict) else {}
    rows = []
    for side, counts in (("accounts", ("accepted", "delivered")), ("upstreams", ("submitted", "receipts"))):
        some = found.get(side)
        for name, series in some.items() if isinstance(some, dict) else ():
            for what in counts:
                found_numbers = series.get(what) if isinstance(series, dict) else None
                numbers = found_numbers[-_BARS:] if isinstance(found_numbers, list) else []
                numbers = [one for one in numbers if isinstance(one, int | float)]
                if any(numbers):
                    latest = numbers[-10:]
                    rate = sum(latest) / len(latest)
                    rows.append({"name": name, "what": what, "rate": rate, "bars": sparkline(numbers)})
    columns = (("name", "name"), ("", "what"), ("msg/s", "rate"), (f"last {_BARS} s", "bars"))
    made = table_of(columns, rows)
    return [Text("nothing has flowed lately")] if made is None else [made]


_SPECIAL: Final[dict[str, Callable[[object], list[Any]]]] = {"health": _health, "config": _config, "flow": _flow}
