"""What a peer can make grow, for `bench.limits`: how it is filled to its limit, and what is done then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.config import rules
from bench.limits_stand import Peer, Stand, configuration
from smppd.config import Settings
from smppd.daemon.answers import Listing
from smppd.protocol.wire import Command, Fields, Status, address_field, build_sm, pdu, tlv
from smppd.relay.relay import Relay
from smppd.relay.views import MessageQuery

SOURCE: Final = address_field(1, 1, b"447700900001")
TO: Final = b"447700900123"
OTHER: Final = b"447700900555"
LARGE: Final = 60_000
KEPT: Final = 2000
Act = Callable[[Any], Any]


@dataclass(frozen=True)
class Structure:
    """``text``: what it is filled with. ``acts``: what is done to it full; those of ``once`` empty it, and are done once, at
    the end. ``ticks``: those it has besides those of every structure. ``prepare``: what is there before, and is none of its
    memory. ``fill`` may return the octets it took at most, where those are not what is left at its end. ``stated``: the octets
    that the documentation says it takes at most; 0 where it says so of several together."""

    name: str
    text: str
    fill: Act
    acts: dict[str, Act]
    accounts: int = 1
    sections: dict[str, Any] = field(default_factory=dict)
    once: Sequence[str] = ()
    ticks: dict[str, Act] = field(default_factory=dict)
    prepare: Act = lambda _stand: None
    stated: int = 0
    stand: Callable[[Settings], Any] = Stand

    def settings(self, directory: Path) -> Settings:
        """The configuration it is filled under."""
        return configuration(directory, self.accounts, **self.sections)


# -- frames --------------------------------------------------------------------------------------------------------------


def submit(text: bytes = b"Your parcel will arrive today between 10 and 12.", to: bytes = TO, **fields: Any) -> bytes:
    """A submit_sm that asks for a receipt."""
    return build_sm(Command.SUBMIT_SM, 0, SOURCE, address_field(1, 1, to), text, Fields(**{"registered": 1, **fields}))


def various(number: int, **fields: Any) -> list[bytes]:
    """So many messages, to a thousand numbers in turn."""
    text = b"Your parcel %09d will arrive today between 10 and 12. Reply to change it. Thank you for your trust."
    return [submit(text % n, b"447700900%03d" % (n % 1000), **fields) for n in range(number)]


def large() -> bytes:
    """One of 60,000 octets."""
    return pdu(Command.SUBMIT_SM, 0, 0, submit(b"")[16:] + tlv(0x0424, bytes(LARGE)))


def part(number: int, total: int, reference: int, to: bytes = TO) -> bytes:
    """A part of a long message."""
    return submit(bytes((6, 8, 4, reference >> 8, reference & 255, total, number)) + b"words " * 20, to, esm_class=0x40)


def multi(number: int = 254) -> bytes:
    """A submit_multi."""
    body = (
        b"\0"
        + SOURCE
        + bytes((number,))
        + b"".join(b"\1" + address_field(1, 1, b"447700900%03d" % n) for n in range(number))
    )
    text = b"Your parcel will arrive today between 10 and 12."
    return pdu(Command.SUBMIT_MULTI, 0, 0, body + b"\0\0\0\0\0\1\0\0\0" + bytes((len(text),)) + text)


def query(name: bytes) -> bytes:
    """query_sm of an id."""
    return pdu(Command.QUERY_SM, 0, 0, name + b"\0" + SOURCE)


def cancel(name: bytes = b"", to: bytes = TO, service: bytes = b"") -> bytes:
    """cancel_sm of an id, or by addresses."""
    return pdu(Command.CANCEL_SM, 0, 0, service + b"\0" + name + b"\0" + SOURCE + address_field(1, 1, to))


def replace(name: bytes) -> bytes:
    """replace_sm of an id."""
    return pdu(Command.REPLACE_SM, 0, 0, name + b"\0" + SOURCE + b"\0\0\1\0\3new")


def receipt(name: bytes, to: bytes = TO, text: bytes = b"") -> bytes:
    """A carrier's receipt."""
    words = b"id:%s sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:DELIVRD err:000 text:%s" % (
        name,
        text,
    )
    tags = tlv(0x001E, name + b"\0") + tlv(0x0427, b"\2")
    return build_sm(Command.DELIVER_SM, 0, address_field(1, 1, to), SOURCE, words, Fields(esm_class=4), tags)


# -- what is done --------------------------------------------------------------------------------------------------------


def customer(stand: Stand, number: int = 0) -> Peer:
    """The bind of an account: the one there is, or a new one."""
    for one in stand.relay.context.accounts[f"bench-{number}"].sessions:
        if isinstance(one, Peer):
            return one
    return stand.customer(number)


def sends(*frames: bytes) -> Act:
    """The first account sends this."""
    return lambda stand: stand.sends(customer(stand), *frames)


def middle(stand: Stand) -> bytes:
    """The id of a message in the middle of the first account's queue."""
    (lane,) = stand.relay.context.accounts["bench-0"].lanes.values()
    ids = lane.hot.ids()
    return b"%016x" % ids[len(ids) // 2]


def by_id(make: Callable[[bytes], bytes]) -> Act:
    """An enquiry about a message in the middle."""
    return lambda stand: stand.sends(customer(stand), make(middle(stand)))


def carrier(stand: Stand, name: str = "a", window: int = 1000) -> Peer:
    """A link to a carrier that takes messages again, whatever it said before."""
    upstream = stand.relay.context.upstreams[name]
    upstream.paused_until, upstream.failures = 0.0, 0
    return stand.link(name, window)


def comes_and_goes(stand: Stand) -> None:
    """A carrier binds with a window of 1,000, and is cut with all of it unanswered."""
    link = carrier(stand)
    if not stand.run(10.0, lambda: bool(link.session.outstanding)):
        raise RuntimeError("nothing was sent")
    stand.turn(link.leave)


def says_later(stand: Stand) -> None:
    """A carrier takes a window, and says "later" to all of it."""
    link = carrier(stand)
    stand.settle()
    stand.answers(link, Status.RTHROTTLED)
    stand.turn(link.leave)


def accepts(stand: Stand) -> None:
    """A carrier accepts two windows, and refuses one."""
    large_ones = stand.relay.context.ledger.octets > 10_000 * max(1, stand.relay.context.ledger.count())
    link = carrier(stand, window=100 if large_ones else 1000)
    for _ in range(2):
        stand.settle()
        stand.answers(link)
    stand.settle()
    stand.answers(link, Status.RINVDSTADR)
    stand.settle()
    stand.answers(link)
    stand.turn(link.leave)


def goes(stand: Stand) -> None:
    """A customer's connection ends."""
    stand.turn(customer(stand).leave)


def validity_ends(stand: Stand) -> None:
    """All validity ends in one second."""
    stand.ahead += 3 * 86400.0
    stand.run(60.0, lambda: not any(account.queued for account in stand.relay.context.accounts.values()))
    if stand.relay.context.accounts["bench-0"].queued:
        raise RuntimeError("they do not end")


def written(items: Callable[[Relay], Iterable[object]]) -> Act:
    """A long answer on the control socket: made and written piece by piece, a turn for each."""

    def act(stand: Stand) -> None:
        made: list[Any] = []
        stand.turn(lambda: made.append(Listing("items", items(stand.relay)).pieces()))
        piece: list[Any] = [b""]
        while piece.pop() is not None:
            stand.turn(lambda: piece.append(next(made[0], None)))

    return act


def shown_messages(stand: Stand, **query: Any) -> None:
    """`smppd show messages`, as many as may be."""
    answers: list[Any] = []
    stand.turn(
        lambda: stand.relay.show_messages(MessageQuery(limit=1000, **query), lambda *found: answers.append(found))
    )
    while not answers:  # rows are read in the store's thread
        stand.run(0.02)
    stand.turn(lambda: list(Listing("messages", answers[0][0]).pieces()))


SHOW_ACTS: Final[dict[str, Act]] = {
    "smppd show accounts": written(lambda relay: relay.show_accounts(None)),
    "smppd show upstreams": written(lambda relay: relay.show_upstreams()),
    "smppd show queues": written(lambda relay: relay.show_queues(None, None, ())),
    "smppd show limits": written(lambda relay: relay.show_limits(None)),
    "smppd show messages": shown_messages,
    "smppd show messages, an owner's": lambda stand: shown_messages(stand, accounts=frozenset({"nobody"})),
}
QUEUE_ACTS: Final[dict[str, Act]] = SHOW_ACTS | {
    "submit_sm": sends(submit()),
    "submit_sm, a chunk of 64 KiB": sends(*various(350)),
    "submit_multi of 254": sends(multi()),
    "submit_multi of 254, a chunk of 64 KiB": sends(*[multi()] * 14),
    "query_sm": by_id(query),
    "cancel_sm of an id": by_id(cancel),
    "cancel_sm by addresses, none": sends(cancel(to=OTHER[:-1] + b"9", service=b"NONE")),
    "replace_sm": by_id(replace),
    "a carrier accepts": accepts,
    "a carrier says later": says_later,
    "a carrier is cut": comes_and_goes,
    "a customer is gone": goes,
}


# -- queues --------------------------------------------------------------------------------------------------------------


def fill_queue(stand: Stand, number: int = 100_000) -> None:
    """Messages of the first account, to one pair of addresses; the carriers are away."""
    peer = customer(stand)
    frame = submit(
        b"Your parcel 123456789 will arrive today between 10 and 12. Reply to change it. Thank you for your trust."
    )
    for _ in range(0, number, 10_000):
        stand.pours(peer, [frame] * 10_000)


def fill_accounts(stand: Stand) -> None:
    """A hundred messages of each account."""
    frames = various(100)
    for number in range(len(stand.settings.accounts)):
        stand.pours(customer(stand, number), frames)


def fill_aside(stand: Stand) -> None:
    """Parts of long messages whose carrier is away, while another takes messages."""
    peer = customer(stand)
    a = stand.link()
    first = [part(1, 255, n) for n in range(240)]
    stand.pours(peer, first)
    stand.answers(a)
    stand.settle()
    stand.turn(a.leave)
    stand.link("b", 10)
    for n in range(240):
        stand.pours(peer, [part(k, 255, n) for k in range(2, 252)])
    stand.run(30.0, lambda: len(stand.relay.context.upstreams["a"].pinned_parts) >= 59_000)


def aside_goes(stand: Stand) -> None:
    """The carrier they wait for is back for a moment."""
    a = carrier(stand)
    stand.settle()
    stand.answers(a)
    stand.settle()
    stand.turn(a.leave)


def fill_held(stand: Stand) -> None:
    """Parts of long messages that are never whole."""
    peer = customer(stand)
    for n in range(0, 5000, 500):
        stand.pours(peer, [part(k, 3, n + m, b"447700900%03d" % (m % 1000)) for m in range(500) for k in (1, 2)])


def fill_large(stand: Stand) -> None:
    """8,000 messages of 60 kB."""
    peer = customer(stand)
    frame = large()
    for _ in range(80):
        stand.pours(peer, [frame] * 100)


# -- what was sent -------------------------------------------------------------------------------------------------------


def fill_submitted(stand: Stand, number: int = 100_000, *, frames: list[bytes] | None = None) -> None:
    """Messages that wait for their receipts."""
    peer, link = customer(stand), stand.link()
    names: list[bytes] = []
    some = frames or various(1000)
    while len(names) < number:
        stand.sends(peer, *some)
        stand.settle()
        peer.frames.clear()
        names += stand.answers(link)
    stand.names = names[-KEPT:]  # few are needed, and a hundred thousand would be counted as the relay's memory


def reported(count: int) -> Act:
    """Receipts for so many of them."""

    def act(stand: Stand) -> None:
        link: Any = stand.relay.context.upstreams["a"].links[0]
        names = stand.names
        for _ in range(count):
            stand.sends(link, receipt(names.pop()))

    return act


def unknown_receipts(stand: Stand) -> None:
    """Receipts of messages that nobody knows."""
    link: Any = next(iter(stand.relay.context.upstreams["a"].receivers), None) or stand.link(window=1)
    stand.sends(link, *[receipt(b"%016x" % time.monotonic_ns()) for _ in range(1)])
    stand.run(0.2)


def fill_unknown(stand: Stand) -> None:
    """Messages of which nobody knows whether the carrier has them."""
    peer = customer(stand)
    for _ in range(5):
        link = stand.link()
        stand.pours(peer, various(1000))
        stand.settle()
        stand.turn(link.leave)


def fill_parked(stand: Stand) -> None:
    """Receipts whose message is not known."""
    link = stand.link()
    for start in range(0, 100_000, 1000):
        stand.sends(link, *[receipt(b"%016x" % n, b"447700900%03d" % (n % 1000)) for n in range(start, start + 1000)])
        stand.settle()
        link.frames.clear()


# -- mail ----------------------------------------------------------------------------------------------------------------


def fill_mail(stand: Stand, number: int = 100_000) -> None:
    """Receipts for a customer who is away."""
    peer, link = stand.customer(window=1000), stand.link()
    peer.session.outstanding_limit = 0  # it takes no mail
    for _ in range(0, number, 1000):
        stand.sends(peer, *various(1000))
        stand.settle()
        peer.frames.clear()
        names = stand.answers(link)
        stand.settle()
        stand.sends(link, *[receipt(name, b"447700900%03d" % n) for n, name in enumerate(names)])
        stand.settle()
        link.frames.clear()
    stand.turn(peer.leave)
    if len(stand.relay.context.accounts["bench-0"].mailbox) != number:
        raise RuntimeError("not all receipts are in the mailbox")


def fill_mailboxes(stand: Stand) -> None:
    """MO messages for each of the accounts, all away."""
    link = stand.link()
    for number in range(len(stand.settings.accounts)):
        stand.sends(link, *[mobile(number, b"%d" % n) for n in range(100)])
        stand.settle()
        link.frames.clear()


def mobile(number: int, text: bytes = b"hello") -> bytes:
    """An MO message to the number of an account."""
    return build_sm(Command.DELIVER_SM, 0, SOURCE, address_field(1, 1, b"1555%07d" % number), text)


def binds_and_takes(stand: Stand) -> None:
    """A customer binds, takes some windows of mail, and is gone with one unanswered."""
    peer = stand.customer()
    for _ in range(5):
        stand.settle()
        stand.takes(peer)
    stand.settle()
    stand.turn(peer.leave)


def refuses_mail(stand: Stand) -> None:
    """A customer refuses a window of mail for now, then answers it once more."""
    peer = stand.customer()
    stand.settle()
    mails = list(peer.frames)
    stand.takes(peer, Status.RX_T_APPN)
    stand.settle()
    late = b"".join(pdu(Command.DELIVER_SM_RESP, 0, int.from_bytes(f[12:16], "big"), b"\0") for f in mails if f[7] == 5)
    stand.turn(lambda: peer.work(late))
    stand.turn(peer.leave)


# -- many sessions, and what is remembered -------------------------------------------------------------------------------


def fill_sessions(stand: Stand) -> None:
    """A thousand binds of one account."""
    peers = [stand.customer() for _ in range(1000)]
    for peer in peers:
        stand.sends(peer, submit())
    stand.settle()


def all_send(stand: Stand) -> None:
    """Each session has a message in one commit."""
    for peer in list(stand.relay.context.accounts["bench-0"].sessions):
        assert isinstance(peer, Peer)
        peer.deaf = True
        stand.sends(peer, submit())


def fill_recent(stand: Stand) -> None:
    """Messages that are remembered, in case they are sent once more."""
    peer = customer(stand)
    link = stand.link()
    for start in range(100):
        stand.sends(peer, *[submit(b"text %d %d" % (start, n)) for n in range(1000)])
        stand.settle()
        peer.frames.clear()
        stand.answers(link)


def fill_delayed(stand: Stand) -> None:
    """Answers over the rate that wait for their time: the windows of a hundred sessions."""
    for number in range(100):
        peer = stand.customer(number)
        peer.deaf = True
        stand.sends(peer, *[submit(b"x")] * 1000)


PLAIN: Final = {"account": {"queue": 1_000_000, "max_binds": 2000}}
POLICY: Final = {"account": {"policies": ["house"], "queue": 1_000_000}, "policies": {"house": rules(20)}}
HELD: Final = [{"name": "hold", "when": {"text": "never"}, "do": "refuse"}]

STRUCTURES: Final = (
    Structure(
        "queue", "100,000 messages of one account, in memory, carriers away; 20 rules", fill_queue,
        QUEUE_ACTS | {"cancel_sm by addresses, all": sends(cancel())}, sections=POLICY,
        once=("cancel_sm by addresses, all",),
    ),
    Structure(
        "validity", "100,000 messages whose validity ends in one second", fill_queue, {"their end": validity_ends},
        sections={"account": {"queue": 1_000_000, "expire_after": "1d"}}, once=("their end",),
    ),
    Structure(
        "rows", "100 messages in memory and 100,000 on disk", fill_queue, QUEUE_ACTS,
        sections=PLAIN | {"store": {"hot": 100}},
    ),
    Structure(
        "accounts", "1,000 accounts, each with 100 messages waiting", fill_accounts, QUEUE_ACTS, accounts=1000, sections=PLAIN
    ),
    Structure("aside", "60,000 parts of long messages that wait for one carrier", fill_aside, {
        "submit_sm": sends(submit()), "cancel_sm by addresses, none": sends(cancel(to=OTHER)),
        "their carrier is back": aside_goes, "another carrier accepts": accepts,
    }, sections=PLAIN),
    Structure("held", "10,000 parts that policy holds", fill_held, {
        "submit_sm": sends(submit()), "another part": sends(part(1, 3, 40_000)), "cancel_sm by addresses": sends(cancel()),
    }, sections={
        "account": {"policies": ["house"], "queue": 1_000_000}, "policies": {"house": {"hold_parts": True, "rules": HELD}},
    }),
    Structure("large", "8,000 messages of 60,000 octets, carriers away", fill_large, {
        "submit_sm of 60,000 octets": sends(large()), "query_sm": by_id(query), "a carrier accepts": accepts,
        "a carrier is cut": comes_and_goes,
    }, sections=PLAIN),
    Structure("submitted", "100,000 messages that wait for their receipts", fill_submitted, {
        "a receipt": reported(1), "receipts, a chunk": lambda stand: reported(100)(stand), "a carrier accepts": accepts,
        "a receipt of nobody's": unknown_receipts, **SHOW_ACTS,
    }, sections=PLAIN),
    Structure(
        "submitted-large", "4,000 messages of 60,000 octets that wait for their receipts",
        partial(fill_submitted, number=4000, frames=[large()] * 100), {"a receipt": reported(1)}, sections=PLAIN,
    ),
    Structure("unknown", "5,000 messages of which nobody knows whether the carrier has them", fill_unknown, {
        "a receipt of nobody's": unknown_receipts, "submit_sm": sends(submit()),
    }, sections={"account": {"queue": 1_000_000, "unknown_after": "1h"}}),
    Structure("parked", "100,000 receipts whose message is not known", fill_parked, {
        "a receipt of nobody's": unknown_receipts, "submit_sm": sends(submit()),
    }, sections=PLAIN),
    Structure("mailbox", "100,000 receipts for one customer, away", fill_mail, {
        "a customer binds, takes, is cut": binds_and_takes, "a customer refuses for now": refuses_mail,
        "submit_sm": sends(submit()),
    }, sections={"account": {"queue": 1_000_000, "receipts": {"window": 1000, "limit": 1_000_000}}}),
    Structure(
        "mailboxes", "1,000 accounts away, each with 100 MO messages", fill_mailboxes,
        {
            "an MO message": lambda stand: stand.sends(carrier(stand), mobile(7)),
            "a customer binds, takes, is cut": binds_and_takes,
        },
        accounts=1000, sections={"account": {"queue": 1_000_000, "numbers": []}},
    ),
    Structure(
        "sessions", "1,000 sessions of one account", fill_sessions, {"each sends one": all_send, "one is gone": goes},
        sections=PLAIN,
    ),
    Structure("recent", "100,000 messages remembered for `deduplicate`", fill_recent, {
        "submit_sm": sends(submit(b"text 5 5")), "submit_sm, a chunk": sends(*[submit(b"text 99 %d" % n) for n in range(500)]),
        "a carrier accepts and refuses": accepts,
    }, sections={"account": {"queue": 1_000_000, "deduplicate": "1h"}}),
    Structure("delayed", "100,000 answers over the rate", fill_delayed, {
        "submit_sm": sends(submit()), "submit_multi of 254, a chunk": sends(*[multi()] * 14),
    }, accounts=100, sections={
        "account": {"queue": 1_000_000, "throughput": "1/s", "burst": 1}, "limits": {"throttle_wait": "10s"},
    }),
)  # fmt: skip
