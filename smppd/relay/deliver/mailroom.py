"""Mail for customers: receipts and MO messages, kept until a receive-capable bind of the account acknowledged them.

The oldest mail of an account is in memory. The rest are cold rows, which are read in pages, so a customer who is away for
days costs disk space only. Mail is delivered only after its batch is durable. Where a crash loses a ``MAIL_DONE`` mark, the
customer gets that mail twice.

Where several nodes share the store, mail of an account that takes it at another node and not here is that node's: rows that
nobody holds, which it claims. New mail of it becomes such a row at once.

When there is no space on the disk, receipts are kept and written with the next batch, since their messages have ended. MO
messages are not kept: the carrier is told, and still has them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from heapq import heapify
from typing import Any, Final

from smppd.ids import id_time
from smppd.message import State
from smppd.protocol.older import VERSION, delivered
from smppd.protocol.receipt import MessageState, write
from smppd.protocol.wire import Command, Fields, Sm, Status, Tag, build_sm, tlv
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import COMMIT, MAIL, ROWS, SWEEP
from smppd.relay.ledger.ledger import mail_row
from smppd.relay.ledger.payload import read_mail
from smppd.relay.restore import restored_mail
from smppd.relay.state.backlog import PAGE
from smppd.relay.state.model import Account, CustomerPeer, Mail, Mailbox, Message
from smppd.store.api import Batch, ColdRow, Kind

HOT: Final = 2000
# Octets of an account's mail in memory; the rest waits on disk.
OCTETS: Final = 4 << 20
# Mail that ends in one step; the rest with the next ones.
STEP: Final = 500
_MAX_PAUSE: Final = 3600.0
# So much mail of an account may wait for another try. At the limit no more is sent, or refused mail would fill the memory.
PUT_OFF: Final = 1000
# With these statuses a customer says that it will never take this mail: it is not sent again.
_NEVER: Final = frozenset((Status.RX_P_APPN, Status.RX_R_APPN))
_STATES: Final = {
    State.EXPIRED: MessageState.EXPIRED,
    State.REJECTED: MessageState.REJECTED,
    State.UNKNOWN: MessageState.UNKNOWN,
    State.DELETED: MessageState.DELETED,
    State.ACCEPTED: MessageState.ACCEPTED,
    State.UNDELIVERABLE: MessageState.UNDELIVERABLE,
    State.DELIVERED: MessageState.DELIVERED,
}
_RECEIPT: Final = Fields(esm_class=0x04)


class Mailroom:
    """See the module. ``given_up(account)`` hears of mail of an account that nobody holds any more, once that is durable."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.octets = OCTETS
        self._receivers: frozenset[str] = frozenset()
        self.given_up: Callable[[str], None] = lambda _account: None

    # -- posting -------------------------------------------------------------------------------------------------------

    def post_mail(self, account: Account, frame: bytes, about: int, *, kept: bool = True) -> None:
        """Puts a deliver_sm frame for the account into the current batch; it is delivered once that is durable. ``kept``:
        tried again when there is no space."""
        context = self._context
        batch = context.store.batch
        mail = Mail(context.new_id(), account, frame, about, int(context.wall() + account.settings.receipts.keep))
        mail.kept = kept
        box = account.mailbox
        ledger = context.ledger
        if box.elsewhere:
            ledger.open_row(mail, mail_row(mail)._replace(shared=True), kept=kept)
            batch.then.append(partial(self.given_up, account.name))
            context.store.nudge()
            return
        if box.cold or len(box.hot) >= HOT or box.octets >= self.octets or ledger.octets >= context.mail_octets:
            ledger.open_row(mail, mail_row(mail), kept=kept)
            box.backlog.push()
        else:
            ledger.open(mail, kept=kept)
        batch.mails.append(mail)
        context.store.nudge()

    def post_receipt(self, message: Message, state: State, error: int, *, kept: bool = True) -> None:
        """Posts a receipt of our own making for a message whose fate was decided here (SMPP 3.4 appendix B). ``kept``: see
        `post_mail`; False where the message itself is in the same batch, and is not kept either."""
        sm = Sm(message.frame)
        now = int(self._context.wall())
        text = write(
            message.shown,
            _STATES.get(state, MessageState.UNKNOWN),
            submitted=int(id_time(message.id)),
            done=now,
            err=b"%03d" % min(error, 999),
        )
        source = message.reply_to if message.reply_to is not None else sm.source_field
        tlvs = tlv(Tag.RECEIPTED_MESSAGE_ID, message.shown + b"\0") + tlv(
            Tag.MESSAGE_STATE, bytes((_STATES.get(state, MessageState.UNKNOWN),))
        )
        frame = build_sm(Command.DELIVER_SM, 0, sm.destination_field, source, text, _RECEIPT, tlvs)
        self.post_mail(message.account, frame, message.id, kept=kept)

    def batch_committed(self, mails: list[Mail], now: float) -> None:
        """Their batch is durable."""
        touched: dict[Account, None] = {}
        for mail in mails:
            try:
                mail.stored = True
                if mail.done:
                    continue  # set aside
                if mail.home:
                    mail.account.mailbox.hot.add(mail)
                else:
                    mail.account.mailbox.backlog.push_committed()
                touched[mail.account] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_mail_aside(COMMIT, error, mail)
        for account in touched:
            try:
                self._bound(account)
                self.deliver_mail(account, now)
            except Exception as error:  # noqa: BLE001  the edge of an account
                self._context.guard.caught(COMMIT, error, owner=account.name)

    def batch_refused(self, mails: list[Mail]) -> None:
        """The batch of this mail was not stored. Receipts go into the next one; MO messages are forgotten, since the carrier
        still has them."""
        following: Batch = self._context.store.batch
        for mail in mails:
            if not mail.kept:
                if not mail.home:
                    mail.account.mailbox.backlog.push_refused()
                self._context.ledger.forget(mail)
        following.mails[:0] = [mail for mail in mails if mail.kept]

    def _bound(self, account: Account) -> None:
        """Keeps to the account's limit: where there is more mail, the oldest expires, and its record says so."""
        box = account.mailbox
        over = len(box) - account.settings.receipts.limit
        if over <= 0:
            return
        left = STEP
        while over > 0 and left > 0 and (len(box.hot) or box.later):
            over -= 1
            left -= 1
            mail = box.hot.popleft() if len(box.hot) else box.later.pop(next(iter(box.later)))
            self._expired(box, mail, log_counts.MAIL_LIMIT)
        if over > 0 and left > 0 and box.cold:
            self._page(account)

    def _expired(self, box: Mailbox, mail: Mail, why: log_counts.LogLine) -> None:
        """``_expire`` for one of many. An error stops none of the others."""
        try:
            self._expire(box, mail, why)
        except Exception as error:  # noqa: BLE001  the item's edge
            self._context.guard.set_mail_aside(SWEEP, error, mail)

    def _expire(self, box: Mailbox, mail: Mail, why: log_counts.LogLine) -> None:
        self._end(mail, State.RECEIPT_EXPIRED)
        self._context.metrics.mail_expired.labels(box.account.name).inc()
        self._context.log_counts.count(why, box.account.name)
        self._context.store.kick()

    # -- several nodes -------------------------------------------------------------------------------------------------

    def set_elsewhere(self, receivers: Collection[str]) -> None:
        """The accounts that have a receive-capable session at another node."""
        new = frozenset(receivers)
        changed, self._receivers = new ^ self._receivers, new
        for name in changed:
            account = self._context.accounts.get(name)
            if account is not None:
                self.settle_place(account)

    def settle_place(self, account: Account) -> None:
        """Whether the mail of an account is another node's may have changed. Where it is, what is here is handed over."""
        box = account.mailbox
        away = account.name in self._receivers and not any(one.session.can_receive for one in account.sessions)
        # What comes while rows are being given up would be given up too.
        box.elsewhere = away or box.giving
        if away:
            self._hand_over(account)

    def _look_whether_given_up(self, account: Account) -> None:
        """Whether all rows of an account are given up that were to be."""
        context, box = self._context, account.mailbox

        def arrived(rows: list[ColdRow]) -> None:
            if box.giving and not rows:
                box.giving = False
                self.settle_place(account)
                self.given_up(account.name)

        context.store.page(Kind.MAIL, account.name, 0, 1, context.guarded_rows(arrived))

    def _hand_over(self, account: Account) -> None:
        """Gives up the rows of an account, and makes such rows of what is in memory, some hundreds at a time."""
        context, box = self._context, account.mailbox
        if box.sent or box.backlog.unstored or not len(box):
            return  # with the next sweep
        ledger = context.ledger
        if box.cold or box.read:
            ledger.hand_over(Kind.MAIL, account.name)
            rows = [mail for mail in [*box.hot, *box.later.values()] if not mail.home]
            for mail in rows:
                box.take_out(mail)
                ledger.forget(mail)
            box.rows_given_up()
            context.store.batch.then.append(partial(self._look_whether_given_up, account))
        left = STEP
        while left > 0 and (len(box.hot) or box.later):
            left -= 1
            mail = box.hot.popleft() if len(box.hot) else box.later.pop(next(iter(box.later)))
            try:
                ledger.to_row(mail, mail_row(mail)._replace(shared=True))
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_mail_aside(SWEEP, error, mail)
        context.store.batch.then.append(partial(self.given_up, account.name))
        context.store.kick()

    def has_room(self, account: Account) -> bool:
        """Whether mail of an account that nobody holds may be claimed: its customer takes it here, and memory has room."""
        box = account.mailbox
        return (
            not box.elsewhere
            and len(box.hot) < PAGE
            and box.octets < self.octets
            and self._context.ledger.octets < self._context.mail_octets
            and any(one.session.can_receive for one in account.sessions)
        )

    def limit_unheld(self, account: Account, count: int) -> None:
        """So much mail of an account nobody holds. Where that is more than the account's limit, the oldest ends, at the node
        where its customer is bound: one who takes nothing is not to fill the store."""
        box = account.mailbox
        over = count - account.settings.receipts.limit
        if over <= 0 or box.elsewhere or not any(one.session.can_receive for one in account.sessions):
            return
        context = self._context

        def claimed(rows: list[ColdRow]) -> None:
            self.expired_rows(rows, log_counts.MAIL_LIMIT)
            if rows:
                context.store.batch.then.append(partial(self.limit_unheld, account, count - len(rows)))

        context.store.claim(Kind.MAIL, account.name, None, min(over, STEP), context.guarded_rows(claimed))

    def take_over(self, account: Account, rows: list[ColdRow]) -> None:
        """Mail that nobody held until now. It stays in its rows until its customer has it."""
        context, box = self._context, account.mailbox
        for row in rows:
            if row.id not in box.read:
                self._take_in(account, row)
        self._bound(account)
        self.deliver_mail(account, context.now())

    def _take_in(self, account: Account, row: ColdRow) -> None:
        context, box = self._context, account.mailbox
        try:
            mail = restored_mail(account, row.id, row.data)
        except Exception as error:  # noqa: BLE001  the item's edge
            context.set_row_aside(row, error, "mail")
            return
        mail.stored = True
        mail.cold = (row.kind, row.owner, row.key)
        context.ledger.weigh(mail)
        box.hot.add(mail)
        box.read.add(row.id)

    # -- delivering ----------------------------------------------------------------------------------------------------

    def customer_bound(self, account: Account, now: float) -> None:
        """A customer has bound. Mail that waits for another try is sent at once."""
        account.mailbox.resume(float("inf"))
        self.deliver_mail(account, now)

    def deliver_mail(self, account: Account, now: float) -> None:
        """Delivers what waits, as far as the windows of the account's receive-capable sessions go."""
        box = account.mailbox
        hot = box.hot
        if not len(hot) and not box.cold:
            return
        sessions = [customer for customer in account.sessions if customer.session.can_receive]
        if not sessions:
            return
        dirty = self._context.dirty
        count = len(sessions)
        while len(hot) and len(box.later) < PUT_OFF:
            for _ in range(count):
                account.turn += 1
                customer = sessions[account.turn % count]
                if customer.session.room > 0:
                    break
            else:
                return
            mail = hot.popleft()
            mail.left = 0
            try:
                frame = mail.frame if customer.version >= VERSION else self._plain(mail)
                customer.session.request(frame, mail, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_mail_aside(MAIL, error, mail)
                break  # if the session is the cause, the rest of the mail must not be set aside too
            box.begin_delivery(mail)
            dirty[customer] = None
        if box.cold and len(hot) < PAGE and (box.octets < self.octets or not (len(hot) or box.later or box.sent)):
            self._page(account)

    def _plain(self, mail: Mail) -> bytes:
        """The frame for a session of SMPP 3.3, which has no TLVs. For a long text it is the part whose turn it is."""
        accepted = id_time(mail.about) if mail.about else id_time(mail.id)
        frames, cut = delivered(mail.frame, accepted, id_time(mail.id))
        if cut and not mail.piece:
            self._context.log_counts.count(log_counts.MAIL_CUT, mail.account.name)
        mail.left = len(frames) - 1 - mail.piece
        return frames[mail.piece]

    def _page(self, account: Account) -> None:
        context = self._context
        box = account.mailbox
        backlog = box.backlog

        def arrived(rows: list[ColdRow]) -> None:
            if box.backlog is not backlog:
                return  # given up meanwhile
            for row in context.ledger.alive(rows):
                if row.id not in box.read:
                    backlog.take()
                    self._take_in(account, row)
            self._bound(account)
            self.deliver_mail(account, context.now())
            context.flush()

        backlog.page(context.store, PAGE, context.guarded_rows, arrived, backlog.miss)

    def shelve_mail(self, mail: Mail) -> bool:
        """Turns mail that lives in the spool into a row, if no session of its account is there to take it. It stays in
        memory, like mail that was read from a row. False: it has to stay in the spool."""
        box = mail.account.mailbox
        if mail.busy or not mail.stored or box.account.sessions:
            return False
        self._context.ledger.shelve(mail, mail_row(mail))
        self._context.ledger.weigh(mail)
        box.read.add(mail.id)
        return True

    def customer_answered(self, customer: CustomerPeer, answers: list[tuple[Any, int, int, bytes]], now: float) -> None:
        """The customer's responses to deliver_sm."""
        account = customer.account
        box = account.mailbox
        taken = 0
        for mail, _command, status, _frame in answers:
            try:
                if not box.end_delivery(mail) and (mail.done or status or not box.take_out(mail)):
                    continue  # otherwise the answer came after the response timer, and before the mail was sent again
                if status == 0 and mail.left:
                    mail.left = 0
                    mail.piece += 1
                    box.hot.add(mail)
                elif status == 0:
                    taken += 1
                    self._end(mail, State.RECEIPT_DONE)
                elif status in _NEVER:
                    self._end(mail, State.RECEIPT_EXPIRED, status)
                else:
                    self._again(account, [mail], now, wait=True)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_mail_aside(MAIL, error, mail)
        if taken:
            account.delivered.inc(taken)
        # Nobody waits for these marks: they go with the next batch, or within half a second. Where they are lost, the mail is
        # sent twice.
        self.deliver_mail(account, now)

    def _end(self, mail: Mail, state: State, error: int = 0) -> None:
        context = self._context
        box = mail.account.mailbox
        mail.done = True
        box.read.discard(mail.id)
        context.ledger.close(mail)
        if mail.about:
            context.append_event(mail.about, state, error=error)

    def remove_mail(self, mail: Mail) -> None:
        """Takes a mail out of the mailbox wherever it stands, in memory or as a row: its customer does not get it."""
        box = mail.account.mailbox
        in_memory = box.take_out(mail)
        in_memory = box.end_delivery(mail) or in_memory or mail.id in box.read
        if not in_memory and not mail.home:
            box.backlog.take()
        mail.left = 0
        self._end(mail, State.RECEIPT_EXPIRED)

    def _again(self, account: Account, mails: list[Mail], now: float, *, wait: bool) -> None:
        """Mail that was not acknowledged is sent again, in order. ``wait``: after a pause, since the customer was silent or
        refused it."""
        if not mails:
            return
        box = account.mailbox
        self._context.metrics.redelivered.labels(account.name).inc(len(mails))
        if not wait:
            for mail in mails:
                box.hot.add(mail)
            return
        retry = account.settings.receipts.retry
        for mail in mails:
            mail.attempts += 1
            box.put_off(mail, now + min(_MAX_PAUSE, retry * 2 ** min(mail.attempts - 1, 10)))
        if len(box.due) > 2 * len(box.later) + PUT_OFF:
            box.due = [(mail.due, mail.id) for mail in box.later.values()]
            heapify(box.due)

    def answers_missing(self, account: Account, mails: list[Any], now: float, *, wait: bool) -> None:
        """The session that was sent this mail is silent or gone."""
        box = account.mailbox
        back = [mail for mail in mails if isinstance(mail, Mail) and box.end_delivery(mail)]
        self._again(account, back, now, wait=wait)
        self.deliver_mail(account, now)

    def sweep(self, now: float) -> None:
        """Once a second: ends mail whose time is over, and tries again what was put off."""
        wall = self._context.wall()
        left = STEP
        for account in list(self._context.accounts.values()):
            try:
                left = self._sweep(account, now, wall, left)
            except Exception as error:  # noqa: BLE001  the edge of an account
                self._context.guard.caught(SWEEP, error, owner=account.name)

    def _sweep(self, account: Account, now: float, wall: float, left: int) -> int:
        """One account's mail; how many more may end with this sweep."""
        box = account.mailbox
        if self._receivers or box.elsewhere:
            self.settle_place(account)
            if box.giving:
                self._look_whether_given_up(account)
        if not len(box):
            return left
        # Mail expires in the order it came, give or take a changed setting.
        first = box.hot.first()
        while first is not None and first.expires <= wall and left > 0:
            left -= 1
            self._expired(box, box.hot.popleft(), log_counts.MAIL_AGE)
            first = box.hot.first()
        if box.later:
            if box.ends <= wall and left > 0:
                left = self._put_off_ends(box, wall, left)
            box.resume(now)
        self._bound(account)
        if account.sessions:
            self.deliver_mail(account, now)
        return left

    def _put_off_ends(self, box: Mailbox, wall: float, left: int) -> int:
        """Ends mail that was put off and whose time is over, up to ``left``; how many of these are left."""
        late = [mail for mail in box.later.values() if mail.expires <= wall][:left]
        for mail in late:
            del box.later[mail.id]
            self._expired(box, mail, log_counts.MAIL_AGE)
        box.ends = min((mail.expires for mail in box.later.values()), default=0)
        return left - len(late)

    def expired_rows(self, rows: list[ColdRow], why: log_counts.LogLine = log_counts.MAIL_AGE) -> None:
        """Cold mail whose time is over, or that is too much."""
        context = self._context
        for row in rows:
            try:
                account = context.account(row.owner)
                box = account.mailbox
                if row.id in box.read:
                    continue  # in memory: ends there
                if not row.shared:  # else nobody held it until now, and it is not counted here
                    box.backlog.take()
                context.metrics.mail_expired.labels(account.name).inc()
                context.log_counts.count(why, account.name)
                try:
                    _expires, about, _name, _frame = read_mail(row.data)
                except Exception as error:  # noqa: BLE001  the item's edge
                    context.set_row_aside(row, error, "mail")
                    continue
                context.ledger.drop_row(row.kind, row.owner, row.key, row.id)
                if about:
                    context.append_event(about, State.RECEIPT_EXPIRED)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.caught(ROWS, error, kind="mail", owner=row.owner, identity=row.id)
        context.store.kick()
