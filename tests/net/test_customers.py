"""Transcripts of customers' connections: real pipes and sessions over a transport in memory, a fake relay and a fake clock."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone

from smppd import config
from smppd.net.binds import ACCEPTED, TOLD, AcceptedBinds
from smppd.net.bound import Bound
from smppd.net.customers import TURN_SECONDS, TURNS, CustomerLink, version_name
from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.wire import Command, Status, pdu
from tests.net.links import PASSWORD, TRX, World, account, frames, lines
from tests.protocol.sessions import sm

TX, RX = Command.BIND_TRANSMITTER, Command.BIND_RECEIVER


# -- binds -------------------------------------------------------------------------------------------------------------


def test_an_accepted_bind_is_answered_counted_and_told() -> None:
    world = World()
    client = world.client()
    assert world.relay.value("connections_total", kind="customer", outcome="accepted") == 1
    client.feeds(write_bind(Bind(TRX, 7, b"acme", PASSWORD, b"", 0x34, 0, 0, b"")))
    assert not client.transport.reading, "nothing is read while the password is looked at"
    world.hand.decide()
    (answer,) = frames(client.transport.take())
    assert answer[4:] == bytes.fromhex("80000009 00000000 00000007") + b"smppd\0" + bytes.fromhex("0210 0001 34")
    assert world.relay.ups == [client.link] and client.admitted_bound
    assert world.relay.value("binds_total", account="acme", mode="transceiver") == 1
    assert [event for event, _ in world.heard] == ["bind accepted"]
    assert client.transport.reading


def test_a_bind_of_an_old_version_gets_no_tlv() -> None:
    world = World()
    client = world.client()
    client.feeds(write_bind(Bind(TX, 1, b"acme", PASSWORD, b"", 0x33, 0, 0, b"")))
    world.hand.decide()
    assert frames(client.transport.take())[0][16:] == b"smppd\0"


@pytest.mark.parametrize(
    ("system_id", "password", "networks"),
    [(b"nobody", PASSWORD, "any"), (b"acme", b"wrong", "any"), (b"acme", PASSWORD, ["198.51.100.0/24"])],
)
def test_every_refusal_is_the_same_and_at_the_same_time(system_id: bytes, password: bytes, networks: Any) -> None:
    world = World(account(networks=networks))
    client = world.client()
    assert client.bind(system_id, password) == []
    world.clock.advance(0.999)
    assert client.hears() == []
    world.clock.advance(0.001)
    assert client.hears() == [("bind_transceiver_resp", Status.RBINDFAIL, 1)]
    assert not client.gone and client.transport.reading, "it may try again"


def test_a_name_nobody_has_is_in_no_log_line_and_no_audit_entry(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.DEBUG):
        client = world.client()
        client.bind(b"s3cret-typed-here", b"acme")
        world.clock.advance(1)
        client.hears()
        client.goes()
    assert world.heard, "the refusal is told"
    said = f"{[record.__dict__ for record in caplog.records]} {world.heard} {client.link!r}"
    assert "s3cret" not in said


def test_a_bind_that_cannot_be_read_is_answered_and_what_stands_behind_it_goes_on() -> None:
    world = World()
    client = world.client()
    bad = pdu(TRX, 0, 4, b"acme\0" + b"x" * 70 + b"\0")
    cut = pdu(TRX, 0, 5, b"acme")
    good = write_bind(Bind(TRX, 6, b"acme", PASSWORD, b"", 0x34, 0, 0, b""))
    client.feeds(bad, cut, good)
    assert client.hears() == [
        ("bind_transceiver_resp", Status.RBINDFAIL, 4),
        ("bind_transceiver_resp", Status.RINVMSGLEN, 5),
    ]
    world.hand.decide()
    assert client.hears() == [("bind_transceiver_resp", 0, 6)]


def test_binds_that_cannot_be_read_end_the_connection_after_a_while() -> None:
    world = World()
    client = world.client()
    client.feeds(*(pdu(TRX, 0, number, b"acme") for number in range(20)))
    assert len(client.hears()) == 11  # bad_bodies and the one too many
    assert client.gone and world.errors() == 0


def test_a_second_bind_on_a_session_is_refused_and_the_first_stands() -> None:
    world = World()
    client = world.bound()
    assert client.bind(sequence=2) == [("bind_transceiver_resp", Status.RALYBND, 2)]
    assert client.link.session.bound and not world.hand.waiting


def test_above_max_binds_a_bind_is_refused_until_one_has_ended() -> None:
    world = World(account(max_binds=2))
    first, _second = world.bound(), world.bound()
    assert world.client().bind() == [("bind_transceiver_resp", Status.RALYBND, 1)]
    first.feeds(pdu(Command.UNBIND, 0, 9))
    assert first.hears() == [("unbind_resp", 0, 9)]
    world.bound()  # though the connection of the first is still closing
    assert world.relay.value("binds_refused_total", reason="too many binds") == 1


def test_the_oldest_goes_when_the_account_says_so() -> None:
    world = World(account(max_binds=2, when_full="evict_oldest"))
    clients = [world.bound() for _ in range(2)]
    # Two in one turn of the reactor: the connection of the first evicted one is not gone yet.
    clients += [world.client(), world.client()]
    for client in clients[2:]:
        client.feeds(write_bind(Bind(TRX, 1, b"acme", PASSWORD, b"", 0x34, 0, 0, b"")))
    world.hand.decide()
    world.clock.advance(0)
    assert [client.gone for client in clients] == [True, True, False, False]
    assert [down for down, _ in world.relay.downs] == [clients[0].link, clients[1].link]
    assert world.relay.accounts["acme"].sessions == [clients[2].link, clients[3].link]


def test_binds_at_other_nodes_count() -> None:
    world = World(account(max_binds=3))
    world.customers.bound.set_elsewhere({"acme": 2})
    first = world.bound()
    assert world.client().bind() == [("bind_transceiver_resp", Status.RALYBND, 1)]
    world.customers.bound.set_elsewhere({"acme": 1})
    world.bound()
    assert world.customers.bound.here == {"acme": Bound(2, 2)}
    first.goes()
    assert world.customers.bound.here == {"acme": Bound(1, 1)}


def test_a_newer_bind_takes_the_places_of_the_oldest_here_and_then_elsewhere() -> None:
    world = World(account(max_binds=2, when_full="evict_oldest"))
    wanted: list[tuple[str, int]] = []
    world.customers.bound.wanted = lambda name, places: wanted.append((name, places))
    world.customers.bound.set_elsewhere({"acme": 1})
    clients = [world.bound(), world.bound()]
    assert [client.gone for client in clients] == [True, False] and not wanted
    world.customers.bound.set_elsewhere({"acme": 3})
    clients.append(world.bound())
    assert clients[1].gone and wanted == [("acme", 2)]
    world.customers.evict_oldest("acme", 1)
    assert clients[2].gone and not world.customers.bound.here
    world.customers.evict_oldest("nobody", 1)


def test_a_bind_that_takes_no_mail_is_told_as_such() -> None:
    world = World(account(max_binds=2))
    world.client().bind(command=Command.BIND_TRANSMITTER)
    assert world.customers.bound.here == {"acme": Bound(1, 0)}
    world.customers.evict_oldest("acme", 1)  # its account says that new ones are refused
    assert world.customers.bound.here == {"acme": Bound(1, 0)}


@pytest.mark.parametrize("version", [0x35, 0x40, 0x51, 0xFF])
def test_versions_nobody_defined_are_refused(version: int) -> None:
    assert World().client().bind(version=version) == [("bind_transceiver_resp", Status.RBINDFAIL, 1)]
    assert version_name(version) is None


@pytest.mark.parametrize("version", [0x00, 0x33, 0x34, 0x50])
def test_versions_in_use_are_accepted(version: int) -> None:
    assert World().client().bind(version=version) == [("bind_transceiver_resp", 0, 1)]


def test_versions_and_modes_that_the_account_may_not_use_are_refused() -> None:
    world = World(account(interface_versions=["3.4"], binds=["transmitter"]))
    assert world.client().bind(command=TX, version=0x50) == [("bind_transmitter_resp", Status.RBINDFAIL, 1)]
    assert world.client().bind(command=RX) == [("bind_receiver_resp", Status.RBINDFAIL, 1)]
    assert world.client().bind(command=TX) == [("bind_transmitter_resp", 0, 1)]
    assert world.relay.value("binds_refused_total", reason="version") == 1
    assert world.relay.value("binds_refused_total", reason="mode") == 1


def test_a_connection_without_a_bind_is_closed_by_a_drain_and_its_bind_with_it() -> None:
    world = World()
    checking, silent = world.client(), world.client()
    checking.feeds(write_bind(Bind(TRX, 1, b"acme", PASSWORD, b"", 0x34, 0, 0, b"")))
    world.customers.unbind_all()
    world.hand.decide()
    assert checking.gone and silent.gone and not world.relay.ups
    late = world.client()
    assert late.bind() == [("bind_transceiver_resp", Status.RBINDFAIL, 1)]
    assert world.errors() == 0


def test_a_bind_that_is_decided_after_its_time_is_no_error() -> None:
    world = World()
    client = world.client()
    client.feeds(write_bind(Bind(TRX, 1, b"acme", PASSWORD, b"", 0x34, 0, 0, b"")))
    world.passes(12)
    world.hand.decide()
    assert client.gone and not world.relay.ups and world.errors() == 0


def test_a_customer_who_leaves_while_the_password_is_checked_is_forgotten() -> None:
    world = World()
    client = world.client()
    client.feeds(write_bind(Bind(TRX, 1, b"acme", PASSWORD, b"", 0x34, 0, 0, b"")))
    client.goes()
    world.hand.decide()
    world.passes(2)
    assert not world.relay.ups and not world.customers.links and not world.heard and world.errors() == 0


def test_no_bind_at_all_ends_the_connection() -> None:
    world = World()
    client = world.client()
    world.passes(11)
    assert client.gone


# -- reading and writing -----------------------------------------------------------------------------------------------


def test_a_full_window_stops_reading_until_something_is_answered() -> None:
    world = World(account(window=2))
    client = world.bound()
    client.feeds(*(sm(number) for number in range(10, 15)))
    assert len(world.relay.received) == 2 and not client.transport.reading
    world.relay.answer(1)
    assert client.hears() == [("submit_sm_resp", 0, 10)]
    assert len(world.relay.received) == 2 and not client.transport.reading
    world.relay.answer(2)
    world.relay.answer(2)
    assert [sequence for _, _, sequence in client.hears()] == [11, 12, 13, 14]
    assert client.transport.reading


def test_mail_is_not_pumped_into_a_pipe_that_nobody_empties() -> None:
    world = World()
    client = world.bound()
    client.link.session.out.append(b"\0" * 300_000)
    client.link.flush()
    assert client.pipe.choked and client.link.session.room == 0 and not client.transport.reading
    world.passes(5)
    assert client.link.session.room == 0
    client.transport.take(100_000)
    assert world.relay.writable == 0
    client.transport.take()
    assert client.link.session.room == 10 and world.relay.writable == 1
    assert client.transport.reading


def test_a_choked_and_blocked_session_goes_on_when_both_have_ended() -> None:
    world = World(account(window=1))
    client = world.bound()
    client.feeds(sm(2), sm(3))
    client.link.session.out.append(b"\0" * 300_000)
    client.link.flush()
    client.transport.take()
    assert not client.transport.reading, "the window is still full"
    world.relay.answer()
    world.relay.answer()
    client.hears()
    assert client.transport.reading


def test_who_does_not_read_at_all_is_cut() -> None:
    world = World()
    client = world.bound()
    client.link.session.out.append(b"\0" * 300_000)
    client.link.flush()
    world.passes(40)
    assert client.transport.lost and world.relay.downs == [(client.link, [])]


def test_garbage_ends_the_connection_and_is_counted_once() -> None:
    world = World()
    client = world.client()
    client.feeds(b"GET / HTTP/1.1\r\nHost: example.net\r\n\r\n")
    world.passes(3)
    assert client.gone
    assert world.relay.value("garbage_total") == 1
    assert not world.heard, "no failed bind"


def test_an_error_of_ours_ends_that_session_only() -> None:
    world = World()
    one, other = world.bound(), world.bound()
    world.relay.bug = RuntimeError("a bug")
    one.feeds(sm(2))
    world.relay.bug = None
    assert one.gone and world.errors() == 1
    assert world.relay.downs == [(one.link, [])]
    other.feeds(sm(3))
    world.relay.answer()
    assert other.hears() == [("submit_sm_resp", 0, 3)]


def test_an_error_while_somebody_else_is_served_hits_who_has_it() -> None:
    world = World(account(window=1))
    one, other = world.bound(), world.bound()
    one.feeds(sm(2), sm(3))
    other.feeds(sm(4))
    world.relay.bug = RuntimeError("a bug")
    world.relay.answer(2)  # the first's window opens, and what it held back meets the bug
    assert one.gone and not other.gone and world.errors() == 1
    assert ("submit_sm_resp", 0, 4) in lines(other.transport.sent)


def test_answers_of_the_customer_reach_the_mailroom_and_silence_too() -> None:
    world = World()
    client = world.bound()
    session = client.link.session
    for mail in ("first", "second"):
        session.request(sm(0, Command.DELIVER_SM), mail, world.clock.seconds())
    client.link.flush()
    assert client.hears() == [("deliver_sm", 0, 1), ("deliver_sm", 0, 2)]
    client.feeds(pdu(Command.DELIVER_SM_RESP, 0, 1, b"\0"))
    assert world.relay.answers == [("first", 0)]
    world.passes(32)
    assert world.relay.silent == ["second"]


def test_mail_that_was_under_way_comes_back_in_order_when_the_connection_breaks() -> None:
    world = World()
    client = world.bound()
    for mail in ("first", "second", "third"):
        client.link.session.request(sm(0, Command.DELIVER_SM), mail, 0.0)
    client.goes()
    assert world.relay.downs == [(client.link, ["first", "second", "third"])]


def test_other_operations_go_to_their_room() -> None:
    world = World()
    client = world.bound()
    client.feeds(pdu(Command.QUERY_SM, 0, 2, b"1\0\0\0\0"))
    assert world.relay.others == [Command.QUERY_SM]


# -- silence and goodbye -----------------------------------------------------------------------------------------------


def test_silence_is_asked_about_and_then_ends_the_session() -> None:
    world = World()
    client = world.bound()
    world.passes(31)
    assert client.hears() == [("enquire_link", 0, 1)]
    client.feeds(pdu(Command.ENQUIRE_LINK_RESP, 0, 1))
    world.passes(100)
    assert not client.gone
    world.passes(60)
    assert client.gone and world.errors() == 0


def test_enquire_link_is_answered() -> None:
    client = World().bound()
    client.feeds(pdu(Command.ENQUIRE_LINK, 0, 5))
    assert client.hears() == [("enquire_link_resp", 0, 5)]


def test_an_unbind_waits_for_the_answers_before_it() -> None:
    world = World()
    client = world.bound()
    client.feeds(sm(2), pdu(Command.UNBIND, 0, 3))
    assert client.hears() == []
    world.relay.answer()
    assert client.hears() == [("submit_sm_resp", 0, 2), ("unbind_resp", 0, 3)]
    assert client.gone


def test_a_drain_unbinds_when_the_answers_are_out() -> None:
    world = World()
    busy, idle = world.bound(), world.bound()
    busy.feeds(sm(2), sm(3))
    world.customers.unbind_all()
    assert idle.hears() == [("unbind", 0, 1)] and busy.hears() == []
    assert not busy.transport.reading, "nothing new is taken"
    world.relay.answer()
    assert busy.hears() == [("submit_sm_resp", 0, 2)]
    world.relay.answer(status=Status.RSUBMITFAIL)
    assert busy.hears() == [("submit_sm_resp", Status.RSUBMITFAIL, 3), ("unbind", 0, 1)]
    assert busy.transport.reading
    busy.feeds(sm(4))
    assert busy.hears() == [("submit_sm_resp", Status.RINVBNDSTS, 4)], "too late, and told so"
    busy.feeds(pdu(Command.UNBIND_RESP, 0, 1))
    assert busy.gone and not idle.gone
    idle.feeds(pdu(Command.UNBIND_RESP, 0, 1))
    assert idle.gone and not world.customers.links


def test_a_drain_does_not_wait_for_ever_for_anybody() -> None:
    world = World()
    stuck, deaf = world.bound(), world.bound()
    stuck.feeds(sm(2))
    world.customers.unbind_all()
    world.passes(31)
    assert stuck.hears() == [("unbind", 0, 1)]
    assert deaf.gone, "it never answered the unbind"
    world.passes(31)
    assert stuck.gone and world.errors() == 0


def test_a_kick_unbinds_those_that_are_meant_when_their_answers_are_out() -> None:
    world = World(account(), account("zeta"))
    busy, other = world.bound(), world.bound(system_id=b"zeta")
    busy.feeds(sm(2))
    customers = world.customers
    assert customers.meant(account="acme") == [busy.link] and customers.meant(number=other.link.number) == [other.link]
    assert len(customers.meant(address=busy.link.peer)) == 2 and customers.meant(address="198.51.100.1") == []
    customers.kick(customers.meant(account="acme"))
    assert busy.hears() == [] and other.hears() == []
    world.relay.answer()
    assert busy.hears() == [("submit_sm_resp", 0, 2), ("unbind", 0, 1)]
    busy.feeds(pdu(Command.UNBIND_RESP, 0, 1))
    assert busy.gone and not other.gone
    again = world.bound()
    assert customers.meant(account="acme") == [again.link], "it may bind again"


def test_a_reload_reaches_sessions_that_stand() -> None:
    world = World(account(), account("other"))
    client, other = world.bound(), world.bound(b"other")
    world.relay.accounts["acme"].use(account(window=77, receipts={"window": 5}), 0.0)
    world.relay.accounts["other"].closed = True
    world.customers.reload(config.Limits.model_validate({"inactivity": "40s"}))
    assert client.link.session.window == 77 and client.link.session.room == 5
    assert other.hears() == [("unbind", 0, 1)]
    world.passes(41)
    assert client.gone, "the new deadline holds for old sessions"


def busy(monkeypatch: pytest.MonkeyPatch, world: World, method: str) -> None:
    """It takes so long for each session that three of them are a turn's time."""
    real = getattr(CustomerLink, method)

    def slow(link: CustomerLink, *values: Any, **more: Any) -> None:
        world.clock.rightNow += TURN_SECONDS / 3 + 1e-6
        real(link, *values, **more)

    monkeypatch.setattr(CustomerLink, method, slow)


def test_with_very_many_sessions_a_reload_reaches_them_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(account(max_binds=8))
    clients = [world.bound() for _ in range(8)]
    busy(monkeypatch, world, "reload")
    world.relay.accounts["acme"].use(account(window=77, max_binds=8), 0.0)

    def told() -> int:
        return sum(client.link.session.window == 77 for client in clients)

    world.customers.reload(world.limits)
    clients.pop().transport.lose(ConnectionDone())
    assert 2 <= told() <= 3
    world.turn()
    assert 5 <= told() <= 6
    world.turn()
    assert told() == 7 and world.errors() == 0
    world.turn()
    assert not world.customers._steps


def test_with_very_many_sessions_those_told_to_go_are_told_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(account(max_binds=8))
    clients = [world.bound() for _ in range(8)]
    busy(monkeypatch, world, "unbind")
    world.customers.unbind_all()
    told = []
    for _ in range(3):
        told.append(sum(client.hears() == [("unbind", 0, 1)] for client in clients))
        world.turn()
    assert told == [3, 3, 2]


def test_deadlines_wait_while_more_is_to_be_done_than_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(account(max_binds=60))
    for _ in range(60):
        world.bound()
    swept: list[CustomerLink] = []
    real = CustomerLink.sweep

    def sweep(link: CustomerLink, now: float) -> None:
        swept.append(link)
        real(link, now)

    monkeypatch.setattr(CustomerLink, "sweep", sweep)
    busy(monkeypatch, world, "sweep")
    world.customers.tick(world.clock.seconds())
    assert len(swept) == 3
    world.customers.tick(world.clock.seconds())
    assert len(swept) == 3, "the next tenth is not begun"
    world.turn()
    assert len(swept) == 6
    for _ in range(TURNS - 1):
        world.customers.tick(world.clock.seconds())
        world.turn()
    assert len(swept) == len(set(swept)) == 60


def test_a_session_that_breaks_in_a_reload_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(account(max_binds=3))
    clients = [world.bound() for _ in range(3)]
    broken = clients.pop().link
    real = CustomerLink._open_window

    def opens(link: CustomerLink) -> None:
        if link is broken:
            raise RuntimeError("a bug")
        real(link)

    monkeypatch.setattr(CustomerLink, "_open_window", opens)
    world.relay.accounts["acme"].use(account(window=77), 0.0)
    world.customers.reload(world.limits)
    assert [client.link.session.window for client in clients] == [77, 77] and world.errors() == 1


def test_sessions_of_a_suspended_account_are_unbound_and_a_bind_under_way_is_refused() -> None:
    world = World()
    client, late = world.bound(), world.client()
    world.auth.reload(world.accounts, world.limits)  # the password is looked at anew
    late.feeds(write_bind(Bind(TRX, 1, b"acme", PASSWORD, b"", 0x34, 0, 0, b"")))
    world.relay.accounts["acme"].use(account(suspended=True), 0.0)
    world.customers.reload(world.limits)
    assert client.hears() == [("unbind", 0, 1)]
    world.hand.decide()
    assert late.hears() == [("bind_transceiver_resp", Status.RBINDFAIL, 1)]


def test_a_reload_ends_the_sessions_that_its_plan_names_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smppd.customers")
    world = World(account(max_binds=9), account("other"), account("third", max_binds=3))
    fit, receiver = world.bound(), world.bound(command=Command.BIND_RECEIVER)
    other, third = world.bound(b"other"), [world.bound(b"third") for _ in range(3)]
    new = {
        "acme": account(binds=["transceiver"]),
        "third": account("third", max_binds=1),
    }
    planned = [one for one in world.customers.endings(new) if one is not None]
    assert [(one.link, one.why) for one in planned] == [
        (receiver.link, "the account may not bind as receiver"),
        (other.link, "the account is removed"),
        (third[1].link, "more than max_binds, which is 1"),
        (third[2].link, "more than max_binds, which is 1"),
    ]
    assert not any(client.hears() for client in (fit, receiver, other, *third)), "a plan ends nothing"
    for name, settings in new.items():
        world.relay.accounts[name].use(settings, 0.0)
    world.relay.accounts["other"].closed = True
    world.customers.reload(world.limits)
    ended = [client.link for client in (fit, receiver, other, *third) if client.hears() == [("unbind", 0, 1)]]
    assert ended == [one.link for one in planned]
    said = [record.fields for record in caplog.records if record.message == "session ends by a reload"]  # type: ignore[attr-defined]
    assert sorted(one["reason"] for one in said) == sorted(one.why for one in planned)
    world.customers.reload(world.limits)
    assert not any(client.hears() for client in (receiver, other)), "once"


def test_what_a_session_takes_over_ends_it_later_no_more() -> None:
    world = World(account(networks=["192.0.2.0/24"]))
    client = world.bound()
    for networks in (["192.0.2.0/25"], ["192.0.2.0/26"]):
        world.relay.accounts["acme"].use(account(networks=networks), 0.0)
        world.customers.reload(world.limits)
        assert not client.hears()
    world.relay.accounts["acme"].use(account(networks=["198.51.100.0/24"]), 0.0)
    world.customers.reload(world.limits)
    assert client.hears() == [("unbind", 0, 1)]


def test_a_peer_that_closes_in_order_is_forgotten_too() -> None:
    world = World()
    client = world.bound()
    client.transport.lose(ConnectionDone())
    assert not world.customers.links and len(world.relay.downs) == 1


# -- binds in a loop ---------------------------------------------------------------------------------------------------


def test_a_bind_loop_is_throttled_and_takes_a_few_entries() -> None:
    world = World(account(max_binds=2))
    answers: list[int] = []
    for number in range(40 * 50):  # forty seconds
        client = world.client()
        answers += [status for _name, status, _seq in client.bind()]
        client.goes()
        if number % 50 == 49:
            world.passes(1.0)
    assert set(answers) == {0, Status.RTHROTTLED}
    accepted = answers.count(0)
    assert 60 <= accepted <= 100
    told = [fields for event, fields in world.heard if event == "bind accepted"]
    assert len(told) <= 6 and sum(int(fields["count"]) for fields in told) <= accepted
    world.customers.accepted.tick(world.clock.seconds(), every=True)
    told = [fields for event, fields in world.heard if event == "bind accepted"]
    assert sum(int(fields["count"]) for fields in told) == accepted
    assert set(told[0]) == {"account", "peer", "mode", "tls", "count"} and told[0]["count"] == "1"
    refused = [fields for event, fields in world.heard if event == "bind refused"]
    assert len(refused) == 1 and refused[0]["reason"] == "bind rate"
    assert world.relay.value("binds_refused_total", reason="bind rate") == answers.count(Status.RTHROTTLED)


def test_like_binds_are_gathered_and_others_are_not() -> None:
    heard: list[dict[str, str]] = []
    accepted = AcceptedBinds(lambda _event, fields: heard.append(fields))
    for second in range(40):
        accepted.note({"account": "acme", "peer": "192.0.2.7"}, second / 4)
        accepted.tick(second / 4)
    accepted.note({"account": "beta", "peer": "192.0.2.7"}, 9.9)
    assert [(one["account"], one["count"]) for one in heard] == [("acme", "1"), ("beta", "1")]
    accepted.tick(10.0)
    assert heard[2:] == [{"account": "acme", "peer": "192.0.2.7", "count": "39"}]
    accepted.tick(20.0)
    assert len(heard) == 3, "a quiet time is not told"


def test_what_is_gathered_takes_bounded_room() -> None:
    heard: list[dict[str, str]] = []
    accepted = AcceptedBinds(lambda _event, fields: heard.append(fields))
    for number in range(ACCEPTED + 50):
        accepted.note({"account": "acme", "peer": str(number)}, 0.0)
    assert len(heard) == ACCEPTED + 50 and len(accepted._told) == ACCEPTED


def test_one_tick_tells_of_some_accepted_binds_and_the_next_ones_of_the_others() -> None:
    heard: list[dict[str, str]] = []
    accepted = AcceptedBinds(lambda _event, fields: heard.append(fields))
    for number in range(2 * ACCEPTED):
        accepted.note({"account": "acme", "peer": str(number % ACCEPTED)}, 0.0)
    heard.clear()
    for tick in range(1, ACCEPTED // TOLD + 1):
        accepted.tick(10.0)
        assert len(heard) == tick * TOLD
    accepted.tick(10.0)
    assert {one["peer"] for one in heard} == {str(number) for number in range(ACCEPTED)}
