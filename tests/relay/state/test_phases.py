"""The phases' numbers and sets stand for what they are called."""

from __future__ import annotations

import pytest

from smppd.relay.state import phase, phases
from smppd.relay.state.phase import Phase

_SETS = {
    "WAITING": (Phase.HELD, Phase.QUEUED, Phase.PINNED, Phase.RELEASING, Phase.READY, Phase.SENT, Phase.UNKNOWN),
    "RESERVING": (Phase.RELEASING, Phase.READY, Phase.SENT),
    "FILED": (Phase.HELD, Phase.QUEUED, Phase.PINNED),
    "RELEASED": (Phase.RELEASING, Phase.READY, Phase.SENT, Phase.UNKNOWN),
    "OUT": (Phase.SENT, Phase.UNKNOWN, Phase.SUBMITTED, Phase.SHELVED),
    "WITH_CARRIER": (Phase.SUBMITTED, Phase.SHELVED),
    "IS_IN_LANE": (Phase.QUEUED, Phase.ROW),
    "IS_HELD": (Phase.HELD,),
    "IS_RELEASING": (Phase.RELEASING,),
    "IS_SENT": (Phase.SENT,),
    "IS_ROW": (Phase.ROW,),
}


@pytest.mark.parametrize(("name", "members"), _SETS.items())
def test_a_set_has_the_phases_that_it_says(name: str, members: tuple[Phase, ...]) -> None:
    assert getattr(phase, name) == sum(1 << one for one in members)


def test_the_numbers_are_those_of_the_phases() -> None:
    numbers = {
        name: value for name, value in vars(phases).items() if isinstance(value, int) and name[1:] in Phase.__members__
    }
    assert numbers == {f"_{name}": Phase[name] for name in (one[1:] for one in numbers)} and len(numbers) >= 10
    assert list(phase.NAMES) == list(range(len(Phase)))
