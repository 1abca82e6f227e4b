"""What `log verify` says of a log, and of the logs of other nodes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

from smppd.cli.commands import CommandError, say
from smppd.ids import id_time
from smppd.office.access import Access
from smppd.office.messages import iso
from smppd.records.consistency import ANCHORS, anchor_faults, cross_faults
from smppd.records.erasure_journal import ErasedIds
from smppd.records.verify import LogVerdict, verify_log
from smppd.store.erasures import ErasureRows
from smppd.store.installation import OtherNode


def end_of(verdict: LogVerdict) -> str:
    """How far the seals reach: what is behind the last one can be cut off and nobody can tell."""
    if verdict.seal is None:
        return "It has no seals yet: the daemon of this version begins them with its next start."
    plain = verdict.rows - verdict.keyed
    older = f" Its first {plain} rows are of an older version and were not under a key then." if plain else ""
    number, at = verdict.seal[0], iso(verdict.sealed_ms)
    if verdict.clean:
        return f"It is sealed to its end, a clean one, with checkpoint {number} at {at}.{older}"
    return (
        f"Checkpoint {number} at {at} is the last; {verdict.unsealed} rows behind it are not sealed: the daemon runs, or it was"
        f" killed.{older}"
    )


def as_json(verdict: LogVerdict, first: str | None) -> dict[str, Any]:
    """A verdict for JSON. first: when its oldest row was begun."""
    fields = verdict._asdict() | {"first": first, "anchor": verdict.anchor.hex() if verdict.anchor else None}
    fields["first_bad"] = None if verdict.first_bad is None else f"{verdict.first_bad:016x}"
    fields["anchor_row"] = None if verdict.anchor_row is None else f"{verdict.anchor_row:016x}"
    fields["seal"] = None if verdict.seal is None else f"{verdict.seal[0]}:{verdict.seal[1].hex()}"
    fields["last"] = None if verdict.last is None else f"{verdict.last[0]:016x}:{verdict.last[1].hex()}"
    fields["sealed"] = iso(verdict.sealed_ms) if verdict.sealed_ms else None
    del fields["sealed_ms"]
    return fields


def other_nodes(access: Access, only: int | None) -> list[OtherNode]:
    """The other nodes whose logs are to be verified: all, or one of them. CommandError."""
    others = access.store.others()
    if only is None:
        return others
    found = [one for one in others if one.number == only]
    if not found and only != access.store.node:
        raise CommandError(f"there is no node {only}", 2)
    return found


class Erased:
    """Records that were erased: by the journal of this machine or, of other nodes, by what the store knows. ``elsewhere``: how
    many the journal of this machine does not name."""

    def __init__(self, journal: ErasedIds) -> None:
        self._journal = journal
        self.rows: ErasureRows | None = None
        self.elsewhere = 0

    def anchors(self, node: int) -> list[object]:
        """What purges say of where a node's log begins, where there are several."""
        found: list[object] = [] if self.rows is None else self.rows.remembered(f"{ANCHORS} {node}", [])
        return found

    def __contains__(self, record: object) -> bool:
        if record in self._journal:
            return True
        if self.rows is None or not isinstance(record, int) or not self.rows.erased(record, record):
            return False
        self.elsewhere += 1
        return True


class Other(NamedTuple):
    """Another node, and what its log is found to be."""

    node: OtherNode
    verdict: LogVerdict

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        verdict = self.verdict
        first = None if verdict.first is None else iso(id_time(verdict.first) * 1000)
        facts = {"node": self.node.number, "running": self.node.at_work, "heir": self.node.heir}
        return facts | as_json(verdict, first)

    def say(self) -> None:
        """For people."""
        verdict, number = self.verdict, self.node.number
        if not verdict.ok:
            say(f"Node {number}: the log is NOT sound: {verdict.reason} ({verdict.rows} good rows).")
            for fault in verdict.faults[1:]:
                say(f"Also of node {number}: {fault}.")
            return
        print(f"Node {number}: sound, {verdict.reason}; {verdict.checkpoints} signed checkpoints. {self._end()}")

    def _end(self) -> str:
        node, verdict = self.node, self.verdict
        if verdict.clean or verdict.seal is None or node.at_work:
            return end_of(verdict)
        heir = f"node {node.heir} has taken over what it had" if node.heir is not None else "what it had waits for it"
        ended = f"It was killed, and {heir}" if node.heir is not None or node.holds else "It was killed"
        return (
            f"{ended}: the last {verdict.unsealed} rows are not sealed, behind checkpoint {verdict.seal[0]} at"
            f" {iso(verdict.sealed_ms)}."
        )


def of_node(access: Access, node: OtherNode, erased: Erased, progress: Callable[[float], object]) -> Other:
    """Its audit trail is on its own machine: what that says is not asked here."""
    store, keys = access.store, access.chain_keys
    with closing(store.states(node.number)) as states:
        faults = cross_faults(states, keys, None)
    with closing(store.records(node.number)) as records:
        verdict = verify_log(records, id_time, keys.public, progress, keys, erased)
    faults += anchor_faults(verdict, None, keys, erased.anchors(node.number))
    return Other(node, verdict.with_faults(faults))
