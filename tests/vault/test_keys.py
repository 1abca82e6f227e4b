"""Installation secrets, periods and their codes, the ring's cache, creation and destruction of keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.vault.keys import (
    KeyRing,
    Part,
    PeriodKey,
    VaultError,
    create_install,
    load_install,
    period_from_code,
    period_from_label,
    period_of,
    period_scope,
    read_scope,
    rewrap_all,
)
from tests.vault.rows import NOON, MemoryRows, kek, ring, some

HOUR, DAY = 3600, 86400


def same(one: PeriodKey, other: PeriodKey) -> bool:
    return one.derive.digest() == other.derive.digest() and one.index_key == other.index_key


def test_install_is_idempotent_and_masked() -> None:
    rows = MemoryRows()
    assert create_install(kek(), rows) == ["audit", "checkpoint", "dedupe", "suppression"]
    before = dict(rows.rows)
    assert create_install(kek(), rows) == []
    assert rows.rows == before
    loaded = load_install(kek(), rows)
    assert len({loaded.audit, loaded.dedupe, loaded.suppression, loaded.checkpoint.private_bytes_raw()}) == 4
    assert repr(loaded) == "<InstallSecrets ***>"
    rows.delete(b"install/audit")
    with pytest.raises(VaultError, match="install/audit: run `smppd keys init`"):
        load_install(kek(), rows)


def test_rotation_rewraps_everything_once_and_brings_no_deleted_key_back() -> None:
    rows = MemoryRows()
    create_install(kek(1), rows)
    first = KeyRing(kek(1), rows).period("acme", Part.BODY, NOON, DAY)
    secret = load_install(kek(1), rows).audit
    assert rewrap_all(kek(1, 2), rows) == 5
    assert rewrap_all(kek(1, 2), rows) == 0
    assert load_install(kek(2), rows).audit == secret
    assert same(KeyRing(kek(2), rows).period("acme", Part.BODY, NOON, DAY), first)
    with pytest.raises(VaultError, match="version 2"):
        load_install(kek(1), rows)
    rows.replace_all([(b"period/gone", b"blob")])
    assert rows.get(b"period/gone") is None


@pytest.mark.parametrize(
    ("retain", "label", "length"),
    [
        (60, "2026-11-22T12", HOUR),
        (48 * HOUR, "2026-11-22T12", HOUR),
        (48 * HOUR + 1, "2026-11-22", DAY),
        (31 * DAY, "2026-11-22", DAY),
        (31 * DAY + 1, "2026-11", 30 * DAY),
    ],
)
def test_period_grows_with_retention(retain: float, label: str, length: int) -> None:
    period = period_of(NOON, retain)
    assert (period.label, period.end - period.start) == (label, length)
    assert period_of(period.start, retain) == period == period_of(period.end - 1, retain)
    assert period_of(period.end, retain).start == period.end


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 4_000_000_000), st.sampled_from([HOUR, 7 * DAY, 400 * DAY]))
def test_period_code_and_label_round_trip(when: int, retain: int) -> None:
    period = period_of(when, retain)
    assert period.start <= when < period.end
    assert period_from_label(period.label) == period
    if period.code:
        assert period_from_code(period.code) == period


@settings(deadline=None, max_examples=150)
@given(st.integers(-5, 1 << 34), st.text(max_size=14))
def test_any_code_or_label_is_read_or_refused(code: int, label: str) -> None:
    try:
        assert period_from_code(code).code == code
    except VaultError:
        pass
    try:
        assert period_from_label(label).label == label
    except VaultError:
        pass


def test_december_ends_with_the_year() -> None:
    assert period_from_label("2026-12").end == period_from_label("2027-01").start


def test_scopes_are_readable_and_unambiguous() -> None:
    period = period_of(NOON, HOUR)
    assert period_scope("acme", Part.BODY, period) == b"period/acme/body/2026-11-22T12"
    assert period_scope("a/body", Part.BODY, period) == b"period/a%2Fbody/body/2026-11-22T12"


def test_a_period_waits_for_the_disk_once() -> None:
    rows = MemoryRows()
    keys = ring(rows)
    key = keys.period("acme", Part.BODY, NOON, HOUR)
    assert list(rows.rows) == [b"period/acme/body/2026-11-22T12"]
    calls = rows.gets + rows.puts
    assert keys.period("acme", Part.BODY, NOON + HOUR - 1, HOUR) is key
    assert keys.existing("acme", Part.BODY, key.period) is key
    assert rows.gets + rows.puts == calls
    assert keys.period("acme", Part.BODY, NOON + HOUR, HOUR) is not key
    assert keys.period("acme", Part.BODY, NOON, HOUR) is key  # the clock stepped back


def test_prepared_period_does_not_wait() -> None:
    rows = MemoryRows()
    keys = ring(rows)
    keys.period("acme", Part.BODY, NOON, HOUR)
    keys.prepare("acme", Part.BODY, NOON + HOUR, HOUR)
    calls = rows.gets + rows.puts
    keys.prepare("acme", Part.BODY, NOON + HOUR, HOUR)
    assert keys.period("acme", Part.BODY, NOON + HOUR, HOUR).period.label == "2026-11-22T13"
    assert rows.gets + rows.puts == calls


def test_changed_retention_changes_the_period() -> None:
    keys = ring()
    assert keys.period("acme", Part.BODY, NOON, HOUR).period.label == "2026-11-22T12"
    assert keys.period("acme", Part.BODY, NOON, 30 * DAY).period.label == "2026-11-22"


def test_keys_differ_by_account_part_and_period_and_survive_a_restart() -> None:
    rows = MemoryRows()
    keys = ring(rows)
    made = [
        keys.period(account, part, when, HOUR)
        for account in ("acme", "beta")
        for part in Part
        for when in (NOON, NOON + HOUR)
    ]
    raw = {key.index_key for key in made} | {key.content_hash_key for key in made}
    assert len(raw) == 16
    again = ring(rows)
    for key in made:
        found = again.existing(key.account, key.part, key.period)
        assert found is not None and same(found, key)


def test_two_processes_agree_on_the_first_key() -> None:
    rows = MemoryRows()
    scope = period_scope("acme", Part.BODY, period_of(NOON, HOUR))

    class Late(MemoryRows):
        def get(self, scope: bytes) -> bytes | None:
            return None  # looked before the other process wrote

        def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
            return rows.put_new(scope, wrapped)

    first = ring(rows).period("acme", Part.BODY, NOON, HOUR)
    second = KeyRing(kek(), Late()).period("acme", Part.BODY, NOON, HOUR)
    assert same(first, second)
    assert list(rows.rows) == [scope]


def test_dropped_key_is_gone_everywhere() -> None:
    rows = MemoryRows()
    keys = ring(rows)
    key = keys.period("acme", Part.BODY, NOON, HOUR)
    keys.drop("acme", Part.BODY, key.period)
    assert rows.rows == {}
    assert keys.existing("acme", Part.BODY, key.period) is None
    assert not same(keys.period("acme", Part.BODY, NOON, HOUR), key)


def test_cache_is_bounded() -> None:
    rows = MemoryRows()
    keys = KeyRing(kek(), rows, cached=2)
    for hour in range(5):
        keys.period("acme", Part.BODY, NOON + hour * HOUR, HOUR)
    assert repr(keys) == "<KeyRing 2 period keys, 0 segments, ***>"
    assert keys.existing("acme", Part.BODY, period_of(NOON, HOUR)) is not None


def test_moved_row_does_not_open() -> None:
    rows = MemoryRows()
    key = ring(rows).period("acme", Part.BODY, NOON, HOUR)
    rows.rows[period_scope("beta", Part.BODY, key.period)] = rows.rows.pop(period_scope("acme", Part.BODY, key.period))
    with pytest.raises(VaultError, match="does not open"):
        ring(rows).existing("beta", Part.BODY, key.period)


def test_segments_rise_and_drop() -> None:
    rows = MemoryRows()
    keys = ring(rows)
    assert [keys.new_segment(), keys.new_segment()] == [1, 2]
    sealed = keys.segment(2).encrypt(bytes(12), b"data", b"")
    again = ring(rows)
    assert again.new_segment() == 3
    assert again.segment(2).decrypt(bytes(12), sealed, b"") == b"data"
    keys.drop_segment(2)
    assert again.segments() == [1, 3]
    assert keys.new_segment() == 4
    with pytest.raises(VaultError, match="no key any more"):
        keys.segment(2)


def test_period_key_is_masked() -> None:
    key = PeriodKey("acme", Part.BODY, period_of(NOON, HOUR), some("k"))
    assert repr(key) == "<PeriodKey acme/body/2026-11-22T12 ***>"
    assert not hasattr(key, "__dict__")


def test_scopes_are_read_back() -> None:
    period = period_of(NOON, 30 * DAY)
    assert read_scope(period_scope("a b", Part.BODY, period)) == ("a b", Part.BODY, period)
    for other in (b"install/audit", b"segment/000001", b"period/acme/body/never", b"period/acme/2026-11"):
        assert read_scope(other) is None
