"""Payloads and phases: what the spool keeps is what comes back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from smppd.relay.ledger.payload import StoredMessage, read_mail, read_parked, write_mail, write_message, write_parked
from smppd.relay.state.model import HEARD_ACCEPTED, TOLD_UNKNOWN, TOLD_WORD, Mail, Message, Parked
from smppd.relay.state.phase import FOLLOWS, Phase
from tests.relay.fakes import World
from tests.vault.rows import submit_sm

WORLD = World()
FRAME = submit_sm(b"hello")


def message(phase: Phase = Phase.QUEUED) -> Message:
    account = WORLD.account()
    lane = WORLD.relay.context.lane(account, "a,b")
    made = Message(7, account, lane, FRAME, 1, 99, b"%016x" % 7)
    if phase is Phase.RESTORED:
        return Message(7, account, lane, FRAME, 1, 99, b"%016x" % 7, phase)
    for step in way(phase):
        made.follow(step)
    return made


def way(to: Phase) -> list[Phase]:
    """The phases from STORING to another, the shortest way that the table has."""
    ways: list[list[Phase]] = [[]]
    for path in ways:
        last = path[-1] if path else Phase.STORING
        if last is to:
            return path
        ways += [[*path, after] for after in Phase if FOLLOWS[last] >> after & 1 and after not in path]
    raise AssertionError(f"no way to {to.name}")


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("upstream", [None, "a", "b"])
def test_a_message_comes_back_as_it_was(phase: Phase, upstream: str | None) -> None:
    one = message(phase)
    one.upstream = WORLD.upstream(upstream) if upstream else None
    stored = StoredMessage(7, write_message(one))
    assert (stored.frame, stored.expires, stored.lane, stored.shown) == (FRAME, 99, "acme\na,b", b"%016x" % 7)
    assert stored.released == (phase in (Phase.RELEASING, Phase.READY, Phase.SENT, Phase.UNKNOWN))
    assert stored.held == (phase is Phase.HELD)
    assert stored.submitted == (phase in (Phase.SUBMITTED, Phase.SHELVED))
    if stored.submitted:
        assert stored.upstream == (upstream or "")
    elif stored.released:
        assert stored.upstream == ("b" if upstream == "b" else ""), "the first of its lane goes without saying"


@given(
    shown=st.binary(min_size=1, max_size=16),
    reply=st.none() | st.binary(max_size=40),
    duplicate=st.booleans(),
    upstream_id=st.binary(max_size=65),
    phase=st.sampled_from(list(Phase)),
    on_unknown=st.sampled_from(["", "resend", "hold"]),
    told=st.sets(st.sampled_from((TOLD_UNKNOWN, TOLD_WORD, HEARD_ACCEPTED))).map(sum),
)
@hypothesis_settings(deadline=None, max_examples=100)
def test_any_field_comes_back(
    shown: bytes, reply: bytes | None, duplicate: bool, upstream_id: bytes, phase: Phase, on_unknown: str, told: int
) -> None:
    one = message(phase)
    one.shown, one.reply_to, one.duplicate, one.upstream_id = shown, reply, duplicate, upstream_id
    one.on_unknown, one.reported = on_unknown, told
    one.upstream = WORLD.upstream("b")
    stored = StoredMessage(7, write_message(one))
    assert (stored.shown, stored.reply_to, stored.duplicate, stored.frame) == (shown, reply, duplicate, FRAME)
    assert (stored.on_unknown, stored.reported) == (on_unknown, told)
    assert stored.upstream_id == (upstream_id if phase in (Phase.SUBMITTED, Phase.SHELVED) else b"")


def test_a_payload_of_the_first_version_is_read() -> None:
    old = struct.pack(">IBH", 99, 1 | 2 | 64, 8) + b"acme\na,b" + b"\x01b" + FRAME
    stored = StoredMessage(7, old)
    assert (stored.expires, stored.released, stored.duplicate, stored.held) == (99, True, True, False)
    assert (stored.lane, stored.upstream, stored.on_unknown, stored.frame) == ("acme\na,b", "b", "", FRAME)


def test_mail_and_parked_receipts_come_back() -> None:
    mail = Mail(5, WORLD.account(), FRAME, 7, 99)
    assert read_mail(write_mail(mail)) == (99, 7, "acme", FRAME)
    parked = Parked(6, WORLD.upstream(), (b"x",), FRAME, 99)
    assert read_parked(write_parked(parked)) == (99, "a", FRAME)


def test_no_repr_shows_a_number_or_text() -> None:
    for thing in (message(), Mail(5, WORLD.account(), FRAME, 7, 99), Parked(6, WORLD.upstream(), (b"x",), FRAME, 9)):
        assert "hello" not in repr(thing) and "447700" not in repr(thing)


def test_a_phase_that_cannot_follow_is_refused() -> None:
    one = message(Phase.DONE)
    with pytest.raises(AssertionError, match="no way from DONE to QUEUED"):
        WORLD.relay.context.phases.move(one, Phase.QUEUED)
    assert one.phase is Phase.DONE and not len(one.lane.hot) and WORLD.account().queued == 0


def test_a_phase_cannot_be_set_and_no_message_begins_in_the_middle() -> None:
    one = message(Phase.STORING)
    with pytest.raises(AttributeError):
        one.phase = Phase.SENT  # type: ignore[misc]
    with pytest.raises(AssertionError, match="no message begins as SENT"):
        Message(7, one.account, one.lane, FRAME, 1, 99, b"7", Phase.SENT)
