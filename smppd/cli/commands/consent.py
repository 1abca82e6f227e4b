"""`smppd consent import|withdraw|check|show|export`: who agreed to what, when and how, and the proof of it.

Works beside a running daemon, which knows of each change when the command ends, and without one. Everything is on the audit
trail, numbers hashed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TextIO

from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.progress import progress
from smppd.cli.reason import why_of
from smppd.cli.whole_file import WholeFile
from smppd.consent.register import MOST
from smppd.consent.register_csv import BadLine, NoTable, read
from smppd.consent.register_proof import ANY, CLASSES
from smppd.control.wire import ControlError
from smppd.office.access import REASONS, printable
from smppd.office.consents import ConsentDesk, open_consents
from smppd.operators.roles import Act
from smppd.store.api import StoreError
from smppd.store.consents import ConsentRow
from smppd.vault.kek import VaultError
from smppd.vault.mask import mask_number

SHOWN: Final = 50
"""Bad lines that are named; of the rest the number is."""
CHUNK: Final = 500
"""Consents that are stored, and told to the daemon, at a time."""
_ACTS: Final = {
    "import": Act.CONSENT,
    "withdraw": Act.CONSENT,
    "check": Act.SEARCH,
    "show": Act.REVEAL,
    "export": Act.EXPORT,
}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "consent",
        help="who agreed to what: import, withdraw, check, show, export",
        description="The register of consents. Works beside a running daemon, and without one. Exit status: 0 done (check:"
        " there is a consent), 1 not all done (check, show, export: there is none; import: bad lines), 2 called wrongly or no"
        " store.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    imported = actions.add_parser(
        "import",
        help="consents from a CSV file; run again it goes on, and nothing is there twice",
        description="Columns: number, form (electronic or written), time (with its zone); account, ip (needed for electronic),"
        " browser, language, device, text (version of the words), guardian (yes or no), class (several with spaces; *),"
        " sender (*), evidence (needed for written). Bad lines are named by number and left out.",
    )
    imported.add_argument("file", type=Path, metavar="FILE", help="with a line of column names; - for standard input")
    imported.add_argument("--account", metavar="ID", help="of lines that name none")
    withdraw = actions.add_parser("withdraw", help="what this number agreed to counts no longer")
    check = actions.add_parser("check", help="whether there is a consent; says nothing of it")
    show = actions.add_parser("show", help="what is on record of a number")
    exported = actions.add_parser("export", help="the proof for one number, signed, as JSON")
    for one in (withdraw, check, show, exported):
        one.add_argument(
            "number", metavar="NUMBER", help="in international form, or as the account's country writes it"
        )
        one.add_argument("--account", required=True, metavar="ID", help="of which account")
    withdraw.add_argument("--note", required=True, metavar="TEXT", help="how or why; stands in the proof")
    check.add_argument(
        "--class", dest="message_class", default="promotional", choices=sorted(CLASSES), help="of message (promotional)"
    )
    check.add_argument("--sender", default=ANY, metavar="S", help="from this sender")
    for one in (show, exported):
        one.add_argument("--reason", required=True, choices=REASONS, help="why; goes on the audit trail")
        one.add_argument("--note", required=True, metavar="TEXT", help="the reason in words; digits are stored as ***")
    exported.add_argument("--out", type=Path, metavar="FILE", help="write it there, mode 0600")
    exported.add_argument("--force", action="store_true", help="replace FILE")
    for one in (imported, withdraw, check, show):
        add_json(one)
    for one in (imported, withdraw, check, show, exported):
        add_login(one)
        add_config(one)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `consent ACTION`; see the parser for the exit status."""
    settings = load_settings(args)
    authority = authorise(_ACTS[args.action], args, settings)
    if getattr(args, "note", "-").strip() == "":
        raise CommandError("--note must say it in words", 2)
    if args.account is not None and (
        not authority.sees(args.account) or args.account not in {one.system_id for one in settings.accounts}
    ):
        raise CommandError(f"there is no account {printable(args.account)}", 2)
    action = {"import": _import, "withdraw": _withdraw, "check": _check, "show": _show, "export": _export}
    try:
        with open_consents(settings, authority) as desk:
            return action[args.action](desk, args)
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(f"the register of consents cannot be reached: {error}", 2) from None
    except ControlError as error:
        raise CommandError(
            f"it is stored, and the running daemon could not be told: {error}; run the command again"
        ) from None


# -- import ------------------------------------------------------------------------------------------------------------


def _import(desk: ConsentDesk, args: argparse.Namespace) -> int:
    desk.note("import", {"file": "standard input" if str(args.file) == "-" else args.file.name}, "begun")
    if str(args.file) == "-":
        done = _Importing(desk, args).run(sys.stdin, 0)
    else:
        try:
            with args.file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                done = _Importing(desk, args).run(file, args.file.stat().st_size)
        except OSError as error:
            raise CommandError(f"{args.file} cannot be read: {error.strerror}", 2) from None
    desk.note("import", done.counts(), "done")
    if args.json:
        print(json.dumps({**done.counts(), "bad": [one._asdict() for one in done.bad]}))
    else:
        print(f"{done.good} consents read, {done.new} of them new; {done.wrong} bad lines.")
        for one in done.bad:
            say(f"{args.file}:{one.line}: {one.why}")
        if done.wrong > len(done.bad):
            say(f"and {done.wrong - len(done.bad)} more bad lines")
    return 1 if done.wrong else 0


class _Importing:
    """One import. Each chunk is durable, and known to the daemon, before the next is read."""

    def __init__(self, desk: ConsentDesk, args: argparse.Namespace) -> None:
        self._desk = desk
        self._account: str | None = args.account
        self.good = self.new = self.wrong = 0
        self.bad: list[BadLine] = []

    def counts(self) -> dict[str, str | int]:
        """The numbers."""
        return {"consents": self.good, "new": self.new, "bad_lines": self.wrong}

    def run(self, file: TextIO, size: int) -> _Importing:
        """Reads all of a file of so many octets, 0 for nobody knows."""
        desk = self._desk
        book, authority = desk.book, desk.authority
        accounts = {one.system_id for one in desk.settings.accounts if authority.sees(one.system_id)}
        region = book.region()
        room = MOST - book.rows.count()
        waiting: list[ConsentRow] = []
        counted = _Counted(file)
        try:
            with progress("Importing") as told:
                for one in read(counted, time.time(), self._account, accounts.__contains__, region):
                    if isinstance(one, BadLine):
                        self._note(one)
                        continue
                    try:
                        row = book.keys.row(one.consent, one.given, region(one.consent.account))
                    except (ValueError, OverflowError):
                        self._note(BadLine(one.line, "cannot be stored"))
                        continue
                    waiting.append(row)
                    if len(waiting) >= CHUNK:
                        self._store(waiting, room)
                        told(min(1.0, counted.octets / size) if size else 0.0)
        except NoTable as error:
            raise CommandError(str(error), 2) from None
        self._store(waiting, room)
        return self

    def _note(self, bad: BadLine) -> None:
        self.wrong += 1
        if len(self.bad) < SHOWN:
            self.bad.append(bad)

    def _store(self, rows: list[ConsentRow], room: int) -> None:
        if self.new + len(rows) > room:
            raise CommandError(
                f"the register has room for {MOST} consents, and no more; {self.new} new ones are stored"
            )
        if rows:
            self.new += self._desk.book.add(rows)
            self.good += len(rows)
            rows.clear()


class _Counted:
    """Lines of a file, with the octets that were read of it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.octets = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.octets += len(line)
            yield line


# -- one number --------------------------------------------------------------------------------------------------------


def _withdraw(desk: ConsentDesk, args: argparse.Namespace) -> int:
    count = desk.withdraw(args.account, args.number, args.note)
    if args.json:
        print(json.dumps({"withdrawn": count}))
    else:
        number = mask_number("+" + desk.number(args.account, args.number))
        print(f"{count} consents of {number} withdrawn." if count else "There was none; noted.")
    return 0


def _check(desk: ConsentDesk, args: argparse.Namespace) -> int:
    found = desk.check(args.account, args.number, args.message_class, args.sender)
    if args.json:
        print(json.dumps({"consent": found}))
    else:
        print("There is a consent on record." if found else "There is no consent on record.")
    return 0 if found else 1


def _show(desk: ConsentDesk, args: argparse.Namespace) -> int:
    found = desk.found(args.account, args.number, why_of(args), "show")
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for one in found:
        for name, value in one.items():
            text = " ".join(value) if isinstance(value, list) else str(value)
            if text:
                print(f"{name:<12}{printable(text)}")
        print()
    return 0


def _export(desk: ConsentDesk, args: argparse.Namespace) -> int:
    with ExitStack() as opened:
        file = opened.enter_context(WholeFile(args.out, force=args.force)) if args.out is not None else None
        out = sys.stdout if file is None else file.text
        out.write(desk.proof(args.account, args.number, why_of(args)))
        if file is not None:
            file.commit()
            say(f"The proof is in {args.out}.")
    return 0
