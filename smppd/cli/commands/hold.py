"""`smppd hold add|list|show|release|bundle|open`: keeps records from being destroyed because the law demands it, and hands
them over.

Adding and releasing need two people. A hold protects from the moment it is asked for. Everything is on the audit trail first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress

from smppd import __version__
from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.message import BESIDE, FINAL_STATES, State
from smppd.office.access import Access, Why, addresses_of, guarded, printable
from smppd.office.holding import Order, as_dict, asked_for, iso, one_of, open_hold_desk, open_holds, sees
from smppd.office.unlocking import unlock
from smppd.operators.roles import Act, Authority
from smppd.records.capture import Capture, gather
from smppd.records.evidence import write
from smppd.records.holds import PENDING, Hold, Holds, HoldState
from smppd.records.looks import Shown
from smppd.records.lookup import Found
from smppd.records.opening import open_bundle
from smppd.vault.bundle import SealedWriter, fingerprint, read_private, read_public
from smppd.vault.kek import VaultError
from smppd.vault.mask import mask_number
from smppd.vault.seal import SealError

_PAGE: Final = 200
_KEY_FILE: Final = 65536


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("hold", help="keep records from being destroyed, and hand them over")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "add", help="keep what there is, and what comes, of a number, an account, or a number within an account"
    )
    add.add_argument("--number", metavar="N", help="+44 7700 900123, a short code, or an alphanumeric sender")
    add.add_argument("--account", metavar="A", help="only this account; without --number all of it")
    add.add_argument(
        "--since", type=_moment, default=0.0, metavar="T", help="accepted from then on: ISO date or time (UTC)"
    )
    add.add_argument("--until", type=_moment, metavar="T", help="likewise; not included (default: without end)")
    add.add_argument("--region", metavar="CC", help="country of a national number, for example GB")
    add.add_argument(
        "--also-national",
        action="store_true",
        help="also messages to or from its national digits, which may be another subscriber's in another country",
    )
    add.add_argument("--authority", required=True, metavar="TEXT", help="who demands it")
    add.add_argument("--reference", required=True, metavar="TEXT", help="in which matter: the order's number and date")
    add.add_argument(
        "--expires", required=True, type=_moment, metavar="DATE", help="when it ends by itself: ten years at most"
    )
    listing = actions.add_parser("list", help="all holds, those that have ended within a year too")
    show = actions.add_parser("show", help="one hold: its facts, and how many records it keeps")
    release = actions.add_parser("release", help="end a hold: what only it kept dies")
    bundle = actions.add_parser("bundle", help="write what a hold keeps into a file sealed to the authority's key")
    bundle.add_argument("--to", required=True, type=Path, metavar="PUBLIC_KEY_FILE", help="X25519, PEM form")
    bundle.add_argument("--out", required=True, type=Path, metavar="FILE", help="the bundle; must not exist")
    for action in (show, release, bundle):
        action.add_argument("id", metavar="ID", type=_number, help="the hold's number (`hold list`)")
    for action in (listing, show):
        add_json(action)
    for action in (add, listing, show, release, bundle):
        add_login(action)
        add_config(action)
    opening = actions.add_parser("open", help="for the authority: open and verify a bundle; needs no store")
    opening.add_argument("bundle", type=Path, metavar="BUNDLE")
    opening.add_argument("--key", required=True, type=Path, metavar="FILE", help="the X25519 private key, PEM form")
    opening.add_argument("--out", required=True, type=Path, metavar="DIR", help="new, or empty")
    add_config(opening)  # not read: so that every command takes it
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `hold ACTION`; 0, 1 when it failed or a bundle does not verify, 2 called wrongly, 3 when another person has to
    agree."""
    if args.action == "open":
        return _open(args)
    settings = load_settings(args)
    authority = authorise(Act.HOLD, args, settings)
    actions = {"add": _add, "list": _list, "show": _show, "release": _release, "bundle": _bundle}
    with guarded():
        return actions[args.action](settings, args, authority)


def _moment(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError("not an ISO date or time") from None


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError("must be a hold's number")
    return int(text)


# -- add and release ---------------------------------------------------------------------------------------------------


def _add(settings: Settings, args: argparse.Namespace, authority: Authority) -> int:
    order = Order(
        args.number,
        args.account,
        args.since,
        args.until,
        args.region,
        args.also_national,
        args.authority,
        args.reference,
        args.expires,
    )
    hold = asked_for(settings, order, authority, time.time())
    with open_hold_desk(settings, authority) as desk:
        hold = desk.ask(hold)  # or the one that was asked for before: it goes on
        refused: CommandError | None = None
        try:
            if hold.state is HoldState.ACTIVE:
                return _active(hold, _gathered(desk.access, desk.holds, hold))
            hold = desk.activate(hold)
        except CommandError as error:
            refused = error
        count = _gathered(desk.access, desk.holds, hold)
        if refused is not None:
            ends = iso(min(hold.ends, hold.added + PENDING))
            say(f"Hold {hold.number} is pending: it keeps {count} records, and what comes, until {ends} at the latest.")
            raise refused
    return _active(hold, count)


def _active(hold: Hold, count: int) -> int:
    print(f"Hold {hold.number} is active until {iso(hold.expires)}: it keeps {count} records, and what comes.")
    return 0


def _release(settings: Settings, args: argparse.Namespace, authority: Authority) -> int:
    with open_hold_desk(settings, authority) as desk:
        hold = desk.release(args.id)
    print(f"Hold {hold.number} is released: what only it kept cannot be opened any more.")
    say("The rows go with the daemon's next purge, within the hour, or with `smppd purge`.")
    return 0


def _gathered(access: Access, holds: Holds, hold: Hold) -> int:
    """Gathers what a hold covers; how many records it keeps then."""
    records = access.store.records()
    try:
        capture = Capture(holds, records)
        with _bar("Gathering", 1.0) as progress:
            gather(capture, hold, progress)
    finally:
        records.close()
    if capture.damaged:
        say(f"{len(capture.damaged)} records were altered and cannot be held: run `smppd log verify`.")
    return holds.rows.count(hold.number)


@contextmanager
def _holds(settings: Settings) -> Iterator[Holds]:
    holds = open_holds(settings)
    try:
        yield holds
    finally:
        holds.close()


# -- list and show -----------------------------------------------------------------------------------------------------


def _list(settings: Settings, args: argparse.Namespace, authority: Authority) -> int:
    with _holds(settings) as holds:
        listed = [one for one in holds.all() if sees(one, authority)]
    if args.json:
        print(json.dumps({"holds": [as_dict(one) for one in listed]}, indent=2))
        return 0
    for one in listed:
        scope = [mask_number(one.forms[0].decode("utf-8", "replace"))] if one.forms else []
        scope += [f"account {one.account}"] if one.account else []
        said = f"until {iso(one.ends)}" if one.lives else f"since {iso(one.ended)}"
        print(
            f"{one.number:>4}  {one.state:<8}  {said}  {' in '.join(scope)}  {one.authority}, {one.reference}".rstrip()
        )
    protect = sum(one.lives for one in listed)
    say(f"{protect} hold{' protects' if protect == 1 else 's protect'}, {len(listed)} listed.")
    return 0


def _show(settings: Settings, args: argparse.Namespace, authority: Authority) -> int:
    with _holds(settings) as holds:
        hold = one_of(holds, args.id, authority)
        facts = as_dict(hold) | {"records": holds.rows.count(hold.number) if hold.lives else 0}
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    for name, value in facts.items():
        if value not in (None, "", []):
            print(f"{name.replace('_', ' '):<10}  {', '.join(value) if isinstance(value, list) else value}")
    return 0


# -- evidence ----------------------------------------------------------------------------------------------------------


def _bundle(settings: Settings, args: argparse.Namespace, authority: Authority) -> int:
    try:
        to = read_public(_small(args.to))
    except (VaultError, OSError) as error:
        raise CommandError(f"{args.to}: {getattr(error, 'strerror', None) or error}", 2) from None
    if args.out.exists():
        raise CommandError(f"{args.out}: there is a file already", 2)
    made_for = fingerprint(to)
    with Access(settings, authority) as access, _holds(settings) as holds:
        hold = one_of(holds, args.id, authority)
        if not hold.lives:
            raise CommandError(f"hold {hold.number} is {hold.state}: nothing is kept of it")
        count = _gathered(access, holds, hold)
        if not count:
            raise CommandError(f"hold {hold.number} keeps no records")
        install = unlock(settings).install
        facts: dict[str, str | int] = {"hold": hold.number, "authority": hold.authority, "key": made_for}
        access.record(AuditEvent.EVIDENCE, Why("law", hold.reference), facts, _shown(access, hold), "sealed")
        fresh = args.out.with_name(args.out.name + ".new")
        try:
            fresh.unlink(missing_ok=True)  # of one that was killed
            handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(handle, "wb") as file, _bar("Writing", count) as progress:
                made = write(
                    SealedWriter(file, to),
                    access.reader,
                    hold,
                    holds.parts,
                    lambda found: _describe(access, found),
                    access.chain_keys,
                    install.checkpoint,
                    made_for,
                    time.time(),
                    __version__,
                    progress,
                )
                file.flush()
                os.fsync(handle)
            os.rename(fresh, args.out)
        except OSError as error:
            raise CommandError(f"{args.out}: {error.strerror or error}") from None
        finally:
            fresh.unlink(missing_ok=True)
    print(f"{args.out}: {made.records} records of hold {hold.number}, sealed to the key {made_for}.")
    if made.unsealed:
        say(f"{made.unsealed} rows are behind the last checkpoint: a bundle made in a minute has them under one.")
    if made.faults:
        say(f"{len(made.faults)} things do not fit, the bundle says which: {made.faults[0]}. Run `smppd log verify`.")
        return 1
    return 0


def _shown(access: Access, hold: Hold) -> Iterator[Shown]:
    """What a bundle shows of whom."""
    after = 0
    while page := access.reader.records.held.page(hold.number, after, _PAGE):
        for row in page:
            found = access.reader.record(row.record)
            yield Shown(row.record) if found is None else access.shown(found)
        after = page[-1].record


def _describe(access: Access, found: Found) -> dict[str, Any]:
    """A record as the bundle has it: everything, nothing masked."""
    record, header = found.record, found.record.header
    events = access.reader.events(header.record_id)
    final = [event for event in events if event.state in FINAL_STATES] or [
        event for event in events if event.state not in BESIDE
    ]
    said: dict[str, Any] = {
        "id": f"{header.record_id:016x}",
        "time": iso(header.accepted_ms / 1000),
        "account": header.account,
        "direction": header.direction.name,
        "from": None,
        "to": None,
        "state": _state(final[-1].state) if final else State.STORED.name,
        "parts": header.parts,
        "data_coding": header.data_coding,
    }
    if record.numbers is not None:
        for name, address in zip(("from", "to"), addresses_of(record.numbers), strict=True):
            said[name] = address.digits.decode("latin-1")
            said[f"{name}_ton_npi"] = [address.ton, address.npi]
        ip = record.numbers.ip
        said["customer_ip"] = ".".join(map(str, ip)) if len(ip) == 4 else ip.hex(":", 2) or None
    shown = access.text(record)
    said |= {"text": shown.text, "text_remark": shown.remark or None}
    if record.content_hash is not None:
        said["text_hash"] = record.content_hash.hex()
    said["events"] = [
        {
            "time": iso(event.time / 1000),
            "state": _state(event.state),
            "error": event.error,
            "upstream": event.upstream,
            "upstream_id": event.upstream_id.decode("latin-1"),
            "possible_duplicate": event.duplicate,
        }
        for event in events
    ]
    return said


def _state(state: int) -> str:
    try:
        return State(state).name
    except ValueError:
        return f"state {state}"


def _open(args: argparse.Namespace) -> int:
    try:
        key = read_private(_small(args.key))
        if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
            raise CommandError(f"{args.out}: there is something already", 2)
        with args.bundle.open("rb") as file, _bar("Opening", args.bundle.stat().st_size) as progress:
            opened = open_bundle(file, key, args.out, progress)
    except OSError as error:
        raise CommandError(f"{error.filename or args.bundle}: {error.strerror or error}", 2) from None
    except SealError as error:
        raise CommandError(f"{args.bundle}: {error}; nothing was written") from None
    except VaultError as error:
        raise CommandError(f"{args.key}: {error}", 2) from None
    facts = opened.facts
    print(f"{args.out}: {opened.records} records of hold {facts.get('hold')}, made {facts.get('made')}.")
    print(f"Signed by the installation with the key {opened.key}: compare it with what its operator says.")
    own = facts.get("faults") or []
    faults = [*opened.faults, *(f"said when it was made: {one}" for one in own)]
    for fault in faults[:20]:
        say(f"Does not fit: {printable(str(fault))}")
    if faults:
        raise CommandError(f"{len(faults)} things in the bundle do not fit")
    print("Every record says what is sealed in it and is the one in the log's row; the checkpoints are signed.")
    print("Begin with index.html.")
    return 0


def _small(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_KEY_FILE)


# -- the rest ----------------------------------------------------------------------------------------------------------


@contextmanager
def _bar(title: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar on standard error when a person is there to see it, once it takes more than a moment."""
    began = time.monotonic()
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, visible=False)
        yield lambda done: bar.update(task, completed=done, visible=time.monotonic() - began > 0.5)
