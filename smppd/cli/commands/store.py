"""`smppd store copy`: moves an installation between the embedded store and a database; `--undo` takes that back. `smppd store
shred`: destroys the files of an embedded store that was copied."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress as Bar

from smppd.audit.trail import AuditTrail, current_actor
from smppd.backup.moving import Moved, begins, log_faults, move, undo
from smppd.cli.authority import add_login, authorise, is_believed
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.shredding import wipe_store
from smppd.config import Settings, load
from smppd.daemon.tidying import compacted
from smppd.events import AuditEvent
from smppd.office.unlocking import source_kek, witnessed_trail
from smppd.operators.roles import Act, Authority
from smppd.store.api import Fault, StoreError
from smppd.store.copying import Progress, Side, What
from smppd.store.installation import AUDIT_FILE, Installation
from smppd.store.opening import installation
from smppd.vault.kek import VaultError
from smppd.vault.keys import InstallSecrets, Kek, load_install

_FAILURES: Final = (VaultError, Fault, OSError)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("store", help="move an installation into a database and back")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    copy = actions.add_parser(
        "copy",
        description="Copy everything from the store of one configuration into the empty store of another. No daemon may run on"
        " either. A copy that was cut off goes on with the next call. At its end the old store is closed.",
    )
    copy.add_argument("--to-config", metavar="F", type=Path, help="the configuration that has the new store")
    copy.add_argument("--undo", action="store_true", help="open the old store again, and close the new one")
    copy.add_argument(
        "--force", action="store_true", help="with --undo: though the new store was used, or cannot be reached"
    )
    shred = actions.add_parser(
        "shred",
        description="Overwrite and delete the files of an embedded store that was copied into a database. The audit"
        " trail and the key-encryption key stay.",
    )
    shred.add_argument("--yes", action="store_true", help="do not ask")
    for one in (copy, shred):
        add_login(one)
        add_json(one)
        add_config(one)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `store`; 0 when it is done, 1 when it failed (a copy goes on with the next call), 2 when called wrongly."""
    settings = load_settings(args)
    try:
        if args.action == "shred":
            return _shred(settings, args)
        if args.undo:
            return _undo(settings, args)
        if args.to_config is None or args.force:
            raise CommandError(
                "copy needs --to-config F, and --force goes with --undo" if args.force else "copy needs --to-config F",
                2,
            )
        return _copy(settings, load(args.to_config), args)
    except _FAILURES as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        if args.action == "copy" and not args.undo:
            say("\nCut off: the same call goes on.")
        raise


class _Pair:
    """Both stores of a copy, and what opens them."""

    def __init__(self, settings: Settings, target: Settings) -> None:
        if settings.store.directory.resolve() != target.store.directory.resolve():
            raise CommandError(
                "store.path has to be the same directory in both configurations: audit trail, certificates and the places of"
                " the feed stay there",
                2,
            )
        if (settings.store.url is None) == (target.store.url is None):
            raise CommandError(
                "one of the two configurations has store.url, and the other has not: a database is moved with its own tools, an"
                " embedded store as a backup",
                2,
            )
        if settings.node != target.node:
            raise CommandError("node has to be the same in both configurations", 2)
        self.settings = settings
        self.ours, self.theirs = installation(settings), installation(target)
        self.kek: Kek = source_kek(settings)
        if source_kek(target).fingerprint() != self.kek.fingerprint():
            raise CommandError("both configurations have to name the same key-encryption key", 2)


def _install(place: Installation, kek: Kek) -> InstallSecrets:
    with closing(place.read_only_keys()) as keys:
        return load_install(kek, keys)


# -- copying -----------------------------------------------------------------------------------------------------------


def _copy(settings: Settings, target: Settings, args: argparse.Namespace) -> int:
    pair = _Pair(settings, target)
    with closing(pair.ours.side()) as ours, closing(pair.theirs.side()) as theirs:
        fresh = begins(ours, theirs)
        mark = ours.read_mark()
        over = mark is not None and mark.what is What.GONE
        # Of one that is over nothing is asked any more: all that is left is to open the copy.
        authority = Authority(current_actor(), act=Act.KEYS) if over else authorise(Act.KEYS, args, settings)
        install = _install(pair.ours, pair.kek)
        what = _what("copy", pair)
        if not over:
            _record(pair.ours, install, authority, what, "begun")
        if fresh:
            _tidied(pair)
        with ExitStack() as stack:
            for place in (pair.ours, pair.theirs):
                stack.callback(place.lock().release)
            with _bar(args) as progress:
                moved = move(
                    ours,
                    theirs,
                    node=settings.node,
                    faults=lambda there: log_faults(pair.theirs if there else pair.ours, install),
                    told=lambda: _record(pair.theirs, install, authority, what, "done"),
                    progress=progress,
                )
    _say_moved(pair, moved, args)
    return 0


def _tidied(pair: _Pair) -> None:
    """Files what a killed daemon has left, takes what is over out of the spool, and puts what lives there into a table."""
    if not pair.ours.has_log():
        return
    done = compacted(pair.ours, pair.kek)
    if not done.complete:
        raise StoreError(f"{pair.ours.name}: somebody is reading it, or it is short of space: nothing was copied")
    if done.unreadable:
        say(f"{done.unreadable} blocks of what is on its way do not open; they are copied as they are.")


def _what(action: str, pair: _Pair) -> dict[str, str | int]:
    return {"action": action, "from": pair.ours.name, "to": pair.theirs.name}


def _record(
    place: Installation, install: InstallSecrets, authority: Authority, what: dict[str, str | int], result: str
) -> None:
    with witnessed_trail(place, install) as trail:
        trail.append(AuditEvent.STORE, authority.who, what | authority.facts, result, source=authority.actor.source)


def _say_moved(pair: _Pair, moved: Moved, args: argparse.Namespace) -> None:
    if args.json:
        tables = {one.table: {"rows": one.rows, "digest": one.digest} for one in moved.tables}
        print(
            json.dumps(
                {
                    "from": pair.ours.name,
                    "to": pair.theirs.name,
                    "already": moved.already,
                    "copied": moved.rows,
                    "tables": tables,
                    "faults": moved.old_faults,
                }
            )
        )
        return
    if moved.already:
        print(f"{pair.ours.name} was copied to {pair.theirs.name} before; nothing was to be done but to open it.")
    else:
        rows = sum(one.rows for one in moved.tables)
        print(
            f"Copied {pair.ours.name} to {pair.theirs.name}: {rows} rows, the same on both sides; the log is sound there."
        )
    for fault in moved.old_faults:
        say(f"The log had this fault before, and has it now: {fault}.")
    print(
        f"From now on start the daemon with the other configuration; {pair.ours.name} is closed, and still has everything in"
        " it."
    )


@contextmanager
def _bar(args: argparse.Namespace) -> Iterator[Progress]:
    """A bar on standard error when a person is there to see it."""
    if args.json or not sys.stderr.isatty():
        yield lambda _what, _done, _all: None
        return
    with Bar(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("Starting", total=1.0)
        yield lambda what, done, total: shown.update(task, description=what, completed=done, total=max(1, total))


# -- taking it back ----------------------------------------------------------------------------------------------------


def _undo(settings: Settings, args: argparse.Namespace) -> int:
    pair = None if args.to_config is None else _Pair(settings, load(args.to_config))
    place = installation(settings)
    kek = source_kek(settings)
    install = _install(place, kek)
    authority = _of_closed(place, args, settings)
    with ExitStack() as stack:
        ours: Side = stack.enter_context(closing(place.side()))
        theirs = None if pair is None else stack.enter_context(closing(pair.theirs.side()))
        stack.callback(place.lock().release)
        if pair is not None:
            stack.callback(pair.theirs.lock().release)
        to = "" if pair is None else pair.theirs.name
        what: dict[str, str | int] = {"action": "undo", "from": place.name, "to": to, "force": str(args.force)}
        _record(place, install, authority, what, "begun")
        undo(ours, theirs, force=args.force)
        _record(place, install, authority, what, "done")
    if args.json:
        print(json.dumps({"store": place.name, "closed": to}))
    else:
        print(f"{place.name} is the store again.")
        if to:
            print(f"{to} is closed: empty it before anything is copied there again.")
    return 0


def _of_closed(place: Installation, args: argparse.Namespace, settings: Settings) -> Authority:
    """On whose word something is done to a store that is closed. Its operators cannot be asked any more: root's, and that of
    the user whose store it is."""
    if not place.closed(daemon=False):
        return authorise(Act.KEYS, args, settings)
    if not is_believed(place.directory):
        raise CommandError("what is closed only root and the daemon's user may open again or destroy")
    return Authority(current_actor(), act=Act.KEYS)


# -- the files of the old one ------------------------------------------------------------------------------------------


def _shred(settings: Settings, args: argparse.Namespace) -> int:
    if settings.store.url is not None:
        raise CommandError("name a configuration without store.url: the files of an embedded store are shredded", 2)
    place = installation(settings)
    with closing(place.side()) as side:
        mark = side.read_mark()
        if mark is None or mark.what not in (What.GONE, What.UNDONE):
            raise CommandError(f"{place.name}: it was not copied anywhere: `smppd keys shred` destroys an installation")
        authority = _of_closed(place, args, settings)
        if not args.yes:
            _ask(place.name)
        what: dict[str, str | int] = {"action": "shred", "from": place.name, "to": mark.other}
        lock = place.lock()
        try:
            # Behind the first entry there is no store any more that could be told of another.
            audit = None
            if place.has_keys():
                install = _install(place, source_kek(settings))
                audit = install.audit
                _record(place, install, authority, what, "begun")
            gone = wipe_store(place.directory)
            side.write_mark(None)
            if audit is not None:
                with AuditTrail(place.directory / AUDIT_FILE, audit) as trail:
                    trail.append(AuditEvent.STORE, authority.who, what, "destroyed", source=authority.actor.source)
        finally:
            lock.release()
    if args.json:
        print(json.dumps({"store": place.name, "destroyed": gone}))
    else:
        print(f"Destroyed {len(gone)} files of {place.name}: {', '.join(gone)}.")
    return 0


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError("nothing was destroyed: --yes says that it is meant", 2)
    if input(f"Destroy the files of the store in {name}? Type yes: ").strip() != "yes":
        raise CommandError("nothing was destroyed")
