"""Man pages and completion out of the commands' own parsers: `python -m tools.pages DIR` (`make man`, `make completion`).

DIR/man/smppd.1 has the overview, DIR/man/smppd-COMMAND.1 each command with its actions; DIR/smppd and DIR/_smppd complete in
bash and zsh. The same sources give the same octets on the same day: the date is that of SOURCE_DATE_EPOCH, or today.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import smppd
from smppd.cli.main import COMMANDS, available, whole_parser

ROOT: Final = Path(__file__).resolve().parent.parent
_FILES: Final = frozenset({"F", "FILE", "CONFIG", "CERTIFICATE", "KEY"})
_DIRECTORIES: Final = frozenset({"DIR"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes them."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 1:
        print("usage: python -m tools.pages DIR", file=sys.stderr)
        return 2
    directory = Path(words[0])
    (directory / "man").mkdir(parents=True, exist_ok=True)
    parser = whole_parser()
    for name, text in man_pages(parser):
        (directory / "man" / f"{name}.1").write_text(text, "utf-8")
    for shell, file in (("bash", "smppd"), ("zsh", "_smppd")):
        (directory / file).write_text(completion(parser, shell), "utf-8")
    return 0


# -- completion -----------------------------------------------------------------------------------------------------


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion of a shell. Files and directories are completed where an argument is one."""
    import shtab  # of requirements/packages.txt; man pages need nothing but the commands

    for one in every(parser):
        for action in one._actions:
            names = {action.metavar} if isinstance(action.metavar, str) else set()
            if names & _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif names & _DIRECTORIES:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell))


def children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's actions, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def every(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it."""
    yield parser
    for child in children(parser).values():
        yield from every(child)


# -- man pages ------------------------------------------------------------------------------------------------------


def man_pages(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """(name without its ending, text) of each page: the overview, then a page a command."""
    commands = children(parser)
    names = [name for name in COMMANDS if available(name)]
    body = [".SH SYNOPSIS", ".B smppd", ".I COMMAND", "[options]", ".br", ".B smppd \\-\\-version"]
    body += [".SH DESCRIPTION", *paragraph(parser.description or ""), ".SH COMMANDS"]
    for name in names:
        body += [".TP", f".BR smppd\\-{plain(name)} (1)", *paragraph(COMMANDS[name])]
    body += [
        ".SH FILES",
        ".TP",
        ".I /etc/smppd/smppd.yaml",
        *paragraph(
            "The configuration; `smppd check` finds its mistakes, `smppd schema --markdown` prints all of its keys."
        ),
        ".SH EXIT STATUS",
        *paragraph(
            "0 done; 1 failed, and a sentence on standard error says why; 2 called wrongly; 3 asked for, and another person"
            " has to agree. The daemon: 3 when its store broke."
        ),
    ]
    yield "smppd", page("smppd", "SMPP daemon between customers and carriers", body, names)
    for name in names:
        body = [".SH SYNOPSIS", *synopses(commands[name]), ".SH DESCRIPTION"]
        body += paragraph(commands[name].description or COMMANDS[name] + ".")
        body += described(commands[name], ".SH OPTIONS")
        for label, child in below(commands[name], ""):
            body += [f".SH {plain(label).upper()}", *paragraph(child.description or summary(commands[name], label))]
            body += described(child, "")
        yield f"smppd-{name}", page(f"smppd-{name}", COMMANDS[name], body, [])


def page(name: str, line: str, body: list[str], others: list[str]) -> str:
    """A page of section 1, by man(7)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    day = dt.datetime.fromtimestamp(int(epoch), dt.UTC) if epoch else dt.datetime.now(dt.UTC)
    head = [f'.TH {plain(name).upper()} 1 "{day:%Y-%m-%d}" "smppd {smppd.__version__}" "smppd"']
    head += [".SH NAME", f"{plain(name)} \\- {plain(line)}"]
    also = [f".BR smppd\\-{plain(other)} (1)" for other in others] or [".BR smppd (1)"]
    also[:-1] = [f"{one} ," for one in also[:-1]]
    return "\n".join([*head, *body, ".SH SEE ALSO", *also]) + "\n"


def plain(text: str) -> str:
    """Text that man shows as it is: nothing in it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("…", "...")
    return "\\&" + text if text.startswith(".") else text


def paragraph(text: str) -> list[str]:
    """A text as lines of a page, a sentence a line."""
    words = " ".join(text.split())
    return [plain(one) for one in re.split(r"(?<=[.:;]) (?=[A-Z`])", words)] if words else [plain("No more is said.")]


def usage(parser: argparse.ArgumentParser) -> str:
    """How it is called, in one line."""
    return " ".join(parser.format_usage().split()).removeprefix("usage: ")


def synopses(parser: argparse.ArgumentParser) -> list[str]:
    """How a command and each of its actions is called."""
    called = [usage(child) for _, child in below(parser, "") if not children(child)] or [usage(parser)]
    lines: list[str] = []
    for one in called:
        words = one.split(" ")
        count = next((n for n, word in enumerate(words) if not re.fullmatch(r"[a-z-]+", word)), len(words))
        lines += [".br"] if lines else []
        lines += [f".B {plain(' '.join(words[:count]))}"] + ([plain(" ".join(words[count:]))] if words[count:] else [])
    return lines


def below(parser: argparse.ArgumentParser, before: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """(name, parser) of each action below a command, `add` or `targets show`."""
    for name, child in children(parser).items():
        yield f"{before}{name}", child
        yield from below(child, f"{before}{name} ")


def summary(parser: argparse.ArgumentParser, label: str) -> str:
    """The line that a command has for one of its actions."""
    *path, last = label.split(" ")
    for name in path:
        parser = children(parser)[name]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action._choices_actions:
                if one.dest == last:
                    return str(one.help or "").strip().capitalize() + "."
    return f"smppd {label}."


def described(parser: argparse.ArgumentParser, heading: str) -> list[str]:
    """The arguments and options of a parser, each with what it means."""
    lines: list[str] = []
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, (argparse._SubParsersAction, argparse._HelpAction)) or action.help is argparse.SUPPRESS:
            continue
        value = (
            formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
            if action.nargs != 0
            else ""
        )
        if action.option_strings:
            names = ", ".join(f"\\fB{plain(option)}\\fR" for option in action.option_strings)
            lines += [".TP", f"{names} \\fI{plain(value)}\\fR" if value else names]
        else:
            lines += [".TP", f"\\fI{plain(value or action.dest)}\\fR"]
        lines += paragraph(formatter._expand_help(action) if action.help else "")
    return [heading, *lines] if lines and heading else lines


if __name__ == "__main__":
    raise SystemExit(main())
