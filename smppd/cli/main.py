"""`smppd COMMAND`: finds the command's module, runs it, and turns how it ended into an exit status.

Only the command asked for is imported, so that `smppd passwd` does not wait for a network stack, and one broken
command does not take the others with it.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final, NoReturn

import smppd
from smppd import native

COMMANDS: Final = {
    "run": "start the daemon",
    "check": "find every mistake in a configuration",
    "account": "write the page for the engineers of a customer",
    "demo": "show messages and receipts flow between a simulated customer and a simulated SMSC",
    "simulate": "play a carrier's SMSC or a customer, to try a configuration with",
    "passwd": "make the password hash of an account",
    "keys": "create, rotate, list and destroy keys",
    "operators": "the people who work with this installation",
    "login": "log in once for the next commands at this terminal",
    "logout": "end the session of this terminal",
    "approvals": "agree to what another person asked for, or deny it",
    "log": "search, show, export and verify the record of messages",
    "damaged": "list, show and remove what could not be handled",
    "subject": "export or erase everything about one phone number",
    "optout": "who wants no messages: add, remove, check, import, export, review",
    "consent": "who agreed to what: import, withdraw, check, show, export",
    "hold": "keep records from being purged or erased",
    "purge": "destroy what is past its retention",
    "backup": "copy the store while the daemon runs, keys apart",
    "restore": "verify a backup and make it the store",
    "store": "move an installation into a database and back",
    "audit": "show and verify the audit trail",
    "report": "report on processing, carriers, retention, a breach or controls",
    "explain": "show what policy would do with a message",
    "lists": "show, compile and ask the big lists of numbers, domains and senders",
    "send": "send a test message through a bind",
    "dlt": "find every bad line in the files of an Indian registry",
    "bans": "show and lift the bans of addresses that guessed passwords",
    "traffic": "show and release what stands against unusual traffic",
    "suspensions": "show, begin and end suspensions of accounts",
    "trace": "list, show, export and delete traces of a peer's PDUs",
    "show": "show who is bound, what waits and why, and what is in force",
    "act": "do something to the running daemon: pause, drain, kick, expire, move",
    "status": "show how the running daemon does",
    "console": "serve the web console",
    "schema": "print the JSON Schema of the configuration",
    "import": "make a configuration out of Kannel's or Jasmin's",
}
"""Every command, its module in `smppd.cli.commands`, and its line in the help."""

_DESCRIPTION: Final = "SMPP daemon between customers and carriers."
_PACKAGE: Final = "smppd.cli.commands"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `argv` (default: the process's arguments) and gives the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`). Nothing more can be said on it, the interpreter's last flush included.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: list[str]) -> int:
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    if name is None or arguments[0].startswith("-"):
        return _top(arguments)
    if name not in COMMANDS or not available(name):
        near = difflib.get_close_matches(name, filter(available, COMMANDS), n=1)
        hint = f"; did you mean {near[0]}?" if near else "; `smppd --help` lists the commands"
        print(f"smppd: there is no command {name!r}{hint}", file=sys.stderr)
        return 2
    # Nothing slow is imported before: until `main` runs, Ctrl-C would end in a traceback.
    module = importlib.import_module(f"{_PACKAGE}.{name}")
    args = _parser(module).parse_args(arguments)
    return _guarded(module, args)


def _guarded(module: ModuleType, args: argparse.Namespace) -> int:
    from smppd.cli.commands import CommandError
    from smppd.config import ConfigError, ConfigFileError, SecretError

    try:
        return int(module.run(args))
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        missing = isinstance(error, ConfigFileError)
        if not missing:
            count = len(error.faults)
            print(f"smppd: {count} fault{'s' * (count > 1)} in the configuration", file=sys.stderr)
        return 2 if missing else 1
    except SecretError as error:
        print(f"smppd: {error}", file=sys.stderr)
        return 1
    except CommandError as error:
        print(f"smppd: {error}", file=sys.stderr)
        return error.status


def _top(arguments: list[str]) -> int:
    parser = _Parser(prog="smppd", add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    args, _ = parser.parse_known_args(arguments)
    if args.version:
        from smppd.store.opening import embedded_schema

        form = "compiled" if native.compiled else "interpreted"
        print(f"smppd {smppd.__version__} ({form}, store schema {embedded_schema()})")
        return 0
    print(overview(), file=sys.stdout if args.help else sys.stderr)
    return 0 if args.help else 2


def overview() -> str:
    """The text of `smppd --help`: a line for each command."""
    names = [name for name in COMMANDS if available(name)]
    width = max(map(len, names)) + 2
    lines = "\n".join(f"  {name:<{width}}{COMMANDS[name]}" for name in names)
    return (
        f"usage: smppd COMMAND [options]\n\n{_DESCRIPTION}\n\ncommands:\n{lines}\n\n"
        "options:\n  -h, --help     this text; `smppd COMMAND --help` explains a command\n"
        "  --version      the version"
    )


def available(name: str) -> bool:
    """Whether the command's module is installed."""
    return importlib.util.find_spec(f"{_PACKAGE}.{name}") is not None


class _Actions(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Gives each action its line in the help of its command: without one argparse does not even name it."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        description = options.get("description")
        if description and "help" not in options:
            options["help"] = _line_of(str(description))
        made: argparse.ArgumentParser = super().add_parser(name, **options)
        return made


def _line_of(description: str) -> str:
    """The first sentence of a description, as a line of a list."""
    line = re.split(r"[.:] ", description.removesuffix("."), maxsplit=1)[0]
    if line[1:2].islower() or line[1:2] == " ":
        line = line[0].lower() + line[1:]
    return line.replace("%", "%%")


class _Parser(argparse.ArgumentParser):
    """Says what was wrong with a call in one sentence."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("action", "parsers", _Actions)

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; `{self.prog} --help` explains", file=sys.stderr)
        raise SystemExit(2)


def _parser(module: ModuleType) -> argparse.ArgumentParser:
    parser = _Parser(prog="smppd", description=_DESCRIPTION)
    module.register(parser.add_subparsers(metavar="COMMAND", dest="command", required=True, parser_class=_Parser))
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """The parser of every command together, for what is made of all of them: man pages, completion."""
    parser = _Parser(prog="smppd", description=_DESCRIPTION)
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = _Summaries(parser.add_subparsers(metavar="COMMAND", dest="command"))
    for name in filter(available, COMMANDS):
        importlib.import_module(f"{_PACKAGE}.{name}").register(commands)
    return parser


class _Summaries:
    """Takes commands' parsers, and gives each its line of the overview."""

    def __init__(self, commands: Any) -> None:
        self._commands = commands

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        options.setdefault("help", COMMANDS[name])
        parser: argparse.ArgumentParser = self._commands.add_parser(name, **options)
        return parser
