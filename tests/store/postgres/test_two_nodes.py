"""Random lives of two nodes on one database, against what should be there: every row is held by one node or by nobody, none is
lost or there twice, whoever dies, ends, tidies or begins again in between."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from smppd.store.api import Kind, Renewed
from tests.store.postgres.inheriting import entries, lives, nodes, take_over, values
from tests.store.stands import PostgresStand
from tests.store.test_interface import claim, ids, page, place, row

_NODES = st.integers(0, 1)
_IDS = st.integers(1, 9)


class TwoNodes(RuleBasedStateMachine):
    """``rows``: id -> who holds it, None for nobody; ``journals``: what each node has in its journal."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, int | None] = {}
        self.journals: tuple[list[int], list[int]] = ([], [])
        self.stands: list[PostgresStand] = []

    @initialize()
    def begins(self) -> None:
        self.stands = nodes(2)

    def of(self, node: int | None) -> list[int]:
        return sorted(one for one, holder in self.rows.items() if holder == node)

    @rule(node=_NODES, identity=_IDS, shared=st.booleans())
    def puts(self, node: int, identity: int, shared: bool) -> None:
        if identity in self.rows or identity in [*self.journals[0], *self.journals[1]]:
            return
        stand = self.stands[node]
        stand.store.batch.put.append(row(identity)._replace(shared=shared))
        stand.commits()
        self.rows[identity] = None if shared else node

    @rule(node=_NODES, identity=_IDS)
    def opens(self, node: int, identity: int) -> None:
        if identity in self.rows or identity in [*self.journals[0], *self.journals[1]]:
            return
        stand = self.stands[node]
        stand.tenant.adds(identity)
        stand.store.batch.accepts.append(b"%d;" % identity)
        stand.commits()
        self.journals[node].append(identity)

    @rule(node=_NODES, limit=st.integers(1, 4))
    def adopts(self, node: int, limit: int) -> None:
        """Claims, and writes into its journal what it got."""
        stand = self.stands[node]
        got = claim(stand, limit=limit)
        assert got == self.of(None)[:limit]
        stand.tenant.adds(*got)
        for one in got:
            stand.store.batch.marks.append(b"%d;" % one)
            stand.store.batch.drop.append(place(row(one)))
            del self.rows[one]
            self.journals[node].append(one)
        stand.commits()

    @rule(node=_NODES, wanted=st.lists(_IDS, max_size=3, unique=True))
    def claims(self, node: int, wanted: list[int]) -> None:
        got = claim(self.stands[node], wanted)
        assert got == [one for one in self.of(None) if one in wanted]
        self.rows |= dict.fromkeys(got, node)

    @rule(node=_NODES)
    def hands_over(self, node: int) -> None:
        stand = self.stands[node]
        stand.store.batch.handed.append((Kind.QUEUE, "acme"))
        stand.commits()
        self.rows |= dict.fromkeys(self.of(node), None)

    @rule(node=_NODES)
    def ends_things(self, node: int) -> None:
        stand = self.stands[node]
        for one in self.of(node)[:2]:
            stand.store.batch.drop.append(place(row(one)))
            del self.rows[one]
        for one in self.journals[node][:1]:
            stand.tenant.ends(one)
            stand.store.batch.marks.append(b"-%d;" % one)
            self.journals[node].remove(one)
        stand.commits()

    @rule(node=_NODES)
    def tidies(self, node: int) -> None:
        stand = self.stands[node]
        tenant = stand.tenant
        renew = tenant.renew

        def writes(place: int, most: int, octets: int, *, rows: bool) -> Renewed:
            before = list(tenant.live[place])
            done = renew(place, most, octets, rows=rows)
            stand.store.batch.marks += [b"%d;" % one for one in before if one not in tenant.live.get(place, ())]
            return done

        tenant.renew = writes  # type: ignore[method-assign]
        assert stand.tidies()
        stand.commits()
        del tenant.renew

    @rule(node=_NODES)
    def restarts(self, node: int) -> None:
        self.begins_again(node)

    @rule(node=_NODES, clean=st.booleans())
    def is_taken_over(self, node: int, clean: bool) -> None:
        stand, heir = self.stands[node], self.stands[1 - node]
        ((epoch, beat),) = values(stand, "SELECT epoch, beat FROM leases WHERE node = $1", node)
        if clean:
            took = take_over(stand)
            stand.store.close()
            taken = took.own(1 - node, heir.store.epoch)
        else:
            taken = take_over(heir, entries).of(node, int(str(epoch)), int(str(beat)))
        assert taken is not None and taken.unreadable == 0
        self.rows |= dict.fromkeys(self.of(node), None) | dict.fromkeys(self.journals[node], None)
        self.journals[node].clear()
        if clean:
            stand._opens()
        self.begins_again(node)

    def begins_again(self, node: int) -> None:
        stand = self.stands[node]
        stand.starts()
        stand.tenant.live = {segment: [] for segment in stand.tenant.live}
        stand.tenant.begin(stand.tenant.place)
        lives(stand)
        alive: dict[int, None] = {}
        for one in (int(entry) for _, block in stand.blocks for entry in block.split(b";")[:-1]):
            alive.pop(-one, None) if one < 0 else alive.setdefault(one)
        assert sorted(alive) == sorted(self.journals[node])
        for one in alive:  # written anew, as the relay has it: the segments before have nothing that lives
            stand.store.batch.marks.append(b"%d;" % one)
        stand.tenant.adds(*alive)
        stand.commits()

    @invariant()
    def all_is_where_it_should_be(self) -> None:
        for node, stand in enumerate(self.stands):
            assert ids(page(stand)) == self.of(node)
            assert ids(stand.asks("peek", Kind.QUEUE, "acme", 0, 99)) == self.of(None)
            assert stand.store.damaged == 0
        if self.stands:
            needed = "SELECT segment FROM cold UNION SELECT segment FROM journal"
            lost = f"SELECT 1 FROM ({needed}) AS used WHERE segment_scope(segment) NOT IN (SELECT scope FROM keys)"
            assert values(self.stands[0], lost) == [], "each has its key"

    def teardown(self) -> None:
        for stand in reversed(self.stands):
            stand.ends()


TestTwoNodes: Any = TwoNodes.TestCase
TestTwoNodes.settings = settings(
    max_examples=4, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
