"""`smppd report processing|processors|retention|breach|controls`: what is said about the installation as a whole, as Markdown
or JSON, from the configuration in force and the store. No report contains a number or a text; each is on the audit trail before
it is shown.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, load_settings
from smppd.cli.commands.audit import moment
from smppd.cli.progress import progress as progress_bar
from smppd.cli.whole_file import WholeFile
from smppd.events import AuditEvent
from smppd.ids import id_time
from smppd.office.holding import open_holds
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.people import KIND as OPERATOR
from smppd.operators.roles import Act, Authority
from smppd.records.lookup import LogReader
from smppd.reports.breach import breach
from smppd.reports.controls import controls
from smppd.reports.document import Report, as_json, as_markdown, at, free
from smppd.reports.processing import processing
from smppd.reports.processors import processors
from smppd.reports.retention import retention
from smppd.reports.source import Facts, Source
from smppd.store.api import StoreError
from smppd.store.installation import Installation
from smppd.store.log import Records
from smppd.store.opening import installation
from smppd.vault.kek import Kek, VaultError
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
    try:
        store = installation(settings)
        with ExitStack() as undo:
            kek, install = unlock(settings)
            trail = undo.enter_context(witnessed_trail(store, install))
            records = store.records() if store.has_log() else None
            if records is not None:
                undo.callback(records.close)
            with progress_bar("Reading the log") as progress:
                people = records is not None and _people(store)
                source = Source(settings, time.time(), trail, records, id_time, authority.accounts, progress, people)
                made = _make(args, source, records, kek, store)
            text = as_json(made) if args.json else as_markdown(made)
            trail.append(
                AuditEvent.REPORT, authority.who, _told(args, authority), "made", source=authority.actor.source
            )
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(f"the report cannot be made: {error}") from None
    if args.out is None:
        print(text, end="")
    else:
        with WholeFile(args.out, force=True, status=1) as file:
            file.text.write(text)
            file.commit()
    return 0


def _make(args: argparse.Namespace, source: Source, records: Records | None, kek: Kek, store: Installation) -> Report:
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
    purge = store.purge()
    try:
        return retention(source, purge, held(source), _waiting(store))
    finally:
        purge.close()


def _people(store: Installation) -> bool:
    documents = store.documents()
    try:
        return bool(documents.all(OPERATOR))
    finally:
        documents.close()


def held(source: Source) -> list[Facts]:
    """The holds that protect now, without the numbers that they are about. VaultError, StoreError."""
    holds = open_holds(source.settings)
    try:
        return [
            {
                "hold": one.number,
                "state": one.state.value,
                "account": one.account or None,
                "of_a_number": bool(one.forms),
                "authority": free(one.authority),
                "reference": free(one.reference),
                "ends": at(one.ends),
                "records": holds.rows.count(one.number),
            }
            for one in holds.active()
            if source.seen(one.account)
        ]
    finally:
        holds.close()


def _waiting(store: Installation) -> Iterable[Facts]:
    for one in store.waiting_erasures():
        yield {
            "erasure": one.erasure,
            "records": one.records,
            "kept_by_hold": one.hold or None,
            "not_before": at(one.after) if one.after else None,
        }


def _breach(args: argparse.Namespace, source: Source, records: Records | None, kek: Kek) -> Report:
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
        file = undo.enter_context(WholeFile(args.ids, force=True, status=1)) if args.ids is not None else None

        def each(account: str, record_id: int) -> None:
            if file is not None:
                file.text.write(f"{account} {record_id:016x}\n")

        made = breach(
            source,
            args.since / 1000,
            args.until / 1000,
            accounts=accounts,
            who=args.by,
            account_of=whose,
            each=each,
        )
        if file is not None:
            file.commit()
        return made


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


def _days(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not int(text):
        raise argparse.ArgumentTypeError("must be a number of days from 1 to 99999")
    return int(text)
