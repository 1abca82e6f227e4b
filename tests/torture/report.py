"""docs/torture.md, docs/torture.json and the soak's picture, out of what the campaigns wrote down."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.torture.campaigns import CAMPAIGNS, database, flaps, frozen, mailbox, several, soak
from tests.torture.picture import Curve, chart
from tests.torture.results import Results

Row = dict[str, Any]
_HEAD: Final = """# What was done to it

`make torture` treats the real daemon badly and then compares three books: what the customer was told, what the SMSC saw, and
what smppd's own record says. This page is written by it; [torture.json](torture.json) has the figures of each unit.

The peers are in `tests/torture` (the soak's are the bench's tools), on sockets of their own, and share no code with smppd; its
record is read with smppd's own code. The customer never submits a text
twice, so what arrives twice is smppd's doing. A message is **lost** when the customer has its ESME_ROK and the SMSC never got
it, unless the record shows a final state; a receipt is **missing** when it never came for such a message; a **duplicate** is a
text that the SMSC took (or never refused) twice, **unflagged** when the record does not say so. The moments of all kills
and the fate of all writes follow from the seed; `--resume` goes on with an interrupted run.
"""


def _sum(rows: Sequence[Row], name: str) -> int:
    return sum(int(row.get(name, 0)) for row in rows)


def _most(rows: Sequence[Row], name: str) -> float:
    return max((float(row.get(name, 0)) for row in rows), default=0.0)


def _books(rows: Sequence[Row]) -> list[tuple[str, str]]:
    names = [
        ("acknowledged messages", "acknowledged"),
        ("unfinished when judged, so neither lost nor safe", "unfinished"),
        ("lost", "lost"),
        ("receipts missing", "receipts_missing"),
        ("duplicates at the SMSC", "duplicates"),
        ("of them unflagged", "duplicates_unflagged"),
        ("acknowledged without a record", "unrecorded"),
    ]
    return [(label, f"{_sum(rows, name):,}") for label, name in names]


def _rates(rows: Sequence[Row]) -> str:
    rates = [int(row["rate"]) for row in rows if row.get("rate")]
    return f"{min(rates):,} to {max(rates):,} msg/s" if rates else "-"


def _kill(rows: Sequence[Row]) -> list[tuple[str, str]]:
    by_mode = {
        mode: _sum([row for row in rows if row["acknowledge"] == mode], "kills") for mode in ("stored", "upstream")
    }
    slowest = max((row["recovery_ms"][1] for row in rows if row.get("recovery_ms")), default=0.0)
    return [
        ("kills", f"{_sum(rows, 'kills')} ({by_mode['stored']} stored, {by_mode['upstream']} upstream)"),
        ("of them while starting", str(_sum(rows, "kills_while_starting"))),
        ("acknowledged between start and kill, lowest and highest block", _rates(rows)),
        ("slowest start", f"{slowest / 1000:.1f} s"),
        *_books(rows),
    ]


def _power(rows: Sequence[Row]) -> list[tuple[str, str]]:
    plain = _plain(rows)
    told = [
        ("power cuts", str(_sum(plain, "kills"))),
        ("acknowledged between start and cut, lowest and highest block", _rates(plain)),
        ("writes not synced at a cut", f"{_sum(plain, 'writes_unsynced'):,}"),
        ("of them lost, torn", f"{_sum(plain, 'writes_lost'):,}, {_sum(plain, 'writes_torn'):,}"),
        *_books(plain),
    ]
    return told + _mutations(rows)


def _disk(rows: Sequence[Row]) -> list[tuple[str, str]]:
    kinds = {
        "full": "no space (by the file layer)",
        "small": "no space (a file system of 48 MiB)",
        "sync": "EIO of fsync",
        "write": "EIO of write",
        "short": "writes that do half of what they should",
    }
    told = [
        (label, f"{sum(row['kind'] == kind and 'skipped' not in row for row in rows)} times")
        for kind, label in kinds.items()
    ]
    return [
        *told,
        ("refused with ESME_RMSGQFUL while full", f"{_sum(rows, 'refused_while_full'):,}"),
        ("acknowledged while full", str(_sum(rows, "acknowledged_while_full"))),
        ("exit statuses after EIO", ", ".join(sorted({str(r["exit_status"]) for r in rows if "exit_status" in r}))),
        ("slowest to accept again", f"{_most(rows, 'accepting_after_s'):g} s"),
        *_books(rows),
    ]


def _upgrade(rows: Sequence[Row]) -> list[tuple[str, str]]:
    slowest = max((row["recovery_ms"][1] for row in rows if row.get("recovery_ms")), default=0.0)
    ends = {how: sum(row["how"] == how for row in rows) for how in ("moment", "operation", "power")}
    clean = sum(bool(row["clean"]) for row in rows)
    return [
        ("stores of the version before", f"{len(rows)}: {len(rows) - clean} left by a kill, {clean} by a clean end"),
        (
            "first starts ended at a moment, behind an operation on a file, by a power cut",
            ", ".join(str(count) for count in ends.values()) + " stores",
        ),
        ("kills", str(_sum(rows, "kills"))),
        ("acknowledged by the version before", f"{_sum(rows, 'taken_over'):,}"),
        ("of them queued", f"{_sum(rows, 'queued'):,}"),
        ("sent and not answered", f"{_sum(rows, 'unanswered_at_smsc'):,}"),
        ("receipts that the SMSC still had to send", f"{_sum(rows, 'receipts_due'):,}"),
        ("receipts that waited for the customer", f"{_sum(rows, 'mail_waiting'):,}"),
        ("slowest start", f"{slowest / 1000:.1f} s"),
        *_books(rows),
    ]


def _script(rows: Sequence[Row]) -> list[tuple[str, str]]:
    scenes = list(dict.fromkeys(row["scene"] for row in rows))
    return [("scenes", "; ".join(scenes)), ("units", str(len(rows))), *_books(rows)]


def _flaps(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [
        ("flaps", str(_sum(rows, "flaps"))),
        ("load acknowledged, outages included", _rates(rows)),
        (
            "as a share of the capacity measured just before",
            ", ".join(f"{row['share']:.0%}" for row in rows if "share" in row),
        ),
        ("longest outage", f"{_most(rows, 'longest_outage_s'):g} s"),
        ("slowest drain, as a share of its outage", f"{_most(rows, 'slowest_drain'):g}"),
        *_books(rows),
    ]


def _mailbox(rows: Sequence[Row]) -> list[tuple[str, str]]:
    row = rows[-1]
    p99 = row.get("p99_ms", {})
    return [
        ("receipts waiting", f"{row['waiting']:,}"),
        ("memory at the start, most, bound", f"{row['rss_start_mib']}, {row['rss_most_mib']}, {row['bound_mib']} MiB"),
        ("start with all of them waiting", f"{row['restart_s']:g} s, {row['rss_restarted_mib']} MiB"),
        ("delivery", f"{row['delivery_s']:g} s"),
        ("another customer's p99", ", ".join(f"{name} {value:g} ms" for name, value in p99.items())),
        *_books(rows),
    ]


def _clock(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [
        ("jumps", f"{_sum(rows, 'jumps')}: an hour and a day, both ways, the last across a kill"),
        ("messages that expired", str(_sum(rows, "expired"))),
        *_books(rows),
    ]


def _privacy(rows: Sequence[Row]) -> list[tuple[str, str]]:
    row = rows[-1]
    commands, p99 = row.get("commands", {}), row.get("p99_ms", {})
    return [
        ("length, load", f"{row['seconds'] / 60:g} min, {row['rate']} msg/s"),
        ("commands", ", ".join(f"{name} {count}" for name, count in commands.items())),
        *([("commands that this version lacks", ", ".join(row["skipped"]))] if row.get("skipped") else []),
        ("records looked at in the end", f"{row['looked_at']:,}"),
        ("of them purged; numbers erased", f"{row['purged']:,}; {row['erased']}"),
        ("p99 of the answer", ", ".join(f"{name} {value:g} ms" for name, value in p99.items())),
        *_books(rows),
    ]


def _acts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    row = rows[-1]
    return [
        ("length, aim, submitted", f"{row['seconds'] / 60:g} min, {row['rate']} msg/s, {row['sent']:,}"),
        ("acts", ", ".join(f"{name} {count}" for name, count in row["acts"].items())),
        ("of them with something to change", str(row["acts_that_changed"])),
        ("kills, of them while an act on all that waits was done", f"{row['kills']}, {row['kills_midway']}"),
        ("slowest start", f"{row['recovery_ms'][1] / 1000:.1f} s"),
        ("messages ended by `expire`", f"{row['expired']:,}"),
        ("refused while the account was suspended, or behind an unbind", f"{_sum(rows, 'refused'):,}"),
        *_books(rows),
    ]


def _done(rows: Sequence[Row]) -> str:
    """What was done in all of them, and how often."""
    told: dict[str, int] = {}
    for row in rows:
        for what, count in row.get("done", {}).items():
            told[what] = told.get(what, 0) + count
    return ", ".join(f"{what} {count}" for what, count in sorted(told.items()))


def _plain(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "mutation" not in row]


def _mutations(rows: Sequence[Row]) -> list[tuple[str, str]]:
    told = []
    for row in rows:
        if "mutation" in row:
            caught = f"noticed in run {row['caught']}: {row.get('noticed', '')}" if "caught" in row else "NOT noticed"
            told.append((f"mutation: {row['mutation']}", caught))
    return told


def _nodes_of(rows: Sequence[Row]) -> str:
    counts = sorted({row["nodes"] for row in rows})
    return ", ".join(f"{count}: {_sum([r for r in rows if r['nodes'] == count], 'rounds')} rounds" for count in counts)


def _slowest(rows: Sequence[Row], name: str) -> float:
    return max((row[name][1] for row in rows if row.get(name)), default=0.0) / 1000


def _database(rows: Sequence[Row]) -> list[tuple[str, str]]:
    plain = _plain(rows)
    replicated = [row for row in plain if row["kind"] == "failover"]
    alone = [row for row in plain if row["kind"] == "restart"]
    return [
        ("nodes", _nodes_of(plain)),
        ("ends of a server without a replica", _done(alone)),
        ("ends of a primary, of its synchronous replica, of both", _done(replicated)),
        ("from the database taking writes to messages at each node, slowest", f"{_slowest(plain, 'serving_ms'):.1f} s"),
        ("refused with ESME_RMSGQFUL meanwhile", f"{_sum(plain, 'refused'):,}"),
        *_books(plain),
        *_mutations(rows),
    ]


def _several(rows: Sequence[Row]) -> list[tuple[str, str]]:
    plain = _plain(rows)
    taken = _sum(plain, "takeovers")
    took = [("take-overs, slowest", f"{taken}, {_slowest(plain, 'taken_ms'):.1f} s")] if taken else []
    return [
        ("nodes", _nodes_of(plain)),
        ("what was done", _done(plain)),
        *took,
        ("refused with ESME_RMSGQFUL", f"{_sum(plain, 'refused'):,}"),
        ("receipts that a customer got again", f"{_sum(plain, 'receipts_repeated'):,}"),
        *_books(plain),
        *_mutations(rows),
    ]


def _soak(rows: Sequence[Row]) -> list[tuple[str, str]]:
    row = rows[-1]
    ratios = row.get("ratios", {})
    return [
        ("length", f"{row['slices'] * row['slice_s'] / 60:g} min"),
        ("capacity, aim, load reached", f"{row['capacity']:,}, {row['paced_at']:,}, {row['rate']:,} msg/s"),
        ("messages", f"{row['messages']:,}"),
        ("last quarter to second, memory", f"{ratios.get('rss_mib', 0):g}"),
        ("last quarter to second, file descriptors", f"{ratios.get('fds', 0):g}"),
        ("last quarter to second, p99", f"{ratios.get('p99_ms', 0):g}"),
    ]


_TELL: Final[dict[str, tuple[str, Callable[[Sequence[Row]], list[tuple[str, str]]]]]] = {
    "kill": ("`kill -9` at random moments under load", _kill),
    "power": ("Power cut: what was not synced is lost, torn or reordered", _power),
    "disk": ("Disk full, I/O errors", _disk),
    "upgrade": ("An upgrade, killed at random moments", _upgrade),
    "script": ("An SMSC that misbehaves at each step", _script),
    "flaps": ("The link to the SMSC goes again and again", _flaps),
    "mailbox": ("Receipts for a customer who is not there", _mailbox),
    "clock": ("The clock jumps", _clock),
    "privacy": ("Rotation, purge, erasure and holds under load", _privacy),
    "acts": ("All that an operator can do, at random, under load and kills", _acts),
    "database": ("PostgreSQL killed under load, and a failover to its synchronous replica", _database),
    "nodes": ("`kill -9` of one of several nodes", _several),
    "frozen": ("A node that sleeps past its lease and wakes", _several),
    "cut": ("A node cut from its database, its customers, its carrier", _several),
    "spread": ("Receipts over all nodes, customers at one or on the move", _several),
    "soak": ("An hour at 70 % of capacity", _soak),
}


_JUDGED: Final = {
    "power": "A mutation is noticed by any finding after a cut, a store that does not open included; a run is three to eight"
    " cuts.",
    "database": f"Judged: messages within {database.SERVING:g} s of the database.",
    "nodes": f"Judged: taken over within {several.TAKEN_OVER:g} s.",
    "frozen": f"Judged: taken over within {several.TAKEN_OVER:g} s; then a node writes nothing more, and ends with"
    f" status {frozen.FENCED}.",
    "cut": f"Judged: a node without its database past the lease is taken over within {several.TAKEN_OVER:g} s, writes"
    f" nothing more and ends with status {frozen.FENCED}; nothing else makes a take-over.",
    "spread": "Judged: nobody gets a receipt twice, but where he was cut, or unbound, within two seconds of it.",
    "flaps": f"Judged: each backlog gone within twice its outage, an outage under {flaps.LEAST:g} s counting as that long;"
    f" {flaps.NEAR:g} s of load and 50 messages are always on their way, and messages of unknown fate wait by intention:"
    " neither is backlog.",
    "mailbox": "Judged: the bound, and p99 with the mailbox full against alone, and during delivery against the worse of"
    f" alone and filling: at most twice. A p99 under {mailbox.FEW_MS:g} ms is never a finding; filling itself is not judged.",
    "soak": f"Judged: each ratio at most {soak.FLAT:g}; a p99 that differs by at most {soak.P99_MS:g} ms is no finding,"
    " whatever its ratio.",
}


def machine() -> str:
    """Cores and memory, no more."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory"


def _public(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("kept", "found")}


def _section(name: str, rows: Sequence[Row]) -> list[str]:
    title, tell = _TELL[name]
    lines = [f"## {title}", ""]
    if not rows:
        return [*lines, f"Not run yet: `python -m tests.torture {name}`.", ""]
    commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in rows))
    dates = sorted(row["date"][:10] for row in rows)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    seeds = ", ".join(dict.fromkeys(str(row["base_seed"]) for row in rows))
    minutes = sum(row["seconds"] for row in rows) / 60
    wrong = [f"{row['unit']} (seed {row['base_seed']}): {fault}" for row in rows for fault in row["faults"]]
    complete = [row for row in rows if "sent" in row or "curve" in row or "kills" in row]
    lines += [f"`python -m tests.torture {name}`, seed {seeds}, commit {commits}, {when}, {minutes:.0f} minutes.", ""]
    if complete:
        lines += ["| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in tell(complete)), ""]
    if name in _JUDGED:
        lines += [_JUDGED[name], ""]
    if name == "soak" and complete:
        lines += ["![Memory, file descriptors and p99 of each minute](torture-soak.svg)", ""]
    if wrong:
        return [*lines, f"**{len(wrong)} findings:**", "", *(f"- {each}" for each in wrong), ""]
    if any(row["form"] == "short" for row in rows):
        return [*lines, "Short form: nothing was lost; times and flatness were not judged.", ""]
    return [*lines, "No findings.", ""]


def write_report(results: Path, docs: Path) -> None:
    """Writes the page, the figures and, after a soak, its picture."""
    found = {name: Results(results, name).rows() for name in CAMPAIGNS}
    lines = [_HEAD, f"Machine: {machine()}.", ""]
    for name, rows in found.items():
        lines += _section(name, rows)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "torture.md").write_text("\n".join(lines).rstrip() + "\n")
    public = {name: [_public(row) for row in rows] for name, rows in found.items()}
    text = json.dumps({"machine": machine(), "campaigns": public}, indent=1)
    (docs / "torture.json").write_text(text + "\n")
    curve = next((row["curve"] for row in reversed(found["soak"]) if row.get("curve")), None)
    if curve:
        curves = [
            Curve("Resident memory, MiB", [each["rss_mib"] for each in curve]),
            Curve("File descriptors", [each["fds"] for each in curve]),
            Curve("p99 from submit_sm to its answer, ms", [each["p99_ms"] for each in curve]),
            Curve("p99 from submit_sm to its receipt, ms", [each["receipt_p99_ms"] for each in curve]),
        ]
        (docs / "torture-soak.svg").write_text(chart(curves, f"one value for each of {len(curve)} slices"))
