"""`smppd damaged list|show|remove`: what could not be handled, or does not open, and was set aside to stop
nothing else.

Works on the store's files, beside a running daemon too. A list has no content; `show` needs a reason and is on the audit trail
first, as every look at a message is; `remove` asks, and is on the trail too.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

from smppd.cli.authority import add_login, approver, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.reason import add_reason, why_of
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.message import Address
from smppd.office.access import Access, form_of, printable, region_of
from smppd.office.unlocking import source_kek, unlock, witnessed_trail
from smppd.operators.roles import Act, Authority
from smppd.protocol.text import Alphabet, decode, is_text
from smppd.protocol.wire import BodyError, Command, Sm
from smppd.records.looks import Shown
from smppd.relay.ledger.journal import HEAD
from smppd.relay.ledger.payload import StoredMessage, read_mail, read_parked
from smppd.store.api import StoreError
from smppd.store.damaged import Item, account_of
from smppd.store.opening import installation
from smppd.vault.kek import VaultError
from smppd.vault.keys import KeyRing
from smppd.vault.mask import mask_number

_UNREADABLE: Final = (BodyError, ValueError, IndexError, struct.error)
_OF_ACCOUNTS: Final = frozenset({"message", "mail", "cold message", "cold mail"})
"""Kinds of which the owner is an account. So it is of a frame with an id, which is mail."""
_SHOWN: Final = ("number", "kind", "of", "id", "place", "reason", "set_aside", "kept_until", "octets")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "damaged",
        help="list, show and remove what could not be handled and was set aside",
        description="List, show and remove what could not be handled, or does not open, and was set aside. The daemon may run."
        " Content is shown with --reveal and a reason only; each look and each removal is on the audit trail.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="all items, oldest first, without their content")
    show = actions.add_parser("show", help="one item; its content with --reveal")
    show.add_argument("number", type=int, metavar="N", help="the item's number in the list")
    add_reason(show)
    gone = actions.add_parser("remove", help="delete items for good")
    gone.add_argument("numbers", type=int, nargs="*", metavar="N", help="their numbers in the list")
    gone.add_argument("--all", action="store_true", help="all items")
    gone.add_argument("--yes", action="store_true", help="do not ask")
    for action in (listed, show, gone):
        add_login(action)
        add_json(action)
        add_config(action)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `damaged ACTION`; 0, 1 when an item named is not there or nothing was removed, 2 without a store."""
    settings = load_settings(args)
    if args.action == "show" and args.reveal and not args.note.strip():
        raise CommandError("--reveal needs --note: the reason in words", 2)
    reveal = args.action == "show" and args.reveal
    act = Act.PURGE if args.action == "remove" else Act.REVEAL if reveal else Act.SEARCH
    authority = authorise(act, args, settings)
    try:
        return {"list": _list, "show": _show, "remove": _remove}[args.action](settings, authority, args)
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(f"the damaged items cannot be reached: {error}", 2) from None


def _facts(item: Item) -> dict[str, Any]:
    return {
        "number": item.number,
        "kind": item.kind,
        "of": printable(account_of(item)),
        "id": f"{item.id & (1 << 64) - 1:016x}" if item.id else "",
        "place": item.place,
        "reason": printable(item.reason),
        "set_aside": _iso(item.at),
        "kept_until": _iso(item.until),
        "octets": item.octets,
    }


def _sees(authority: Authority, item: Item) -> bool:
    """Whether somebody may see an item. An account owner: only what is surely his account's, since an upstream may have the
    same name."""
    if authority.accounts is None:
        return True
    of_account = item.kind in _OF_ACCOUNTS or (item.kind == "frame" and item.id != 0)
    return of_account and authority.sees(account_of(item))


def _iso(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _list(settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    with closing(installation(settings).damaged(read_only=True)) as damaged:
        rows = [_facts(item) for item in damaged.items() if _sees(authority, item)]
    if args.json:
        print(json.dumps({"items": rows}, indent=2))
        return 0
    if rows:
        cells = [[name.replace("_", " ") for name in _SHOWN], *([str(row[name]) for name in _SHOWN] for row in rows)]
        widths = [max(len(line[at]) for line in cells) for at in range(len(_SHOWN))]
        for line in cells:
            print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    say(f"{len(rows)} items are set aside." if len(rows) != 1 else "1 item is set aside.")
    return 0


# -- show ------------------------------------------------------------------------------------------------------------


def _show(settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    with Access(settings, authority) as access, closing(access.store.damaged(read_only=True)) as damaged:
        item = next((item for item in damaged.items() if item.number == args.number), None)
        what: dict[str, str | int] = {"damaged": args.number}
        if item is not None and not _sees(authority, item):
            item = None  # looks exactly like one that is not there
            what["other_account"] = 1
        if item is not None and args.reveal and args.reason == "law":
            asked: dict[str, str | int] = {"damaged": args.number, "reason": args.reason}
            what["second"] = approver(authority, args, settings, "reveal", asked)
        data = None
        if item is not None:
            rows = access.store.read_only_keys()
            try:
                data = damaged.content(item.number, KeyRing(source_kek(settings), rows))
            finally:
                rows.close()
        result = "not found" if item is None else "revealed" if args.reveal else "masked"
        event = AuditEvent.REVEAL if args.reveal else AuditEvent.SHOW
        parties = () if item is None or data is None else _parties(settings, item, data)
        ids = [Shown(item.id & (1 << 64) - 1, parties)] if item is not None and (item.id or parties) else []
        access.record(event, why_of(args), what, ids, result)
        if item is None:
            raise CommandError(f"there is no item {args.number} (any more)")
    alphabets = {one.system_id: one.default_alphabet for one in settings.accounts}
    shown = _facts(item) | _content(item, data, args.reveal, alphabets.get(account_of(item), "gsm"))
    if args.json:
        print(json.dumps(shown, indent=2))
    else:
        for name, value in shown.items():
            if value != "":
                print(f"{name.replace('_', ' '):<12}  {value}")
    return 0


def _content(item: Item, data: bytes | None, reveal: bool, alphabet: str) -> dict[str, Any]:
    """What can be told of an item's content; whole numbers, text and octets only with `reveal`."""
    if data is None:
        return {"opens": "no: it was altered, or its key is gone"}
    shown: dict[str, Any] = {"opens": "yes"}
    try:
        shown |= _pdu(frame_of(item.kind, data), reveal, alphabet)
    except _UNREADABLE as error:
        shown["pdu"] = f"none that can be read ({type(error).__name__})"
    if reveal:
        shown["hexadecimal"] = data.hex()
    return shown


def _parties(settings: Settings, item: Item, data: bytes) -> tuple[bytes, ...]:
    """The numbers of both parties in normal form, as far as there is a PDU that can be read."""
    try:
        sm = Sm(frame_of(item.kind, data))
        both = [
            Address(sm.source_ton, sm.source_npi, bytes(sm.source_digits)),
            Address(sm.destination_ton, sm.destination_npi, bytes(sm.destination_digits)),
        ]
    except _UNREADABLE:
        return ()
    region = region_of(settings, account_of(item))
    return tuple(dict.fromkeys(form_of(one, region) for one in both))


def frame_of(kind: str, data: bytes) -> bytes:
    """The PDU in an item's content. Raises what the parsers raise where there is none."""
    if kind == "entry":
        entry = HEAD.unpack_from(data, 0)[0]
        return frame_of({1: "message", 7: "mail", 9: "parked"}.get(entry, ""), data[HEAD.size :])
    if kind in ("message", "cold message", "cold waiting"):
        return StoredMessage(0, data).frame
    if kind in ("mail", "cold mail"):
        return read_mail(data)[3]
    if kind == "parked":
        return read_parked(data)[2]
    if kind == "frame":
        return data
    raise ValueError("no PDU is in this kind of item")


def _pdu(frame: bytes, reveal: bool, alphabet: str) -> dict[str, Any]:
    sm = Sm(frame)
    names = {int(command): command.name.lower() for command in Command}
    shown: dict[str, Any] = {"pdu": names.get(sm.command, "unknown")}
    for name, digits in (("from", sm.source_digits), ("to", sm.destination_digits)):
        text = digits.decode("latin-1")
        shown[name] = printable(text if reveal else mask_number(text))
    shown["data_coding"] = sm.data_coding
    if reveal:
        default = {"gsm": Alphabet.GSM, "gsm_packed": Alphabet.GSM_PACKED, "latin1": Alphabet.LATIN1}
        if is_text(sm.data_coding):
            shown["text"] = printable(decode(sm.body, sm.data_coding, default.get(alphabet, Alphabet.ASCII)))
    return shown


# -- remove ----------------------------------------------------------------------------------------------------------


def _remove(settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    if bool(args.numbers) == args.all:
        raise CommandError("name the items' numbers, or --all", 2)
    store, install = installation(settings), unlock(settings).install
    with closing(store.damaged(read_only=False)) as damaged:
        present = {item.number for item in damaged.items()}
        wanted = sorted(present) if args.all else sorted(set(args.numbers))
        missing = [number for number in wanted if number not in present]
        if missing:
            raise CommandError(f"there is no item {', '.join(map(str, missing))} (any more); nothing was removed")
        if not wanted:
            return _removed(0, args)
        if not args.yes and not _sure(len(wanted)):
            raise CommandError("nothing was removed")
        with witnessed_trail(store, install) as trail:
            what: dict[str, str | int] = {"count": len(wanted), "items": " ".join(map(str, wanted))}
            facts = {"action": "remove", **what, **authority.facts}
            trail.append(AuditEvent.DAMAGED, authority.who, facts, "removed", source=authority.actor.source)
        count = damaged.remove(wanted)
    return _removed(count, args)


def _removed(count: int, args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps({"removed": count}))
    else:
        print(f"Removed {count} item{'s' * (count != 1)}.")
    return 0


def _sure(count: int) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("nobody can be asked here: --yes removes without asking", 2)
    say(f"Remove {count} item{'s' * (count != 1)} for good? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
