"""`smppd subject export NUMBER`: everything about one phone number, for the person it belongs to (GDPR 15).

Records and what is on its way, as JSON, as a page to read or as lines. Other people's numbers are hidden. What is given is on
the audit trail first, some thousand records at a time, so a log of any size goes through bounded memory. A file is whole or not
there.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

from smppd import __version__
from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.export_forms import Form, JsonForm, LinesForm, PageForm
from smppd.cli.numbers import typed_of
from smppd.cli.progress import progress
from smppd.cli.reason import why_of
from smppd.cli.underway import Journal, OnItsWay, holds_nothing, read_thing, receipt_text
from smppd.cli.whole_file import WholeFile
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.ids import id_time
from smppd.message import Address
from smppd.office.access import BINARY, REASONS, Access, addresses_of, guarded, printable, text_of_sm
from smppd.office.consents import ConsentBook, Entry, entry_facts
from smppd.office.numbers import forms_of_search, regions_of_search, without_number
from smppd.office.unlocking import unlock
from smppd.operators.roles import Act, Authority
from smppd.policy.content import part_of
from smppd.protocol.text import decode
from smppd.protocol.wire import BodyError, Sm
from smppd.records.export import Exported, Exporter, Reading, Subject, iso
from smppd.records.looks import Shown
from smppd.records.search import accounts as known_accounts
from smppd.records.underway import Thing, Unread, find
from smppd.vault.mask import mask_number
from smppd.vault.seal import Content, OpenRecord, SealError, join_pdu

CHUNK: Final = 2000
"""Records that are put on the trail, and then given, at a time."""

_NO_BINARY: Final = "binary, {} octets; left out, since other people's numbers cannot be found in it"
_STILL_THERE: Final = "; the text of what is on its way is there still, see under_way"


def register_export(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action to the command line."""
    parser = actions.add_parser(
        "export",
        help="everything about one phone number, for the person it belongs to; 1 when there is nothing",
        description="Export everything about one phone number: all records from or to it, and what is on its way. Other"
        " people's phone numbers are hidden. Needs a reason; what is given is on the audit trail first.",
    )
    parser.add_argument("number", metavar="NUMBER", help="+44 7700 900123, in any notation")
    parser.add_argument("--account", action="append", metavar="A", help="only this account; may be repeated")
    parser.add_argument(
        "--region",
        metavar="CC",
        help="country of a national number, for example GB (default: the configuration's regions)",
    )
    parser.add_argument(
        "--also-national",
        action="store_true",
        help="also what stands under the number's national digits, which in another country are another person's number",
    )
    parser.add_argument("--reason", required=True, choices=REASONS, help="why; goes on the audit trail")
    parser.add_argument(
        "--note",
        required=True,
        metavar="TEXT",
        help="the reason in words, the request's reference; kept for ever, so runs of 5 or more digits are stored as ***",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write it there, mode 0600: .json, or .html for a page to read"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE")
    add_login(parser)
    add_json(parser)
    add_config(parser)


def run_export(args: argparse.Namespace) -> int:
    """Run `subject export`; 0, 1 when nothing was found, 2 without a store or when it was called wrongly."""
    settings = load_settings(args)
    authority = authorise(Act.EXPORT, args, settings)
    if not args.note.strip():
        raise CommandError("--note must say the reason in words", 2)
    if args.out is not None and args.out.suffix.lower() not in (".json", ".html"):
        raise CommandError("--out must end in .json, or in .html for a page to read", 2)
    accounts = _accounts(args, authority)
    with ExitStack() as opened:
        file = opened.enter_context(WholeFile(args.out, force=args.force)) if args.out is not None else None
        access = opened.enter_context(Access(settings, authority))
        opened.enter_context(guarded())
        export = _Export(access, args, authority, accounts, sys.stdout if file is None else file.text)
        export.run()
        if file is not None:
            file.commit()
        export.tell()
    return 0


def _accounts(args: argparse.Namespace, authority: Authority) -> list[str] | None:
    """The accounts that are looked through; None for all."""
    asked: list[str] | None = args.account
    if authority.accounts is None:
        return asked
    others = sorted(set(asked or ()) - authority.accounts)
    if others:
        raise CommandError(f"you may not see account {printable(others[0])}")
    return sorted(asked or authority.accounts)


class _Export:
    """One export."""

    def __init__(
        self,
        access: Access,
        args: argparse.Namespace,
        authority: Authority,
        accounts: list[str] | None,
        out: TextIO,
    ) -> None:
        settings = access.settings
        self._access = access
        self._args = args
        self._authority = authority
        self._accounts = accounts
        regions = regions_of_search(settings, typed_of(args))
        forms = forms_of_search(regions, typed_of(args))
        if not any(form.isdigit() for form in forms.exact):
            raise CommandError("give a phone number: a sender's name is no person's", 2)
        self._typed = args.number
        args.note = without_number(args.note, forms)
        self._subject = Subject(forms, args.also_national)
        every = [
            settings.region,
            *(one.region for one in settings.upstreams),
            *(one.region for one in settings.accounts),
        ]
        self._regions = tuple(dict.fromkeys((None, *every)))
        page = args.out is not None and args.out.suffix.lower() == ".html"
        made: type[Form] = PageForm if page else JsonForm if args.json or args.out is not None else LinesForm
        self._form = made(out)
        self._exporter = Exporter(access.reader, self._subject, Reading(addresses_of, self._text))
        self._unread = Unread()
        self._told = False
        self._on_its_way: set[int] = set()
        self._counts = {"records": 0, "under_way": 0, "consents": 0}

    # -- the whole -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Goes through all of it. CommandError when there is nothing."""
        # First what may be over, and with it its text, a moment later.
        for some in _chunks(self._underway()):
            self._give("under_way", [record or identity for identity, record, _facts in some], [one[2] for one in some])
        with progress("Exporting") as told:
            for found in _chunks(self._exporter.records(self._accounts, told)):
                self._give("records", [one.id for one in found], [self._placed(one) for one in found])
        for some in _chunks(iter(self._consents())):
            self._give("consents", [], some)
        counts = self._counts
        if not any(counts.values()):
            self._record([], "nothing found")
            left = self._exporter.left_out
            hint = f"; {left} records stand under its national digits: --also-national exports them" if left else ""
            raise CommandError(f"there is nothing about {mask_number(self._typed)} that can still be read{hint}")
        done = (
            f"complete: {counts['records']} records, {counts['under_way']} on their way, {counts['consents']} consents"
        )
        self._record([], done)
        self._form.end(self._summary())

    def _give(self, section: str, ids: list[int], items: list[dict[str, Any]]) -> None:
        self._record(ids, f"{len(items)} {'on their way' if section == 'under_way' else section} given")
        if not self._told:
            self._form.begin(about(self._access.settings, self._typed, self._accounts, self._known(), time.time()))
            self._told = True
        self._form.add(section, items)
        self._counts[section] += len(items)

    def _record(self, ids: Iterable[int], result: str) -> None:
        what: dict[str, str | int] = {
            "number": " ".join(self._access.subject(form) for form in self._subject.own),
            "national": int(self._args.also_national),
        }
        if self._accounts is not None:
            what["accounts"] = " ".join(self._accounts)
        if self._args.out is not None:
            what["form"] = self._args.out.suffix.lower()
        shown = [Shown(identity, self._subject.own) for identity in ids]
        self._access.record(AuditEvent.EXPORT, why_of(self._args), what, shown, result)

    def _known(self) -> list[str]:
        every = {
            *known_accounts(self._access.reader.records),
            *(one.system_id for one in self._access.settings.accounts),
        }
        return sorted(every if self._accounts is None else every & set(self._accounts))

    def _summary(self) -> dict[str, Any]:
        return {
            **self._counts,
            "complete": not self._unread and not self._access.reader.damaged,
            "records_not_readable": [f"{one:016x}" for one in self._access.reader.damaged],
            "under_way_not_readable": self._unread.counts(),
            "left_out_national_digits": self._exporter.left_out,
        }

    def tell(self) -> None:
        """Says what was done, to the person at the terminal."""
        counts = self._counts
        if self._args.out is not None:
            print(
                f"Exported {counts['records']} records, {counts['under_way']} things on their way and {counts['consents']}"
                f" consents to {self._args.out}."
            )
        if self._exporter.left_out:
            say(
                f"{self._exporter.left_out} records under the number's national digits were left out, since in another country"
                " these are another person's number: --also-national exports them too."
            )
        if self._access.reader.damaged:
            say(
                f"{len(self._access.reader.damaged)} records were altered and cannot be opened: run `smppd log verify`."
            )
        if self._unread:
            say(
                f"{sum(self._unread.counts().values())} things on their way cannot be opened: whose they are nobody can tell."
            )

    # -- consents ------------------------------------------------------------------------------------------------------

    def _consents(self) -> list[dict[str, Any]]:
        with ConsentBook(self._access.settings, unlock(self._access.settings).install) as book:
            return [_consent(one) for one in book.of(self._subject.own, self._accounts)]

    # -- records -------------------------------------------------------------------------------------------------------

    def _placed(self, one: Exported) -> dict[str, Any]:
        facts = one.facts
        underway = one.id in self._on_its_way
        facts["place"] = "log, and on its way" if underway else "log"
        if underway and facts["text"] is None:
            facts["text_remark"] += _STILL_THERE
        return facts

    def _text(self, record: OpenRecord) -> tuple[str | None, str, bool]:
        shown = self._access.text(record)
        part = record.header.parts > 1
        if record.body is not None and record.header.content is Content.ENCRYPT and shown.text is not None:
            try:
                part = part or part_of(Sm(join_pdu(bytes(6), record.body))) is not None
            except (SealError, BodyError):
                part = True
        return _given(shown.text, shown.remark, part)

    # -- what is on its way --------------------------------------------------------------------------------------------

    def _underway(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """(id, the record's id, what is given of it)."""

        def wanted(thing: Thing) -> bool | None:
            one = read_thing(thing)
            if one is None:
                return False if holds_nothing(thing) else None
            return self._is_wanted(one)

        source = self._access.store.underway(self._access.reader.ring)
        try:
            for thing in find(source, Journal(), wanted, self._unread):
                one = read_thing(thing)
                if one is not None:
                    self._on_its_way.add(one.record or one.id)
                    yield one.id, one.record, self._thing(one)
        finally:
            source.close()

    def _is_wanted(self, one: OnItsWay) -> bool:
        if self._accounts is not None and one.account not in self._accounts:
            return False
        return any(self._subject.is_own(address, self._regions) for address in _parties(one))

    def _thing(self, one: OnItsWay) -> dict[str, Any]:
        subject, sm = self._subject, one.sm
        both = _parties(one)
        own = [subject.is_own(address, self._regions) for address in both]
        others = [address for address, mine in zip(both, own, strict=True) if not mine]
        state, text, remark, part = "", None, "", False
        alphabet = self._access.alphabet(one.account)
        if one.receipt:
            state, begun = receipt_text(sm)
            text, remark = decode(begun, 0, alphabet), "of a receipt: the beginning of the message's text"
            part = True  # it is cut off
        else:
            try:
                shown = text_of_sm(sm, alphabet)
                text, remark, part = _given(shown.text, shown.remark, part_of(sm) is not None)
            except BodyError:
                remark = "the message was malformed, so no text can be shown"
        return {
            "id": f"{one.record or one.id:016x}",
            "time": iso(id_time(one.record or one.id) * 1000) if one.record or one.id else "",
            "account": printable(one.account),
            "place": one.place,
            "from": subject.shown(both[0], own[0]),
            "to": subject.shown(both[1], own[1]),
            "text": None if text is None else subject.text(text, part),
            "text_remark": remark,
            "receipt_state": state,
            "recipients": [one.upstream] if one.upstream else [],
            "upstream_id": subject.name(one.upstream_id, others),
            "kept_until": iso(one.expires * 1000) if one.expires else "",
        }


def _consent(entry: Entry) -> dict[str, Any]:
    """A consent on record, with the keys that every form shows and all that is known of it."""
    facts = entry_facts(entry)
    said = [f"{name}: {value}" for name, value in facts.items() if value and name not in ("account", "number", "time")]
    return {
        **facts,
        "id": f"{entry.row.number}",
        "time": facts.get("time", ""),
        "place": "register of consents",
        "from": facts.get("number", ""),
        "to": facts.get("sender", ""),
        "text": None,
        "text_remark": "; ".join(said),
        "recipients": [],
        "state": "withdrawn" if entry.row.withdrawn else "consent",
    }


def _given(text: str | None, remark: str, part: bool) -> tuple[str | None, str, bool]:
    """What of a text may be looked through for other people's numbers."""
    if remark == BINARY and text is not None:
        return None, _NO_BINARY.format(len(text) // 2), part
    return text, remark, part


def _parties(one: OnItsWay) -> list[Address]:
    """Source and destination, then the source that policy exchanged, if it did."""
    sm = one.sm
    found = [
        Address(sm.source_ton, sm.source_npi, sm.source_digits),
        Address(sm.destination_ton, sm.destination_npi, sm.destination_digits),
    ]
    if len(one.sender) > 2:
        found.append(Address(one.sender[0], one.sender[1], one.sender[2:].rstrip(b"\0")))
    return found


def _chunks(every: Iterator[Any]) -> Iterator[list[Any]]:
    while some := list(islice(every, CHUNK)):
        yield some


def about(settings: Settings, number: str, accounts: list[str] | None, known: list[str], now: float) -> dict[str, Any]:
    """What an export says of itself. number: as it was typed; known: accounts of which something may be in it; now: epoch
    seconds."""
    configured = {one.system_id: one for one in settings.accounts}
    return {
        "what": "All data that this gateway for text messages (smppd) has about one phone number, from its log and from what is"
        " on its way. Other people's phone numbers are hidden: in addresses, in texts, in carriers' names for messages.",
        "smppd": __version__,
        "installation": platform.node() or "unnamed host",
        "time": iso(now * 1000),
        "number": number,
        "accounts": "all" if accounts is None else accounts,
        "controllers": [
            {
                "account": name,
                "text_kept": _span(configured[name].retain.body),
                "numbers_kept": _span(configured[name].retain.numbers),
                "states_kept": _span(configured[name].retain.billing),
                "content": configured[name].content,
            }
            if name in configured
            else {"account": name, "remark": "not configured any more: its retention is as it was configured last"}
            for name in known
        ],
        "recipients": "The upstreams (carriers) that a message was handed to are named with it.",
    }


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
