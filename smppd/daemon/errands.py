"""What a command, or one node's daemon, has the daemons of the other nodes do: each speaks to its own machine's daemon only, by
the control socket, and the nodes share nothing but the store.

An errand is a sealed document for one node, and so is the answer. A daemon looks once a second, and at once when it is told.
Whoever asks takes both away behind it; what he leaves when he is killed ends by itself within `LASTS` seconds.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple

from smppd.control.wire import ControlError
from smppd.daemon.worker import Worker
from smppd.metrics import Metrics
from smppd.store.api import StoreError
from smppd.store.documents import Documents
from smppd.store.installation import Installation
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import VaultError
from smppd.vault.seal import SealError

log = logging.getLogger("smppd.nodes")
TOPIC: Final = "errands"
KIND: Final = "errand"
ANSWERS: Final = "errand answer"
"""Kinds of documents; their names: node, hyphen, token."""
LASTS: Final = 900
LOOK: Final = 1.0
DOWN: Final = 45.0
"""Seconds for which one waits until a node that is gone was taken over, or is there again."""
_ERROR: Final = "error"
_FAILED: Final = 60.0


class ErrandError(ControlError):
    """Not every node has done it; the text says which, and what to do."""


class Errand(NamedTuple):
    """One for this node. what: as `Errands.ask` was given it."""

    token: str
    what: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Errand {self.token}>"


class Errands:
    """The errands of a store. For one thread. Methods raise StoreError and VaultError."""

    def __init__(self, documents: Documents, sealer: DocumentSealer, wall: Callable[[], float] = time.time) -> None:
        """documents: closed with this."""
        self._documents = documents
        self._sealer = sealer
        self._wall = wall

    def close(self) -> None:
        """Lets the store go."""
        self._documents.close()

    def ask(self, nodes: Collection[int], what: Mapping[str, Any]) -> str:
        """Leaves an errand for some nodes; its token."""
        token = secrets.token_hex(8)
        for node in nodes:
            self._put(KIND, f"{node}-{token}", what)
        return token

    def of(self, node: int) -> Iterator[Errand]:
        """What is left for a node and not answered."""
        answered = {name for name, _sealed in self._documents.all(ANSWERS)}
        for name, sealed in self._documents.all(KIND):
            number, _, token = name.partition("-")
            if number == str(node) and name not in answered:
                try:
                    what = self._sealer.open(KIND, name, sealed)
                except SealError:
                    continue  # somebody altered it: whoever asked waits in vain, and is told so
                if isinstance(what, dict):
                    yield Errand(token, what)

    def answer(self, node: int, token: str, said: Mapping[str, Any]) -> None:
        """What has become of one. Nothing where nobody waits for it any more."""
        name = f"{node}-{token}"
        if self._documents.get(KIND, name) is not None:
            self._put(ANSWERS, name, said)

    def answered(self, node: int, token: str) -> dict[str, Any] | None:
        """The answer of a node, None while there is none."""
        name = f"{node}-{token}"
        sealed = self._documents.get(ANSWERS, name)
        said = None if sealed is None else self._sealer.open(ANSWERS, name, sealed)
        return said if isinstance(said, dict) else None

    def end(self, nodes: Collection[int], token: str) -> None:
        """Takes errands and answers away."""
        for node in nodes:
            for kind in (KIND, ANSWERS):
                self._documents.remove(kind, f"{node}-{token}")

    def _put(self, kind: str, name: str, value: Mapping[str, Any]) -> None:
        self._documents.put(kind, {name: self._sealer.seal(kind, name, dict(value))}, int(self._wall()) + LASTS)


# -- whoever asks --------------------------------------------------------------------------------------------------------


def all_at_work(store: Installation, patience: float = DOWN) -> dict[int, int]:
    """The other nodes whose daemons are at work: number -> epoch. A node that is gone and has something on its way is waited
    for: another takes it over, or it comes back. Raises ErrandError and StoreError."""
    deadline, wait = time.monotonic() + patience, threading.Event()
    while True:
        others = store.others()
        gone = [one.number for one in others if one.holds and not one.at_work]
        if not gone:
            return {one.number: one.epoch for one in others if one.at_work}
        if time.monotonic() > deadline:
            named = ", ".join(map(str, gone))
            raise ErrandError(f"node {named} does not run, and nobody has taken over what it has on its way: start it")
        wait.wait(LOOK)


@contextmanager
def errands_of(store: Installation, sealer: DocumentSealer) -> Iterator[Errands]:
    """Those of a store. StoreError."""
    with closing(Errands(store.documents(), sealer)) as errands:
        yield errands


def ask_all(
    store: Installation, sealer: DocumentSealer, nodes: Collection[int], what: Mapping[str, Any], patience: float
) -> dict[int, dict[str, Any]]:
    """Has nodes do something, and waits for their answers. Raises ErrandError where one has none, or says that it could not;
    StoreError and VaultError."""
    if not nodes:
        return {}
    with errands_of(store, sealer) as errands:
        token = errands.ask(nodes, what)
        store.tell(TOPIC)
        try:
            answers: dict[int, dict[str, Any]] = {}
            deadline, wait = time.monotonic() + patience, threading.Event()
            while len(answers) < len(nodes):
                for node in set(nodes).difference(answers):
                    said = errands.answered(node, token)
                    if said is not None:
                        answers[node] = said
                left = sorted(set(nodes).difference(answers))
                if left and time.monotonic() > deadline:
                    raise ErrandError(f"node {left[0]} did not answer within {patience:.0f} s: run the command again")
                if left:
                    wait.wait(0.05)
            for node, said in sorted(answers.items()):
                if _ERROR in said:
                    raise ErrandError(f"node {node}: {said[_ERROR]}")
            return answers
        finally:
            errands.end(nodes, token)


# -- a daemon --------------------------------------------------------------------------------------------------------------

Answer = Callable[[Mapping[str, Any]], None]
Handler = Callable[[dict[str, Any], Answer], None]
"""handler(what, answer): does an errand on the reactor thread; answer(said) is called once. Raises where it is none of its
kind."""


class ErrandThread(threading.Thread):
    """Looks for errands of this node, and has the reactor do them."""

    def __init__(
        self,
        store: Installation,
        sealer: DocumentSealer,
        node: int,
        handlers: Mapping[str, Handler],
        notify: Callable[[Callable[[], None]], object],
        worker: Worker,
        metrics: Metrics,
    ) -> None:
        """handlers: by what an errand has as ``do``. notify(function): runs one on the reactor thread."""
        super().__init__(name="errands", daemon=True)
        self._store = store
        self._sealer = sealer
        self._node = node
        self._handlers = handlers
        self._notify = notify
        self._worker = worker
        self._metrics = metrics
        self._woken = threading.Event()
        self._over = False
        self._taken: set[str] = set()

    def wake(self) -> None:
        """There may be one. Any thread."""
        self._woken.set()

    def stop(self) -> None:
        """Ends it."""
        self._over = True
        self._woken.set()
        if self.is_alive():
            self.join(10.0)

    def run(self) -> None:
        """The thread's loop."""
        errands: Errands | None = None
        while not self._over:
            pause = LOOK
            try:
                errands = errands or Errands(self._store.documents(), self._sealer)
                there = list(errands.of(self._node))
                self._taken &= {one.token for one in there}
                for one in there:
                    if one.token not in self._taken:
                        self._taken.add(one.token)
                        self._notify(lambda one=one: self._do(one))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001  the thread's edge: it begins anew
                self._failed(error)
                pause = _FAILED if not isinstance(error, StoreError) else 5 * LOOK
                if errands is not None:
                    errands.close()
                    errands = None
            self._woken.wait(pause)
            self._woken.clear()
        if errands is not None:
            errands.close()

    def _do(self, errand: Errand) -> None:
        """On the reactor thread."""

        def answer(said: Mapping[str, Any]) -> None:
            self._worker.run("errands", lambda: self._answer(errand, said), done)

        def done(_none: None, error: Exception | None) -> None:
            if error is not None:
                self._taken.discard(errand.token)  # done once more with the next look
                self._failed(error)

        try:
            self._handlers[str(errand.what.get("do"))](errand.what, answer)
        except Exception as error:  # noqa: BLE001  the edge of an errand: whoever asked is told
            self._failed(error)
            answer({_ERROR: f"it could not be done ({type(error).__name__})"})

    def _answer(self, errand: Errand, said: Mapping[str, Any]) -> None:
        with errands_of(self._store, self._sealer) as errands:
            errands.answer(self._node, errand.token, said)

    def _failed(self, error: Exception) -> None:
        self._metrics.chores_failed.labels("errands").inc()
        known = isinstance(error, StoreError | VaultError)
        log.error("an errand failed", extra={"fields": {"reason": str(error) if known else type(error).__name__}})
