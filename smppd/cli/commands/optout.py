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
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from smppd.audit.trail import AuditTrail
from smppd.cli.access import printable, region_of
from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.progress import progress
from smppd.cli.unlocking import unlock, witnessed_trail
from smppd.cli.whole_file import WholeFile
from smppd.config import Account, Settings
from smppd.config.senders import SENDER_MAX
from smppd.consent.suppression import ANY, KEY_OCTETS, Hashes
from smppd.control.wire import ControlError
from smppd.daemon.opt_outs import CHANGES, change_register
from smppd.events import AuditEvent
from smppd.numbering import normalise
from smppd.operators.roles import Act, Authority
from smppd.records.looks import MONTH, LookKey, key_of
from smppd.store.api import OptOut, StoreError
from smppd.store.sqlite.keys import KeyStore
from smppd.store.sqlite.opt_outs import OptOutRows
from smppd.vault.kek import VaultError
from smppd.vault.mask import mask_digits

COLUMNS: Final = ("installation", "account", "sender", "key", "at", "source")
"""Of an export."""
SHOWN: Final = 50
"""Bad lines that are named; of the rest the number is."""
_ACTS: Final = {"remove": Act.OPT_IN, "check": Act.SEARCH}
_SOURCE: Final = 60
_LEAST, _LONGEST = 3, 20


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
        with _desk(settings, authority) as desk:
            return action[args.action](desk, args)
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(f"the opt-outs cannot be reached: {error}", 2) from None
    except ControlError as error:
        raise CommandError(str(error)) from None


class _Desk:
    """What every action works with."""

    def __init__(
        self, settings: Settings, authority: Authority, hashes: Hashes, trail: AuditTrail, key: LookKey
    ) -> None:
        self.settings = settings
        self.authority = authority
        self.hashes = hashes
        self._trail = trail
        self._key = key
        self.accounts = {one.system_id: one for one in settings.accounts if authority.sees(one.system_id)}

    @property
    def directory(self) -> Path:
        """The store's."""
        return self.settings.store.directory

    def account(self, name: str) -> Account:
        """An account that he may see. CommandError."""
        found = self.accounts.get(name)
        if found is None:
            raise CommandError(f"there is no account {printable(name)}", 2)
        return found

    def number(self, typed: str, account: Account) -> bytes:
        """A number in its normal form. CommandError, which does not repeat it."""
        number = number_of(typed, region_of(self.settings, account.system_id))
        if number is None:
            raise CommandError("this is no phone number", 2)
        return number

    def sender(self, typed: str | None, account: Account) -> bytes:
        """A sender in its normal form; `ANY` for none. CommandError for what no message can come from."""
        sender = sender_of(typed, region_of(self.settings, account.system_id))
        if len(sender) > SENDER_MAX:
            raise CommandError(f"a sender has {SENDER_MAX} octets at the most", 2)
        return sender

    def note(self, action: str, facts: dict[str, str | int], result: str, number: bytes | None = None) -> None:
        """Puts an entry on the trail. VaultError: then nothing may be done."""
        who, source = self.authority.who, self.authority.actor.source
        named: dict[str, str | int] = (
            {} if number is None else {"number": self._key.hash(number), MONTH: self._key.month}
        )
        facts = {"action": action, **facts, **named, **self.authority.facts}
        self._trail.append(AuditEvent.OPT_OUT, who, facts, result, source=source)

    def rows(self) -> OptOutRows:
        """The register as it is on disk."""
        return OptOutRows(self.directory)


@contextmanager
def _desk(settings: Settings, authority: Authority) -> Iterator[_Desk]:
    kek, install = unlock(settings)
    keys = KeyStore(settings.store.directory)
    try:
        key = key_of(kek, keys, time.time())
    finally:
        keys.close()
    with closing(witnessed_trail(settings.store.directory, install)) as trail:
        yield _Desk(settings, authority, Hashes(install.suppression), trail, key)


def number_of(typed: str, region: str | None) -> bytes | None:
    """The normal form of a number that somebody wrote; None for what is none."""
    try:
        number = normalise(typed.strip().encode("latin-1"), 0, 0, region)
    except UnicodeEncodeError:
        return None
    return number if number.isdigit() and _LEAST <= len(number) <= _LONGEST else None


def sender_of(typed: str | None, region: str | None) -> bytes:
    """The normal form of a sender, a number or a name; `ANY` for none and for `*`."""
    if typed is None or typed.strip() in ("", "*"):
        return ANY
    return normalise(typed.strip().encode("utf-8"), 0, 0, region)


# -- one number --------------------------------------------------------------------------------------------------------


def _add(desk: _Desk, args: argparse.Namespace) -> int:
    account = desk.account(args.account)
    number, sender = desk.number(args.number, account), desk.sender(args.sender, account)
    facts = {"account": account.system_id, "sender": desk.hashes.label(account.system_id, sender), "note": args.note}
    desk.note("add", dict(facts), "asked", number)
    change_register(desk.directory, [_entry(desk, account, sender, number, "command")])
    desk.note("add", dict(facts), "done", number)
    say(f"Opted out of {_from(args.sender, account)}.")
    return 0


def _remove(desk: _Desk, args: argparse.Namespace) -> int:
    account = desk.account(args.account)
    number = desk.number(args.number, account)
    senders = _senders(desk, args.sender, account)
    facts = {"account": account.system_id, "note": args.note}
    with desk.rows() as rows:
        keys = [desk.hashes.key(account.system_id, sender, number) for sender in senders]
        there = sum(1 for key in keys if rows.get(key) is not None)
    desk.note("remove", dict(facts), "asked", number)
    entries = [_entry(desk, account, sender, number, "command", stands=False) for sender in senders]
    for at in range(0, len(entries), CHANGES):
        change_register(desk.directory, entries[at : at + CHANGES])
    desk.note("remove", facts | {"entries": there}, "done" if there else "not found", number)
    say(f"{there} entries lifted." if there else "Nothing was lifted: it had not opted out.")
    _say_ranges(args, account)
    return 0 if there else 1


def _check(desk: _Desk, args: argparse.Namespace) -> int:
    account = desk.account(args.account)
    number = desk.number(args.number, account)
    senders = list(dict.fromkeys((ANY, *_senders(desk, args.sender, account))))
    with desk.rows() as rows:
        found = [
            one
            for sender in senders
            if (one := rows.get(desk.hashes.key(account.system_id, sender, number))) is not None
        ]
    desk.note("check", {"account": account.system_id}, "found" if found else "not found", number)
    if args.json:
        entries = [{"sender": one.sender, "at": _iso(one.at), "source": one.source} for one in found]
        print(json.dumps({"opted_out": bool(found), "entries": entries}, indent=2))
    else:
        for one in found:
            sender = "every sender" if one.sender == "*" else printable(one.sender)
            print(f"opted out  {sender}  {_iso(one.at)}  {printable(one.source)}")
        if not found:
            print("not opted out")
    _say_ranges(args, account)
    return 0 if found else 1


def _say_ranges(args: argparse.Namespace, account: Account) -> None:
    """Which senders were not asked: a hash cannot be made of a range."""
    if args.sender is None and any(number.endswith("*") for number in account.numbers):
        say(
            "Numbers of the account's ranges (`*`) and names were not looked at: give the one that is meant by --sender."
        )


def _senders(desk: _Desk, typed: str | None, account: Account) -> list[bytes]:
    """The sender that was named; without one every one that can be meant: any, and the account's own numbers."""
    sender = desk.sender(typed, account)
    if sender != ANY:
        return [sender]
    own = (desk.sender(number, account) for number in account.numbers if not number.endswith("*"))
    return list(dict.fromkeys((ANY, *own)))


def _entry(desk: _Desk, account: Account, sender: bytes, number: bytes, source: str, *, stands: bool = True) -> OptOut:
    name = account.system_id
    key, label = desk.hashes.key(name, sender, number), desk.hashes.label(name, sender)
    return OptOut(key, name, label, int(time.time()), source, stands)


def _from(sender: str | None, account: Account) -> str:
    return f"messages of {account.system_id}" + ("" if sender is None else " from this sender")


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- lists -------------------------------------------------------------------------------------------------------------


class _Read(NamedTuple):
    """What a file has. faults: (line, what is wrong), the first of them; bad: how many there are."""

    entries: list[OptOut]
    faults: list[tuple[int, str]]
    bad: int


def _import(desk: _Desk, args: argparse.Namespace) -> int:
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
            change_register(desk.directory, read.entries[at : at + CHANGES])
            bar(min(1.0, (at + CHANGES) / len(read.entries)))
    desk.note("import", facts, "done")
    say(f"{len(read.entries)} entries imported, {read.bad} lines left out.")
    return 1 if read.bad else 0


def _read(desk: _Desk, args: argparse.Namespace, file: TextIO) -> _Read:
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


def _row(desk: _Desk, args: argparse.Namespace, row: dict[str, str]) -> OptOut:
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


def _export(desk: _Desk, args: argparse.Namespace) -> int:
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


def _write(desk: _Desk, args: argparse.Namespace, out: TextIO) -> int:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    number = 0
    with desk.rows() as rows:
        for one in rows.all():
            if (args.account and one.account != args.account) or not desk.authority.sees(one.account):
                continue
            number += 1
            writer.writerow((desk.hashes.mark, one.account, one.sender, one.key.hex(), _iso(one.at), one.source))
    return number


# -- review ------------------------------------------------------------------------------------------------------------


def _review(desk: _Desk, args: argparse.Namespace) -> int:
    with desk.rows() as rows:
        waiting = {one.record: one for one in rows.doubts() if desk.authority.sees(one.account)}
    if not (args.suppress or args.dismiss):
        shown = [
            {"record": f"{one.record:016x}", "account": one.account, "sender": one.sender, "at": _iso(one.at)}
            for one in waiting.values()
        ]
        if args.json:
            print(json.dumps({"waiting": shown}, indent=2))
        else:
            for line in shown:
                print("  ".join(line.values()))
            say(f"{len(shown)} wait. `smppd log show RECORD --reveal` shows one; then --suppress or --dismiss it.")
        return 0
    refused, none = _records(args.suppress), _records(args.dismiss)
    missing = [record for record in (*refused, *none) if record not in waiting]
    if missing:
        raise CommandError(f"{missing[0]:016x} does not wait for anybody", 1)
    facts: dict[str, str | int] = {
        "suppress": " ".join(f"{record:016x}" for record in refused),
        "dismiss": " ".join(f"{record:016x}" for record in none),
    }
    desk.note("review", dict(facts), "asked")
    now = int(time.time())
    for record in refused:
        one = waiting[record]
        change_register(desk.directory, [OptOut(one.key, one.account, one.sender, now, "review")], [record])
    for at in range(0, len(none), CHANGES):
        change_register(desk.directory, [], none[at : at + CHANGES])
    desk.note("review", facts, "done")
    say(f"{len(refused)} suppressed, {len(none)} dismissed.")
    return 0


def _records(typed: Sequence[str]) -> list[int]:
    try:
        return list(dict.fromkeys(int(one, 16) for one in typed))
    except ValueError:
        raise CommandError("a record has an id of 16 hexadecimal digits", 2) from None
