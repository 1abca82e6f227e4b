"""Holds: what is held opens after its period died, nobody else's does; pending, two people, an end; a kill anywhere costs
nothing."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.audit.trail import AuditTrail
from smppd.config import Retain
from smppd.ids import id_time
from smppd.message import State
from smppd.numbering import normalise
from smppd.records.capture import Capture, _Forms
from smppd.records.holds import PENDING, Hold, HoldError, HoldState
from smppd.records.indexer import Indexer
from smppd.records.search import by_number
from smppd.records.verify import verify_log
from smppd.vault.keys import Part, hold_scope, load_install, period_of, period_scope, rewrap_all
from smppd.vault.numbers import blind
from smppd.vault.seal import Content, NumbersPart
from tests.records.holding import HOUR, LIFE, NEIGHBOUR, SUBJECT, caught, demand, holds, kept, purge, purger
from tests.store.builder import DAY, Builder, copied
from tests.store.houses import House, embedded_only
from tests.vault.rows import NOON, kek


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house, sealed=True)
    yield builder
    builder.close()


def message(log: Builder, to: bytes, text: bytes = b"hello", account: str = "acme", keep: float = DAY) -> int:
    identity = log.record(text, destination=to, account=account, body=keep, numbers=keep)
    log.event(identity, State.SUBMITTED)
    log.commit()
    return identity


def opens(log: Builder, identity: int) -> bool:
    """Whether number and text of a record can be read, with every key there is. Half of it is a fault of the test's."""
    with log.reader() as reader:
        found = reader.record(identity)
        if found is None:
            return False
        assert (found.record.numbers is None) == (found.record.body is None)
        return found.record.pdu() is not None


def found(log: Builder, number: bytes, **named: float) -> list[int]:
    with log.reader() as reader:
        ids = [one.record.header.record_id for one in by_number(reader, [number], **named)]  # type: ignore[arg-type]
        assert not reader.damaged
        return ids


def sound(log: Builder) -> None:
    with log.reader() as reader:
        verdict = verify_log(reader.records, id_time, keys=log.keys)
        assert verdict.ok, verdict.reason


def index(log: Builder) -> None:
    rows = log.place.index()
    indexer = Indexer(rows, id_time, run=4)
    while indexer.step():
        pass
    rows.close()


# -- what is held and what is not --------------------------------------------------------------------------------------


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("scope", ["number", "account", "both"])
def test_a_neighbour_of_the_same_period_dies_and_the_held_one_opens(log: Builder, scope: str, indexed: bool) -> None:
    mine = message(log, SUBJECT, b"the held text")
    other = message(log, NEIGHBOUR, b"another's", account="acme" if scope == "number" else "beta")
    if indexed:
        index(log)
    forms = () if scope == "account" else (SUBJECT,)
    number = demand(log, *forms, account="" if scope == "number" else "acme")
    assert kept(log, number) == 1
    secrets = {one: log.secrets[one] for one in (mine, other)}
    log.now += 10 * DAY
    message(log, SUBJECT)
    purge(log, acme=LIFE, beta=LIFE)
    assert opens(log, mine) and not opens(log, other)
    everything = log.house.octets()
    for one in (mine, other):  # everybody's secrets and keys die on time
        assert secrets[one][:32] not in everything and secrets[one][32:] not in everything
    for part in Part:
        assert log.store.keys.get(period_scope("acme", part, period_of(NOON, DAY))) is None
    sound(log)
    with log.reader() as reader:
        record = reader.record(mine)
        assert record is not None and record.record.body is not None and b"the held text" in record.record.body
        assert [event.state for event in reader.events(mine)] == [State.SUBMITTED]
        assert reader.record(other) is None  # and removed, as billing is over


def test_it_is_found_by_its_number_newest_first(log: Builder) -> None:
    ids = []
    for _ in range(4):
        ids += [message(log, SUBJECT), message(log, NEIGHBOUR)]
        log.now += DAY
    index(log)
    demand(log, SUBJECT)
    middle = log.now
    log.now += 5 * DAY
    purge(log)
    young = message(log, SUBJECT)
    assert found(log, SUBJECT) == [young, *ids[::-2][:0], *[one for one in ids[::-1] if one in ids[::2]]]
    assert found(log, NEIGHBOUR) == []
    assert found(log, SUBJECT, until=middle - 2.5 * DAY) == [ids[2], ids[0]]
    assert found(log, b"Acme".lower()) == [young, *[one for one in ids[::-1] if one in ids[::2]]], "by its sender too"
    with log.reader() as reader:
        assert not list(by_number(reader, [SUBJECT], ["beta"]))


def test_what_comes_later_is_held_too_and_only_in_its_time(log: Builder) -> None:
    number = demand(log, SUBJECT, since=log.now + DAY, until=log.now + 2 * DAY)
    before = message(log, SUBJECT)
    log.now += 1.5 * DAY
    inside = message(log, SUBJECT)
    log.now += DAY
    after = message(log, SUBJECT)
    assert kept(log, number) == 0
    log.now += 5 * DAY
    done = purge(log)
    assert done.keys == 6 and kept(log, number) == 1
    assert [opens(log, one) for one in (before, inside, after)] == [False, True, False]
    sound(log)


@pytest.mark.parametrize("content", list(Content))
def test_every_content_mode(log: Builder, content: Content) -> None:
    mine = log.record(b"text", destination=SUBJECT, content=content, body=DAY, numbers=2 * DAY)
    log.commit()
    demand(log, SUBJECT)
    log.now += 20 * DAY
    purge(log, acme=Retain(body=DAY, numbers=2 * DAY, billing=3 * DAY))
    with log.reader() as reader:
        one = reader.record(mine)
        assert one is not None and one.record.numbers is not None
        assert (one.record.body is not None) == (content is Content.ENCRYPT)
        assert (one.record.content_hash is not None) == (content is Content.HASH)
    sound(log)


def test_a_number_is_known_in_the_form_that_was_indexed(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """07700 900999 of an account in GB was indexed as 447700900999."""
    monkeypatch.setattr("tests.store.builder.normalise", lambda digits: normalise(digits, 2, 0, "GB"))
    mine = log.record(destination=b"07700900999", body=DAY, numbers=DAY)
    log.commit()
    demand(log, SUBJECT)
    log.now += 9 * DAY
    purge(log)
    assert opens(log, mine) and found(log, SUBJECT) == [mine]


def test_the_region_of_an_account_is_found_by_the_index(log: Builder) -> None:
    key = log.ring.period("acme", Part.NUMBERS, NOON, DAY)
    forms, indexes = _Forms(), (blind(key, b"447700900111"), blind(key, SUBJECT))
    numbers = NumbersPart(b"", b"\2\1" + b"07700900111\0" + b"\2\1" + b"07700900999\0")
    assert forms.of(numbers, "acme", key, indexes, ()) == (b"447700900111", SUBJECT)
    assert forms.of(numbers, "acme", None, indexes, ()) == (b"07700900111", b"07700900999")
    other = NumbersPart(b"", b"\1\1" + b"447700900111\0" + b"\5\0" + b"Acme Ltd\0")
    assert forms.of(other, "acme", key, (indexes[0], b"?" * 16), ()) == (b"447700900111", b"acme ltd")


# -- people, and the end ---------------------------------------------------------------------------------------------


def test_a_pending_hold_protects_for_three_days(log: Builder) -> None:
    trail = AuditTrail(log.directory / "audit.db", load_install(log.kek, log.store.keys).audit)
    mine = message(log, SUBJECT)
    number = demand(log, SUBJECT, second="")
    log.now += PENDING - 60
    with trail, purger(log, trail) as one:
        one.run(log.now)
        assert opens(log, mine)
        log.now += 120
        assert one.run(log.now).ended == 1
        assert not opens(log, mine)
        entries = [entry.what for entry in trail.entries(events=("hold",))]
    assert entries == [{"action": "not agreed to", "hold": number, "authority": "Court"}]
    all_holds = holds(log)
    hold = all_holds.get(number)
    assert hold is not None and hold.state is HoldState.EXPIRED and hold.forms == ()
    with pytest.raises(HoldError, match="is expired"):
        all_holds.activate(number, "carol")
    all_holds.close()
    sound(log)


@pytest.mark.parametrize("how", ["released", "expired"])
def test_what_is_over_retention_dies_when_the_hold_ends(log: Builder, how: str) -> None:
    mine = message(log, SUBJECT, b"sealed for good")
    packed = log.packed[mine]
    number = demand(log, SUBJECT, days=20)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    purge(log)
    assert opens(log, mine)
    young = message(log, SUBJECT, keep=400 * DAY)
    ended: list[int] = []
    if how == "released":
        found_holds = holds(log)
        wrapped = found_holds.rows.wrapped(hold_scope(number))
        hold = found_holds.end(number, HoldState.RELEASED, log.now)
        found_holds.close()
        assert hold.forms == () and wrapped is not None and wrapped not in log.house.octets()
        assert not opens(log, mine), "at once, before anything is swept"
    else:
        log.now += 11 * DAY
    with purger(log, acme=LIFE) as one:
        one._keeper._holds.released = ended.append  # type: ignore[union-attr]
        done = one.run(log.now)
    assert done.records == 1 + (how == "expired") and ended == [number]  # and the neighbour's
    assert kept(log, number) == 0 and packed[100:-32] not in log.house.octets()
    with log.reader() as reader:
        assert reader.record(mine) is None
    assert opens(log, young), "what is not over its retention stays"
    sound(log)


def test_two_holds_on_one_record(log: Builder) -> None:
    mine = message(log, SUBJECT)
    first = demand(log, SUBJECT)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    purge(log)
    # Its period is dead: what the second one can have, it has from the first.
    second = demand(log, account="acme")
    assert kept(log, second) == 2
    found_holds = holds(log)
    found_holds.end(first, HoldState.RELEASED, log.now)
    purge(log)
    assert opens(log, mine) and found(log, SUBJECT) == [mine]
    found_holds.end(second, HoldState.RELEASED, log.now)
    found_holds.close()
    log.now += 1
    purge(log)
    assert not opens(log, mine)
    sound(log)


def test_whether_a_record_is_held(log: Builder) -> None:
    at = int(log.now * 1000)
    within = demand(log, SUBJECT, account="acme", since=log.now - 10, until=log.now + 10, second="")
    all_holds = holds(log)
    assert all_holds.holding(1, "acme", at, (b"acme", SUBJECT)) == within
    for wrong in (
        (1, "beta", at, (SUBJECT,)),
        (1, "acme", at, (NEIGHBOUR,)),
        (1, "acme", at + 10_000, (SUBJECT,)),
        (1, "acme", at - 10_001, (SUBJECT,)),
        (1, "acme", at, ()),
    ):
        assert all_holds.holding(*wrong) == 0
    mine = message(log, SUBJECT)
    caught(log, all_holds.active()[0])
    assert all_holds.holding(mine, "acme", at, ()) == within, "its numbers may not be readable any more"
    assert "900" not in repr(all_holds.active()) and [one.number for one in all_holds.active()] == [within]
    all_holds.end(within, HoldState.RELEASED, log.now)
    assert all_holds.holding(mine, "acme", at, (SUBJECT,)) == 0 and all_holds.active() == []
    all_holds.close()


def test_the_documents_say_nothing_in_the_clear(log: Builder) -> None:
    message(log, SUBJECT)
    demand(log, SUBJECT)
    everything = log.house.octets()
    assert SUBJECT not in everything and b"Court" not in everything


# -- keys --------------------------------------------------------------------------------------------------------------


def test_no_row_can_be_put_in_anothers_place(log: Builder) -> None:
    ids = [message(log, SUBJECT), message(log, SUBJECT)]
    number = demand(log, SUBJECT)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    purge(log)
    rows = log.place.held()
    (a,), (b,) = (rows.of(one) for one in ids)
    rows.remove(number, ids)
    rows.add(hold_scope(number), number, [a._replace(record=b.record), b._replace(record=a.record)], 0, bytes(8))  # type: ignore[arg-type]
    rows.close()
    with log.reader() as reader:
        assert list(by_number(reader, [SUBJECT])) == [] and sorted(reader.damaged) == ids


def test_a_rotation_takes_the_holds_along(log: Builder) -> None:
    mine = message(log, SUBJECT)
    demand(log, SUBJECT)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    purge(log)
    log.close()
    both, new = kek(1, 2), kek(2)
    rows = log.place.keys()
    rewrap_all(both, rows)
    rows.close()
    log.kek = new
    assert opens(log, mine)


# -- beside a purge ----------------------------------------------------------------------------------------------------


def test_a_key_waits_for_the_hold_and_no_other_waits(log: Builder) -> None:
    mine = [message(log, b"4477009%05d" % n) for n in range(40)]
    other = message(log, NEIGHBOUR, account="beta")
    demand(log, account="acme", catch=False)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    with purger(log, acme=LIFE, beta=LIFE) as one:
        assert one.step(log.now)
        assert one.done.keys == 2, "beta's two keys went at once"
        assert not opens(log, other) and all(opens(log, one_of) for one_of in mine)
        steps = 0
        while one.step(log.now):
            steps += 1
            assert steps < 200
        assert steps > 6 and one.done.keys == 4
    assert all(opens(log, one_of) for one_of in mine)
    sound(log)


def test_a_hold_that_is_being_added_stops_the_destruction(log: Builder) -> None:
    """Its key is stored first: a purge that has not seen its document yet destroys nothing, and looks again soon."""
    mine = message(log, SUBJECT)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    all_holds = holds(log)
    number = all_holds.number()
    hold = Hold(number, (SUBJECT,), "", 0, float("inf"), "Court", "1", log.now + DAY, "bob", log.now)
    all_holds._make_key(hold)
    with purger(log) as one:
        assert one.run(log.now).keys == 0
        all_holds.add(hold)
        assert one.run(log.now).keys == 2
    assert opens(log, mine)
    # A key that nobody has made a hold of, ten minutes later, is no hold.
    all_holds._make_key(hold._replace(number=99, added=log.now - 700))
    young = message(log, b"447700900112")
    log.now += 3 * DAY
    assert purge(log).keys == 2 and not opens(log, young)
    assert all_holds.rows.wrapped(hold_scope(99)) is None
    all_holds.close()


def test_a_hold_that_is_added_between_look_and_destruction_counts(log: Builder) -> None:
    mine = message(log, SUBJECT)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    with purger(log) as one:
        destroy = one.rows.destroy_keys

        def meanwhile(*words: object) -> bool:
            one.rows.destroy_keys = destroy  # type: ignore[method-assign]
            demand(log, SUBJECT, catch=False)
            return destroy(*words)  # type: ignore[arg-type]

        one.rows.destroy_keys = meanwhile  # type: ignore[method-assign, assignment]
        assert one.run(log.now).keys == 0
        assert one.run(log.now).keys == 2
    assert opens(log, mine)


@pytest.mark.parametrize("scope", ["number", "account"])
def test_capture_and_purge_can_be_killed_anywhere(log: Builder, tmp_path: Path, scope: str) -> None:
    """Each step in a process of its own, as it were: what is there after it goes on; and at each the held can be read."""
    mine, others = [], []
    for n in range(24):
        log.now += 60
        mine.append(message(log, SUBJECT, b"text %d" % n))
        others.append(message(log, b"4477009%05d" % n, account="beta"))
    if scope == "number":
        index(log)
    number = demand(log, *((SUBJECT,) if scope == "number" else ()), account="acme", catch=False)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    steps = 0
    while True:
        with purger(log, acme=LIFE, beta=LIFE) as one:
            one._next = float("-inf") if not steps % 3 else float("inf")
            one._finished = False
            if steps % 3:  # what a purge knows, and its successor has to find again
                one._begin(log.now)
            going = one.step(log.now)
            assert all(opens(log, one_of) for one_of in mine), steps
        steps += 1
        assert steps < 400
        if not going:
            break
    assert kept(log, number) == len(mine) and not any(opens(log, one) for one in others)
    sound(log)
    all_holds = holds(log)
    all_holds.end(number, HoldState.RELEASED, log.now)
    all_holds.close()
    for _ in range(400):
        with purger(log, acme=LIFE, beta=LIFE) as one:
            one._next, one._finished = float("inf"), False
            if not one.step(log.now):
                break
    else:
        raise AssertionError("it does not end")
    assert kept(log, number) == 0 and not any(opens(log, one_of) for one_of in mine)
    sound(log)


def test_what_a_step_has_kept_is_not_gathered_again(log: Builder) -> None:
    for n in range(40):
        message(log, b"4477009%05d" % n)
    number = demand(log, account="acme", catch=False)
    all_holds, records = holds(log), log.place.records()
    hold = all_holds.active()[0]
    one = Capture(all_holds, records)
    upto, counts = one.end(), []
    while Capture(all_holds, records).step(hold, upto):  # a new one each time: all it knows is on the disk
        counts.append(kept(log, number))
        assert len(counts) < 50
    assert counts == sorted(counts) and counts[-1] == 40 and len(set(counts)) > 3
    all_holds.end(number, HoldState.RELEASED, log.now)
    assert not Capture(all_holds, records).step(hold, upto + 1), "it has ended meanwhile"
    records.close()
    all_holds.close()


@embedded_only
def test_a_copy_of_the_files_holds_what_was_held(log: Builder, tmp_path: Path) -> None:
    mine = message(log, SUBJECT)
    demand(log, SUBJECT)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    purge(log)
    copied(log.directory, tmp_path / "copy")
    (tmp_path / "copy" / "lock").unlink(missing_ok=True)
    again = Builder(tmp_path / "copy", log.kek, sealed=True)
    again.now = log.now + 10 * DAY
    purge(again)
    assert opens(again, mine)
    sound(again)
    again.close()
    shutil.rmtree(tmp_path / "copy")


# -- a model -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_model_says_what_must_be_readable(tmp_path: Path, seed: int) -> None:
    """Random records, holds, purges, ends: readable is what is within its retention, or was held without a gap."""
    rng = random.Random(seed)
    log = Builder(tmp_path, sealed=True)
    numbers, accounts = [b"4477009001%02d" % n for n in range(5)], ["acme", "beta"]
    lives = dict.fromkeys(accounts, Retain(body=DAY, numbers=DAY, billing=3 * DAY))
    records: dict[int, tuple[bytes, str, float]] = {}
    living: dict[int, Hold] = {}
    dead: set[int] = set()

    def must(identity: int) -> bool:
        number, account, at = records[identity]
        return any(one.covers(account, int(at * 1000), (number,)) for one in living.values())

    for _ in range(36):
        act = rng.choices(("records", "hold", "purge", "end", "index", "wait"), (6, 2, 4, 2, 1, 2))[0]
        if act == "records":
            for _row in range(rng.randint(1, 4)):
                for _ in range(rng.randint(1, 4)):
                    number, account = rng.choice(numbers), rng.choice(accounts)
                    identity = log.record(destination=number, account=account, body=DAY, numbers=DAY)
                    records[identity] = number, account, int(log.now * 1000) / 1000
                log.commit()
                log.now += rng.choice((1, 600, 4000))
        elif act == "hold":
            forms = (rng.choice(numbers),) if rng.random() < 0.7 else ()
            account = rng.choice(accounts) if not forms or rng.random() < 0.5 else ""
            since = log.now - rng.choice((0.0, HOUR, 3 * DAY)) if rng.random() < 0.5 else 0.0
            number_of = demand(log, *forms, account=account, since=since, catch=rng.random() < 0.5)
            all_holds = holds(log)
            living[number_of] = all_holds.active()[-1]
            all_holds.close()
        elif act == "end" and living:
            number_of = rng.choice(list(living))
            all_holds = holds(log)
            all_holds.end(number_of, HoldState.RELEASED, log.now)
            all_holds.close()
            del living[number_of]
        elif act == "index":
            index(log)
        elif act == "wait":
            log.now += rng.choice((HOUR, DAY, 2 * DAY))
        elif act == "purge":
            with purger(log, None, **lives) as one:
                for _ in range(rng.choice((1, 3, 10_000))):
                    if not one.step(log.now):
                        break
        for identity, (_number, _account, at) in records.items():
            can = opens(log, identity)
            if not can:
                assert not (must(identity) and identity not in dead), "what is held can be read"
                assert at + DAY <= log.now, "what is not over its retention can be read"
                dead.add(identity)
            else:
                assert identity not in dead, "what is dead stays dead"
    with purger(log, None, **lives) as one:
        one.run(log.now)
        one.run(log.now)
    for identity, (number, _account, at) in records.items():
        if at + 2 * DAY + HOUR < log.now and not must(identity):
            assert not opens(log, identity), "what is over and not held cannot be read"
        if opens(log, identity):
            assert identity in found(log, number)
    sound(log)
    log.close()
