"""Runs a campaign's block with one promise broken on purpose, until the block finds something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.torture.plan import Unit

Row = dict[str, Any]


def until_noticed(
    unit: Unit, directory: Path, block: Callable[[Unit, Path], Row], told: Callable[[Row], str] = lambda _row: ""
) -> Row:
    """The result of a unit that has a ``mutation`` and so many ``tries``; it has a fault if nothing was noticed.
    ``block(unit, directory)``: one try, in a directory that it may have to make. ``told``: of a try that noticed nothing."""
    mutation: str = unit.values["mutation"]
    missed: list[Row] = []
    for number in range(1, unit.values["tries"] + 1):
        one = Unit(f"{unit.key}-{number}", unit.seed + number, unit.values)
        place = directory / str(number)
        result = block(one, place)
        if not result["acknowledged"] or not result["kills"]:
            # Nothing was put to the test: that proves nothing.
            return {**result, "faults": [f"{mutation}: the daemon does not run", *result["faults"]]}
        if "broken" in result:
            return {**result, "faults": [f"{mutation}: {result['broken']}"]}
        said = "".join(log.read_text() for log in place.rglob("smppd.log"))
        if broken := [word for word in ("TypeError", "AttributeError", "NameError") if word in said]:
            return {**result, "faults": [f"{mutation}: the mutation does not fit the code, {broken[0]}"]}
        if result["faults"]:
            first = result["faults"][0]
            noticed = "the daemon does not start" if "smppd ended with status" in first else first.split(":")[0]
            return {**result, "caught": number, "noticed": noticed, "found": result["faults"], "faults": []}
        missed.append(result)
    faults = [f"{mutation}: not noticed ({'; '.join(told(one) for one in missed)})"]
    return {**unit.values, "kills": unit.values["tries"], "missed": missed, "faults": faults}
