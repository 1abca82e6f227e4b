"""Acts at random among all that peers do: nothing acknowledged is lost, nothing is sent twice unflagged, every count and index
is what it would be if made anew."""

from __future__ import annotations

from typing import Any

from hypothesis import settings as runs
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from smppd.message import State
from smppd.protocol.wire import Status
from smppd.relay.acting import EXPIRE, MOVE, REQUEUE, Acted, Waiting
from tests.relay.fakes import settings
from tests.relay.test_limits import ZETA
from tests.relay.test_world import NAMES, WAYS, Peers

ROUTES: list[list[dict[str, Any]]] = [
    [{"upstreams": ["a", "b"]}],
    [{"upstreams": ["a"]}],
    [{"upstreams": ["b"]}],
    [{"upstreams": ["b", "a"]}],
]


class ActedOn(Peers):
    """The peers of `test_world`, and an operator. What stands is put up again after a restart, as the daemon does."""

    def __init__(self) -> None:
        super().__init__()
        self.paused: set[str] = set()
        self.standing: dict[int, Waiting] = {}
        self.later: set[tuple[int, int]] = set()
        self.last: dict[int, tuple[int, int]] = {}

    @rule(name=WAYS)
    def is_paused(self, name: str) -> None:
        self.paused.add(name)
        self.world.relay.set_upstream_act(name, "paused")

    @rule(name=WAYS)
    def is_unpaused(self, name: str) -> None:
        self.paused.discard(name)
        self.world.relay.set_upstream_act(name, "")

    def begins(self, wanted: Waiting) -> None:
        self.number += 1
        number = self.number
        self.standing[number] = wanted

        def over(acted: Acted) -> None:
            assert not acted.failed
            del self.standing[number]

        self.world.relay.act_on_waiting(wanted, over)

    @rule(name=NAMES, what=st.sampled_from([EXPIRE, REQUEUE, REQUEUE]), ago=st.sampled_from([0.0, 60.0]))
    def acts_on_an_account(self, name: str, what: str, ago: float) -> None:
        self.begins(Waiting(what, self.world.relay.last_id(ago), name))

    @rule(name=WAYS, what=st.sampled_from([EXPIRE, REQUEUE, MOVE, MOVE]))
    def acts_on_an_upstream(self, name: str, what: str) -> None:
        to = ("b" if name == "a" else "a") if what == MOVE else ""
        self.begins(Waiting(what, self.world.relay.last_id(), upstream=name, to=to))

    @rule(routes=st.sampled_from(ROUTES))
    def takes_other_routes(self, routes: list[dict[str, Any]]) -> None:
        new = settings(more=[ZETA], hot=6, acme={"expire_after": "1h"}, routes=routes)
        self.world.settings = new
        self.world.reloads(new)

    @rule()
    def restarts(self) -> None:
        self.looks()
        standing = dict(self.standing)  # the process dies with what they have done so far
        super().restarts()
        self.standing.clear()
        self.later.clear()
        for name in self.paused:
            self.world.relay.set_upstream_act(name, "paused")
        for wanted in standing.values():
            self.begins(wanted)

    @rule(name=WAYS, count=st.integers(1, 5), status=st.sampled_from([0, 0, Status.RTHROTTLED]))
    def answers(self, name: str, count: int, status: int) -> None:
        self.looks()
        link = self.links.get(name)
        if link is not None and status:
            self.later |= {(id(link), sm.sequence) for sm in link.waiting[:count]}
        super().answers(name, count, status)

    def looks(self) -> None:
        """Each attempt after the first is flagged, unless the carrier said "later" to the one before."""
        for link in self.world.links:
            for identity, flagged, sequence in link.attempts:
                before = self.last.get(identity)
                assert flagged or before is None or before in self.later, "sent twice, and not flagged"
                self.last[identity] = (id(link), sequence)
            link.attempts.clear()

    @invariant()
    def nothing_is_sent_twice_unflagged(self) -> None:
        self.looks()

    def teardown(self) -> None:
        for name in ("a", "b"):
            self.is_unpaused(name)
        self.takes_other_routes(ROUTES[0])
        # What a carrier may have comes back to its lane only when nobody knows what became of it.
        for name in list(self.links):
            self.is_cut(name)
        self.world.passes(200, step=20)
        # All that waits for b alone goes by a, as the peers' own end expects.
        for name in ("acme", "zeta"):
            self.begins(Waiting(REQUEUE, self.world.relay.last_id(), name))
        super().teardown()
        assert not self.standing, "each act has come to its end"
        passing = {State.STORED, State.UNANSWERED, State.RESENT}
        for identity in self.ids:
            assert set(self.world.states(identity)) - passing, "acknowledged and lost"


TestActedOn: Any = ActedOn.TestCase
TestActedOn.settings = runs(deadline=None, max_examples=25, stateful_step_count=30)
