"""`smppd subject erase NUMBER`: erases all records of a phone number, and takes it out of what is on its way.

The number is searched, never kept: the journal, the audit trail and the certificate name records by their ids. Running it
again is always right: it goes on where it was killed, and erases what has come since.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress

from smppd.audit.trail import Actor, AuditTrail
from smppd.backup.erasures import spread
from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.erasing import eraser_of
from smppd.cli.numbers import typed_of
from smppd.cli.reason import NOTE
from smppd.config import Settings
from smppd.control.wire import ControlError
from smppd.daemon.erasing import Underway, erase_underway
from smppd.daemon.tidying import tidy
from smppd.daemon.traces import open_traces
from smppd.events import AuditEvent
from smppd.ids import id_time
from smppd.office.access import REASONS, Access
from smppd.office.consents import ConsentBook, Entry
from smppd.office.desk import open_office
from smppd.office.erasures import was_run, wish_of, withdraw
from smppd.office.holding import open_holds
from smppd.office.numbers import forms_of_search, refuse_nothing, regions_of_search, without_number
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.roles import Act, Authority
from smppd.records.erasure import DONE, STATE, WAY_HELD, Eraser, utc
from smppd.records.erasure_journal import CONSENT, REPLIES
from smppd.records.holds import Holds
from smppd.records.search import by_number
from smppd.records.traces import Traces
from smppd.relay.erasing import Kept
from smppd.store.api import StoreError
from smppd.store.damaged import account_of
from smppd.store.erasures import ErasureRows
from smppd.store.opening import installation
from smppd.vault.kek import Kek, VaultError
from smppd.vault.keys import InstallSecrets, KeyRing
from smppd.vault.mask import mask_digits, mask_number

_AGAIN: Final = "run the command again: it goes on from there"
_LOOKS: Final = 3  # for what has come while the first records were erased
_CLOCKS: Final = 2.0
"""Seconds that an id may be behind the clock of who erases."""
_ENOUGH: Final = 7  # digits by which a number is known in what cannot be read in parts


def register_erase(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `erase` to `smppd subject`."""
    parser = actions.add_parser("erase", help="destroy all records of a phone number, and what is on its way")
    parser.add_argument(
        "number", metavar="NUMBER", nargs="?", help="+44 7700 900123, a short code, or an alphanumeric sender"
    )
    parser.add_argument("--account", action="append", metavar="A", help="only this account; may be repeated")
    parser.add_argument("--region", metavar="CC", help="country of a national number, for example GB")
    parser.add_argument(
        "--also-national",
        action="store_true",
        help="also what has its national digits only, which in another country are somebody else's number",
    )
    parser.add_argument("--reason", choices=REASONS, help="why; goes on the audit trail")
    parser.add_argument(
        "--note",
        default="",
        metavar="TEXT",
        help=NOTE,
    )
    parser.add_argument(
        "--asked", type=int, metavar="N", help="run what somebody asked for in the console: number and reason are in it"
    )
    finish = "only finish erasures that were begun, by the floors and holds of now"
    parser.add_argument("--resume", action="store_true", help=finish)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_login(parser)
    add_json(parser)
    add_config(parser)


def run_erase(args: argparse.Namespace) -> int:
    """Run `subject erase`; 0 when all is erased, 1 when some of it is queued or has to be done again, 2 when called wrongly."""
    settings = load_settings(args)
    authority = authorise(Act.ERASE, args, settings)
    if args.asked is not None:
        _take_asked(settings, args)
    if not args.resume:
        if args.number is None or args.reason is None or not args.note.strip():
            raise CommandError("give NUMBER, --reason and --note; or --asked or --resume alone", 2)
    elif args.number is not None:
        raise CommandError("--resume takes no number: it finishes what was begun", 2)
    try:
        kek, install = unlock(settings)
        with (
            witnessed_trail(installation(settings), install) as trail,
            closing(open_holds(settings)) as holds,
        ):
            eraser, known = eraser_of(settings, kek, install, trail, holds)
            with eraser:
                if args.resume:
                    return _resume(eraser, known, args)
                status = _Erasure(settings, args, authority, kek, install, trail, eraser, known, holds).run()
        if args.asked is not None:
            with open_office(settings) as office:
                was_run(office, args.asked)
        return status
    except _Nothing:
        if args.asked is not None:
            # Its number would stay in the request, of somebody of whom nothing else is left.
            with open_office(settings) as office:
                withdraw(office, authority, args.asked, time.time())
        raise
    except (VaultError, StoreError, ControlError, OSError) as error:
        raise CommandError(f"not all is erased: {error}; {_AGAIN}") from None


class _Nothing(CommandError):
    """There is nothing of this number."""


def _take_asked(settings: Settings, args: argparse.Namespace) -> None:
    if args.resume or args.number is not None:
        raise CommandError("--asked stands alone: what it is about is in the request", 2)
    with open_office(settings) as office:
        wish = wish_of(office, args.asked, time.time())
    args.number, args.region, args.account = wish.subject, wish.region, wish.accounts
    args.also_national, args.reason, args.note = wish.also_national, wish.reason, wish.note


def _resume(eraser: Eraser, known: ErasureRows, args: argparse.Namespace) -> int:
    before = [number for number, facts in known.erasures() if facts.get(STATE) != DONE]
    eraser.look_again()
    with bar(args) as tell:
        done = eraser.run(time.time(), lambda progress: tell(f"Erasing: {progress.records} records"))
    left = [number for number in before if (known.erasure(number) or {}).get(STATE) != DONE]
    if args.json:
        print(json.dumps({"finished": sorted(set(before) - set(left)), "queued": left, "complete": done.complete}))
    else:
        print(f"Finished {len(before) - len(left)} erasures; {len(left)} wait for a hold or a retention to end.")
        if not done.complete:
            say(f"Old bytes may still be in the store's files, because someone is reading it: {_AGAIN}.")
    return 0 if done.complete and not left else 1


def _reply_names(way: Underway) -> list[str]:
    return [REPLIES + key.hex() for key in sorted(way.reply_keys)]


@contextmanager
def bar(args: argparse.Namespace) -> Iterator[Any]:
    """Says on standard error what is being done, where a person is there to see it."""
    if args.json or not sys.stderr.isatty():
        yield lambda _what: None
        return
    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("Erasing", total=None)
        yield lambda what: shown.update(task, description=what)


class _Erasure:
    """One run of the command."""

    def __init__(
        self,
        settings: Settings,
        args: argparse.Namespace,
        authority: Authority,
        kek: Kek,
        install: InstallSecrets,
        trail: AuditTrail,
        eraser: Eraser,
        known: ErasureRows,
        holds: Holds,
    ) -> None:
        self._settings = settings
        self._store = installation(settings)
        self._args = args
        self._authority = authority
        self._kek = kek
        self._install = install
        self._trail = trail
        self._eraser = eraser
        self._known = known
        self._holds = holds
        asked = typed_of(args)
        forms = forms_of_search(regions_of_search(settings, asked), asked)
        refuse_nothing(forms)
        self._all = forms
        self._forms = forms.exact + (forms.ambiguous if args.also_national else ())
        self._accounts: frozenset[str] | None = frozenset(args.account) if args.account else None
        if authority.accounts is not None:
            wanted = authority.accounts if self._accounts is None else self._accounts
            if not wanted <= authority.accounts:
                raise CommandError("these are not all your accounts", 2)
            self._accounts = wanted

    def run(self) -> int:
        """See the module."""
        args = self._args
        with bar(args) as tell:
            tell("Searching the log")
            found = self._search()
            tell("Looking at what is on its way")
            way = erase_underway(self._settings, self._kek, self._forms, self._accounts, acts=False)
        damaged = self._damaged()
        on_its_way = sum(way.counts.values())  # nothing is held back in a look
        with ConsentBook(self._settings, self._install) as book:
            consents = len(book.of(self._forms, self._accounts))
        with self._traces() as opened:
            traces = len(opened.may_hold(self._accounts))
        if not found and not on_its_way and not damaged and not consents and not traces:
            raise _Nothing(
                f"there is nothing of {mask_number(args.number)} in the log or on its way: nothing was erased"
            )
        if not args.yes and not self._confirmed(len(found), on_its_way + len(damaged) + consents + traces):
            raise CommandError("nothing was erased")
        journal = self._eraser.journal
        with bar(args) as tell, journal.alone(wait=True):
            return self._erase(found, way, tell)

    def _search(self) -> dict[int, str]:
        """record id -> account of all that was sent from or to the number."""
        with Access(self._settings, self._authority) as access:
            every = by_number(access.reader, self._forms, self._accounts)
            return {one.record.header.record_id: one.record.header.account for one in every}

    def _confirmed(self, records: int, on_its_way: int) -> bool:
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to be asked: --yes says that it is meant", 2)
        print(
            f"{records} records of {mask_number(self._args.number)} and {on_its_way} things on their way will be destroyed."
            " This cannot be undone."
        )
        try:
            return input("Erase them? Type yes: ").strip().lower() == "yes"
        except EOFError:
            return False

    def _erase(self, found: dict[int, str], way: Underway, tell: Any) -> int:
        args, eraser = self._args, self._eraser
        now = time.time()
        note = mask_digits(without_number(args.note, self._all))
        facts: dict[str, Any] = {"reason": args.reason, "note": note}
        if self._accounts is not None:
            facts["only"] = sorted(self._accounts)
        actor = Actor(self._authority.who, self._authority.actor.source)
        number = eraser.begin(now, actor, facts)
        tell("Writing the journal")
        listed = dict.fromkeys(way.records, "") | found
        eraser.list_records(number, listed)
        eraser.list_others(number, [*self._consent_names(), *_reply_names(way)])
        # Before it counts as begun: whoever finishes it for a command that was killed knows nothing of traces.
        traces = self._destroy_traces()
        eraser.declare(number)
        tell("Erasing what is on its way")
        about = self._held()
        if about:
            # Until it is known which of them keep something: killed in between, it waits for all of them.
            self._known.note_erasure(number, {WAY_HELD: sorted({one.hold for one in about})})
        began = time.time()
        acted = erase_underway(self._settings, self._kek, self._forms, self._accounts, acts=True, held=about)
        removed, left_damaged = self._remove_damaged(about)
        consents, kept_consents = self._remove_consents(now)
        traces += self._destroy_traces()  # what began meanwhile may show what was on its way
        kept = acted.counts.pop("kept", 0) + left_damaged
        if kept:
            say(f"{kept} things on their way are left as they are, because a hold is about them.")
        for _ in range(_LOOKS):
            # What came since, and what was no record yet when the log was searched.
            late = set(_reply_names(acted)).difference(_reply_names(way))
            if late:
                eraser.list_others(number, late)
                eraser.declare(number)
                way = acted
            more = (dict.fromkeys(acted.records, "") | self._search()).items() - listed.items()
            new = {record: account for record, account in more if record not in listed}
            if not new:
                break
            listed |= new
            eraser.list_records(number, new)
            eraser.declare(number)
        accounts = Counter(account for account in listed.values() if account)
        counts = {**acted.counts, "damaged": removed, "consents": consents, "traces": traces}
        if kept_consents:
            say(f"{kept_consents} consents are withdrawn and stay as proof, because a hold is about them.")
            kept += kept_consents
        eraser.finish_listing(
            number, {"accounts": dict(sorted(accounts.items())), "way": counts, WAY_HELD: sorted(acted.holds)}
        )
        done = eraser.run(time.time(), lambda progress: tell(f"Erasing: {progress.records} records"))
        untidy = self._tidy_behind(listed, began)
        holds = self._known.waiting(listed)  # some of them an earlier request may have named
        left, held = sum(holds.values()), sum(count for hold, count in holds.items() if hold)
        path = eraser.certify(number, time.time())
        reached, missed = spread(self._known, self._store.directory)
        self._told(number, left, len(listed), counts)
        status = self._answer(
            number,
            len(listed),
            left,
            held,
            holds,
            counts,
            acted.complete and done.complete and not untidy,
            path,
            reached,
            missed,
        )
        return 1 if kept else status

    def _tidy_behind(self, listed: Iterable[int], began: float) -> str:
        """The commit of a record has its secrets too, until the spool is tidied, and what is on its way was tidied before the
        last of these came, maybe. Why it was not done, where it was not."""
        if all(id_time(record) < began - _CLOCKS for record in listed):
            return ""
        return tidy(self._store, self._kek)

    def _held(self) -> list[Kept]:
        """What holds in force are about: of what is on its way that stays, as its records do."""
        active = self._holds.active()
        return [Kept(frozenset(one.forms), one.account, one.since, one.until, one.number) for one in active]

    def _consent_names(self) -> list[str]:
        """What the journal says of the consents that are removed: a restore has no other way to know them again."""
        with ConsentBook(self._settings, self._install) as book:
            entries = [one for one in book.of(self._forms, self._accounts) if not self._is_held(one)]
            return [CONSENT + one.row.digest.hex() for one in entries]

    def _remove_consents(self, now: float) -> tuple[int, int]:
        """(consents that were removed, and that stay since a hold is about them: those are withdrawn). No floor keeps one."""
        with ConsentBook(self._settings, self._install) as book:
            entries = book.of(self._forms, self._accounts)
            kept = [one for one in entries if self._is_held(one)]
            removed = book.remove([one for one in entries if one not in kept])
            for account in sorted({one.row.account for one in kept}):
                book.withdraw(self._forms, [account], now, "erasure")
            return removed, len(kept)

    def _traces(self) -> AbstractContextManager[Traces]:
        return open_traces(self._store, self._kek, self._install)

    def _destroy_traces(self) -> int:
        """How many traces of PDUs were destroyed: all in which the person may stand. They are sealed as they came, so nobody
        can take one person out of them; no hold keeps them."""
        with self._traces() as traces:
            return sum(traces.destroy(number) for number in traces.may_hold(self._accounts))

    def _is_held(self, entry: Entry) -> bool:
        return any(
            (not one.account or one.account == entry.row.account)
            and (not one.forms or not set(one.forms).isdisjoint(self._forms))
            for one in self._holds.active()
        )

    def _told(self, number: int, queued: int, records: int, counts: dict[str, int]) -> None:
        """The end of it on the audit trail; the records stand in the entries before."""
        what: dict[str, str | int] = {
            "reason": self._args.reason,
            "erasure": number,
            "records": records,
            "queued": queued,
            **self._authority.facts,
            **{f"on_its_way_{name}": count for name, count in counts.items()},
        }
        source = self._authority.actor.source
        self._trail.append(
            AuditEvent.ERASURE, self._authority.who, what, "queued" if queued else "erased", source=source
        )

    def _answer(
        self,
        number: int,
        records: int,
        queued: int,
        held: int,
        holds: dict[int, int],
        counts: dict[str, int],
        complete: bool,
        path: Path,
        reached: list[str],
        missed: list[str],
    ) -> int:
        holds = {hold: count for hold, count in holds.items() if hold}
        until = utc(self._eraser.copies_end(time.time()))
        if self._args.json:
            facts = {
                "erasure": number,
                "records": records,
                "erased": records - queued,
                "queued": queued,
                "queued_by_hold": {str(hold): count for hold, count in sorted(holds.items())},
                "on_its_way": counts,
                "complete": complete,
                "certificate": str(path),
                "backups_unreadable_by": until,
                "journal_beside": reached,
                "journal_missing": missed,
            }
            print(json.dumps(facts))
        else:
            print(
                f"Erased {records - queued} records, and {sum(counts.values())} things on their way (erasure {number})."
            )
            print(f"The certificate is {path}.")
            print(f"Copies of keys in backups can open it until {until} at most.")
        if queued:
            say(self._queued(queued, held, holds))
        if missed:
            say(
                f"These backups could not be given the journal; bring {self._eraser.journal.path} to them, or to a restore of"
                f" them: {', '.join(missed)}."
            )
        if not complete:
            say(f"Old bytes may still be in a write-ahead log or in the spool: {_AGAIN}.")
        return 0 if complete and not queued else 1

    def _queued(self, queued: int, held: int, holds: dict[int, int]) -> str:
        named = ", ".join(f"hold {hold} keeps {count}" for hold, count in sorted(holds.items()))
        later = queued - held
        floors = f"{later} have to be kept longer by their account's retention" if later else ""
        why = "; ".join(one for one in (named, floors) if one)
        return (
            f"{queued} records are not erased yet: {why}. They are queued, and a purge erases them when that is over."
        )

    # -- damaged items -------------------------------------------------------------------------------------------------

    def _damaged(self, held: Sequence[Kept] = ()) -> list[int]:
        """Numbers of the damaged items in which the number stands, and that no hold may be about."""
        store = self._store
        if not store.has_log():
            return []
        needles = [form for form in self._forms if form.isdigit() and len(form) >= _ENOUGH]
        exact = [form + b"\0" for form in self._forms if form not in needles]
        numbers = []
        with closing(store.read_only_keys()) as keys, closing(store.damaged(read_only=True)) as damaged:
            ring = KeyRing(self._kek, keys)
            for item in damaged.items():
                if self._accounts is not None and account_of(item) not in self._accounts:
                    continue
                content = damaged.content(item.number, ring)
                if content is None or not any(one in content for one in needles + exact):
                    continue
                if not any(
                    one.account in ("", account_of(item))
                    and (not one.forms or any(form in content for form in one.forms))
                    for one in held
                ):
                    numbers.append(item.number)
        return numbers

    def _remove_damaged(self, held: Sequence[Kept]) -> tuple[int, int]:
        """How many damaged items were removed, and how many stay. Whose they are and when they came is not always known, and
        the other number in them never: one that a hold may be about stays."""
        numbers = self._damaged(held)
        left = len(self._damaged()) - len(numbers) if held else 0
        if not numbers:
            return 0, left
        with closing(self._store.damaged(read_only=False)) as damaged:
            return damaged.remove(numbers), left
