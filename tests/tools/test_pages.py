"""Man pages out of the commands: every command has one, every option is in it, and no text is taken for a request of man's."""

from __future__ import annotations

import argparse
import re

from smppd.cli.main import COMMANDS, available, whole_parser
from tools.pages import children, every, man_pages, plain

REQUESTS = {".TH", ".SH", ".TP", ".B", ".I", ".BR", ".br"}


def test_every_command_has_its_page() -> None:
    pages = dict(man_pages(whole_parser()))
    assert set(pages) == {"smppd"} | {f"smppd-{name}" for name in COMMANDS if available(name)}
    for name in COMMANDS:
        assert f"smppd\\-{name}" in pages["smppd"] or not available(name)


def test_every_option_is_told() -> None:
    parser = whole_parser()
    pages = dict(man_pages(parser))
    for name, command in children(parser).items():
        for one in every(command):
            for action in one._actions:
                if action.help is argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
                    continue
                for option in action.option_strings:
                    assert f"\\fB{plain(option)}\\fR" in pages[f"smppd-{name}"], f"smppd {name}: {option}"


def test_lines_are_requests_that_are_meant_or_text() -> None:
    for name, page in man_pages(whole_parser()):
        for line in page.splitlines():
            assert line[:1] != "'" and (not line.startswith(".") or line.split(" ")[0] in REQUESTS), f"{name}: {line}"
            assert not re.search(r"\\(?![-&e(f])", line), f"{name}: {line}"


def test_text_is_shown_as_it_is() -> None:
    assert plain(".PP a-b\\c 'd'") == "\\&.PP a\\-b\\ec \\(aqd\\(aq"


def test_the_same_sources_give_the_same_pages() -> None:
    assert list(man_pages(whole_parser())) == list(man_pages(whole_parser()))
