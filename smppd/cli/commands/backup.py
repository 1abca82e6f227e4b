"""`smppd backup DIRECTORY`: copies the store while the daemon runs, keys apart; `--verify` restores a backup to try it,
`--prune-keys` deletes copies of keys that are past their date. The key-encryption key is never copied.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress as Bar

from smppd import __version__
from smppd.audit.trail import AuditTrail, current_actor
from smppd.backup.erasures import copy_journal, remember_backup
from smppd.backup.manifest import KEY_MANIFEST, BackupError, Manifest, Progress, parse_time, prune_keys, read_manifest
from smppd.backup.restore import Checked, verify
from smppd.backup.take import KEYS_LAST, take
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.config import Settings
from smppd.config.units import format_duration, parse_duration
from smppd.daemon.tidying import tidy
from smppd.events import AuditEvent
from smppd.ids import id_time
from smppd.office.unlocking import source_kek, unlock, witnessed_trail
from smppd.relay.ledger.journal import Entry, read
from smppd.store.api import Kind, StoreError
from smppd.store.installation import AUDIT_FILE
from smppd.store.opening import embedded, files_of, installation
from smppd.vault.kek import VaultError

SAME: Final = "same"
_FAILURES: Final = (VaultError, StoreError, OSError)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "backup", help="copy the store while the daemon runs, keys apart (not with store.url)"
    )
    parser.add_argument("directory", metavar="DIRECTORY", type=Path, nargs="?", help="the backup; new or empty")
    parser.add_argument(
        "--keys-to",
        metavar="D",
        help=f"where the copy of the keys goes; `{SAME}`: into DIRECTORY, which is no good idea",
    )
    parser.add_argument(
        "--keys-last",
        metavar="AGE",
        type=duration,
        default=KEYS_LAST,
        help=f"the copy of the keys has to be deleted after this time, at most {format_duration(KEYS_LAST)} (the default)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="restore the backup into a temporary directory and check it"
    )
    parser.add_argument("--keys-from", metavar="D", type=Path, help="with --verify: where the copy of its keys is")
    parser.add_argument(
        "--prune-keys",
        metavar="D",
        type=Path,
        help="delete the copies of keys in D and right below it that are past their date",
    )
    add_json(parser)
    add_config(parser)
    parser.set_defaults(run=run)


def duration(text: str) -> float:
    """Seconds, more than none and at most KEYS_LAST."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not 0 < seconds <= KEYS_LAST:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {format_duration(KEYS_LAST)}")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Run `backup`; 0 when it is whole, 1 when it failed (then nothing that looks like a backup is left), 2 when called
    wrongly."""
    settings = load_settings(args)
    if args.prune_keys is not None:
        if args.directory is not None or args.verify or args.keys_to:
            raise CommandError("--prune-keys goes alone", 2)
        return _prune(settings, args)
    if args.directory is None:
        raise CommandError("name the directory of the backup", 2)
    if args.verify:
        return _verify(settings, args)
    if args.keys_from is not None:
        raise CommandError("--keys-from goes with --verify; a backup is taken with --keys-to", 2)
    return _take(settings, args)


# -- taking ----------------------------------------------------------------------------------------------------------


def _take(settings: Settings, args: argparse.Namespace) -> int:
    target: Path = args.directory
    if args.keys_to is None:
        raise CommandError("--keys-to is missing: the copy of the keys goes to a place of its own", 2)
    keys_target = target if args.keys_to == SAME else Path(args.keys_to)
    if args.keys_to != SAME and keys_target.resolve() == target.resolve():
        raise CommandError(f"{keys_target}: keys do not lie beside what they open; `--keys-to {SAME}` insists", 2)
    try:
        store = files_of(settings.store, "smppd backup")
        own = embedded(store)
        kek, install = unlock(settings)
        sign = install.checkpoint
        trail = witnessed_trail(own, install)
        if not own.has_log():
            trail.close()
            raise BackupError(f"{store / 'data.db'}: there is nothing to back up yet: the daemon has never run")
        with trail, bar(args) as progress:
            what: dict[str, str | int] = {
                "action": "take",
                "to": str(target.resolve()),
                "keys_to": str(keys_target.resolve()),
            }
            _record(trail, what, "begun")
            untidy = tidy(own, kek)
            if untidy:
                say(f"What is over may still be in the spool, and then is in this backup: {untidy}.")
            try:
                manifest = take(
                    store,
                    target,
                    keys_target,
                    sign=sign,
                    now=time.time(),
                    version=__version__,
                    keys_last=args.keys_last,
                    reserve=settings.store.reserve,
                    progress=progress,
                )
            except BaseException as error:
                with suppress(VaultError):  # the first error is the one to tell
                    _record(trail, what, "failed" if isinstance(error, Exception) else "interrupted")
                raise
            known = own.erasures()
            try:
                remember_backup(known, manifest, target, keys_target)
                # An erasure may have come between the copy of the journal and this line, which it did not know.
                copy_journal(store, target)
            finally:
                known.close()
            _record(trail, what | {"backup": manifest.id, "keys_expire": manifest.keys_expire}, "done")
    except _FAILURES as error:
        raise CommandError(f"no backup was taken: {error}") from None
    if args.json:
        print(json.dumps({"directory": str(target), "keys": str(keys_target), **as_dict(manifest)}))
        return 0
    size = sum(one.octets for one in manifest.files)
    print(f"Backed up {manifest.records} records, {size / 1e6:.1f} MB, to {target}; keys to {keys_target}.")
    print(f"Delete the copy of the keys by {manifest.keys_expire}: `smppd backup --prune-keys D` does it from then on.")
    if keys_target == target:
        say("Keys and data lie together: whoever has this directory and the key-encryption key has the messages.")
    return 0


def _record(trail: AuditTrail, what: dict[str, str | int], result: str) -> None:
    actor = current_actor()
    trail.append(AuditEvent.BACKUP, actor.who, what, result, source=actor.source)


def as_dict(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON has it."""
    return manifest._asdict() | {"files": [one._asdict() for one in manifest.files]}


@contextmanager
def bar(args: argparse.Namespace) -> Iterator[Progress]:
    """A bar on standard error when a person is there to see it."""
    if args.json or not sys.stderr.isatty():
        yield lambda _what, _done: None
        return
    with Bar(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("Starting", total=1.0)
        yield lambda what, done: shown.update(task, description=what, completed=done)


# -- trying ----------------------------------------------------------------------------------------------------------


class OnTheWay:
    """Counts what the spool of a store holds: messages, receipts and MO messages for customers, receipts without a message."""

    _OPENS: Final = {Entry.ACCEPT: Kind.QUEUE, Entry.MAIL: Kind.MAIL, Entry.PARK: Kind.PARKED}
    _CLOSES: Final = frozenset({Entry.DONE, Entry.MAIL_DONE, Entry.PARK_DONE})

    def __init__(self) -> None:
        self._open: dict[int, Kind] = {}

    def block(self, entries: bytes) -> None:
        """One spool block, in the order of commitment."""
        for kind, identity, _payload in read(entries):
            if kind in self._CLOSES:
                self._open.pop(identity, None)
            elif kind in self._OPENS:
                self._open[identity] = self._OPENS[Entry(kind)]

    def counts(self, cold: dict[int, int]) -> dict[str, int]:
        """With the cold rows: `messages` (waiting for an upstream, an answer or a receipt), `mail`, `parked`."""
        found = Counter(self._open.values()) + Counter({Kind(kind): count for kind, count in cold.items()})
        return {
            "messages": found[Kind.QUEUE] + found[Kind.WAITING],
            "mail": found[Kind.MAIL],
            "parked": found[Kind.PARKED],
        }


def contents(checked: Checked, way: OnTheWay) -> dict[str, Any]:
    """What a verified backup holds, as JSON has it."""
    manifest = checked.manifest
    return {
        "backup": manifest.id,
        "taken": manifest.taken,
        "keys_expire": manifest.keys_expire,
        "records": checked.records,
        "purged": checked.purged,
        "unreadable": checked.unreadable,
        "from": _iso(checked.first),
        "to": _iso(checked.last),
        "audit_entries": checked.audit_entries,
        "keys": checked.keys,
        "on_the_way": way.counts(checked.cold),
    }


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def sentence(found: dict[str, Any]) -> str:
    """The same for people."""
    way = found["on_the_way"]
    span = f", {found['from']} to {found['to']}" if found["from"] else ""
    return (
        f"{found['records']} records{span}; {found['audit_entries']} audit entries; on their way: messages {way['messages']},"
        f" mail for customers {way['mail']}, receipts without a message {way['parked']}."
    )


def keys_place(args: argparse.Namespace, source: Path) -> Path:
    """`--keys-from`, or the backup's own directory when the keys were insisted to lie there."""
    if args.keys_from is not None:
        place: Path = args.keys_from
        return place
    if (source / KEY_MANIFEST).exists():
        return source
    raise CommandError("--keys-from is missing: where is the copy of this backup's keys?", 2)


def _verify(settings: Settings, args: argparse.Namespace) -> int:
    source: Path = args.directory
    way = OnTheWay()
    try:
        read_manifest(source)
        keys_from = keys_place(args, source)
        kek = source_kek(settings)
        with tempfile.TemporaryDirectory(prefix="smppd-verify-") as place, bar(args) as progress:
            checked = verify(source, keys_from, Path(place), kek, id_time, block=way.block, progress=progress)
    except (*_FAILURES, ValueError) as error:
        _remember(settings, {"action": "verify", "from": str(source.resolve())}, "failed")
        raise CommandError(f"the backup cannot be restored: {error}") from None
    found = contents(checked, way)
    sound = not checked.unreadable
    _remember(settings, {"action": "verify", "backup": checked.manifest.id}, "sound" if sound else "incomplete")
    if args.json:
        print(json.dumps({"sound": sound, **found}))
    elif sound:
        print(f"The backup is sound: {sentence(found)}")
    if not sound:
        say(f"{checked.unreadable} records have lost their secrets though their keys are there: they cannot be read.")
    expired(checked.manifest, time.time())
    return 0 if sound else 1


def expired(manifest: Manifest, now: float) -> None:
    """Says so when the copy of the keys is past its date."""
    if parse_time(manifest.keys_expire) <= now:
        say(
            f"This copy of the keys should have been deleted by {manifest.keys_expire}; it may bring back what was purged."
        )


def _remember(settings: Settings, what: dict[str, str | int], result: str) -> None:
    """On the audit trail, where there is one: a backup may be tried on another machine."""
    store = installation(settings)
    if not store.has_keys() or not (store.directory / AUDIT_FILE).exists():
        return
    try:
        _with_trail(settings, lambda trail: _record(trail, what, result))
    except _FAILURES as error:
        say(f"Not on the audit trail: {error}")


def _with_trail(settings: Settings, act: Callable[[AuditTrail], object]) -> None:
    with witnessed_trail(installation(settings), unlock(settings).install) as trail:
        act(trail)


# -- deleting copies of keys -----------------------------------------------------------------------------------------


def _prune(settings: Settings, args: argparse.Namespace) -> int:
    try:
        pruned = prune_keys(args.prune_keys, time.time())
    except _FAILURES as error:
        raise CommandError(str(error)) from None
    if pruned.deleted:
        what: dict[str, str | int] = {
            "action": "prune keys",
            "in": str(args.prune_keys.resolve()),
            "deleted": len(pruned.deleted),
        }
        _remember(settings, what, "destroyed")
    if args.json:
        deleted, kept = ([str(path) for path in paths] for paths in (pruned.deleted, pruned.kept))
        print(json.dumps({"deleted": deleted, "kept": kept, "next": _iso(pruned.next)}))
        return 0
    until = f"; the next is due at {_iso(pruned.next)}" if pruned.next is not None else ""
    print(f"Deleted {len(pruned.deleted)} of {len(pruned.deleted + pruned.kept)} copies of keys{until}.")
    return 0
