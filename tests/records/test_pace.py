"""How many rows a step takes: more while nobody waits for it, fewer where somebody does."""

from __future__ import annotations

import pytest

from smppd.records.pace import LEAST, LOCKED, MOST, WORK, Pace


def test_it_grows_while_steps_are_full_and_quick() -> None:
    pace = Pace()
    for _ in range(20):
        pace.took(LOCKED / 10, WORK / 10, full=True)
    assert pace.rows == MOST
    pace = Pace()
    pace.took(0, 0, full=False)
    assert pace.rows == LEAST, "a step that had no more says nothing about more"


@pytest.mark.parametrize(("locked", "work"), [(3 * LOCKED, 0), (0, 3 * WORK)])
def test_it_shrinks_where_somebody_waits(locked: float, work: float) -> None:
    pace = Pace()
    pace.rows = 300
    pace.took(locked, work, full=True)
    assert pace.rows in (99, 100)
    for _ in range(20):
        pace.took(locked, work, full=True)
    assert pace.rows == LEAST


def test_it_stays_where_it_is_as_it_should_be() -> None:
    pace = Pace()
    pace.rows = 100
    pace.took(LOCKED * 0.8, 0, full=True)
    assert pace.rows == 100
