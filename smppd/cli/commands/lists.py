"""`smppd lists`: how the big lists of the configuration stand, compiles them, and asks whether something is on one."""

from __future__ import annotations

import argparse
import difflib
import json
from pathlib import Path
from typing import Any

from smppd.cli.commands import DEFAULT_CONFIG, CommandError, load_settings, say
from smppd.cli.progress import progress
from smppd.config import Settings
from smppd.lists.compiler import place_of
from smppd.lists.compiling import Compilation, Outcome
from smppd.lists.forms import WHAT, form_of
from smppd.lists.lists import DIRECTORY, spec_of
from smppd.lists.standing import standing
from smppd.lists.table import ListFault, open_table
from smppd.office.unlocking import unlock
from smppd.policy.listed import domain_forms
from smppd.vault.kek import VaultError


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "lists",
        description="How the big lists of the configuration stand: what is compiled of them, and whether their file is another"
        " by now. A running daemon compiles what changes by itself, and takes what is compiled here within seconds.",
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    show = actions.add_parser("show", description="Show how each list stands; also without an action.")
    make = actions.add_parser(
        "compile",
        description="Compile lists in a child process; the one before stays until the new one is whole. Exit status: 0 done,"
        " 1 one was not taken or could not be compiled.",
    )
    make.add_argument("name", nargs="*", metavar="NAME", help="which; none: those whose file or settings changed")
    make.add_argument(
        "--skip-bad", action="store_true", help="leave out bad lines this time, whatever `bad_lines` says"
    )
    check = actions.add_parser(
        "check",
        description="Ask whether a number, domain or sender is on a list as it is compiled. Exit status: 0 it is, 1 it is not,"
        " 2 the list cannot be asked.",
    )
    check.add_argument("name", metavar="NAME", help="which list")
    check.add_argument("value", metavar="VALUE", help="a number, a domain or a host below one, a sender")
    parser.add_argument("--config", metavar="F", type=Path, default=DEFAULT_CONFIG, help="the configuration file")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    for one in (show, make, check):
        # No defaults of their own: they would take the place of what stands before the action.
        one.add_argument("--config", metavar="F", type=Path, default=argparse.SUPPRESS, help="the configuration file")
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for scripts")


def run(args: argparse.Namespace) -> int:
    """Shows, compiles or asks."""
    settings = load_settings(args)
    try:
        if args.action == "compile":
            return _compile(settings, args)
        if args.action == "check":
            return _check(settings, args)
        return _show(settings, args)
    except VaultError as error:
        raise CommandError(str(error)) from None


def _named(settings: Settings, name: str) -> str:
    if name in settings.lists:
        return name
    near = difflib.get_close_matches(name, settings.lists, n=1)
    raise CommandError(f"there is no list {name!r}" + (f"; did you mean {near[0]}?" if near else ""), 2)


# -- show --------------------------------------------------------------------------------------------------------------


def _standing(settings: Settings, name: str) -> dict[str, Any]:
    try:
        return standing(settings, name)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from None


def _show(settings: Settings, args: argparse.Namespace) -> int:
    found = [_standing(settings, name) for name in settings.lists]
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    if not found:
        say("the configuration has no lists")
        return 0
    for one in found:
        count = "" if one["entries"] is None else f"{one['entries']:,} "
        print(f"{one['name']}: {count}{one['kind']}, {one['state']}")
        print(f"  file      {one['file']}")
        if count:
            when = one["compiled"].removesuffix("+00:00") + "Z"
            print(f"  compiled  {when}, {_size(one['disk'])} on disk, {_size(one['memory'])} in memory")
            if one["skipped"]:
                print(f"  bad lines {one['skipped']:,} left out")
    return 0


def _size(octets: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if octets >= factor:
            return f"{octets / factor:.1f} {unit}"
    return f"{octets / 1024:.1f} KiB"


# -- compile -----------------------------------------------------------------------------------------------------------


def _compile(settings: Settings, args: argparse.Namespace) -> int:
    names = [_named(settings, name) for name in args.name]
    if not names:
        names = [name for name in settings.lists if _standing(settings, name)["state"] != "current"]
    key = unlock(settings).install.lists
    outcomes: dict[str, Outcome] = {}
    for name in names:
        spec = spec_of(settings, name)
        directory = settings.store.directory / DIRECTORY
        try:
            with progress(f"Compiling {name}") as tell:
                work = Compilation(spec, directory, key, settings.store.reserve, progress=True, lenient=args.skip_bad)
                outcomes[name] = work.wait(tell)
        except OSError as error:
            outcomes[name] = Outcome("failed", error.strerror or type(error).__name__)
    if args.json:
        print(json.dumps({name: _as_dict(one) for name, one in outcomes.items()}, indent=2))
    else:
        for name, one in outcomes.items():
            _tell(settings.lists[name].file, name, one)
        if not outcomes:
            say("every list is current")
    return 0 if all(one.kind == "compiled" for one in outcomes.values()) else 1


def _as_dict(one: Outcome) -> dict[str, Any]:
    if one.kind != "compiled":
        return {"outcome": one.kind, "reason": one.reason}
    bad = [{"line": line, "why": why} for line, why in one.told]
    return {"outcome": one.kind, "entries": one.entries, "skipped": one.skipped, "bad": bad}


def _tell(file: Path, name: str, one: Outcome) -> None:
    if one.kind != "compiled":
        say(f"{name}: {file}: {one.reason}" if one.kind == "refused" else f"{name}: {one.reason}")
        return
    for line, why in one.told:
        say(f"{name}: {file}:{line}: left out: {why}")
    more = one.skipped - len(one.told)
    if more > 0:
        say(f"{name}: {more} more lines left out")
    print(f"{name}: {one.entries:,} entries")


# -- check -------------------------------------------------------------------------------------------------------------


def _check(settings: Settings, args: argparse.Namespace) -> int:
    name = _named(settings, args.name)
    spec = spec_of(settings, name)
    try:
        form = form_of(spec.kind, spec.region or settings.region)(args.value.strip().encode("utf-8"))
    except UnicodeEncodeError:
        form = None
    if form is None:
        raise CommandError(f"this is not {WHAT[spec.kind]}", 2)
    key = unlock(settings).install.lists
    path = place_of(settings.store.directory / DIRECTORY, name)
    try:
        table = open_table(path, key, spec.kind)
    except FileNotFoundError:
        raise CommandError(f"list {name} is not compiled: `smppd lists compile {name}`", 2) from None
    except ListFault as fault:
        raise CommandError(f"{path} {fault}", 2) from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", 2) from None
    forms = domain_forms(form.decode("ascii")) if spec.kind == "domains" else [form]
    on_it = any(table.has(one) for one in forms)
    table.close()
    if args.json:
        print(json.dumps({"list": name, "on_list": on_it}))
    else:
        print(f"on list {name}" if on_it else f"not on list {name}")
    return 0 if on_it else 1
