"""`smppd log search|show|export|verify`: messages in the sealed log, by number, by id or all; whether one was altered.

Numbers are masked and texts left out unless `--reveal` is given. Every look is on the audit trail before it is shown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack, closing
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.commands.audit import (
    add_notes,
    add_shipped,
    compared,
    expected,
    moment,
    noted,
    say_shipped,
)
from smppd.cli.commands.log_export import register_export, run_export
from smppd.cli.numbers import typed_of
from smppd.cli.progress import progress as progress_bar
from smppd.cli.reason import add_reason, why_of
from smppd.cli.verdicts import Erased, as_json, end_of, of_node, other_nodes
from smppd.ids import id_time
from smppd.numbering import SHORT_DIGITS
from smppd.office.access import Access, guarded
from smppd.office.messages import as_dict, iso
from smppd.office.searching import Question, find, ids_meant, search
from smppd.office.times import Moment
from smppd.operators.roles import Act
from smppd.records.consistency import anchor_faults, cross_faults, note_faults, note_of
from smppd.records.erasure_journal import NAME, ErasedIds
from smppd.records.shipped import check_seals
from smppd.records.verify import verify_log
from smppd.vault.mask import mask_number

_COLUMNS: Final = (
    "time", "id", "account", "direction", "from", "to", "state", "error", "upstream", "upstream_id", "parts", "data_coding",
)  # fmt: skip
_REVEALED: Final = (*_COLUMNS, "text")
_NARROW: Final = ("time", "id", "from", "to", "state")
_WIDE: Final = 150  # characters in which all columns can be read


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("log", help="search, show, export and verify the sealed record of messages")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    search = actions.add_parser(
        "search", help="all messages from or to a phone number, newest first; 1 when there is none"
    )
    search.add_argument("number", metavar="NUMBER", help="+44 7700 900123, a short code, or an alphanumeric sender")
    search.add_argument("--account", action="append", metavar="A", help="only this account; may be repeated")
    search.add_argument(
        "--since", type=moment, default=0, metavar="T", help="ISO date or time (UTC), or an age like 7d"
    )
    search.add_argument("--until", type=moment, metavar="T", help="likewise; not included")
    search.add_argument(
        "--region",
        metavar="CC",
        help="country of a national number, for example GB (default: the configuration's regions)",
    )
    search.add_argument(
        "--limit", type=_positive, default=50, metavar="N", help="at most so many (default: %(default)s)"
    )
    show = actions.add_parser("show", help="one message with its history")
    show.add_argument(
        "id", metavar="ID", help="the message id as the customer saw it (16 hex characters), or in decimal"
    )
    verify = actions.add_parser("verify", help="recompute the digest chain; status 1 if the log was tampered with")
    verify.add_argument("--node", type=int, metavar="N", help="of other nodes only this one (default: all)")
    add_notes(verify)
    add_shipped(verify, "checkpoint")
    for action in (search, show):
        add_reason(action)
        add_login(action)
    for action in (search, show, verify):
        add_json(action)
        add_config(action)
    register_export(actions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `log ACTION`; 0, 1 when nothing was found or the log is not sound, 2 when there is no store to read."""
    if args.action == "export":
        return run_export(args)
    settings = load_settings(args)
    if args.action != "verify" and args.reveal and not args.note.strip():
        raise CommandError("--reveal needs --note: the reason in words", 2)
    if args.action == "search" and args.until is not None and args.since >= args.until:
        raise CommandError("--since is not before --until", 2)
    authority = None
    if args.action == "show":
        ids_meant(args.id)
    if args.action != "verify":
        authority = authorise(Act.REVEAL if args.reveal else Act.SEARCH, args, settings)
    with Access(settings, authority) as access, guarded():
        return {"search": _search, "show": _show, "verify": _verify}[args.action](access, args)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("must be a number from 1 to 1000000")
    return int(text)


# -- search ----------------------------------------------------------------------------------------------------------


def _search(access: Access, args: argparse.Namespace) -> int:
    question = Question(
        typed_of(args),
        args.since,
        args.until,
        args.limit,
        _as_typed(args.since),
        _as_typed(args.until),
    )
    with progress_bar("Searching") as progress:
        found = search(access, question, why_of(args), args.reveal, progress)
    rows, forms = found.rows, found.forms
    if args.json:
        damaged = [f"{i:016x}" for i in found.damaged]
        print(json.dumps({"records": rows, "more": found.more, "damaged": damaged}, indent=2))
    elif rows:
        _table(rows, _REVEALED if args.reveal else _COLUMNS)
    if found.more:
        say(f"Only the newest {args.limit} are shown; --limit shows more.")
    if found.damaged:
        say(f"{len(found.damaged)} records were altered and cannot be opened: run `smppd log verify`.")
    if any(row["match"] == "national digits" for row in rows):
        say("Some were found by national digits, which may be another subscriber's number in another country.")
    if not rows:
        where = "in this time" if args.since or args.until else "that can still be read"
        national = (
            not found.regions
            and len(forms.exact[0]) > SHORT_DIGITS
            and forms.exact[0].isdigit()
            and not forms.ambiguous
        )
        hint = "; a national number is found with its country: --region GB, for example" if national else ""
        raise CommandError(f"no message from or to {mask_number(args.number)} {where} is in the log{hint}")
    return 0


def _as_typed(moment: int | None) -> str:
    return moment.typed if isinstance(moment, Moment) else ""


# -- show ------------------------------------------------------------------------------------------------------------


def _show(access: Access, args: argparse.Namespace) -> int:
    found = find(access, args.id, why_of(args), args.reveal)
    row = as_dict(access, found, args.reveal, None)
    if args.json:
        print(json.dumps(row, indent=2))
        return 0
    console = Console(highlight=False, soft_wrap=True)
    for name, value in row.items():
        if name not in ("events", "match") and value not in (None, "") and (name, value) != ("error", 0):
            console.print(Text(f"{name.replace('_', ' '):<12}  {value}"))
    for event in row["events"]:
        error = f"error {event['error']} {event['error_name']}".strip() if event["error"] else ""
        facts = [event["upstream"], event["upstream_id"], error]
        facts.append("possible duplicate" if event["possible_duplicate"] else "")
        console.print(Text(f"  {event['time']}  {event['state']:<16}  {'  '.join(fact for fact in facts if fact)}"))
    return 0


# -- verify ----------------------------------------------------------------------------------------------------------


def _verify(access: Access, args: argparse.Namespace) -> int:
    keys, trail = access.chain_keys, access.trail
    against = noted(args)
    # First of all: what is made meanwhile is more, never less.
    with closing(access.states()) as states:
        faults = cross_faults(states, keys, trail)
        faults += note_faults(states, trail, against)
        shipped = None
        if args.shipped:
            shipped = compared(
                args,
                "seal",
                lambda lines: check_seals(lines, states, keys, trail, expected(args, access.directory)),
            )
            faults += shipped.faults
    store, others = access.store, other_nodes(access, args.node)
    with ExitStack() as opened:
        progress = opened.enter_context(progress_bar("Verifying"))
        erased = Erased(ErasedIds(access.directory / NAME, keys.public))
        records = access.reader.records
        if records.several:
            erased.rows = opened.enter_context(closing(store.erasures()))
            records = opened.enter_context(closing(store.records(store.node)))
        verdict = verify_log(records, id_time, keys.public, progress, keys, erased)
        each = [of_node(access, one, erased, progress) for one in others]
        faults += anchor_faults(verdict, trail, keys, erased.anchors(store.node))
    audit = trail.verify()
    faults += [] if audit.ok else [f"the audit trail: {audit.reason}"]
    verdict = verdict.with_faults(faults)
    with closing(access.states()) as states:
        note = note_of(states, trail, time.time()).line()
    first = None if verdict.first is None else iso(id_time(verdict.first) * 1000)
    ok = verdict.ok and all(other.verdict.ok for other in each)
    if args.json:
        said: dict[str, Any] = {} if shipped is None else {"shipped": shipped.as_json()}
        if each:
            said |= {"ok": ok, "node": store.node, "nodes": [other.as_dict() for other in each]}
            said |= {"erased_elsewhere": erased.elsewhere}
        print(json.dumps(as_json(verdict, first) | {"note": note, "compared": len(against)} | said))
        return 0 if ok else 1
    if verdict.ok:
        print(f"The log is sound: {verdict.reason}; {verdict.checkpoints} signed checkpoints found in it.")
        if first:
            print(f"It begins at {first}; of {verdict.purged} purged records only the digests are left.")
        print(end_of(verdict))
        if against:
            print(f"What was noted is in it ({len(against)} notes).")
        if shipped is not None:
            say_shipped(shipped, "checkpoints")
    else:
        say(f"The log is NOT sound: {verdict.reason} ({verdict.rows} good rows).")
        for fault in verdict.faults[1:]:
            say(f"Also: {fault}.")
    for other in each:
        other.say()
    if erased.elsewhere:
        say(
            f"{erased.elsewhere} records were erased at other nodes, whose erasure journals are on their machines: run `smppd"
            " log verify` there too."
        )
    if args.note and ok:
        print(note)
    return 0 if ok else 1


# -- showing ---------------------------------------------------------------------------------------------------------


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    cells = [[_cell(row, column) for column in columns] for row in rows]
    headings = [column.replace("_", " ") for column in columns]
    if not sys.stdout.isatty():
        for line in [headings, *cells]:
            print("\t".join(line))
        return
    console = Console(highlight=False)
    narrow = console.width < _WIDE
    shown = [at for at, column in enumerate(columns) if not narrow or column in _NARROW]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for at in shown:
        table.add_column(headings[at], overflow="fold", no_wrap=columns[at] == "id")
    for line in cells:
        table.add_row(*(Text(line[at]) for at in shown))
    console.print(table)
    if narrow:
        for line in cells if columns is _REVEALED else ():
            console.print(Text(f"{line[1]}  {line[-1]}"), soft_wrap=True)
        say("A wider terminal, --json or `smppd log show ID` has all columns.")


def _cell(row: dict[str, Any], column: str) -> str:
    value = row[column]
    if column == "time" and sys.stdout.isatty():
        return str(value)[:19].replace("T", " ")
    if column == "text" and value is None:
        return f"({row['text_remark']})"
    return "" if value in (None, 0) and column == "error" else str(value)
