"""Keeps the curves' results: one JSON file that each run adds to, a page with a table a curve, and a picture of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.chart import Line, Panel, chart, dots
from bench.points import Column, Curve, Graph, Point
from bench.report import machine

Row = dict[str, Any]
DATA: Final = "growth.json"
PAGE: Final = "growth.md"
_HEAD: Final = """# What grows, and what it costs

`make bench-growth` measures the daemon on its real configuration (TLS unless said otherwise, 20 rules, sealed and synced log,
`stored`), with the load generator and SMSC of [the benchmarks](benchmarks.md), the daemon on one core and the tools on the
other unless said otherwise. Each curve can be run alone (`python -m bench.growth sessions`) and replaces only its own results,
kept as [data](growth.json) too.

Each point is measured in so many rounds as stand above its table, medians are shown. Messages/s and CPU are taken at full
speed, latencies at 2,000 messages a second unless the table says otherwise. Beside each point the base is measured again, and
"ratio" is the median of point / base of the same round: machines drift by a quarter within minutes, so believe ratios before
figures.
"""


def load(directory: Path) -> dict[str, Row]:
    """The results kept so far, by curve."""
    path = directory / DATA
    if not path.exists():
        return {}
    curves: dict[str, Row] = json.loads(path.read_text())["curves"]
    return curves


def entry(points: Sequence[Point], *, seconds: float, rounds: int, quick: bool) -> Row:
    """The results of one curve as they are kept: when, where, how and the points."""
    about = machine() | {"seconds": seconds, "rounds": rounds, "quick": quick}
    about["form"] = "/".join(sorted({point.form for point in points if point.form}))
    return about | {"points": [point.as_json() for point in points]}


def keep(directory: Path, name: str, row: Row, curves: Sequence[Curve]) -> list[Path]:
    """Puts one curve's results in place of its earlier ones and writes the files anew; their paths."""
    return write(directory, load(directory) | {name: row}, curves)


def write(directory: Path, known: dict[str, Row], curves: Sequence[Curve]) -> list[Path]:
    """Writes data, page and pictures of these results; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    ordered = {curve.name: known[curve.name] for curve in curves if curve.name in known}
    ordered |= {other: known[other] for other in known if other not in ordered}
    data, page = directory / DATA, directory / PAGE
    half = data.with_suffix(".json.new")  # a run that is stopped while writing takes nobody's results along
    half.write_text(json.dumps({"curves": ordered}, indent=1) + "\n")
    half.replace(data)
    written = [data, page]
    lines = [_HEAD]
    for curve in curves:
        if found := ordered.get(curve.name):
            lines += _section(curve, found)
            if curve.graphs:
                written.append(directory / f"growth-{curve.name}.svg")
                written[-1].write_text(picture(curve, found))
        else:
            lines += [f"## {curve.title}", "", f"Not run yet: `python -m bench.growth {curve.name}`.", ""]
    page.write_text("\n".join(lines).rstrip() + "\n")
    return written


def _where(row: Row) -> str:
    short = ", a short trial whose figures say little" if row["quick"] else ""
    return (
        f"{row['date']}, commit {row['commit']}, {row['cpu']}, {row['cores']} cores, Linux {row['kernel']}, Python"
        f" {row['python']}, {row['form']}, {row['rounds']} rounds of {row['seconds']:g} s{short}."
    )


def cells(column: Column, point: Row) -> str:
    """One cell of the table."""
    value = point["ratios" if column.ratio else "values"].get(column.key)
    return "-" if value is None else f"{value:,.{column.digits}f}"


def _section(curve: Curve, row: Row) -> list[str]:
    points: list[Row] = row["points"]
    grouped = any(point["group"] for point in points)
    noted = any(point["note"] for point in points)
    heads = [*([curve.x] if curve.x else []), *([""] if grouped else [])]
    rules = [*(["---:"] if curve.x else []), *(["---"] if grouped else []), *(["---:"] * len(curve.columns))]
    heads += [column.heading for column in curve.columns] + [""] * noted
    lines = [f"## {curve.title}", "", curve.about, "", _where(row), ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "|".join([*rules, *(["---"] * noted)]) + "|"]
    for point in points:
        shown = [f"{point['x']:,}"] if curve.x else []
        shown += [point["group"]] if grouped else []
        shown += [cells(column, point) for column in curve.columns] + [point["note"]] * noted
        lines.append("| " + " | ".join(shown) + " |")
    if curve.graphs:
        lines += ["", f"![{curve.title}](growth-{curve.name}.svg)"]
    return [*lines, ""]


def picture(curve: Curve, row: Row) -> str:
    """The curve's panels as SVG."""
    foot = f"{row['date']}, commit {row['commit']}, {row['cores']} cores{', a short trial' if row['quick'] else ''}"
    if not curve.x:
        (graph,) = curve.graphs
        rows = [(point["group"], [point["values"].get(key, 0.0) for key in graph.keys]) for point in row["points"]]
        return dots(graph.title, graph.names, rows, foot)
    return chart([_panel(curve, graph, row["points"]) for graph in curve.graphs], foot)


def _panel(curve: Curve, graph: Graph, points: Sequence[Row]) -> Panel:
    kind = "ratios" if graph.ratio else "values"
    lines = []
    for group in dict.fromkeys(point["group"] for point in points if graph.group in (None, point["group"])):
        for key, name in zip(graph.keys, graph.names or [""] * len(graph.keys), strict=True):
            found = [(p["x"], p[kind][key]) for p in points if p["group"] == group and key in p[kind]]
            shown = [name] if graph.group is not None else [group, name]
            lines.append(Line(" ".join(filter(None, shown)), sorted(found)))
    return Panel(graph.title, lines, curve.x, log_x=curve.log_x, log_y=graph.log_y)
