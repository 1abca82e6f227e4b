"""The short form of each campaign; the long ones are `make torture`. Each has one fixed seed and its own small store."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from smppd.message import State, pack_event, read_events
from tests.torture import smpp
from tests.torture.campaigns import CAMPAIGNS
from tests.torture.campaigns.soak import quarters
from tests.torture.customer import Customer, CustomerBook
from tests.torture.disk import MANNERS, SECTOR, materialise, operations
from tests.torture.layer import SHORT_WRITE, Layer
from tests.torture.ledger import compare
from tests.torture.picture import Curve, chart
from tests.torture.plan import Options
from tests.torture.proxy import Proxy
from tests.torture.record import Record
from tests.torture.report import write_report
from tests.torture.results import Results
from tests.torture.runner import run_campaign
from tests.torture.smsc import Receipt, Smsc, SmscBook, Step, Submit

_SHORT: Final = [name for name in CAMPAIGNS if name not in ("nodes", "frozen", "cut", "spread")]
"""Those others wait for take-overs, ten seconds each; `tests/e2e` has two nodes."""


@pytest.fixture(scope="module")
def runs(disk: Path) -> Iterator[dict[str, Future[tuple[Path, list[dict[str, Any]]]]]]:
    """All campaigns, three at a time: most of their time they wait for a process to start or a timer to run out."""

    def run(name: str) -> tuple[Path, list[dict[str, Any]]]:
        scratch = disk / f"torture-{name}"
        scratch.mkdir()
        results = Results(scratch / "results", name)
        options = Options(short=True, scratch=scratch)
        return scratch, run_campaign(CAMPAIGNS[name], options, results, say=lambda _line: None)

    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(run, name) for name in _SHORT}


@pytest.mark.parametrize("name", _SHORT)
def test_short_form(name: str, runs: dict[str, Future[tuple[Path, list[dict[str, Any]]]]]) -> None:
    tmp_path, rows = runs[name].result(timeout=240)
    options = Options(short=True, scratch=tmp_path)
    assert rows
    assert [fault for row in rows for fault in row["faults"]] == []
    write_report(tmp_path / "results", tmp_path / "docs")
    assert "Short form: nothing was lost" in (tmp_path / "docs" / "torture.md").read_text()
    # What is finished is not done again.
    assert run_campaign(CAMPAIGNS[name], options, Results(tmp_path / "results", name), resume=True) == []


# -- the judge itself: it must see what is wrong -----------------------------------------------------------------------


def _record(*events: tuple[int, State, bool]) -> Record:
    record = Record(ids={0x10, 0x11})
    for identity, state, duplicate in events:
        packed = pack_event(identity, 0, state, duplicate=duplicate)
        record.events.setdefault(identity, []).extend(read_events(packed))
    return record


def _told(identity: int) -> bytes:
    return b"%016x" % identity


def _books() -> tuple[CustomerBook, SmscBook]:
    customer = CustomerBook(sent=2, ids={_told(0x10): 0, _told(0x11): 1})
    customer.receipts.update({_told(0x10): 1, _told(0x11): 1})
    smsc = SmscBook(submits=[Submit(0, b"A0", True), Submit(1, b"A1", True)])
    smsc.receipts = [Receipt(0, b"A0", b"", 1, True), Receipt(1, b"A1", b"", 1, True)]
    return customer, smsc


_DONE = ((0x10, State.RECEIPT_DONE, False), (0x11, State.RECEIPT_DONE, False))


def test_the_judge_finds_nothing_where_nothing_is_wrong() -> None:
    customer, smsc = _books()
    assert compare(customer, smsc, _record(*_DONE))[1] == []


def test_the_judge_sees_a_lost_message_unless_its_end_is_on_record() -> None:
    customer, smsc = _books()
    del smsc.submits[1]
    found, faults = compare(customer, smsc, _record(*_DONE))
    assert found["lost"] == 1
    assert "1 acknowledged messages lost" in faults[0]
    assert compare(customer, smsc, _record(*_DONE, (0x11, State.EXPIRED, False)))[0]["lost"] == 0


def test_the_judge_claims_no_loss_of_what_the_daemon_still_has() -> None:
    customer, smsc = _books()
    del smsc.submits[1], customer.receipts[_told(0x11)]
    found, faults = compare(customer, smsc, _record(*_DONE), unfinished=1)
    assert (found["lost"], found["receipts_missing"], found["unfinished"]) == (0, 0, 1)
    assert len(faults) == 1 and "loss cannot be judged" in faults[0]


def test_the_judge_opens_records_whose_id_nobody_was_told() -> None:
    customer, smsc = _books()
    smsc.submits += [Submit(7, b"B0"), Submit(7, b"B1")]
    record = _record(*_DONE, (0x12, State.RESENT, True), (0x13, State.UNANSWERED, False))
    assert compare(customer, smsc, record)[0]["duplicates_unflagged"] == 1
    record.token = lambda: {7: 0x12}
    assert compare(customer, smsc, record)[1] == []
    record.token = lambda: {7: 0x13}
    assert compare(customer, smsc, record)[0]["duplicates_unflagged"] == 1


def test_the_judge_sees_a_lost_receipt() -> None:
    customer, smsc = _books()
    del customer.receipts[_told(0x11)]
    found, faults = compare(customer, smsc, _record(*_DONE))
    assert found["receipts_missing"] == 1
    assert any("after they were acknowledged to the SMSC" in fault for fault in faults)


def test_the_judge_sees_a_duplicate_that_is_not_flagged() -> None:
    customer, smsc = _books()
    smsc.submits.append(Submit(1, b"A2", True))
    assert compare(customer, smsc, _record(*_DONE))[0]["duplicates_unflagged"] == 1
    assert compare(customer, smsc, _record(*_DONE, (0x11, State.RESENT, True)))[1] == []
    smsc.submits[-1].status = 0x58
    assert compare(customer, smsc, _record(*_DONE))[0]["duplicates"] == 0


def test_the_judge_sees_a_message_without_a_record_and_an_id_out_of_nowhere() -> None:
    customer, smsc = _books()
    record = _record(*_DONE)
    record.ids.discard(0x11)
    customer.receipts[_told(0x99)] += 1
    faults = compare(customer, smsc, record)[1]
    assert any("have no record" in fault for fault in faults)
    assert any("an id that never was" in fault for fault in faults)


# -- the disk after a power cut ----------------------------------------------------------------------------------------


def _entry(op: str, name: str, a: int = 0, data: bytes = b"", second: str = "") -> bytes:
    head = struct.pack("=BBHIQQ", ord(op), len(name), len(second), 0, a, len(data))
    return head + name.encode() + second.encode() + data


def _after(base: dict[str, bytes], log: bytes, tmp_path: Path, seed: int) -> dict[str, bytes]:
    (tmp_path / "base").mkdir(exist_ok=True)
    for name, content in base.items():
        (tmp_path / "base" / name).write_bytes(content)
    materialise(tmp_path / "base", log, tmp_path / "to", Random(seed))
    return {each.name: each.read_bytes() for each in (tmp_path / "to").iterdir()}


def test_what_is_synced_is_there_whatever_the_cut(tmp_path: Path) -> None:
    log = _entry("C", "new") + _entry("W", "new", 0, b"x" * 2000) + _entry("W", "old", 3, b"new")
    log += _entry("S", "new", 2) + _entry("S", "old", 3) + _entry("D", "", 5)
    for seed in range(20):
        got = _after({"old": b"old content"}, log + _entry("W", "new", 0, b"y" * 2000), tmp_path, seed)
        assert got["old"] == b"oldnewntent"
        assert set(got["new"]) <= set(b"xy")
        assert all(len(set(got["new"][at : at + SECTOR])) == 1 for at in range(0, 2000, SECTOR))


def test_what_is_not_synced_may_be_lost_kept_or_torn(tmp_path: Path) -> None:
    log = _entry("W", "file", 0, b"y" * 2048)
    seen = {_after({"file": b"x" * 2048, "data.db-shm": b"-"}, log, tmp_path, seed)["file"] for seed in range(40)}
    assert b"x" * 2048 in seen
    assert b"y" * 2048 in seen
    assert any(len(set(each)) == 2 for each in seen)
    assert not (tmp_path / "to" / "data.db-shm").exists()


def test_a_write_during_a_sync_is_not_covered_by_it(tmp_path: Path) -> None:
    log = _entry("W", "file", 0, b"y") + _entry("W", "file", 1, b"z") + _entry("S", "file", 1)
    seen = {_after({"file": b"xx"}, log, tmp_path, seed)["file"] for seed in range(40)}
    assert seen == {b"yx", b"yz"}


def test_a_file_whose_directory_was_not_synced_may_be_gone(tmp_path: Path) -> None:
    log = (
        _entry("C", "new")
        + _entry("W", "new", 0, b"x")
        + _entry("S", "new", 2)
        + _entry("W", "new", 0, b"cut off")[:-3]
    )
    there = {"new" in _after({}, log, tmp_path, seed) for seed in range(40)}
    assert there == {True, False}
    assert len(MANNERS) == 5


def test_a_write_that_is_its_own_sync_is_there_and_promises_nothing_of_others(tmp_path: Path) -> None:
    """The file is made of three sectors; a write of all of them waits, one of the middle one is its own sync."""
    log = _entry("W", "file", 0, b"y" * 1536) + _entry("W", "file", 512, b"z" * 512) + _entry("Y", "file", 1)
    seen = {_after({"file": b"x" * 1536}, log, tmp_path, seed)["file"] for seed in range(60)}
    assert {each[512:1024] for each in seen} == {b"z" * 512}
    assert {each[:512] for each in seen} == {each[1024:] for each in seen} == {b"x" * 512, b"y" * 512}
    torn = _entry("W", "file", 512, b"z" * 1024)
    seen = {_after({"file": b"x" * 1536}, torn, tmp_path, seed)["file"] for seed in range(60)}
    assert b"x" * 1024 + b"z" * 512 in seen, "a later piece without an earlier one"
    assert b"x" * 512 + b"z" * 512 + b"x" * 512 in seen


def test_sectors_are_those_of_the_disk(tmp_path: Path) -> None:
    log = _entry("W", "file", 500, b"y" * 24)
    seen = {_after({"file": b"x" * 1024}, log, tmp_path, seed)["file"].count(b"y") for seed in range(80)}
    assert seen == {0, 12, 24}


# -- several nodes: the line that is cut, the SMSC that takes turns -----------------------------------------------------


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(data)


def test_a_line_can_be_cut_and_can_be_silent() -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
        proxy = Proxy(server.sockets[0].getsockname()[1])
        port = await proxy.start()

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            made = await asyncio.open_connection("127.0.0.1", port)
            writers.append(made[1])
            return made

        writers: list[asyncio.StreamWriter] = []
        reader, writer = await connect()
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.silence()
        writer.write(b"two")
        other, late = await connect()
        late.write(b"three")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer := asyncio.ensure_future(reader.readexactly(3))), 0.1)
        proxy.mend()
        assert await answer == b"two" and await other.readexactly(5) == b"three"
        proxy.cut()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        refused, _ = await connect()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await refused.readexactly(1)
        proxy.mend()
        reader, writer = await connect()
        writer.write(b"four")
        assert await reader.readexactly(4) == b"four"
        await proxy.stop()
        server.close()
        for each in writers:
            each.close()
        await asyncio.gather(*(each.wait_closed() for each in writers), return_exceptions=True)

    asyncio.run(run())


def test_receipts_take_turns_over_the_binds() -> None:
    async def run() -> list[int]:
        smsc = Smsc(lambda _submit, _attempt: Step(receipt=0.0))
        smsc.spread = True
        port = await smsc.start()
        books = [CustomerBook() for _ in range(2)]
        peers = [Customer(port, "", binds=1, rate=0, book=book) for book in books]
        for each in peers:
            each.start()
        while len(smsc.sessions) < 2 or not all(each.bound for each in smsc.sessions):
            await asyncio.sleep(0.01)
        for number in range(10):
            body = smpp.receipt_body(smpp.submit_body(number), b"%d" % number)
            smsc.owe(Receipt(number, b"%d" % number, body))
        smsc.pump()
        while smsc.unsettled:
            await asyncio.sleep(0.01)
        for each in peers:
            await each.stop()
        await smsc.stop()
        return [len(book.receipts) for book in books]

    assert asyncio.run(run()) == [5, 5]


_WRITER = """
import os, sys
os.mkfifo("fifo")
fifo = os.open("fifo", os.O_RDWR | os.O_NONBLOCK)
os.write(fifo, b"not a file")
file = os.open("file", os.O_RDWR | os.O_CREAT)
os.pwritev(file, [b"a" * 1000, b"b" * 1048], 512)
os.pwritev(file, [b"c" * 100, b"d" * 100], 600, os.RWF_DSYNC)
os.fdatasync(file)
print(os.pwrite(file, b"e" * 1500, 0))
os.pwritev(file, [b"never told"], 0, os.RWF_DSYNC)
print("never said")
"""


def test_the_layer_sees_writes_of_several_parts_and_their_syncs(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    layer = Layer(tmp_path, store, tmp_path / "log")
    layer.fault(SHORT_WRITE)
    done = subprocess.run(
        [sys.executable, "-u", "-c", _WRITER],
        cwd=store,
        env={**os.environ, **layer.environment(kill_at=7)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-9, b"512\n"), done.stderr
    told = [(chr(each.op), each.name, each.a, len(each.data)) for each in operations((tmp_path / "log").read_bytes())]
    # Every second write does half of its sectors; the last one is killed before its sync.
    assert told == [
        ("C", "file", 0, 0),
        ("W", "file", 512, 1024),
        ("W", "file", 600, 200),
        ("Y", "file", 2, 0),
        ("S", "file", 4, 0),
        ("W", "file", 0, 512),
        ("W", "file", 0, 10),
    ]
    assert (store / "file").read_bytes()[600:800] == b"c" * 100 + b"d" * 100


def test_the_picture_and_the_quarters() -> None:
    assert quarters([9, 9, 1, 3, 7, 7, 2, 4]) == (2, 3)
    svg = chart([Curve("Memory <MiB>", [1.0, 2.0, 1.5])], "foot")
    assert svg.startswith("<svg ")
    assert "Memory &lt;MiB&gt;" in svg


def _names() -> list[Any]:
    return list(CAMPAIGNS)


def test_every_campaign_has_its_units_in_both_forms() -> None:
    for name in _names():
        for short in (False, True):
            units = CAMPAIGNS[name].plan(Options(short=short))
            assert len({unit.key for unit in units}) == len(units) > 0
