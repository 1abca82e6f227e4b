"""Two nodes on one database, each with a store of its own, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smppd.ids import EPOCH_MS
from smppd.store.postgres.installation import PostgresInstallation
from tests.store.builder import Builder
from tests.store.houses import PostgresHouse


class NodeHouse(PostgresHouse):
    """A house as one of the nodes sees it; its directory is the node's own machine's."""

    def __init__(self, house: PostgresHouse, directory: Path, node: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._parts = []
        self.directory = directory
        self.server = house.server
        self.place = PostgresInstallation(house.server, directory, node=node)


class NodeBuilder(Builder):
    """A store under construction, of one node. `behind`: seconds by which its clock is."""

    def __init__(self, house: PostgresHouse, directory: Path, node: int, *, sealed: bool = False) -> None:
        self.node = node
        self.behind = 0.0
        super().__init__(NodeHouse(house, directory, node), sealed=sealed)

    def new_id(self) -> int:
        drawn = (int((self.now - self.behind) * 1000) - EPOCH_MS << 22) | self.node << 16
        self._id = max(self._id + 1, drawn)
        return self._id


@contextmanager
def pair(directory: Path, *, sealed: bool = False) -> Iterator[tuple[NodeBuilder, NodeBuilder]]:
    """Nodes 1 and 2 of a database that is dropped behind them."""
    house = PostgresHouse(directory / "store")
    made: list[NodeBuilder] = []
    try:
        for node in (1, 2):
            made.append(NodeBuilder(house, directory / f"node{node}", node, sealed=sealed))
        yield made[0], made[1]
    finally:
        for one in made:
            one.close()
        house.ends()
