"""A command at one node's machine has the daemons of the others do something, and hears what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from smppd.daemon.errands import ANSWERS, KIND, Answer, ErrandError, Errands, ErrandThread, all_at_work, ask_all
from smppd.daemon.worker import Worker
from smppd.metrics import Metrics
from smppd.vault.documents import DocumentSealer
from tests.store.pairs import NodeBuilder, pair

SECRET = "447700900123"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[NodeBuilder, NodeBuilder]]:
    with pair(tmp_path) as both:
        yield both


class Daemon:
    """Node 2's side, whose reactor is the thread itself."""

    def __init__(self, node: NodeBuilder, handler: Callable[[dict[str, Any], Answer], None]) -> None:
        self.metrics = Metrics()

        def notify(call: Callable[[], None]) -> None:
            call()

        self.thread = ErrandThread(
            node.place,
            DocumentSealer(node.install),
            node.node,
            {"greet": handler},
            notify,
            Worker(notify),
            self.metrics,
        )
        self.thread.start()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.stop()


def asked(node: NodeBuilder, what: Mapping[str, Any], patience: float = 20.0) -> dict[int, dict[str, Any]]:
    return ask_all(node.place, DocumentSealer(node.install), all_at_work(node.place), what, patience)


def left(node: NodeBuilder) -> list[Any]:
    return node.house.ask(f"SELECT name FROM documents WHERE kind IN ('{KIND}', '{ANSWERS}')")


def test_an_errand_is_done_once_and_nothing_of_it_stays(nodes: tuple[NodeBuilder, NodeBuilder]) -> None:
    one, two = nodes
    done: list[dict[str, Any]] = []

    def greet(what: dict[str, Any], answer: Answer) -> None:
        done.append(what)
        answer({"hello": what["name"]})

    with Daemon(two, greet):
        assert asked(one, {"do": "greet", "name": SECRET}) == {2: {"hello": SECRET}}
        assert asked(one, {"do": "greet", "name": "again"}) == {2: {"hello": "again"}}
    assert [what["name"] for what in done] == [SECRET, "again"] and not left(one)
    assert SECRET.encode() not in one.house.octets()


def test_what_cannot_be_done_is_told(nodes: tuple[NodeBuilder, NodeBuilder]) -> None:
    one, two = nodes

    def greet(what: dict[str, Any], answer: Answer) -> None:
        raise ValueError(what["name"])

    with Daemon(two, greet):
        for what in ({"do": "greet", "name": SECRET}, {"do": "dance"}, {}):
            with pytest.raises(ErrandError, match="node 2: it could not be done") as refused:
                asked(one, what)
            assert SECRET not in str(refused.value)
    assert not left(one)


def test_a_node_that_does_not_answer_and_one_that_is_gone(nodes: tuple[NodeBuilder, NodeBuilder]) -> None:
    one, two = nodes
    with pytest.raises(ErrandError, match=r"node 2 did not answer within 0 s"):
        asked(one, {"do": "greet"}, 0.0)
    assert not left(one)
    two.store.batch.accepts.append(b"on its way")
    two.commit()
    (other,) = one.place.others()
    assert (other.number, other.at_work, other.holds) == (2, True, True)
    two.close()
    with pytest.raises(ErrandError, match="node 2 does not run, and nobody has taken over what it has on its way"):
        all_at_work(one.place, 0.0)
    one.house.edit("DELETE FROM journal WHERE node = 2")  # as a take-over leaves it
    assert all_at_work(one.place, 0.0) == {}


def test_an_errand_outlives_the_daemon_and_an_altered_one_stops_no_other(
    nodes: tuple[NodeBuilder, NodeBuilder],
) -> None:
    one, two = nodes
    documents = one.place.documents()
    errands = Errands(documents, DocumentSealer(one.install))
    token, altered = errands.ask([2], {"do": "greet", "name": "a"}), errands.ask([2, 3], {"do": "greet", "name": "b"})
    documents.put(KIND, {f"2-{altered}": b"what somebody wrote there"})
    got: list[str] = []

    def dies(what: dict[str, Any], _answer: Answer) -> None:
        got.append(what["name"])

    def lives(what: dict[str, Any], answer: Answer) -> None:
        got.append(what["name"])
        answer({"done": True})

    for handler in (dies, lives):
        with Daemon(two, handler) as daemon:
            while len(got) < 1 + (handler is lives):
                daemon.thread.wake()
            while handler is lives and errands.answered(2, token) is None:
                daemon.thread.wake()
    assert got == ["a", "a"] and errands.answered(2, token) == {"done": True}
    assert [one.token for one in errands.of(3)] == [altered] and not list(errands.of(2))
    errands.end([2, 3], token)
    errands.end([2, 3], altered)
    errands.close()
    assert not left(one)
