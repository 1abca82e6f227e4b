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


def lines(result: dict[str, Any], bound: float) -> Iterator[str]:
    """One structure, for a terminal."""
    yield (
        f"{result['name']}: {result['fill']}; {_megabytes(result['octets'])} measured, {_megabytes(result['counted'])} counted"
        f" for {result['things']:,} things ({result['seconds']:.0f} s)"
    )
    for name, spent in result["turns"]:
        yield f"  {name:44}{spent:8.2f} ms  {'ok' if spent <= bound else 'TOO LONG'}"


def table(results: Sequence[dict[str, Any]], bound: float) -> Iterator[str]:
    """The part of the page that is measured."""
    form = "compiled" if all(one["compiled"] for one in results) else "interpreted"
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    yield f"Of {when}, {form}, CPython {platform.python_version()} on {platform.machine()}; a turn may take {bound:.0f} ms."
    yield ""
    yield "| structure | filled with | memory measured | octets counted | operation | longest turn, ms | within the bound |"
    yield "|---|---|---|---|---|---|---|"
    for one in results:
        cells = [one["name"], one["fill"], _megabytes(one["octets"]), _megabytes(one["counted"])]
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
