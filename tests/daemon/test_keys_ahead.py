"""Keys that are there before a message needs them."""

from __future__ import annotations

from typing import Any

from smppd.daemon.keys_ahead import EVERY, KeysAhead
from smppd.vault.keys import Part
from tests.net.links import account

WALL = 1_790_000_000


class Ring:
    """Notes what is prepared."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Part, int]] = []
        self.retained: dict[tuple[str, Part], float] = {}

    def prepare(self, name: str, part: Part, when: int, retain: float) -> None:
        self.made.append((name, part, when - WALL))
        self.retained[name, part] = retain


class World:
    def __init__(self, *accounts: Any) -> None:
        self.now = 1000.0
        self.ring = Ring()
        ring: Any = self.ring
        self.keys = KeysAhead(ring, accounts, lambda: WALL, lambda: self.now)

    def names(self) -> list[str]:
        made, self.ring.made = self.ring.made, []
        return sorted({name for name, _, _ in made})

    def turns(self) -> list[int]:
        """How many accounts each turn makes keys for, until nothing is left."""
        found: list[int] = []
        while self.keys.behind and len(found) < 10:
            self.keys.make_some()
            found.append(len(self.names()))
        return found


def test_those_of_now_and_of_the_next_look_and_no_body_key_where_none_is_kept() -> None:
    world = World(account("acme"), account("hidden", content="hide"))
    world.keys.prepare()
    ahead = int(EVERY) + 60
    assert sorted(world.ring.made) == sorted(
        [("acme", part, when) for part in (Part.NUMBERS, Part.BODY) for when in (0, ahead)]
        + [("hidden", Part.NUMBERS, when) for when in (0, ahead)]
    )
    assert world.turns() == []


def test_they_are_looked_at_again_and_a_few_accounts_at_a_time() -> None:
    world = World(*[account(f"a{number:02d}") for number in range(45)])
    world.keys.prepare()
    assert len(world.names()) == 45
    world.keys.check_due(world.now + EVERY)
    assert world.turns() == []
    world.now += EVERY + 1
    world.keys.check_due(world.now)
    assert world.turns() == [20, 20, 5]
    world.keys.check_due(world.now + 1)
    assert world.turns() == []


def test_a_reload_brings_new_accounts() -> None:
    world = World(account("acme"))
    world.keys.prepare()
    world.names()
    world.keys.use([account("acme"), account("new")])
    assert world.turns() == [2]


def test_they_are_of_the_periods_in_which_things_are_kept_really() -> None:
    world = World(account("acme"), account("founded", basis="contract"))
    world.keys.prepare()
    day = 86400.0
    assert world.ring.retained == {
        ("acme", Part.BODY): day,
        ("acme", Part.NUMBERS): 30 * day,
        ("founded", Part.BODY): 30 * day,
        ("founded", Part.NUMBERS): 30 * day,
    }
