"""What is always true of the indexes of what waits, and of the octets that are counted; ``World.check`` asks for both."""

from __future__ import annotations

from smppd.relay.context import Context
from smppd.relay.state.living import WEIGHT, Living
from smppd.relay.state.model import Mail, Message
from smppd.relay.state.phase import Phase
from smppd.relay.state.queues import Calendar


def filed(context: Context, calendar: Calendar[Message]) -> None:
    """Each waiting message, and no other, is found by its addresses and when its validity ends."""
    living = context.ledger.living()
    total = 0
    due = {m.id for some in calendar._seconds.values() for m in some.values()}
    for account in context.accounts.values():
        held = [m for m in living if isinstance(m, Message) and m.account is account and m.phase is Phase.HELD]
        aside = [m for one in context.upstreams.values() for m in one.pinned_parts if m.account is account]
        assert list(account.pinned_parts) == sorted(aside, key=lambda m: m.id)
        waiting = {m.id for m in [*held, *aside, *(m for lane in account.lanes.values() for m in lane.hot)]}
        chains = [m for key in account.addressed._first for m in account.addressed.some(key, None, 1 << 30)[0]]
        assert len(chains) == len(waiting) and {m.id for m in chains} == waiting
        assert waiting <= due
        total += len(waiting)
        for lane in account.lanes.values():
            assert all(lane.hot.get(identity) is one for identity, one in lane.awaiting_word.items())
    assert len(calendar) == total
    assert all(m.due == second for second, some in calendar._seconds.items() for m in some.values())


def weighs(context: Context) -> None:
    """The octets in memory are those of what is in memory."""
    things: dict[int, Living] = {t.id: t for t in context.ledger.living()}
    for account in context.accounts.values():
        box = account.mailbox
        assert not {m.id for m in box.hot} & set(box.later)
        assert all(identity == m.id for identity, m in box.later.items())
        mails = {m.id: m for m in [*box.hot, *box.later.values()]}
        for customer in account.sessions:
            tokens = [entry.token for entry in customer.session.outstanding.values()]
            mails |= {mail.id: mail for mail in tokens if isinstance(mail, Mail) and mail.busy}
        things |= mails
        mine = [t for t in things.values() if isinstance(t, Mail) and t.account is account]
        assert box.octets == sum(mail.weight for mail in mine)
        waiting = [*account.pinned_parts, *(m for lane in account.lanes.values() for m in lane.hot)]
        things |= {m.id: m for m in waiting}
    assert context.ledger.octets == sum(t.weight for t in things.values())
    assert all(t.weight == WEIGHT + len(t.frame) for t in things.values())
