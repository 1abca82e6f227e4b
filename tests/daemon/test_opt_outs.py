"""The daemon's side of `smppd optout`, and the trail of what handsets say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smppd.control.wire import CHANGES, ControlError
from smppd.daemon.opt_outs import TrailOfWords, opt_out_requests
from smppd.events import AuditEvent
from smppd.records.looks import key_of
from smppd.relay.receipts.opt_outs import Change
from smppd.store.opening import embedded
from smppd.store.sqlite.keys import KeyStore
from tests.relay.fakes import World
from tests.vault.rows import kek

KEY = "ab" * 16
GOOD = [KEY, "acme", "*", 1, "command", True]


def test_a_change_is_made_and_told_when_it_is_durable() -> None:
    here = World()
    requests = opt_out_requests(here.relay)
    job = requests["optout change"]({"changes": [GOOD], "decided": ["7"]}, 0)
    assert isinstance(job, dict)
    assert requests["optout state"](job, 0) == {"over": False, "stored": False}
    here.commits()
    assert requests["optout state"](job, 0) == {"over": True, "stored": True}
    assert here.register.has(bytes.fromhex(KEY))
    lifted = requests["optout change"]({"changes": [[*GOOD[:5], False]], "decided": []}, 0)
    here.store.fail()
    assert isinstance(lifted, dict) and requests["optout state"](lifted, 0) == {"over": True, "stored": False}
    assert here.register.has(bytes.fromhex(KEY))


@pytest.mark.parametrize(
    "changes",
    [
        None,
        [1],
        [[]],
        [["zz", *GOOD[1:]]],
        [["ab", *GOOD[1:]]],
        [[KEY, 1, *GOOD[2:]]],
        [[KEY, "a" * 201, *GOOD[2:]]],
        [[*GOOD[:3], -1, *GOOD[4:]]],
        [[*GOOD[:3], "now", *GOOD[4:]]],
        [[*GOOD[:5], 1]],
        [GOOD] * (CHANGES + 1),
    ],
)
def test_what_is_no_request_changes_nothing(changes: Any) -> None:
    here = World()
    with pytest.raises(ControlError):
        opt_out_requests(here.relay)["optout change"]({"changes": changes, "decided": []}, 0)
    with pytest.raises(ControlError):
        opt_out_requests(here.relay)["optout state"]({"job": 1}, 0)
    assert len(here.register) == 0


def test_the_trail_has_the_number_under_the_key_of_the_month(tmp_path: Path) -> None:
    rows = KeyStore(tmp_path)
    entries: list[Any] = []
    audit: Any = lambda event, facts: entries.append((event, facts))  # noqa: E731
    runs: list[Any] = []

    class Worker:
        def run(self, name: str, work: Any, then: Any) -> None:
            runs.append(name)
            then(work(), None)

    worker: Any = Worker()
    told = TrailOfWords(embedded(tmp_path), kek(), kek, audit, worker)
    told(Change("acme", "#1", b"447700900123", "stop", True))
    told.tick()
    assert runs == [], "the month is not over"
    told._key.month = "2000-01"
    told.tick()
    assert runs == ["looks"]
    told(Change("acme", "#1", b"447700900123", "start", False))
    import time

    month = key_of(kek(), rows, time.time())
    rows.close()
    (first, one), (_, other) = entries
    assert first is AuditEvent.OPT_OUT and one["number"] == other["number"] == month.hash(b"447700900123")
    assert (one["action"], one["word"], other["action"]) == ("stop", "stop", "start") and "7700" not in str(entries)
