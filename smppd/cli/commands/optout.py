"""`smppd optout add|remove|check|import|export|review`: who wants no messages.

Only keyed hashes are kept, so an export gives no number back; it can be imported again on the same installation. What changes
goes through the running daemon, or where none runs into the store. All of it is on the audit trail, numbers hashed.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.progress import progress
from smppd.cli.whole_file import WholeFile
from smppd.config.senders import SENDER_MAX
from smppd.consent.suppression import KEY_OCTETS
from smppd.control.wire import CHANGES, ControlError
from smppd.office.access import printable, region_of
from smppd.office.opt_outs import OptOuts, change_register, number_of, open_opt_outs, sender_of
from smppd.office.opt_outs import at as iso
from smppd.operators.roles import Act
from smppd.store.api import OptOut, StoreError
from smppd.vault.kek import VaultError
from smppd.vault.mask import mask_digits

COLUMNS: Final = ("installation", "account", "sender", "key", "at", "source")
"""Of an export."""
SHOWN: Final = 50
"""Bad lines that are named; of the rest the number is."""
_ACTS: Final = {"remove": Act.OPT_IN, "check": Act.SEARCH}
_SOURCE: Final = 60


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "optout",
        help="who wants no messages: add, remove, check, import, export, review",
        description="Who wants no messages from an account, or from one of its senders. Only keyed hashes of numbers are"
        " kept: they can be asked for and not be listed. Works beside a running daemon, and without one. Exit status: 0 done"
        " (check: opted out), 1 not done (check: not opted out; import: bad lines), 2 called wrongly or no store.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="this number wants no messages any more")
    remove = actions.add_parser("remove", help="this number wants messages again")
    check = actions.add_parser("check", help="whether a number has opted out")
    for one in (add, remove, check):
        one.add_argument(
            "number", metavar="NUMBER", help="in international form, or as the account's country writes it"
        )
        one.add_argument("--account", required=True, metavar="ID", help="of which account")
        one.add_argument("--sender", metavar="S", help="from this sender; without it from every sender of the account")
    for one in (add, remove):
        one.add_argument("--note", default="", metavar="TEXT", help="why, for the audit trail")
    imported = actions.add_parser("import", help="numbers, or an export of this installation, from a CSV file")
    imported.add_argument("file", type=Path, metavar="FILE", help="with a line of column names; - for standard input")
    imported.add_argument("--account", metavar="ID", help="of lines that name none")
    imported.add_argument("--sender", metavar="S", help="of lines that name none; without it every sender")
    imported.add_argument("--skip-bad", action="store_true", help="import the good lines though others are bad")
    exported = actions.add_parser("export", help="all entries as CSV: hashes, no numbers")
    exported.add_argument("--account", metavar="ID", help="of this account alone")
    exported.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output; mode 0600")
    review = actions.add_parser("review", help="messages of handsets that look like a refusal")
    review.add_argument("--suppress", nargs="+", default=[], metavar="RECORD", help="these were refusals")
    review.add_argument("--dismiss", nargs="+", default=[], metavar="RECORD", help="these were none")
    for one in (check, review):
        add_json(one)
    for one in (add, remove, check, imported, exported, review):
        add_login(one)
        add_config(one)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `optout ACTION`; see the parser for the exit status."""
    settings = load_settings(args)
    act = _ACTS.get(args.action, Act.OPT_OUT)
    if args.action == "review" and not (args.suppress or args.dismiss):
        act = Act.SEARCH
    authority = authorise(act, args, settings)
    action = {"add": _add, "remove": _remove, "check": _check, "import": _import, "export": _export, "review": _review}
    try:
        with open_opt_outs(settings, authority) as desk:
            return action[args.action](desk, args)
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(f"the opt-outs cannot be reached: {error}", 2) from None
    except ControlError as error:
        raise CommandError(str(error)) from None


# -- one number --------------------------------------------------------------------------------------------------------


def _add(desk: OptOuts, args: argparse.Namespace) -> int:
    desk.add(args.account, args.number, args.sender, args.note, "command")
    say(f"Opted out of messages of {args.account}{'' if args.sender is None else ' from this sender'}.")
    return 0


def _remove(desk: OptOuts, args: argparse.Namespace) -> int:
    there, ranges = desk.remove(args.account, args.number, args.sender, args.note, "command")
    say(f"{there} entries lifted." if there else "Nothing was lifted: it had not opted out.")
    _say_ranges(ranges)
    return 0 if there else 1


def _check(desk: OptOuts, args: argparse.Namespace) -> int:
    found, ranges = desk.check(args.account, args.number, args.sender)
    if args.json:
        entries = [{"sender": one.sender, "at": iso(one.at), "source": one.source} for one in found]
        print(json.dumps({"opted_out": bool(found), "entries": entries}, indent=2))
    else:
        for one in found:
            sender = "every sender" if one.sender == "*" else printable(one.sender)
            print(f"opted out  {sender}  {iso(one.at)}  {printable(one.source)}")
        if not found:
            print("not opted out")
    _say_ranges(ranges)
    return 0 if found else 1


def _say_ranges(ranges: bool) -> None:
    if ranges:
        say(
            "Numbers of the account's ranges (`*`) and names were not looked at: give the one that is meant by --sender."
        )


# -- lists -------------------------------------------------------------------------------------------------------------


class _Read(NamedTuple):
    """What a file has. faults: (line, what is wrong), the first of them; bad: how many there are."""

    entries: list[OptOut]
    faults: list[tuple[int, str]]
    bad: int


def _import(desk: OptOuts, args: argparse.Namespace) -> int:
    name = "standard input" if str(args.file) == "-" else str(args.file)
    try:
        if str(args.file) == "-":
            read = _read(desk, args, sys.stdin)
        else:
            with args.file.open(encoding="utf-8-sig", newline="") as file:
                read = _read(desk, args, file)
    except UnicodeDecodeError:
        raise CommandError(f"{name}: it is no text in UTF-8", 2) from None
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}", 2) from None
    for line, fault in read.faults:
        say(f"{name}:{line}: {fault}")
    if read.bad > len(read.faults):
        say(f"{name}: and {read.bad - len(read.faults)} more bad lines")
    if read.bad and not args.skip_bad:
        say(f"Nothing was imported: {read.bad} bad lines, {len(read.entries)} good ones (--skip-bad imports these).")
        return 1
    facts: dict[str, str | int] = {"entries": len(read.entries), "bad": read.bad}
    if args.account:
        facts["account"] = args.account
    desk.note("import", dict(facts), "asked")
    with progress("Importing") as bar:
        for at in range(0, len(read.entries), CHANGES):
            change_register(desk.store, read.entries[at : at + CHANGES])
            bar(min(1.0, (at + CHANGES) / len(read.entries)))
    desk.note("import", facts, "done")
    say(f"{len(read.entries)} entries imported, {read.bad} lines left out.")
    return 1 if read.bad else 0


def _read(desk: OptOuts, args: argparse.Namespace, file: TextIO) -> _Read:
    first = file.readline()
    try:
        columns = [name.strip().lower() for name in _values(first)]
    except ValueError:
        columns = []
    if not {"number", "key"} & set(columns):
        raise CommandError("the first line has to name the columns, `number` or `key` among them", 2)
    entries: dict[bytes, OptOut] = {}
    faults: list[tuple[int, str]] = []
    bad = 0
    for number, line in enumerate(file, 2):
        try:
            values = _values(line)
            if not values:
                continue
            if len(values) > len(columns):
                raise ValueError("more values than columns")
            one = _row(desk, args, dict(zip(columns, values, strict=False)))
            entries[one.key] = one
        except ValueError as error:
            bad += 1
            if len(faults) < SHOWN:
                faults.append((number, str(error)))
    return _Read(list(entries.values()), faults, bad)


def _values(line: str) -> list[str]:
    """What stands in a line; each is read by itself, since a quotation mark that is never closed would hide all lines up to the
    next one. ValueError where it is no CSV."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        raise ValueError("no line of a CSV file") from None


def _row(desk: OptOuts, args: argparse.Namespace, row: dict[str, str]) -> OptOut:
    """The entry of a line. ValueError says what is wrong with it, and repeats nothing of it."""

    def value(column: str) -> str:
        return row.get(column, "").strip()

    name = value("account") or args.account or ""
    account = desk.accounts.get(name)
    if account is None:
        raise ValueError("no account of this configuration" if name else "no account: name one, or give --account")
    at = _time(value("at"))
    source = mask_digits(value("source"))[:_SOURCE] or "import"
    if value("key"):
        if value("installation") != desk.hashes.mark:
            raise ValueError("a key of another installation, which means nobody here")
        try:
            key = bytes.fromhex(value("key"))
        except ValueError:
            key = b""
        if len(key) != KEY_OCTETS or not value("sender"):
            raise ValueError("no key as an export has it")
        return OptOut(key, name, value("sender")[:_SOURCE], at, source)
    region = region_of(desk.settings, name)
    number = number_of(value("number"), region)
    if number is None:
        raise ValueError("no phone number")
    sender = sender_of(value("sender") or args.sender, region)
    if len(sender) > SENDER_MAX:
        raise ValueError(f"a sender of more than {SENDER_MAX} octets")
    return OptOut(desk.hashes.key(name, sender, number), name, desk.hashes.label(name, sender), at, source)


def _time(text: str) -> int:
    if not text:
        return int(time.time())
    try:
        when = datetime.fromisoformat(text)
        seconds = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        raise ValueError("no time, such as 2026-11-30T09:00:00Z") from None
    if not 0 <= seconds <= time.time() + 86400:
        raise ValueError("a time that has not been")
    return seconds


def _export(desk: OptOuts, args: argparse.Namespace) -> int:
    if args.account:
        desk.account(args.account)
    facts: dict[str, str | int] = {"account": args.account} if args.account else {}
    desk.note("export", dict(facts), "asked")
    if args.output is None:
        number = _write(desk, args, sys.stdout)
    else:
        with WholeFile(args.output) as whole:
            number = _write(desk, args, whole.text)
            whole.commit()
    desk.note("export", facts | {"entries": number}, "done")
    say(f"{number} entries. They name nobody: what is kept of a number is a keyed hash.")
    return 0


def _write(desk: OptOuts, args: argparse.Namespace, out: TextIO) -> int:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    number = 0
    with closing(desk.rows()) as rows:
        for one in rows.all():
            if (args.account and one.account != args.account) or not desk.authority.sees(one.account):
                continue
            number += 1
            writer.writerow((desk.hashes.mark, one.account, one.sender, one.key.hex(), iso(one.at), one.source))
    return number


# -- review ------------------------------------------------------------------------------------------------------------


def _review(desk: OptOuts, args: argparse.Namespace) -> int:
    if not (args.suppress or args.dismiss):
        shown = [
            {"record": f"{one.record:016x}", "account": one.account, "sender": one.sender, "at": iso(one.at)}
            for one in desk.doubts()
        ]
        if args.json:
            print(json.dumps({"waiting": shown}, indent=2))
        else:
            for line in shown:
                print("  ".join(line.values()))
            say(f"{len(shown)} wait. `smppd log show RECORD --reveal` shows one; then --suppress or --dismiss it.")
        return 0
    refused, none = _records(args.suppress), _records(args.dismiss)
    desk.decide(refused, none)
    say(f"{len(refused)} suppressed, {len(none)} dismissed.")
    return 0


def _records(typed: Sequence[str]) -> list[int]:
    try:
        return list(dict.fromkeys(int(one, 16) for one in typed))
    except ValueError:
        raise CommandError("a record has an id of 16 hexadecimal digits", 2) from None
