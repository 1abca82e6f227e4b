"""`smppd report processing|processors|retention|breach|controls`: what is said about the installation as a whole, as Markdown
or JSON, from the configuration in force and the store. No report contains a number or a text; each is on the audit trail before
it is shown.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console
from rich.progress import Progress

from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, load_settings
from smppd.cli.commands.audit import moment
from smppd.cli.commands.keys import existing_store, witnessed_trail
from smppd.cli.holding import open_holds
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.ids import id_time
from smppd.operators.roles import Act, Authority
from smppd.records.lookup import LogReader
from smppd.reports.breach import breach
from smppd.reports.controls import controls
from smppd.reports.document import Report, as_json, as_markdown, at
from smppd.reports.processing import processing
from smppd.reports.processors import processors
from smppd.reports.retention import retention
from smppd.reports.source import Facts, Source
from smppd.store.api import StoreError
from smppd.store.sqlite.log_rows import SqlitePurge, SqliteRecords
from smppd.store.sqlite.waiting import waiting_erasures
from smppd.vault.kek import Kek, VaultError, load_kek
from smppd.vault.keys import load_install
from smppd.vault.seal import SealError

_HELP: Final = {
    "processing": "record of processing (GDPR Art. 30(2))",
    "processors": "sub-processors: the carriers, and who sends there",
    "retention": "how long what is kept and why, and what is due next",
    "breach": "whose data, which records, looked at when and by whom, in a given time (GDPR Art. 33)",
    "controls": "ISO/IEC 27001 Annex A: feature, command, test, and whether it is in force",
}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("report", help="make a report of processing, retention or a breach")
    actions = parser.add_subparsers(dest="action", required=True, metavar="REPORT")
    for name, help_ in _HELP.items():
        action = actions.add_parser(name, help=help_)
        if name == "processors":
            action.add_argument(
                "--days",
                type=_days,
                default=0,
                metavar="N",
                help="also count what was sent to each carrier in the last N days; reads the events of that time",
            )
        if name == "breach":
            _add_breach(action)
        action.add_argument("--json", action="store_true", help="JSON instead of Markdown")
        action.add_argument(
            "--out",
            type=Path,
            metavar="FILE",
            help="write it to FILE, readable by you alone; one that exists is replaced",
        )
        add_login(action)
        add_config(action)
    parser.set_defaults(run=run)


def _add_breach(action: argparse.ArgumentParser) -> None:
    action.add_argument("--since", type=moment, required=True, metavar="T", help="ISO date or time (UTC), or an age")
    action.add_argument("--until", type=moment, required=True, metavar="T", help="likewise; not included")
    action.add_argument(
        "--account", action="append", default=[], metavar="A", help="only this account; may be repeated"
    )
    action.add_argument("--by", metavar="NAME", help="only what this operator or user did")
    action.add_argument(
        "--ids",
        type=Path,
        metavar="FILE",
        help="write the ids of all records of that time to FILE, one `ACCOUNT ID` a line",
    )


def run(args: argparse.Namespace) -> int:
    """Run `report REPORT`; 0, or 2 where there is no store. CommandError when it cannot be made, shown or put on the trail."""
    settings = load_settings(args)
    if args.action == "breach" and args.since >= args.until:
        raise CommandError("--since is not before --until", 2)
    authority = authorise(Act.REPORT, args, settings)
    directory = settings.store.directory
    try:
        with ExitStack() as undo:
            kek = load_kek(settings.keys)
            rows = existing_store(directory)
            undo.callback(rows.close)
            trail = undo.enter_context(witnessed_trail(directory, load_install(kek, rows)))
            records = SqliteRecords(directory) if (directory / "data.db").exists() else None
            if records is not None:
                undo.callback(records.close)
            with _progress() as progress:
                source = Source(settings, time.time(), trail, records, id_time, authority.accounts, progress)
                made = _make(args, source, records, kek, directory)
            text = as_json(made) if args.json else as_markdown(made)
            trail.append(
                AuditEvent.REPORT, authority.who, _told(args, authority), "made", source=authority.actor.source
            )
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(f"the report cannot be made: {error}") from None
    if args.out is None:
        print(text, end="")
    else:
        with _replacing(args.out) as file:
            file.write(text)
    return 0


def _make(args: argparse.Namespace, source: Source, records: SqliteRecords | None, kek: Kek, directory: Path) -> Report:
    if args.action == "processing":
        return processing(source)
    if args.action == "processors":
        return processors(source, records, args.days)
    if args.action == "controls":
        return controls(source)
    if args.action == "breach":
        return _breach(args, source, records, kek)
    if records is None:
        return retention(source, None)
    purge = SqlitePurge(directory)
    try:
        return retention(source, purge, _held(source.settings), _waiting(directory))
    finally:
        purge.close()


def _held(settings: Settings) -> Iterator[Facts]:
    """What may be said of each hold that protects: nothing of whom it is about."""
    holds = open_holds(settings)
    try:
        for one in holds.active():
            yield {
                "hold": one.number,
                "state": one.state.value,
                "ends": at(one.ends),
                "records": holds.rows.count(one.number),
            }
    finally:
        holds.close()


def _waiting(directory: Path) -> Iterable[Facts]:
    for one in waiting_erasures(directory):
        yield {
            "erasure": one.erasure,
            "records": one.records,
            "kept_by_hold": one.hold or None,
            "not_before": at(one.after) if one.after else None,
        }


def _breach(args: argparse.Namespace, source: Source, records: SqliteRecords | None, kek: Kek) -> Report:
    accounts = frozenset(args.account)
    hidden = sorted(one for one in accounts if not source.seen(one))
    if hidden:
        raise CommandError(f"account {hidden[0]} is not yours to see", 2)

    def account_of(record_id: int) -> str | None:
        assert reader is not None
        try:
            found = reader.record(record_id)
        except SealError:
            return None
        return None if found is None else found.record.header.account

    reader = None if records is None else LogReader(records, kek)
    whose: Callable[[int], str | None] = account_of if reader is not None else lambda _record: None
    with ExitStack() as undo:
        file = undo.enter_context(_replacing(args.ids)) if args.ids is not None else None

        def each(account: str, record_id: int) -> None:
            if file is not None:
                file.write(f"{account} {record_id:016x}\n")

        return breach(
            source,
            args.since / 1000,
            args.until / 1000,
            accounts=accounts,
            who=args.by,
            account_of=whose,
            each=each,
        )


def _told(args: argparse.Namespace, authority: Authority) -> dict[str, str | int]:
    """For the audit trail."""
    what: dict[str, str | int] = {"which": args.action, "form": "json" if args.json else "markdown"}
    if args.out is not None:
        what["to"] = str(args.out)
    if args.action == "breach":
        what |= {"since": at(args.since / 1000), "until": at(args.until / 1000)}
        if args.account:
            what["accounts"] = " ".join(args.account)
        if args.by:
            what["by"] = args.by
        if args.ids is not None:
            what["list"] = str(args.ids)
    return what


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A new file, mode 0600, that takes the place of `path` when all is written; otherwise nothing is left of it. Raises
    CommandError."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


@contextmanager
def _progress() -> Iterator[Callable[[float], object]]:
    """A bar for people, on standard error."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading the log", total=1.0)
        yield lambda done: bar.update(task, completed=done)


def _days(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not int(text):
        raise argparse.ArgumentTypeError("must be a number of days from 1 to 99999")
    return int(text)
