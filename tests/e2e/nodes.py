"""Several daemons on one database: each a `Gateway` with a number, a directory and ports of its own, one KEK for all."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from tests.e2e.harness import Gateway, Upstream, account, new_database, wait_for

DEATH: Final = 30.0
"""Seconds within which a dead node is taken over, on a busy machine; ten is what it takes by itself."""


class Node(Gateway):
    """One of them."""

    number = 0

    def freeze(self) -> None:
        """SIGSTOP of all its processes."""
        os.killpg(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        os.killpg(self.pid, signal.SIGCONT)

    def said(self, *words: str) -> Any:
        """What a command answers as JSON."""
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def finish(self) -> None:
        """See `Gateway`; and nothing of the store was told to be not what was left there."""
        super().finish()
        assert "not the one that was left" not in self.log_text(), self.log_text()[:3000]

    def life_of(self, number: int) -> str | None:
        """How another one stands, as this one sees it."""
        code, text = self.http("/status")
        nodes = json.loads(text).get("nodes", []) if code == 200 else []
        return next((one["life"] for one in nodes if one["node"] == number), None)


class Nodes:
    """Nodes 1, 2, ... of one service. Left, those that run are stopped, and each has to end well."""

    def __init__(
        self,
        directory: Path,
        certificates: Path,
        upstreams: list[Upstream],
        *accounts: dict[str, Any],
        count: int = 2,
        **sections: Any,
    ) -> None:
        url = new_database()
        self.nodes = []
        for number in range(1, count + 1):
            mine = {"store": {"path": "store", "url": url}, "keys": {"file": str(directory / "kek")}, "node": number}
            place = directory / f"node{number}"
            made = Node(place, certificates, upstreams, list(accounts) or [account()], **{**mine, **sections})
            made.number = number
            self.nodes.append(made)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            made = self.nodes[0].command("keys", "init")
            assert made.returncode == 0, made.stderr
            for one in self.nodes:
                self._stack.push(one)
            with ThreadPoolExecutor(len(self.nodes)) as side_by_side:
                for started in [side_by_side.submit(one.start) for one in self.nodes]:
                    started.result()
            self.see_each_other()
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number - 1]

    def see_each_other(self) -> None:
        """Waits until each sees all the others live."""
        wanted = len(self.nodes)
        wait_for(
            "that the nodes see each other",
            lambda: all(one.metric("smppd_nodes", life="live") == wanted for one in self.nodes),
        )
