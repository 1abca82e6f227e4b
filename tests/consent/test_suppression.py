"""The register: what stands, what is undone, and what it takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smppd.consent.suppression import ANY, Hashes, Register
from smppd.store.api import OptOut

KEY = b"a suppression key for these tests"[:32]
FROM, TO = b"447700900001", b"447700900123"


def register() -> Register:
    return Register(Hashes(KEY))


def entry(of: Register, sender: bytes = FROM, number: bytes = TO, *, stands: bool = True) -> OptOut:
    return of.entry("acme", sender, number, 1, "word stop", stands)


def test_an_entry_is_of_one_account_sender_and_number() -> None:
    of = register()
    assert of.is_empty_for("acme") and not of.stands("acme", FROM, TO)
    assert of.change(entry(of))
    assert of.stands("acme", FROM, TO)
    assert not of.stands("acme", FROM, b"447700900124")
    assert not of.stands("acme", b"447700900002", TO)
    assert not of.stands("other", FROM, TO) and of.is_empty_for("other")


def test_any_sender_is_every_sender_of_the_account() -> None:
    of = register()
    of.change(entry(of, ANY))
    assert of.stands("acme", FROM, TO) and of.stands("acme", b"shop", TO) and not of.stands("other", FROM, TO)
    of.change(entry(of, ANY, stands=False))
    assert not of.stands("acme", FROM, TO) and of.is_empty_for("acme")


def test_what_is_so_already_is_no_change() -> None:
    of = register()
    assert not of.change(entry(of, stands=False))
    assert of.change(entry(of)) and not of.change(entry(of)) and len(of) == 1


def test_the_epoch_rises_with_each_who_opts_out_and_not_otherwise() -> None:
    of = register()
    first = of.epoch
    of.change(entry(of))
    second = of.epoch
    of.change(entry(of, stands=False))
    assert first < second == of.epoch


def test_a_key_is_bound_to_all_of_it_and_to_the_installation() -> None:
    hashes, other = Hashes(KEY), Hashes(bytes(32))
    keys = {
        hashes.key("acme", FROM, TO),
        hashes.key("acm", b"e" + FROM, TO),
        hashes.key("acme", FROM + TO[:1], TO[1:]),
        hashes.key("acme", ANY, TO),
        hashes.key("acme", b"", TO),
        other.key("acme", FROM, TO),
    }
    assert len(keys) == 6 and all(len(key) == 16 for key in keys)
    assert hashes.mark != other.mark


def test_labels_tell_senders_apart_and_say_nothing_of_them() -> None:
    hashes = Hashes(KEY)
    assert hashes.label("acme", b"shop") != hashes.label("acme", FROM) and hashes.label("acme", ANY) == "*"
    number = hashes.label("acme", FROM)
    assert number.startswith("#") and len(number) == 17 and "7700" not in number
    assert hashes.label("other", FROM) != number
    assert "7700" not in repr(entry(register())) and "7700" not in repr(hashes)


# -- batches -------------------------------------------------------------------------------------------------------------


def test_a_batch_that_is_refused_changes_nothing() -> None:
    of = register()
    stop = entry(of)
    of.change(stop)
    of.refused([stop])
    assert not of.stands("acme", FROM, TO) and of.is_empty_for("acme")
    of.change(stop)
    of.committed([stop])
    start = entry(of, stands=False)
    of.change(start)
    of.refused([start])
    assert of.stands("acme", FROM, TO)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30), st.lists(st.booleans(), min_size=31))
def test_batches_end_as_if_the_refused_ones_had_never_been(said: list[tuple[int, bool]], fates: list[bool]) -> None:
    """Two batches are under way at most: the older ends before a third begins."""
    of = register()
    stored: set[int] = set()
    flying: list[tuple[int, OptOut]] = []

    def ends(fate: bool) -> None:
        number, change = flying.pop(0)
        if fate:
            of.committed([change])
            (stored.add if change.stands else stored.discard)(number)
        else:
            of.refused([change])

    for (number, stands), fate in zip(said, fates, strict=False):
        change = entry(of, number=b"4477009001%02d" % number, stands=stands)
        if not of.change(change):
            continue
        flying.append((number, change))
        if len(flying) == 2:
            ends(fate)
    while flying:
        ends(fates[len(flying)])
    assert {number for number in range(3) if of.stands("acme", FROM, b"4477009001%02d" % number)} == stored
    assert len(of) == len(stored)


def test_what_is_stored_is_taken_over() -> None:
    before = register()
    entries = [entry(before, number=b"44770090%04d" % n) for n in range(500)] + [entry(before, ANY)]
    of = register()
    of.load(sorted(entries, key=lambda one: one.key))
    assert len(of) == 501 and of.stands("acme", b"shop", TO)
    assert all(of.stands("acme", FROM, b"44770090%04d" % n) for n in range(500))
    assert of.change(entry(of, number=b"447700900000", stands=False))
