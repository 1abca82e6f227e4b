"""Transcripts of the links to carriers: real pipes and sessions over a transport in memory, a fake relay and a fake clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from smppd import config
from smppd.net import upstreams as module
from smppd.net.tracing import Recording
from smppd.net.transport import Pipe, Reason
from smppd.net.upstreams import UpstreamLink, Upstreams
from smppd.protocol.capture import facts_of, unpack
from smppd.protocol.wire import Command, Status, pdu
from smppd.relay.state.model import UpstreamState
from tests.net.links import FakeRelay, frames, lines, message
from tests.net.pipes import FakeTransport
from tests.protocol.sessions import sm

OK = Status.ROK


class Attempt:
    """One attempt to connect, which the test decides; also the owner of its pipe."""

    def __init__(self, world: World, link: UpstreamLink, tls: Any, at: int) -> None:
        self.world = world
        self.link = link
        self.tls = tls
        self.at = at
        self.cancelled = False
        self.transport: FakeTransport

    def cancel(self) -> None:
        self.cancelled = True

    def fails(self, reason: str = Reason.REFUSED, detail: str = "") -> None:
        self.link.failed(reason, detail)

    def opens(self) -> Carrier:
        return Carrier(self)


class Carrier:
    """The carrier's end of a connection."""

    def __init__(self, attempt: Attempt) -> None:
        self.link = attempt.link
        self.world = attempt.world
        self.transport = FakeTransport(self.world.clock)
        self.pipe = Pipe(self, self.world.clock, self.world.limits)
        self.transport.protocol = self.pipe
        make: Any = self.pipe.makeConnection
        make(self.transport)

    def admit(self, pipe: Pipe) -> None:
        pass

    def opened(self, pipe: Pipe) -> UpstreamLink:
        return self.link

    def behind_proxy(self, pipe: Pipe) -> None:
        pass

    def hello(self, pipe: Pipe) -> None:
        pipe.shake()

    def handshake_step_took(self, pipe: Pipe, seconds: float) -> None:
        pass

    def evicted(self, pipe: Pipe) -> None:
        pass

    def bound(self, pipe: Pipe) -> None:
        pass

    def ended(self, pipe: Pipe, reason: str, opened: bool) -> None:
        pass

    def says(self, *raws: bytes) -> None:
        self.pipe.dataReceived(b"".join(raws))

    def hears(self) -> list[tuple[str, int, int]]:
        return lines(self.transport.take())

    def accepts(self, status: int = 0) -> Carrier:
        """Answers the bind."""
        (bind,) = frames(self.transport.take())
        command = int.from_bytes(bind[4:8]) | 0x80000000
        self.says(pdu(command, status, int.from_bytes(bind[12:16]), b"" if status else b"smsc\0"))
        return self

    def gets(self, *tokens: Any) -> None:
        """The relay sends submits over this link."""
        session = self.link.session
        assert session is not None
        for token in tokens:
            session.request(sm(0), token, self.world.clock.seconds())
        self.link.go_on()

    def breaks(self) -> None:
        self.transport.lose(ConnectionLost())

    @property
    def gone(self) -> Any:
        self.transport.take()
        self.world.clock.advance(0)
        return self.transport.lost


class World:
    """The carriers' side of one daemon."""

    def __init__(self, worlds: list[World], *settings: config.Upstream) -> None:
        worlds.append(self)
        self.clock = Clock()
        self.limits = config.Limits()
        self.relay = FakeRelay()
        self.attempts: list[Attempt] = []
        relay: Any = self.relay
        self.side = Upstreams(self.clock, relay, self.relay.metrics, self.limits, self.clock.seconds, Random(1))
        self.use(*settings)

    def use(self, *settings: config.Upstream) -> None:
        for one in settings:
            self.relay.upstreams.setdefault(one.name, UpstreamState(one, self.relay.metrics, 0.0))
        self.side.use(settings, self.limits, {one.name: None for one in settings})

    def connect(self, _reactor: Any, _settings: Any, _limits: Any, link: UpstreamLink, tls: Any, at: int) -> Attempt:
        self.attempts.append(Attempt(self, link, tls, at))
        return self.attempts[-1]

    @property
    def attempt(self) -> Attempt:
        return self.attempts[-1]

    def bound(self) -> Carrier:
        return self.attempt.opens().accepts()

    def passes(self, seconds: float) -> None:
        while seconds > 0:
            step = min(1.0, seconds)
            self.clock.advance(step)
            self.side.tick(self.clock.seconds())
            seconds -= step

    def failures(self) -> float:
        return self.relay.value("upstream_link_failures_total", upstream="carrier-a")

    def errors(self) -> float:
        return self.relay.value("internal_errors_total", where="upstream")


def upstream(name: str = "carrier-a", **changes: Any) -> config.Upstream:
    return config.Upstream.model_validate(
        {
            "name": name,
            "address": "127.0.0.1:2776",
            "system_id": "gw",
            "password": {"env": "SMPPD_TEST_PASSWORD"},
            **changes,
        }
    )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[World]]:
    """Lets worlds decide about connections."""
    monkeypatch.setenv("SMPPD_TEST_PASSWORD", "sm5c-Pw1")
    worlds: list[World] = []
    monkeypatch.setattr(module, "connect", lambda *args: worlds[-1].connect(*args))
    yield worlds


class Make:
    """Makes worlds."""

    def __init__(self, made: list[World]) -> None:
        self.made = made

    def __call__(self, *settings: config.Upstream) -> World:
        return World(self.made, *(settings or (upstream(),)))


@pytest.fixture
def make(made: list[World]) -> Make:
    return Make(made)


# -- binding -----------------------------------------------------------------------------------------------------------


def test_a_bind_says_who_we_are_and_its_acceptance_reaches_the_relay(make: Make) -> None:
    world = make(upstream(system_type="vma", addr_ton=1, addr_npi=2, address_range="^44", interface_version="5.0"))
    carrier = world.attempt.opens()
    (bind,) = frames(carrier.transport.take())
    assert bind[4:8] == b"\0\0\0\x09" and bind[16:] == b"gw\0sm5c-Pw1\0vma\0\x50\1\2^44\0"
    assert not world.relay.ups
    carrier.says(pdu(Command.BIND_TRANSCEIVER_RESP, 0, 1, b"smsc\0"))
    assert len(world.relay.ups) == 1 and world.relay.ups[0].session.can_send


def test_the_password_is_in_no_repr(make: Make) -> None:
    world = make()
    carrier = world.bound()
    assert "Pw1" not in f"{carrier.link!r} {carrier.link.session!r} {carrier.link.settings!r}"


def _pauses(world: World, times: int) -> list[float]:
    pauses = []
    for _ in range(times):
        call: Any
        (call,) = world.clock.getDelayedCalls()
        pauses.append(call.getTime() - world.clock.seconds())
        world.clock.advance(pauses[-1])
        world.attempt.fails()
    return pauses


def test_pauses_double_with_jitter_up_to_the_longest_and_begin_anew_after_a_bind(make: Make) -> None:
    world = make(upstream(reconnect={"first": "1s", "most": "30s"}))
    world.attempt.fails()
    pauses = _pauses(world, 12)
    for number, pause in enumerate(pauses):
        whole = min(30.0, 2.0**number)
        assert 0.7 * whole <= pause <= whole, (number, pause)
    assert len({round(pause / min(30.0, 2.0**n), 6) for n, pause in enumerate(pauses)}) > 6, "no jitter"
    assert world.failures() == 13
    world.clock.advance(30)
    world.bound().breaks()
    assert _pauses(world, 1)[0] <= 1.0


def test_a_refused_bind_closes_and_is_tried_again_later(make: Make) -> None:
    world = make()
    carrier = world.attempt.opens().accepts(Status.RINVPASWD)
    assert carrier.gone and not world.relay.ups and not world.relay.downs
    assert world.failures() == 1 and len(world.attempts) == 1
    world.passes(1)
    assert len(world.attempts) == 2


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.TLS, Reason.TIMEOUT, Reason.NAME])
def test_whatever_keeps_us_from_connecting_is_tried_again(make: Make, reason: Reason) -> None:
    world = make()
    world.attempt.fails(reason, "certificate verify failed")
    world.passes(1)
    assert len(world.attempts) == 2 and not world.side.connected()


def test_a_bind_without_an_answer_is_given_up(make: Make) -> None:
    world = make(upstream(response="5s"))
    carrier = world.attempt.opens()
    carrier.hears()
    world.passes(7)
    assert carrier.gone and world.failures() == 1
    world.passes(1)
    assert len(world.attempts) == 2


def test_a_missing_password_file_is_no_crash(make: Make, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    world = make(upstream(password={"file": str(secret)}))
    carrier = world.attempt.opens()
    assert carrier.hears() == [] and carrier.gone and world.failures() == 1
    secret.write_text("sm5c-Pw1\n")
    secret.chmod(0o600)
    world.passes(1)
    assert world.attempt.opens().accepts().link.session is not None
    assert len(world.relay.ups) == 1 and world.errors() == 0


def test_an_outbind_and_messages_before_the_bind_stands_do_no_harm(make: Make) -> None:
    world = make()
    carrier = world.attempt.opens()
    carrier.says(pdu(Command.OUTBIND, 0, 1, b"smsc\0secret\0"), sm(2, Command.DELIVER_SM))
    assert carrier.hears() == [
        ("bind_transceiver", 0, 1),
        ("deliver_sm_resp", Status.RINVBNDSTS, 2),
    ]
    carrier.says(pdu(Command.BIND_TRANSCEIVER_RESP, 0, 1, b"smsc\0"))
    assert len(world.relay.ups) == 1 and not world.relay.received


def test_the_bind_s_answer_and_what_comes_with_it_are_both_heard(make: Make) -> None:
    world = make()
    carrier = world.attempt.opens()
    carrier.hears()
    carrier.says(pdu(Command.BIND_TRANSCEIVER_RESP, 0, 1, b"smsc\0"), sm(2, Command.DELIVER_SM))
    assert len(world.relay.received) == 1
    world.relay.answer()
    assert carrier.hears() == [("deliver_sm_resp", 0, 2)]


# -- messages ----------------------------------------------------------------------------------------------------------


def test_answers_reach_the_relay_and_late_ones_are_said_to_be_late(make: Make) -> None:
    world = make(upstream(response="5s"))
    carrier = world.bound()
    first, second = message(1), message(2)
    carrier.gets(first, second)
    assert carrier.hears() == [("submit_sm", 0, 2), ("submit_sm", 0, 3)]
    carrier.says(pdu(Command.SUBMIT_SM_RESP, 0, 2, b"id\0"))
    assert world.relay.answers == [(first, 0)]
    world.passes(7)
    assert world.relay.silent == [second] and not carrier.gone


def test_what_was_outstanding_comes_back_in_order_when_the_link_breaks(make: Make) -> None:
    world = make()
    carrier = world.bound()
    sent = [message(number) for number in range(3)]
    carrier.gets(*sent)
    carrier.breaks()
    assert [tokens for _, tokens in world.relay.downs] == [sent]
    assert world.relay.downs[0][0] is world.relay.ups[0]
    world.passes(1)
    world.bound()
    assert len(world.relay.ups) == 2 and world.relay.ups[1] is not world.relay.ups[0]


def test_a_carrier_s_unbind_is_answered_and_the_relay_knows_at_once(make: Make) -> None:
    world = make()
    carrier = world.bound()
    lost = message()
    carrier.gets(lost)
    carrier.hears()
    carrier.says(pdu(Command.UNBIND, 0, 7))
    assert [tokens for _, tokens in world.relay.downs] == [[lost]], "before the connection has closed"
    assert carrier.hears() == [("unbind_resp", 0, 7)] and carrier.gone
    assert len(world.relay.downs) == 1
    world.passes(1)
    assert len(world.attempts) == 2


def test_a_carrier_that_sends_more_than_the_window_waits(make: Make) -> None:
    world = make()
    carrier = world.bound()
    carrier.says(*(sm(number, Command.DELIVER_SM) for number in range(1, 1011)))
    assert len(world.relay.received) == 1000 and not carrier.transport.reading
    world.relay.answer(10)
    assert len(world.relay.received) == 1000, "ten more"
    world.relay.answer(1000)
    assert carrier.transport.reading
    assert len(carrier.hears()) == 1010


def test_a_pair_sends_on_one_session_and_hears_on_both(make: Make) -> None:
    world = make(upstream(bind="transmitter+receiver"))
    assert len(world.attempts) == 2
    sender, receiver = (attempt.opens().accepts() for attempt in world.attempts)
    sending, receiving = (one.session for one in world.relay.ups)
    assert sending.can_send and not receiving.can_send
    receiver.says(sm(1, Command.DELIVER_SM))
    world.relay.answer()
    assert receiver.hears() == [("deliver_sm_resp", 0, 1)]
    sender.says(sm(1, Command.DELIVER_SM))
    world.relay.answer()
    assert sender.hears() == [("deliver_sm_resp", 0, 1)]
    receiver.breaks()
    assert not sender.gone


def test_framing_that_cannot_be_right_ends_the_link(make: Make) -> None:
    world = make()
    carrier = world.bound()
    carrier.says(b"\xff" * 16)
    assert carrier.gone and world.errors() == 0 and len(world.relay.downs) == 1


def test_an_error_of_ours_ends_that_link_only(make: Make) -> None:
    world = make(upstream(sessions=2))
    one, other = (attempt.opens().accepts() for attempt in world.attempts)

    world.relay.bug = RuntimeError("a bug")
    one.says(sm(1, Command.DELIVER_SM))
    assert one.gone and not other.gone and world.errors() == 1
    assert [link for link, _ in world.relay.downs] == [world.relay.ups[0]]


# -- silence -----------------------------------------------------------------------------------------------------------


def test_a_dead_carrier_is_noticed_by_enquire_link(make: Make) -> None:
    world = make(upstream(enquire_link="10s", response="5s"))
    carrier = world.bound()
    world.passes(11)
    assert carrier.hears() == [("enquire_link", 0, 2)]
    carrier.says(pdu(Command.ENQUIRE_LINK_RESP, 0, 2))
    world.passes(11)
    assert carrier.hears() == [("enquire_link", 0, 3)]
    world.passes(7)
    assert carrier.gone and len(world.relay.downs) == 1


# -- reload and end ----------------------------------------------------------------------------------------------------


def test_an_unchanged_upstream_stays_and_gets_new_certificates_for_the_next_time(make: Make) -> None:
    world = make()
    carrier = world.bound()
    new: Any = object()
    world.side.use((upstream(),), world.limits, {"carrier-a": new})
    assert not carrier.gone and len(world.attempts) == 1
    carrier.breaks()
    world.passes(1)
    assert world.attempt.tls is new


def test_a_changed_upstream_answers_out_what_it_has_and_goes_while_the_new_one_binds(make: Make) -> None:
    world = make()
    old = world.bound()
    sent = message()
    old.gets(sent)
    old.hears()
    world.use(upstream(window=7, system_type="vma"))
    assert [tokens for _, tokens in world.relay.downs] == [[]], "nothing more is sent over it"
    assert old.hears() == [] and world.side.waiting() == 1
    new = world.bound()
    session = new.link.session
    assert session is not None and session.room == 7
    old.says(pdu(Command.SUBMIT_SM_RESP, 0, 2, b"id\0"))
    assert world.relay.answers == [(sent, 0)]
    assert old.hears() == [("unbind", 0, 3)]
    old.says(pdu(Command.UNBIND_RESP, 0, 3))
    assert old.gone and not new.gone
    world.passes(1)
    assert not world.side.retired and len(world.attempts) == 2


def test_what_no_bind_depends_on_is_taken_over_by_links_that_stand(make: Make) -> None:
    world = make(upstream(throughput="10/s"))
    carrier = world.bound()
    changed = upstream(window=7, throughput="20/s", enquire_link="10s", response="5s")
    assert world.side.changes((changed,)) == []
    world.use(changed)
    assert not carrier.hears() and len(world.attempts) == 1 and not world.relay.downs
    session = carrier.link.session
    assert session is not None and session.room == 7
    world.passes(11)
    assert carrier.hears() == [("enquire_link", 0, 2)], "the new deadlines hold"


def test_the_plan_names_the_links_that_use_then_changes(make: Make) -> None:
    world = make(upstream(sessions=2), upstream("carrier-b"), upstream("carrier-c"))
    for attempt in world.attempts:
        attempt.opens().accepts()
    wanted = (
        upstream(sessions=2, address=["127.0.0.1:2776", "127.0.0.2:2776"]),
        upstream("carrier-b", enabled=False),
        upstream("carrier-d", bind="transmitter+receiver"),
    )
    assert world.side.changes(wanted) == [
        ("carrier-a", 2, 2, 0, "address changed"),
        ("carrier-b", 1, 0, 0, "disabled"),
        ("carrier-c", 1, 0, 0, "removed"),
        ("carrier-d", 0, 2, 0, "added or enabled"),
    ]
    assert len(world.attempts) == 4, "it changes nothing"
    world.use(*wanted)
    assert len(world.side.retired) == 4 and len(world.attempts) == 4 + 4


# -- several addresses -------------------------------------------------------------------------------------------------


def test_each_address_is_tried_in_turn_and_the_pause_grows_with_the_rounds(make: Make) -> None:
    world = make(upstream(address=["127.0.0.1:1", "127.0.0.2:1"], reconnect={"first": "1s", "most": "30s"}))
    pauses, tried = [], [world.attempt.at]
    world.attempt.fails()
    for _ in range(5):
        call: Any
        (call,) = world.clock.getDelayedCalls()
        pauses.append(call.getTime() - world.clock.seconds())
        world.clock.advance(pauses[-1])
        tried.append(world.attempt.at)
        world.attempt.fails()
    assert tried == [0, 1, 0, 1, 0, 1]
    assert [0.7 * whole <= pause <= whole for whole, pause in zip((1, 1, 2, 2, 4), pauses, strict=True)] == [True] * 5


def test_a_refused_bind_and_a_lost_link_lead_on_and_our_own_unbind_to_the_first(make: Make) -> None:
    world = make(upstream(address=["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"]))
    carrier = world.attempt.opens().accepts(Status.RINVPASWD)
    assert carrier.gone
    world.passes(1)
    assert world.attempt.at == 1 and world.attempt.link.address == "127.0.0.2:1"
    world.bound().breaks()
    world.passes(1)
    assert world.attempt.at == 0, "lost elsewhere: the first again"
    world.bound().breaks()
    world.passes(1)
    assert world.attempt.at == 1, "lost at the first: the next"
    carrier = world.bound()
    session = carrier.link.session
    assert session is not None
    session.unbind(world.clock.seconds())
    carrier.link.settle()
    (unbind,) = carrier.hears()
    carrier.says(pdu(Command.UNBIND_RESP, 0, unbind[2]))
    assert carrier.gone
    world.passes(1)
    assert world.attempt.at == 0


def test_each_link_goes_its_own_way(make: Make) -> None:
    world = make(upstream(sessions=2, address=["127.0.0.1:1", "127.0.0.2:1"]))
    first, second = world.attempts
    first.opens().accepts()
    second.fails()
    world.passes(1)
    assert [one.at for one in world.attempts] == [0, 0, 1] and world.attempt.link is second.link


def test_a_removed_upstream_that_never_answers_is_left_and_its_messages_are_unknown(make: Make) -> None:
    world = make(upstream(response="5s"))
    old = world.bound()
    sent = message()
    old.gets(sent)
    old.hears()
    world.use()
    world.passes(7)
    assert world.relay.silent == [sent]
    assert old.hears() == [("unbind", 0, 3)]
    world.passes(7)
    assert old.gone and not world.side.retired and not world.side.connected()


def test_a_removed_upstream_that_is_not_connected_is_tried_no_more(make: Make) -> None:
    world = make(upstream(sessions=3))
    world.attempts[0].fails()
    binding = world.attempts[1].opens()
    world.use()
    assert world.attempts[2].cancelled and binding.gone
    world.passes(120)
    assert len(world.attempts) == 3 and not world.side.retired


def test_a_disabled_upstream_is_as_good_as_removed_and_an_added_one_connects(make: Make) -> None:
    world = make()
    old = world.bound()
    world.use(upstream(enabled=False), upstream("carrier-b"))
    assert old.hears() == [("unbind", 0, 2)]
    assert world.attempt.link.settings.name == "carrier-b"


def test_the_end_unbinds_at_once_and_gives_what_is_unanswered_back(make: Make) -> None:
    world = make()
    carrier = world.bound()
    lost = message()
    carrier.gets(lost)
    carrier.hears()
    assert world.side.waiting() == 1 and world.side.connected()
    world.side.stop(at_once=True)
    assert carrier.hears() == [("unbind", 0, 3)]
    carrier.says(pdu(Command.UNBIND_RESP, 0, 3))
    assert carrier.gone and not world.side.connected()
    assert [tokens for _, tokens in world.relay.downs] == [[], [lost]]
    world.passes(120)
    assert len(world.attempts) == 1


# -- traces ------------------------------------------------------------------------------------------------------------


def test_a_trace_hears_the_link_now_and_when_it_is_made_again_without_the_password(make: Make) -> None:
    world = make()
    over: list[str] = []
    recording = Recording(lambda: 0.0, over.append)
    carrier = world.bound()
    world.side.trace("carrier-a", recording)
    carrier.says(pdu(Command.ENQUIRE_LINK, 0, 3))
    carrier.breaks()
    world.passes(5.0)
    world.bound()
    entries = list(unpack(iter([recording.take()])))
    assert [(one.kind.name, one.session) for one in entries] == [
        ("OPENED", 1),
        ("RECEIVED", 1),
        ("SENT", 1),
        ("CLOSED", 1),
        ("OPENED", 2),
        ("SENT", 2),
        ("RECEIVED", 2),
    ]
    assert facts_of(entries[4])["side"] == "carrier"
    assert b"gw\0********\0" in entries[5].data
    assert over == [] and world.side.find("u2") is not None and world.side.find("u1") is None


# -- acts of an operator -----------------------------------------------------------------------------------------------


def test_a_kicked_link_answers_out_is_unbound_and_binds_again(make: Make) -> None:
    world = make()
    old = world.bound()
    sent = message()
    old.gets(sent)
    old.hears()
    (link,) = world.side.meant(name="carrier-a")
    assert world.side.meant(number=link.number) == [link] and world.side.meant(number=99) == []
    world.side.kick([link])
    assert [tokens for _, tokens in world.relay.downs] == [[]], "nothing more is sent over it"
    world.side.kick([link])
    assert old.hears() == [], "its answer is waited for"
    old.says(pdu(Command.SUBMIT_SM_RESP, 0, 2, b"id\0"))
    assert world.relay.answers == [(sent, 0)] and old.hears() == [("unbind", 0, 3)]
    old.says(pdu(Command.UNBIND_RESP, 0, 3))
    assert old.gone and len(world.attempts) == 1
    world.passes(2)
    assert len(world.attempts) == 2 and world.failures() == 0
    new = world.bound()
    new.gets(message(2))
    new.hears()
    new.says(pdu(Command.SUBMIT_SM_RESP, 0, 2, b"id\0"))
    assert new.hears() == [], "the new one stays"
    new.breaks()
    assert world.failures() == 1


def test_a_carrier_that_closes_where_it_should_answer_our_unbind_leaves_no_address(make: Make) -> None:
    world = make(upstream(address=["127.0.0.1:1", "127.0.0.2:1"]))
    old = world.bound()
    world.side.kick(world.side.meant(name="carrier-a"))
    assert old.hears() == [("unbind", 0, 2)]
    old.breaks()
    world.passes(2)
    assert [attempt.at for attempt in world.attempts] == [0, 0]
    world.bound().breaks()
    world.passes(2)
    assert world.attempt.at == 1, "this one was lost"


def test_a_kicked_link_whose_carrier_never_answers_goes_too(make: Make) -> None:
    world = make(upstream(response="5s"))
    old = world.bound()
    sent = message()
    old.gets(sent)
    old.hears()
    world.side.kick(world.side.meant(name="carrier-a"))
    world.passes(7)
    assert world.relay.silent == [sent] and old.hears() == [("unbind", 0, 3)]
    world.passes(9)
    assert old.gone and len(world.attempts) == 2


def test_a_closed_upstream_is_unbound_and_not_bound_before_it_is_opened(make: Make) -> None:
    world = make(upstream(sessions=2))
    binds = [attempt.opens().accepts() for attempt in world.attempts]
    world.side.close("carrier-a")
    world.side.close("carrier-a")
    for one in binds:
        assert one.hears() == [("unbind", 0, 2)]
        one.says(pdu(Command.UNBIND_RESP, 0, 2))
    world.passes(120)
    assert len(world.attempts) == 2 and not world.side.connected()
    world.use(upstream(sessions=1))
    assert len(world.attempts) == 2, "a reload does not undo it"
    world.use()
    world.side.open("carrier-a")
    assert len(world.attempts) == 2, "the configuration does not have it"
    world.side.close("carrier-a")
    world.use(upstream(sessions=1))
    world.side.open("carrier-a")
    world.side.open("carrier-a")
    assert len(world.attempts) == 3


# -- what an operator sees ---------------------------------------------------------------------------------------------


def test_a_link_that_is_seen_and_why_it_is_not_there(make: Make) -> None:
    world = make(upstream(window=7))
    assert list(world.side.views()) == [] and world.side.trouble("carrier-a") == (None, None)
    world.attempt.fails(Reason.REFUSED, "")
    again, why = world.side.trouble("carrier-a")
    assert again is not None and 0.7 <= again <= 1.0 and why == "connection refused"
    world.clock.advance(1.0)
    carrier = world.attempt.opens()
    (one,) = world.side.views()
    assert (one.id, one.side, one.name, one.mode, one.state) == ("u1", "carrier", "carrier-a", "transceiver", "open")
    carrier.accepts(Status.RBINDFAIL)
    carrier.breaks()
    assert world.side.trouble("carrier-a")[1] == "the bind was refused: ESME_RBINDFAIL"
    world.passes(3)
    carrier = world.bound()
    carrier.gets(message(1), message(2))
    (one,) = world.side.views()
    assert (one.id, one.state, one.outstanding_window, one.outstanding, one.messages) == ("u2", "bound", 7, 2, 0)
    assert world.side.trouble("carrier-a") == (None, None), "it is bound"
    carrier.says(pdu(Command.SUBMIT_SM_RESP, 0, 2, b"id-1\0"))
    (one,) = world.side.views()
    assert (one.outstanding, one.messages, one.last_pdu) == (1, 1, "submit_sm_resp")
    carrier.breaks()
    assert list(world.side.views()) == [] and world.side.trouble("nobody") == (None, None)
