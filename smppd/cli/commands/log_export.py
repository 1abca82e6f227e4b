"""`smppd log export`: the record of messages as CSV or JSON lines, a line a message, by a cursor that skips and repeats none.

Numbers are masked and texts left out unless `--reveal` is given, which is a look like any other: on the audit trail before
anything is shown. A file is whole or not there.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from smppd.cli.authority import add_login, approver, authorise
from smppd.cli.commands import CommandError, add_config, load_settings, say
from smppd.cli.commands.audit import moment
from smppd.cli.reason import NOTE
from smppd.cli.whole_file import WholeFile
from smppd.events import AuditEvent
from smppd.message import BESIDE, State
from smppd.office.access import REASONS, Access, Why, addresses_of, guarded, printable
from smppd.office.messages import shown_number, state_name
from smppd.office.times import Moment
from smppd.operators.roles import Act, Authority
from smppd.protocol.carrier_errors import carrier_error
from smppd.records.export import iso
from smppd.records.log_export import Exported, LogExport
from smppd.records.looks import Shown
from smppd.records.lookup import Found
from smppd.records.places import BadPlace, Place
from smppd.records.vouch import Voucher
from smppd.store.log import Records

COLUMNS: Final = (
    "cursor", "id", "account", "direction", "accepted", "submitted", "final", "acknowledged", "state", "error", "error_name",
    "upstream", "upstream_id", "tries", "possible_duplicate", "parts", "data_coding", "from", "to",
)  # fmt: skip
REVEALED: Final = (*COLUMNS, "text", "text_remark")
ALONE: Final = 100
"""So many records may one person reveal at a time; for more, and for the reason `law`, two have to agree."""
MOST_REVEALED: Final = 100_000
"""A revealed export names each record on the audit trail: no more of them at a time."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_DANGEROUS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip
"""How a cell begins that a spreadsheet would take for a formula (CWE-1236); East Asian ones take the wide signs too."""
_STATES: Final = tuple(state.name.lower() for state in State if state not in BESIDE)


def register_export(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action to the command line."""
    parser = actions.add_parser(
        "export",
        help="a line a message, as CSV or JSON lines, by a cursor",
        description="Export the record of messages: a line each, in the order in which they were accepted, in the state that is"
        " known by now. An export that begins --after the last cursor of another gives the messages behind it, each once.",
    )
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="(default: %(default)s)")
    parser.add_argument("--account", action="append", metavar="A", help="only this account; may be repeated")
    parser.add_argument(
        "--since",
        type=moment,
        default=0,
        metavar="T",
        help="accepted then or later: ISO date or time (UTC), or an age like 7d",
    )
    parser.add_argument(
        "--until",
        type=moment,
        metavar="T",
        help="up to the first one that was accepted then or later: 3d leaves out what may still change",
    )
    parser.add_argument(
        "--state", action="append", choices=_STATES, metavar="S", help="only in this state now; may be repeated"
    )
    parser.add_argument("--after", metavar="CURSOR", help="go on behind this line of another export")
    parser.add_argument(
        "--node",
        type=int,
        metavar="N",
        help="what this node has accepted, where several work on one store; each has cursors of its own (default: this node)",
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help="so many messages at most")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there, mode 0600: whole or not at all")
    parser.add_argument("--force", action="store_true", help="replace FILE")
    parser.add_argument(
        "--reason", choices=REASONS, default="", help="why you look; goes on the audit trail; needed with --reveal"
    )
    parser.add_argument(
        "--note",
        default="",
        metavar="TEXT",
        help=NOTE,
    )
    parser.add_argument(
        "--reveal", action="store_true", help="whole numbers and texts; needs --reason, --note and --out"
    )
    add_login(parser)
    add_config(parser)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000_000:
        raise argparse.ArgumentTypeError("must be a number from 1 to 1000000000")
    return int(text)


def run_export(args: argparse.Namespace) -> int:
    """Run `log export`; 0 also for no message, 1 where rows were altered and left out or where the cursor is none
    of this log, 2 without a store."""
    settings = load_settings(args)
    try:
        after = Place() if args.after is None else Place.parse(args.after)
    except BadPlace as error:
        raise CommandError(f"--after: {error}", 2) from None
    if args.until is not None and args.since >= args.until:
        raise CommandError("--since is not before --until", 2)
    if args.reveal and not (args.reason and args.note.strip() and args.out is not None):
        raise CommandError("--reveal needs --reason, --note (the reason in words) and --out", 2)
    authority = authorise(Act.REVEAL if args.reveal else Act.SEARCH, args, settings)
    accounts = _accounts(args, authority)
    for name in sorted(set(args.account or ()) - {one.system_id for one in settings.accounts}):
        # Records stay in the log when their account leaves the configuration. A mistyped name is more likely: so it is said.
        say(f"The configuration has no account {printable(name)}: what the log still has of it is exported.")
    with ExitStack() as opened:
        file = opened.enter_context(WholeFile(args.out, force=args.force)) if args.out is not None else None
        access = opened.enter_context(Access(settings, authority))
        opened.enter_context(guarded())
        try:
            return _Export(access, args, accounts, file).run(after)
        except BrokenPipeError:
            raise
        except OSError as error:
            if file is None:  # the interpreter's last flush would fail once more
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            name = "standard output" if file is None else file.path
            raise CommandError(f"{name}: it cannot be written: {error.strerror or error}") from None


def _accounts(args: argparse.Namespace, authority: Authority) -> frozenset[str] | None:
    """The accounts that are exported; None for all."""
    asked = None if args.account is None else frozenset(args.account)
    if authority.accounts is None:
        return asked
    others = sorted((asked or frozenset()) - authority.accounts)
    if others:
        raise CommandError(f"you may not see account {printable(others[0])}")
    return asked or authority.accounts


def _log_of(access: Access, node: int | None) -> tuple[Records, Records | None]:
    """The log that is exported and, where there are several, that of all."""
    store, reader = access.store, access.reader
    if not reader.records.several:
        if node not in (None, store.node):
            raise CommandError(f"there is no node {node}", 2)
        return reader.records, None
    numbers = sorted([store.node, *(one.number for one in store.others())])
    if node is not None and node not in numbers:
        raise CommandError(f"there is no node {node}; there are {', '.join(map(str, numbers))}", 2)
    if node is None:
        named = ", ".join(str(number) for number in numbers if number != store.node)
        say(f"This is what node {store.node} has accepted. Others are exported with --node: {named}.")
    return store.records(store.node if node is None else node), reader.records


class _Writer(Protocol):
    """How lines are written."""

    def begin(self) -> None:
        """What stands before the first line."""

    def add(self, row: dict[str, Any]) -> None:
        """One line."""


class _Csv:
    """RFC 4180 with line feeds. No cell begins as a formula does."""

    def __init__(self, out: TextIO, columns: tuple[str, ...]) -> None:
        self._writer = csv.writer(out, lineterminator="\n")
        self._columns = columns

    def begin(self) -> None:
        """See `_Writer`."""
        self._writer.writerow(self._columns)

    def add(self, row: dict[str, Any]) -> None:
        """See `_Writer`."""
        self._writer.writerow([_cell(row[column]) for column in self._columns])


def _cell(value: object) -> str:
    if value is None or value is False:
        return ""
    text = "1" if value is True else str(value)
    return f"'{text}" if text.startswith(_DANGEROUS) else text


class _Jsonl:
    """One object a line, pure ASCII."""

    def __init__(self, out: TextIO, columns: tuple[str, ...]) -> None:
        self._out = out
        self._columns = columns

    def begin(self) -> None:
        """See `_Writer`."""

    def add(self, row: dict[str, Any]) -> None:
        """See `_Writer`."""
        self._out.write(_ENCODER.encode({column: row[column] for column in self._columns}) + "\n")


class _Export:
    """One export."""

    def __init__(
        self, access: Access, args: argparse.Namespace, accounts: frozenset[str] | None, file: WholeFile | None
    ) -> None:
        self._access = access
        self._args = args
        self._file = file
        self._accounts = accounts
        columns = REVEALED if args.reveal else COLUMNS
        out = sys.stdout if file is None else file.text
        self._writer: _Writer = _Csv(out, columns) if args.format == "csv" else _Jsonl(out, columns)
        self._tables = {one.name: one.error_table for one in access.settings.upstreams}
        self._shown: list[Shown] = []
        reader = access.reader
        self._records, everywhere = _log_of(access, args.node)
        sees: Callable[[str], bool] = (lambda _name: True) if accounts is None else accounts.__contains__
        voucher = Voucher(self._records, access.chain_keys)
        self._export = LogExport(
            self._records, reader.ring, reader.held, voucher, sees, bodies=args.reveal, everywhere=everywhere
        )

    def run(self, after: Place) -> int:
        """All of it; the exit status."""
        args, export = self._args, self._export
        second = self._second() if args.reveal and args.reason == "law" else ""
        if self._file is None:
            self._record("begun, masked", {})  # before the first line is shown
        count, end = 0, after
        self._writer.begin()
        for one in self._wanted(after):
            if args.reveal:
                if count == MOST_REVEALED:
                    raise CommandError(f"there are more than {MOST_REVEALED} records: say --limit {MOST_REVEALED}", 2)
                self._shown.append(self._access.shown(Found(one.place.seq, one.record)))
            self._writer.add(self._row(one))
            count += 1
            end = one.place
            if count == args.limit:
                break
        else:
            end = max(end, export.cursor)
        (sys.stdout if self._file is None else self._file.text).flush()
        if args.reveal and not second and count > ALONE:
            second = self._second()
        facts: dict[str, str | int] = {"messages": count, "cursor": str(end)}
        if second:
            facts["second"] = second
        self._record(f"{count} exported, {'revealed' if args.reveal else 'masked'}", facts)
        if self._file is not None:
            self._file.commit()
        return self._tell(count, end)

    def _tell(self, count: int, end: Place) -> int:
        export = self._export
        where = f" to {self._args.out}" if self._file is not None else ""
        say(f"Exported {count} messages{where}. The next export goes on with --after {end}")
        if export.missed is not None:
            first, last = export.missed
            say(f"What was between {first} and {last} was purged before it was exported: retention is over for it.")
        if export.purged and self._accounts is None:
            say(
                f"{export.purged} messages behind --after were purged before they were exported: retention is over for them."
            )
        if export.foreign:
            say("--after is no cursor of this log: it is of another store, or this one was put back from a backup.")
        if export.damaged:
            say(f"{len(export.damaged)} rows of the log were altered and are left out: run `smppd log verify`.")
        return 1 if export.damaged or export.foreign else 0

    def _wanted(self, after: Place) -> Iterator[Exported]:
        args = self._args
        until = float("inf") if args.until is None else args.until / 1000
        states = None if args.state is None else frozenset(State[name.upper()] for name in args.state)
        for one in self._export.messages(after, args.since / 1000, until):
            if states is None or one.life.state in states:
                yield one

    def _record(self, result: str, more: dict[str, str | int]) -> None:
        args = self._args
        what: dict[str, str | int] = {"export": args.format, **self._asked(), **more}
        event, why = AuditEvent.REVEAL if args.reveal else AuditEvent.SEARCH, Why(args.reason, args.note)
        self._access.record(event, why, what, self._shown, result)

    def _asked(self) -> dict[str, str | int]:
        """What is asked for, as it was typed: `--since 7d` is the same act an hour later."""
        args = self._args
        what: dict[str, str | int] = {
            "accounts": "" if self._accounts is None else " ".join(sorted(self._accounts)),
            "since": _as_typed(args.since),
            "until": _as_typed(args.until),
            "states": " ".join(sorted(args.state or ())),
            "after": args.after or "",
            "limit": args.limit or 0,
        }
        return {name: value for name, value in what.items() if value}

    def _second(self) -> str:
        access, args = self._access, self._args
        said: dict[str, str | int] = {"export": "log", "reason": args.reason, **self._asked()}
        return approver(access.authority, args, access.settings, "reveal", said)

    def _row(self, one: Exported) -> dict[str, Any]:
        header, life = one.record.header, one.life
        reveal = self._args.reveal
        row: dict[str, Any] = {
            "cursor": str(one.place),
            "id": f"{header.record_id:016x}",
            "account": header.account,
            "direction": header.direction.name,
            "accepted": iso(header.accepted_ms),
            "submitted": iso(life.submitted) if life.submitted else None,
            "final": iso(life.final) if life.final else None,
            "acknowledged": iso(life.acknowledged) if life.acknowledged else None,
            "state": state_name(life.state),
            "error": life.error or None,
            "error_name": carrier_error(self._tables.get(life.upstream), life.error) if life.error else None,
            "upstream": life.upstream or None,
            "upstream_id": printable(life.upstream_id.decode("latin-1")) or None,
            "tries": life.tries,
            "possible_duplicate": life.duplicate,
            "parts": header.parts,
            "data_coding": header.data_coding,
            "from": None,
            "to": None,
        }
        if one.record.numbers is not None:
            source, destination = addresses_of(one.record.numbers)
            row["from"], row["to"] = shown_number(source, reveal), shown_number(destination, reveal)
        if reveal:
            shown = self._access.text(one.record)
            row["text"] = shown.text if shown.text is None or self._args.format == "jsonl" else printable(shown.text)
            row["text_remark"] = shown.remark or None
        return row


def _as_typed(at: int | None) -> str:
    return at.typed if isinstance(at, Moment) else ""
