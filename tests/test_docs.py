"""Holds the documentation true: commands, keys, links, quoted targets, and the protocol statement's names and tests."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from smppd.cli.main import COMMANDS, available
from smppd.protocol.wire import Command, Status, Tag, status_name
from smppd.relay.state.phase import FOLLOWS, Phase

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "config" / "README.md"])

_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
_ANY_FILE = re.compile(r"`((?:tests|smppd|config|deploy|docs|certs|bench|tools|requirements)/[\w./-]+\.\w+)`")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", _FENCE.sub("", page), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", text).lower()).replace(" ", "-") for text in headings}


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the rows of the first table under a heading."""
    section = page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


@cache
def functions_in(path: Path) -> frozenset[str]:
    tree = ast.parse(read(path))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test")
    )


# -- every page ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    broken = []
    for target in _LINK.findall(_FENCE.sub("", read(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(read(file))):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_tests_and_files_exist(page: Path) -> None:
    text = read(page)
    missing = [
        f"{file}::{test}"
        for file, test in _TEST.findall(text)
        if not (ROOT / "tests" / file).exists() or test not in functions_in(ROOT / "tests" / file)
    ]
    # `make bench` writes its page, which a fresh checkout need not have.
    made = {"docs/benchmarks.md", "config/smppd.schema.json"}
    missing += [file for file in _ANY_FILE.findall(text) if file not in made and not (ROOT / file).exists()]
    assert not missing


def quoted(page: str) -> list[str]:
    """What a page shows as typed: lines behind `$ ` in console blocks, lines of shell blocks, code within lines."""
    typed = [
        line[2:]
        for block in re.findall(r"^```console\n(.*?)^```$", page, re.M | re.S)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    typed += [line for block in re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S) for line in block.splitlines()]
    typed += [line.strip() for line in re.findall(r"^    (\S.*)$", _FENCE.sub("", page), re.M)]
    typed += re.findall(r"`([^`\n]+)`", _FENCE.sub("", page))
    return typed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_quoted_targets_and_commands_exist(page: Path) -> None:
    typed = quoted(read(page))
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.M))
    unknown = {line for line in typed if (m := re.search(r"(?:^|&& |= )make ([a-z-]+)", line)) and m[1] not in targets}
    for line in typed:
        found = re.search(r"(?:^|[|&/] ?)smppd ([a-z]+)", line)
        if found and found[1] not in COMMANDS:
            unknown.add(line)
    assert not unknown


def test_quoted_sees_what_is_typed() -> None:
    page = "```console\n$ make demo\nsmppd at work\n```\n\n```sh\nsmppd check\n```\n\nsay `smppd run --config F`.\n"
    assert quoted(page) == ["make demo", "smppd check", "smppd run --config F"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_table_is_broken(page: Path) -> None:
    """A row after an empty line is no row of the table any more."""
    lines = ["", *_FENCE.sub("", read(page)).splitlines()]
    starts = [
        n for n in range(1, len(lines)) if lines[n].startswith("|") and not lines[n - 1].startswith(("|", "<!--"))
    ]
    alone = [lines[n] for n in starts if n + 1 >= len(lines) or not lines[n + 1].startswith("|--")]
    assert not alone


def test_no_leftovers() -> None:
    marks = re.compile(r"@[A-Z]+@|TODO|FIXME|XXX")
    assert not [name_of(page) for page in PAGES if marks.search(read(page))]


# -- commands and keys ---------------------------------------------------------------------------------------------


def test_every_command_has_its_section() -> None:
    sections = re.findall(r"^## smppd (\w+)", read(DOCS / "commands.md"), re.M)
    assert sections == [name for name in COMMANDS if available(name)]


def test_every_page_is_reached_from_the_readme() -> None:
    readme = read(ROOT / "README.md")
    pages = {f"docs/{page.name}" for page in DOCS.glob("*.md")}
    assert not [page for page in sorted(pages) if page not in readme]


def test_every_decision_is_listed() -> None:
    page = read(DOCS / "architecture.md")
    assert not [path.name for path in (DOCS / "adr").glob("*.md") if f"adr/{path.name}" not in page]


def test_every_decision_has_its_number_status_and_date() -> None:
    for number, path in enumerate(sorted((DOCS / "adr").glob("*.md")), 1):
        assert path.name.startswith(f"{number:04d}-")
        assert re.match(rf"# {number}\. .+\n\nStatus: (accepted|superseded by \d+), 20\d\d-\d\d-\d\d\.", read(path)), (
            path.name
        )


def test_the_readme_says_what_is_not_built() -> None:
    section = read(ROOT / "README.md").split("### What is not built yet", 1)[1].split("\n## ", 1)[0]
    unbuilt = [name for name in COMMANDS if not available(name)]
    assert not [name for name in unbuilt if f"`{name}" not in section]
    built = [name for name in COMMANDS if available(name)]
    assert not [name for name in built if f"`{name}`" in section]


# -- the protocol statement ----------------------------------------------------------------------------------------

PROTOCOL = read(DOCS / "protocol.md")


def test_every_pdu_is_in_the_statement() -> None:
    stated = {row[0]: int(row[1], 16) for row in table(PROTOCOL, "PDUs")}
    assert stated == {command.name.lower(): int(command) for command in Command}


def test_every_tlv_we_look_at_is_in_the_statement() -> None:
    stated = {row[0]: int(row[1], 16) for row in table(PROTOCOL, "TLVs")}
    assert stated == {tag.name.lower(): int(tag) for tag in Tag}


def test_the_statuses_are_those_we_give() -> None:
    stated = {row[0]: int(row[1], 16) for row in table(PROTOCOL, "Statuses given")}
    assert stated == {status_name(value): value for value in stated.values()}
    assert set(stated.values()) <= set(map(int, Status))
    sources = "".join(read(path) for path in (ROOT / "smppd").rglob("*.py") if "demo" not in path.parts)
    given = {int(status) for status in Status if re.search(rf"\bStatus\.{status.name}\b", sources)}
    # Understood from peers, or given where no peer can see it.
    inner = {Status.RX_T_APPN, Status.RX_R_APPN, Status.RINVCMDLEN}
    assert given - set(stated.values()) == set(map(int, inner))


@pytest.mark.parametrize("heading", ["Versions and binds", "PDUs", "Fields of a message", "TLVs", "Statuses given"])
def test_every_line_names_its_test_or_says_that_there_is_none(heading: str) -> None:
    unshown = [row[0] for row in table(PROTOCOL, heading) if not _TEST.search(row[-1]) and "no test yet" not in row[-1]]
    assert not unshown


def test_statuses_understood_are_named_rightly() -> None:
    for row in table(PROTOCOL, "Statuses understood"):
        for name, value in re.findall(r"(ESME_\w+) 0x([0-9A-F]+)", row[1]):
            assert status_name(int(value, 16)) == name


def test_the_table_of_the_phases_is_the_codes() -> None:
    rows = {row[0]: row[3] for row in table(read(DOCS / "architecture.md"), "Phases")}
    assert list(rows) == [phase.name for phase in Phase]
    for phase in Phase:
        may_become = {after.name for after in Phase if FOLLOWS[phase] >> after & 1}
        assert may_become - {"DONE"} == set(re.findall("[A-Z]{3,}", rows[phase.name])), phase.name
        assert ("DONE" in may_become) == (phase is not Phase.DONE)
