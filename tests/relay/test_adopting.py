"""Several nodes on one store, as transcripts: a node dies and another goes on, mail follows its customer, receipts find their
message wherever it is."""

from __future__ import annotations

import pytest

from smppd.message import State
from smppd.protocol.receipt import MessageState
from smppd.relay.erasing import Found
from smppd.relay.state.phase import Phase
from smppd.store.api import Kind
from tests.relay.accept.test_desk import part
from tests.relay.accept.test_parts import RULES
from tests.relay.cluster import Cluster
from tests.relay.fakes import drained, settings
from tests.relay.test_limits import ZETA


def test_what_waited_goes_out_from_the_heir_in_order() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme = one.customer()
    acme.submits(*[b"%03d" % n for n in range(600)])
    one.commits()
    assert len(acme.ids()) == 600
    cluster.dies(0)
    link = other.carrier()
    cluster.takes_over(0, 1)
    assert drained(other, link) == [b"%03d" % n for n in range(600)]
    assert not any(flagged for _, flagged, _ in link.attempts)
    cluster.check()
    assert cluster.free(Kind.QUEUE) == 0


def test_without_an_upstream_here_it_is_left_to_whoever_has_one() -> None:
    cluster = Cluster(nodes=3)
    one, two, three = cluster.worlds
    one.customer().submits(b"x", b"y")
    one.commits()
    cluster.dies(0)
    cluster.takes_over(0, 1)
    cluster.passes(3)
    assert cluster.free(Kind.QUEUE) == 2
    link = three.carrier()
    cluster.passes(2)
    assert link.texts() == [b"x", b"y"]
    cluster.check()
    assert two.account().queued == 0


def test_a_page_when_the_one_before_is_durable() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    one.customer().submits(*[b"x"] * 400)
    one.commits()
    cluster.dies(0)
    other.carrier(window=1)
    cluster.deaf = True
    cluster.takes_over(0, 1)
    other.relay.rows_unheld(Kind.QUEUE, "acme\na,b", [])
    other.store.answer()
    assert other.account().queued == 16, "nobody knows yet how large they are"
    other.commits_once()
    other.store.answer()
    assert 16 < other.account().queued < 400 + 1
    other.commits()
    other.check()


def test_what_was_sent_and_had_no_answer_is_flagged_when_it_goes_again() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    assert link.texts() == [b"x"]
    cluster.dies(0)
    heir = other.carrier()
    cluster.takes_over(0, 1)
    assert heir.texts() == [], "the carrier may have it"
    cluster.passes(65)
    assert heir.texts() == [b"x"] and heir.attempts[0][1]
    heir.answers(b"id-1")
    heir.reports(b"id-1")
    cluster.commits()
    assert other.customer().receipts() == [(name, "DELIVRD")]
    cluster.commits()
    cluster.check()


def test_the_receipt_of_an_unknown_one_of_the_dead_settles_it() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, _link = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    cluster.dies(0)
    heir = other.carrier()
    heir.reports(b"id-9")  # while nobody knows of its message
    cluster.commits()
    assert cluster.free(Kind.PARKED) == 0 and len(other.upstream().parked) == 1, "alone: in the journal"
    cluster.takes_over(0, 1)
    cluster.commits()
    assert other.customer().receipts() == [(name, "DELIVRD")]
    cluster.passes(70)
    assert heir.texts() == [], "not sent again"
    cluster.check()


def test_held_by_rule_it_is_reported_unknown_and_not_sent() -> None:
    cluster = Cluster(settings(acme={"on_unknown": "hold"}))
    one, other = cluster.worlds
    acme, _ = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    cluster.dies(0)
    heir = other.carrier()
    cluster.takes_over(0, 1)
    cluster.passes(65)
    assert heir.texts() == [] and other.customer().receipts() == [(name, "UNKNOWN")]
    cluster.check()


def test_a_receipt_finds_its_message_among_rows_of_the_dead() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x", b"y")
    one.commits()
    link.answers(b"id-1", b"id-2")
    one.commits()
    names = acme.ids()
    cluster.dies(0)
    heir = other.carrier()
    heir.reports(b"id-2")  # before anybody has taken over
    cluster.commits()
    cluster.takes_over(0, 1)
    assert cluster.free(Kind.WAITING) == 1, "claimed with its receipt"
    heir.reports(b"id-1")
    cluster.commits()
    assert sorted(other.customer().receipts()) == [(one, "DELIVRD") for one in names]
    cluster.commits()
    assert not cluster.nobodys and not other.store.cold
    cluster.check()


def test_rows_that_nobody_told_of_are_found_within_half_a_minute() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x", b"y")
    one.commits()
    link.answers(b"id-1")
    one.commits()
    names = acme.ids()
    cluster.dies(0)
    cluster.deaf = True
    heir = other.carrier()
    cluster.takes_over(0, 1)
    cluster.passes(31)
    assert other.upstream().may_be_row
    heir.reports(b"id-1")
    cluster.passes(70)
    assert heir.texts() == [b"y"]
    assert other.customer().receipts() == [(names[0], "DELIVRD")]


def test_what_nobody_holds_ends_with_its_validity() -> None:
    cluster = Cluster(settings(acme={"expire_after": "1h"}))
    one, other = cluster.worlds
    acme = one.customer()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    cluster.dies(0)
    cluster.takes_over(0, 1)
    cluster.passes(3700, step=100)
    assert not cluster.nobodys
    assert other.customer().receipts() == [(name, "EXPIRED")]
    cluster.check()


def test_what_no_memory_has_room_for_ends_with_its_validity() -> None:
    cluster = Cluster(settings(hot=4, acme={"expire_after": "1h", "on_unknown": "hold"}))
    one, other = cluster.worlds
    acme, _ = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    there = other.customer()
    there.submits(*[b"y"] * 4)
    cluster.dies(0)
    cluster.takes_over(0, 1)
    cluster.passes(5)
    assert cluster.free(Kind.INHERITED) == 1
    other.carrier(window=1)  # which answers nothing
    cluster.passes(3700, step=100)
    assert not cluster.nobodys
    assert (name, "UNKNOWN") in there.receipts()
    cluster.check()


@pytest.mark.parametrize(("words", "leave"), [((b"your pri", b"ze"), 0), ((b"your bil", b"l"), 2)])
def test_parts_that_policy_wants_whole_are_judged_at_the_heir(words: tuple[bytes, bytes], leave: int) -> None:
    rules = {"policies": {"p": {"hold_parts": True, "rules": RULES}}, "acme": {"policies": ["p"]}}
    cluster = Cluster(settings(**rules))
    one, other = cluster.worlds
    here, there = one.customer(), other.customer()
    here.sends(part(words[0], 1))
    one.commits()
    (name,) = here.ids()
    cluster.dies(0)
    link = other.carrier()
    cluster.takes_over(0, 1)
    cluster.passes(2)
    assert not link.waiting, "a part is missing"
    there.sends(part(words[1], 2))
    other.commits()
    cluster.passes(2)
    assert len(link.waiting) == leave
    if not leave:
        assert there.receipts()[0] == (name, "REJECTD")
    cluster.check()


def test_an_entry_that_makes_no_sense_is_set_aside_by_the_heir() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme = one.customer()
    acme.submits(b"x")
    one.commits()
    acme.submits(b"y")
    one.commits()
    (_first, second) = one.store.blocks[-2:]
    one.store.blocks[-1] = (second[0], second[1][:20] + bytes(len(second[1]) - 20))
    one.store.blocks.append((second[0], b"no entry"))
    cluster.dies(0)
    link = other.carrier()
    cluster.takes_over(0, 1)
    cluster.passes(2)
    assert link.texts() == [b"x"]
    assert sorted(item.kind for item in other.store.aside) == ["block", "entry"]
    assert not cluster.nobodys and not other.store.cold


def test_a_node_that_starts_again_begins_empty() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    one.customer().submits(b"x")
    one.commits()
    cluster.dies(0)
    link = other.carrier()
    cluster.takes_over(0, 1)
    cluster.starts(0)
    assert one.living == 0
    one.carrier()
    cluster.passes(3)
    assert link.texts() == [b"x"] and not one.links[0].texts()
    cluster.check()


def test_what_a_node_had_claimed_when_it_was_killed_goes_on() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, _ = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    cluster.dies(0)
    cluster.deaf = True
    cluster.takes_over(0, 1)
    other.relay.rows_unheld(Kind.INHERITED, "acme\na,b", [])
    other.store.answer()
    assert not cluster.nobodys and [row.kind for row in other.store.cold.values()] == [Kind.INHERITED]
    other.restarts()
    other.relay.set_alone(True)
    link = other.carrier()
    cluster.passes(65)
    assert link.texts() == [b"x"] and link.attempts[0][1]
    cluster.check()


# -- mail --------------------------------------------------------------------------------------------------------------


def test_mail_follows_its_customer() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    acme.submits(b"1", b"2", b"3")
    one.commits()
    names = acme.ids()
    link.answers(b"a", b"b", b"c")
    one.commits()
    acme.leaves()
    link.reports(b"a", b"b")
    cluster.passes(2)
    assert len(one.account().mailbox) == 2, "nobody takes it anywhere"
    there = other.customer()
    cluster.knows()
    cluster.passes(2)
    assert there.receipts() == [(name, "DELIVRD") for name in names[:2]]
    link.reports(b"c")
    cluster.commits()
    assert there.receipts() == [(names[2], "DELIVRD")]
    cluster.passes(2)
    cluster.check()
    assert not cluster.nobodys and not other.store.cold and not len(one.account().mailbox)


def test_mail_on_disk_is_given_up_too() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    one.relay.mailroom.octets = 5000
    acme.submits(*[b"%03d" % n for n in range(50)])
    one.commits()
    names = acme.ids()
    link.answers(*[b"%03d" % n for n in range(50)])
    one.commits()
    acme.leaves()
    link.reports(*[b"%03d" % n for n in range(50)])
    one.commits()
    assert one.account().mailbox.cold > 30
    there = other.customer()
    cluster.knows()
    cluster.passes(3)
    assert [name for name, _ in there.receipts()] == names
    cluster.passes(2)
    cluster.check()
    assert not cluster.nobodys and not one.store.cold


def test_who_comes_back_while_rows_are_given_up_gets_each_once() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    one.store.most_given = 3
    acme, link = one.customer(), one.carrier()
    one.relay.mailroom.octets = 5000
    acme.submits(*[b"%03d" % n for n in range(50)])
    one.commits()
    names = acme.ids()
    link.answers(*[b"%03d" % n for n in range(50)])
    one.commits()
    acme.leaves()
    link.reports(*[b"%03d" % n for n in range(40)])
    one.commits()
    there = other.customer()
    cluster.knows()
    one.commits_once()
    assert one.store.cold and cluster.nobodys, "some are given up"
    back = one.customer()
    link.reports(*[b"%03d" % n for n in range(40, 50)])
    got: list[bytes] = []
    for _ in range(20):
        cluster.passes(1)
        got += [name for customer in (back, there) for name, _ in customer.receipts()]
    assert sorted(got) == names
    cluster.check()
    assert not cluster.nobodys and not one.store.cold and not other.store.cold


def test_a_reply_is_restored_at_another_node() -> None:
    rule = {"name": "r", "do": {"replace_sender": {"address": "447700900555", "restore": True}}}
    policies = {"p": {"rules": [rule, {"name": "s", "do": {"tag": "x"}}]}}
    rules = {"policies": policies, "acme": {"policies": ["p"], "numbers": ["447700900555"]}}
    cluster = Cluster(settings(**rules))
    for world in cluster.worlds:
        replies = world.relay.reply_senders
        assert replies.restores(world.account())
    cluster.down.add(1)
    cluster.knows()
    assert not cluster.worlds[0].relay.reply_senders.restores(cluster.worlds[0].account()), "alone it has none"


def test_mail_in_flight_is_handed_over_when_its_session_ends() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    there = other.customer()
    cluster.knows()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    link.answers(b"a")
    link.reports(b"a")
    cluster.commits()
    assert one.account().mailbox.sent == 1 and there.receipts() == []
    acme.leaves()
    cluster.passes(2)
    assert there.receipts() == [(name, "DELIVRD")]
    cluster.passes(2)
    cluster.check()


def test_a_customer_who_comes_back_gets_what_nobody_has_taken() -> None:
    cluster = Cluster()
    one, _other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x", b"y")
    one.commits()
    names = acme.ids()
    link.answers(b"a", b"b")
    one.commits()
    acme.leaves()
    one.relay.set_elsewhere({"acme"})
    link.reports(b"a")
    one.commits()
    assert cluster.free(Kind.MAIL) == 1
    back = one.customer()
    cluster.passes(1)
    assert back.receipts() == [(names[0], "DELIVRD")]
    link.reports(b"b")
    one.commits()
    assert back.receipts() == [(names[1], "DELIVRD")], "it is not another node's any more"
    cluster.passes(2)
    cluster.check()


def test_mail_of_the_dead_and_of_several_customers() -> None:
    cluster = Cluster(settings(more=[ZETA]))
    one, other = cluster.worlds
    acme, zeta, link = one.customer(), one.customer("zeta"), one.carrier()
    acme.submits(b"x")
    zeta.submits(b"y")
    one.commits()
    (mine,) = acme.ids()
    (theirs,) = zeta.ids()
    link.answers(b"a", b"b")
    one.commits()
    acme.leaves()
    zeta.leaves()
    link.reports(b"a", b"b")
    one.commits()
    cluster.dies(0)
    cluster.takes_over(0, 1)
    there = other.customer()
    cluster.passes(1)
    assert there.receipts() == [(mine, "DELIVRD")]
    assert cluster.free(Kind.MAIL) == 1
    assert other.customer("zeta").receipts() == []
    cluster.passes(1)
    cluster.check()
    assert theirs


def test_mail_that_nobody_holds_expires() -> None:
    cluster = Cluster()
    one, _other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    link.answers(b"a")
    one.commits()
    acme.leaves()
    one.relay.set_elsewhere({"acme"})
    link.reports(b"a")
    cluster.commits()
    assert cluster.free(Kind.MAIL) == 1
    cluster.passes(8 * 86400, step=43200)
    assert not cluster.nobodys and State.RECEIPT_EXPIRED in cluster.events()[int(name, 16)]
    cluster.check()


def test_the_limit_holds_for_mail_that_nobody_holds() -> None:
    """Its customer is bound at the other node and answers nothing: memory there is full soon."""
    cluster = Cluster(settings(acme={"receipts": {"limit": 20, "retry": "1h"}}))
    one, other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    texts = [b"%03d" % n for n in range(60)]
    acme.submits(*texts)
    one.commits()
    names = acme.ids()
    link.answers(*texts)
    one.commits()
    acme.leaves()
    other.customer(window=1)
    other.relay.mailroom.octets = 0
    cluster.knows()
    link.reports(*texts)
    cluster.passes(65)
    assert cluster.free(Kind.MAIL) == 20
    ended = [State.RECEIPT_EXPIRED in cluster.events()[int(name, 16)] for name in names]
    assert ended == [True] * 40 + [False] * 20, "the oldest"
    assert other.total("receipts_expired", account="acme") == 40 and one.total("receipts_expired", account="acme") == 0
    cluster.check()


# -- receipts at another node ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
def test_a_receipt_that_another_node_got_finds_its_message(told: bool) -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link, there = one.customer(), one.carrier(), other.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    link.answers(b"id-1")
    one.commits()
    cluster.deaf = not told
    there.reports(b"id-1")
    cluster.commits()
    assert there.acknowledged() == [0]
    if not told:
        assert acme.receipts() == [] and cluster.free(Kind.PARKED) == 1
        cluster.passes(32)
    assert acme.receipts() == [(name, "DELIVRD")]
    cluster.passes(31)
    cluster.check()
    assert not cluster.nobodys and not one.store.cold and not other.store.cold
    assert not one.upstream().parked and not other.upstream().parked


def test_it_may_come_before_the_answer() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link, there = one.customer(), one.carrier(), other.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    there.reports(b"id-1")
    cluster.commits()
    assert acme.receipts() == [] and len(one.upstream().parked) == len(other.upstream().parked) == 1
    link.answers(b"id-1")
    cluster.commits()
    assert acme.receipts() == [(name, "DELIVRD")]
    cluster.passes(31)
    cluster.check()
    assert not one.upstream().parked and not other.upstream().parked


def test_it_finds_a_row_of_the_other_node() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link, there = one.customer(), one.carrier(), other.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    link.answers(b"id-1")
    one.commits()
    one.spills()
    assert one.upstream().cold_waiting == 1
    there.reports(b"id-1")
    cluster.commits()
    assert acme.receipts() == [(name, "DELIVRD")]
    cluster.commits()
    cluster.check()
    assert not cluster.nobodys and not one.store.cold


def test_it_finds_an_unknown_message_by_its_addresses() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link, there = one.customer(), one.carrier(), other.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    link.cut()
    one.commits()
    assert len(one.upstream().unknown) == 1
    there.reports(b"id-1")
    cluster.passes(14)
    assert acme.receipts() == [], "another node may know its id"
    cluster.passes(2)
    assert acme.receipts() == [(name, "DELIVRD")]
    cluster.passes(31)
    cluster.check()
    assert not cluster.nobodys


@pytest.mark.parametrize("unknown", ["before", "after", "at once"])
def test_an_unknown_message_gets_no_receipt_whose_id_another_node_knows(unknown: str) -> None:
    """Two messages with the same addresses, one at each node; the receipt of one comes where the other has no answer."""
    cluster = Cluster()
    one, other = cluster.worlds
    names, links = [], []
    for world in cluster.worlds:
        acme, link = world.customer(), world.carrier()
        acme.submits(b"x")
        world.commits()
        names += acme.ids()
        links.append(link)
    links[0].answers(b"id-1")
    one.commits()
    there = other.carrier()
    if unknown == "before":
        links[1].cut()
        cluster.commits()
    there.reports(b"id-1")
    if unknown == "after":
        other.commits()
    if unknown != "before":
        links[1].cut()
    other.commits()
    cluster.passes(17)
    assert one.customers[0].receipts() == [(names[0], "DELIVRD")]
    assert len(other.upstream().unknown) == 1 and other.customers[0].receipts() == []


def test_one_that_is_not_final_is_passed_on_and_so_is_the_last_one() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link, there = one.customer(), one.carrier(), other.carrier()
    acme.submits(b"x", registered=0x11)
    one.commits()
    (name,) = acme.ids()
    link.answers(b"id-1")
    one.commits()
    there.reports(b"id-1", state=MessageState.ENROUTE)
    cluster.commits()
    there.reports(b"id-1")
    cluster.commits()
    assert acme.receipts() == [(name, "ENROUTE"), (name, "DELIVRD")]


def test_a_receipt_of_no_message_is_given_up_in_its_time_by_one() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    there = other.carrier()
    there.reports(b"nobody-1")
    cluster.commits()
    assert there.acknowledged() == [0]
    cluster.passes(60)
    assert len(one.upstream().parked) == len(other.upstream().parked) == 1
    cluster.passes(72 * 3600 + 60, step=1800)
    assert not cluster.nobodys and not one.upstream().parked and not other.upstream().parked
    given_up = [world.total("receipts", upstream="a", outcome="unmatched") for world in cluster.worlds]
    assert sum(given_up) == 1
    cluster.check()


def test_what_was_parked_alone_is_shared_when_another_comes() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    for world in cluster.worlds:
        world.relay.set_alone(True)
    there = other.carrier()
    there.reports(b"id-1")
    cluster.commits()
    assert not cluster.nobodys and len(other.upstream().parked) == 1
    cluster.knows()
    cluster.passes(2)
    assert cluster.free(Kind.PARKED) == 1 and len(one.upstream().parked) == 1
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    link.answers(b"id-1")
    cluster.commits()
    assert acme.receipts() == [(name, "DELIVRD")]
    cluster.passes(31)
    cluster.check()
    assert not cluster.nobodys


def test_without_space_it_is_refused_and_kept_all_the_same() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link, there = one.customer(), one.carrier(), other.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    link.answers(b"id-1")
    one.commits()
    there.reports(b"id-1")
    other.relay.receipts.settle_early(other.now, 0.0)
    other.fills()
    assert there.acknowledged() == [0x14]
    other.frees()
    cluster.passes(2)
    assert acme.receipts() == [(name, "DELIVRD")]
    there.reports(b"id-1")
    cluster.passes(2)
    assert acme.receipts() == []
    cluster.check()


def test_a_restart_looks_at_what_nobody_holds() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link, there = one.customer(), one.carrier(), other.carrier()
    there.reports(b"id-1")
    cluster.commits()
    cluster.dies(0)
    cluster.starts(0)
    cluster.commits()
    assert len(one.upstream().parked) == 1
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    (name,) = acme.ids()
    link.answers(b"id-1")
    cluster.commits()
    assert acme.receipts() == [(name, "DELIVRD")]


def test_memory_has_so_many_receipts_of_others_and_no_more() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    there = other.carrier()
    one.relay.receipts.parking.most = other.relay.receipts.parking.most = 10
    there.reports(*[b"no-%03d" % n for n in range(40)])
    cluster.commits()
    assert len(one.upstream().parked) == len(other.upstream().parked) == 10
    cluster.passes(3)
    assert cluster.free(Kind.PARKED) == 10, "or a carrier could fill the store"
    assert sorted(key[3] for key in cluster.nobodys) == sorted(one.upstream().parked), "the youngest are kept"
    given_up = sum(world.total("receipts", upstream="a", outcome="unmatched") for world in (one, other))
    assert given_up == 30 and not one.store.cold and not other.store.cold
    cluster.check()


def test_of_two_nodes_with_a_message_for_it_one_gets_it() -> None:
    cluster = Cluster(settings(acme={"on_unknown": "hold"}), nodes=3)
    one, two, three = cluster.worlds
    cluster.deaf = True
    for world in (one, two):
        acme, link = world.customer(), world.carrier()
        acme.submits(b"x")
        world.commits()
        acme.ids()
        link.cut()
        world.commits()
    there = three.carrier()
    there.reports(b"id-1")
    cluster.commits()
    (identity,) = [key[3] for key in cluster.nobodys]
    cluster.passes(16)
    for world in (one, two):
        world.relay.rows_unheld(Kind.PARKED, "a", [identity])
    for _ in range(2):  # both look, then both claim
        for world in (one, two):
            world.store.answer_one()
    cluster.commits()
    got = [customer.receipts() for world in (one, two) for customer in world.customers]
    assert sorted(map(len, got)) == [0, 1], "each alone would have thought that it is its own"
    assert not one.upstream().parked and not two.upstream().parked
    cluster.passes(65)
    left = [customer.receipts() for world in (one, two) for customer in world.customers]
    assert [[stat for _, stat in some] for some in left] == [[], ["UNKNOWN"]]
    cluster.check()


@pytest.mark.parametrize("most", [100, 1])
def test_an_erasure_takes_receipts_out_that_nobody_holds(most: int) -> None:
    """Each node does it for what it looks at; what memory has no room for is found in the store."""
    cluster = Cluster()
    one, other = cluster.worlds
    for parking in (one.relay.receipts.parking, other.relay.receipts.parking):
        parking.most, parking.excess = most, 0  # what is beyond is not given up yet
    there = other.carrier()
    there.reports(b"no-1", b"no-2")
    there.reports(b"no-3", to=b"447700900999")
    cluster.commits()
    assert cluster.free(Kind.PARKED) == 3
    done: list[Found] = []
    for world in cluster.worlds:
        world.relay.erase_person([b"447700900123"], None, done.append, acts=True)
        cluster.passes(5, step=0.1)
    cluster.passes(35)
    assert len(done) == 2 and all(found.complete for found in done)
    assert sum(found.parked for found in done) >= 2
    assert cluster.free(Kind.PARKED) == 1
    for world in cluster.worlds:
        assert [parked.frame.count(b"447700900123") for parked in world.upstream().parked.values()] == [0]
    cluster.check()


# -- rates, counts -----------------------------------------------------------------------------------------------------


def test_a_node_has_its_part_of_a_rate() -> None:
    configuration = settings(acme={"throughput": "100/s", "burst": 10}, a={"throughput": "50/s", "burst": 5})
    world = Cluster(configuration, nodes=1).worlds[0]
    world.relay.set_shares({"acme": 0.5}, {"a": 0.2})
    assert (world.account().bucket.rate, world.account().bucket.burst) == (50, 5)
    assert (world.upstream().bucket.rate, world.upstream().bucket.burst) == (10, 1)
    world.reloads(settings(acme={"throughput": "200/s", "burst": 10}, a={"throughput": "50/s", "burst": 5}))
    assert world.account().bucket.rate == 100, "its part of the new one"
    world.relay.set_shares({}, {})
    assert world.account().bucket.rate == 200 and world.upstream().bucket.rate == 50
    world.relay.set_shares({"acme": 0.0, "nobody": 0.5}, {})
    assert 0 < (world.account().bucket.rate or 0) < 10, "never none at all"


def test_a_count_that_says_more_than_there_is_is_corrected() -> None:
    cluster = Cluster(settings(hot=2), nodes=1)
    (world,) = cluster.worlds
    acme = world.customer()
    acme.submits(*[b"x"] * 10)
    world.commits()
    assert world.account().lanes["a,b"].cold == 8
    for key in list(world.store.cold)[2:]:
        del world.store.cold[key]  # others have them
    link = world.carrier()
    assert len(drained(world, link)) == 4
    assert world.account().lanes["a,b"].cold == 0 and world.account().queued == 0
    acme.submits(b"y")
    world.commits()
    assert link.texts() == [b"y"]


def test_what_is_released_here_is_judged_anew_there() -> None:
    """A message that was flagged once stays flagged."""
    cluster = Cluster(nodes=3)
    one, two, three = cluster.worlds
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x")
    one.commits()
    link.cut()
    one.commits()
    cluster.passes(65)
    cluster.dies(0)
    cluster.takes_over(0, 1)
    again = two.carrier()
    cluster.passes(2)
    assert again.attempts and again.attempts[0][1]
    cluster.dies(1)
    cluster.takes_over(1, 2)
    last = three.carrier()
    cluster.passes(65)
    message = next(iter(three.relay.context.ledger.living()), None)
    assert message is None or getattr(message, "phase", None) is not Phase.QUEUED
    assert not last.attempts, "a second time is not tried: nobody knows"
    cluster.check()
