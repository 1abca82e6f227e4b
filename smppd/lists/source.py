"""Reads the file of a list, entry by entry, with the number of the line of each; memory is bounded whatever the file holds."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple

BLOCK: Final = 1 << 22
"""Octets read at once."""
LONGEST_LINE: Final = 4096
_BOM: Final = b"\xef\xbb\xbf"
_SAMPLE: Final = 4096
_DELIMITERS: Final = b",;\t|"
# Lines that are each an international number without any sign: they need no look of their own.
_CLEAN: Final = re.compile(rb"(?:[1-9][0-9]{6,14}\r?\n)*+")


class SourceFault(Exception):
    """The file cannot be read as what it is said to be; the text says why, without anything in it."""


class Block(NamedTuple):
    """Some entries, in the order of the file. ``clean``: each is an international number in its normal form.

    lines: the number of the line of each from 1; of clean ones None. octets: read from the file so far.
    """

    entries: list[bytes]
    lines: list[int] | None
    clean: bool
    octets: int


def read_plain(file: BinaryIO, may_be_clean: bool, read: Callable[[bytes], object]) -> Iterator[Block]:
    """The entries of a file with one a line; empty lines and those that begin with `#` are left out. ``may_be_clean``: see
    `Block`. ``read(octets)`` is told all that is read. Raises OSError."""
    rest = b""
    line = 1
    octets = 0
    while True:
        some = file.read(BLOCK)
        read(some)
        if not octets:
            some = some.removeprefix(_BOM)
        octets = file.tell()
        block = rest + some
        if some:
            cut = block.rfind(b"\n") + 1
            if not cut and len(block) > LONGEST_LINE:
                # No line is so long: what follows until its end is one bad entry.
                yield Block([block[: LONGEST_LINE + 1]], [line], False, octets)
                rest = b""
                if not _skip_line(file, read):
                    return
                line += 1
                continue
            rest, block = block[cut:], block[:cut]
        if not block:
            if not some:
                return
            continue
        if may_be_clean and (found := _CLEAN.match(block)) is not None and found.end() == len(block):
            entries = block.split()
            yield Block(entries, None, True, octets)
            line += len(entries)
        else:
            entries, lines = [], []
            raws = block.split(b"\n")
            if not raws[-1]:
                del raws[-1]
            for number, raw in enumerate(raws, line):
                entry = raw.strip()
                if entry and entry[0] != 35:  # a comment
                    entries.append(entry)
                    lines.append(number)
            yield Block(entries, lines, False, octets)
            line += len(raws)
        if not some:
            return


def _skip_line(file: BinaryIO, read: Callable[[bytes], object]) -> bool:
    """Reads on behind the end of the present line; False at the end of the file."""
    while some := file.readline(BLOCK):
        read(some)
        if some.endswith(b"\n"):
            return True
    return False


def read_csv(file: BinaryIO, column: int | str, read: Callable[[bytes], object]) -> Iterator[Block]:
    """The entries of one column of a CSV file, which is separated by a comma, a semicolon, a tab or `|`. ``column``: its number
    from 1, or its name in the first line. A line without it has an empty entry, which is a bad one. Raises SourceFault,
    OSError."""
    sample = file.peek(_SAMPLE)[:_SAMPLE] if hasattr(file, "peek") else b""
    first = sample.removeprefix(_BOM).split(b"\n", 1)[0]
    counts = [(first.count(one), -at) for at, one in enumerate(_DELIMITERS)]
    delimiter = chr(_DELIMITERS[-max(counts)[1]])
    rows = csv.reader(_texts(file, read), delimiter=delimiter, strict=True)
    try:
        at = column - 1 if isinstance(column, int) else _named(next(rows, []), column)
        entries: list[bytes] = []
        lines: list[int] = []
        for row in rows:
            if row:
                entries.append(row[at].strip().encode("utf-8", "surrogateescape") if len(row) > at else b"")
                lines.append(rows.line_num)
            if len(entries) >= BLOCK // 64:
                yield Block(entries, lines, False, file.tell())
                entries, lines = [], []
        yield Block(entries, lines, False, file.tell())
    except csv.Error:
        raise SourceFault(f"line {rows.line_num}: not CSV: a quote is not closed, or a field is too long") from None


def _named(row: list[str], name: str) -> int:
    names = [one.strip().casefold() for one in row]
    if name.casefold() not in names:
        raise SourceFault(f"line 1: no column is named as `column` says, of {len(names)} columns")
    return names.index(name.casefold())


def _texts(file: Any, read: Callable[[bytes], object]) -> Iterator[str]:
    first = True
    while raw := file.readline(LONGEST_LINE * 16):
        read(raw)
        if first:
            raw, first = raw.removeprefix(_BOM), False
        # What is no UTF-8 becomes what no form accepts.
        yield raw.decode("utf-8", "surrogateescape")
