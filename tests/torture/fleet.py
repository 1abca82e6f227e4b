"""Several daemons on one database, judged as one (`load.Judged`)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.torture.cluster import Cluster
from tests.torture.daemon import Daemon
from tests.torture.plan import Options
from tests.torture.record import Record


class Fleet:
    """See the module. ``nodes``: by their numbers, from 0."""

    def __init__(
        self,
        directory: Path,
        options: Options,
        cluster: Cluster,
        smscs: Sequence[int],
        accounts: list[dict[str, Any]],
        *,
        urls: Sequence[str] | None = None,
        mutation: str | None = None,
        **sections: Any,
    ) -> None:
        """smscs: for each node the port of the carrier as it is reached from there. urls: of the database, likewise; the
        cluster's own by default."""
        self.cluster = cluster
        self.nodes: list[Daemon] = []
        for number, port in enumerate(smscs):
            url = cluster.url if urls is None else urls[number]
            place = directory / f"n{number}"
            store = {"path": "store", "url": url}
            made = Daemon(place, options, port, accounts, mutation=mutation, store=store, node=number, **sections)
            if self.nodes:
                made.config["keys"] = {"file": str(self.nodes[0].directory / "keys" / "kek")}
                made.write_config()
            self.nodes.append(made)

    def start(self) -> None:
        """Makes the keys and what else stays on each machine, starts all, and waits until each is ready and its links stand."""
        for each in self.nodes:
            each.keys()
            each.launch()
            each.await_ready()
        for each in self.nodes:
            each.wait_links("sim", 1)

    def up(self) -> list[Daemon]:
        """Those that run."""
        return [each for each in self.nodes if each.process is not None and each.process.poll() is None]

    def kill(self) -> None:
        """kill -9 of all."""
        for each in self.nodes:
            each.kill()

    # -- judged as one -------------------------------------------------------------------------------------------------

    def waiting(self) -> int:
        """What they have to bring somewhere, and what nobody holds."""
        up = self.up()
        return sum(each.waiting() for each in up) + (self.cluster.unheld() if up else 0)

    def ends(self) -> list[str]:
        """One after the other."""
        return [f"node {number}: {fault}" for number, each in enumerate(self.nodes) for fault in each.ends()]

    def record(self) -> Record:
        """Of all."""
        return self.nodes[0].record()

    def verifies(self) -> list[str]:
        """Each has a chain of its own."""
        return [f"node {number}: {fault}" for number, each in enumerate(self.nodes) for fault in each.verifies()]

    def complaints(self) -> list[str]:
        """Of each."""
        return [f"node {number}: {fault}" for number, each in enumerate(self.nodes) for fault in each.complaints()]


def keep(cluster: Cluster, fleet: Fleet, directory: Path) -> None:
    """Something was found: the files of the database stay, with those of the nodes."""
    fleet.kill()
    shutil.rmtree(directory / "database", ignore_errors=True)
    cluster.keep(directory / "database")
