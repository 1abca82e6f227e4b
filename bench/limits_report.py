"""docs/limits.md: the table that `bench.limits` measured, between the lines that people wrote."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- measured: make bench-limits -->"
END: Final = "<!-- end -->"


def _megabytes(octets: int) -> str:
    return f"{octets / 1e6:.1f} MB"


def _within(result: dict[str, Any]) -> bool:
    """Whether memory is what is stated or less."""
    return not 0 < result["stated"] < result["octets"]


def lines(result: dict[str, Any], bound: float) -> Iterator[str]:
    """One structure, for a terminal."""
    yield (
        f"{result['name']}: {result['fill']}; {_megabytes(result['octets'])} measured, {_megabytes(result['counted'])} counted"
        f" for {result['things']:,} things ({result['seconds']:.0f} s)"
    )
    if result["stated"]:
        yield f"  {'memory: ' + _megabytes(result['stated']) + ' are stated':55} {'ok' if _within(result) else 'TOO MUCH'}"
    for name, spent in result["turns"]:
        yield f"  {name:44}{spent:8.2f} ms  {'ok' if spent <= bound else 'TOO LONG'}"


def table(results: Sequence[dict[str, Any]], bound: float) -> Iterator[str]:
    """The part of the page that is measured."""
    form = "compiled" if all(one["compiled"] for one in results) else "interpreted"
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    yield f"Of {when}, {form}, CPython {platform.python_version()} on {platform.machine()}; a turn may take {bound:.0f} ms."
    yield ""
    yield "| structure | filled with | memory measured | counted, or stated | operation | longest turn, ms | within the bound |"
    yield "|---|---|---|---|---|---|---|"
    for one in results:
        took = _megabytes(one["octets"]) if _within(one) else f"**{_megabytes(one['octets'])}**"
        stated = f"{_megabytes(one['stated'])} stated" if one["stated"] else _megabytes(one["counted"])
        cells = [one["name"], one["fill"], took, stated]
        for name, spent in one["turns"]:
            yield f"| {' | '.join(cells)} | {name} | {spent:.2f} | {'yes' if spent <= bound else '**no**'} |"
            cells = [""] * 4


def write(page: Path, results: Sequence[dict[str, Any]], bound: float) -> None:
    """Puts the table into its place on the page. RuntimeError where the page has none."""
    text = page.read_text("utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise RuntimeError(f"{page}: has no place for the table")
    page.write_text(f"{head}{BEGIN}\n\n" + "\n".join(table(results, bound)) + f"\n\n{END}{tail}", "utf-8")
