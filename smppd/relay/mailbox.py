"""Mail for customers: receipts and MO messages, kept until a receive-capable bind of the account acknowledged them.

The oldest mail of an account is in memory, the rest are cold rows read in pages, so a customer who is away for days costs
disk only. Mail is visible here only once its batch is durable; a ``MAIL_DONE`` that a crash swallows costs a duplicate.
"""

from __future__ import annotations

from typing import Any, Final

from smppd.message import State
from smppd.protocol.receipt import MessageState, write
from smppd.protocol.wire import Command, Fields, Sm, Status, Tag, build_sm, tlv
from smppd.relay.context import Context
from smppd.relay.ids import id_time
from smppd.relay.journal import Entry, mark
from smppd.relay.model import Account, Customer, Mail, Message, read_mail
from smppd.store.api import ColdRow, Kind

HOT: Final = 2000
PAGE: Final = 500
_MAX_PAUSE: Final = 3600.0
# "I will never take this one": said by a customer, there is no point in offering it again.
_NEVER: Final = frozenset((Status.RX_P_APPN, Status.RX_R_APPN))
_STATES: Final = {
    State.EXPIRED: MessageState.EXPIRED,
    State.REJECTED: MessageState.REJECTED,
    State.UNKNOWN: MessageState.UNKNOWN,
    State.DELETED: MessageState.DELETED,
    State.UNDELIVERABLE: MessageState.UNDELIVERABLE,
    State.DELIVERED: MessageState.DELIVERED,
}
_RECEIPT: Final = Fields(esm_class=0x04)


class Mailroom:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- posting -------------------------------------------------------------------------------------------------------

    def post(self, account: Account, frame: bytes, about: int, prefer: Customer | None = None) -> None:
        """Puts a deliver_sm frame for the account into the current batch; it is delivered once that is durable."""
        context = self._context
        batch = context.store.batch
        keep = account.settings.receipts
        mail = Mail(context.new_id(), account, frame, about, int(context.wall() + keep.keep))
        mail.customer = prefer
        box = account.mailbox
        if box.cold or len(box.hot) >= HOT:
            box.cold += 1
            batch.put.append(mail.row())
        else:
            batch.accepts.append(mail.entry())
            context.journal.add(mail)
        batch.mails.append(mail)
        context.store.kick()

    def receipt(self, message: Message, state: State, error: int) -> None:
        """Posts a receipt of our own making for a message whose fate was decided here (SMPP 3.4 appendix B)."""
        sm = Sm(message.frame)
        now = int(self._context.wall())
        text = write(
            message.shown,
            _STATES.get(state, MessageState.UNKNOWN),
            submitted=int(id_time(message.id)),
            done=now,
            err=b"%03d" % min(error, 999),
            dlvrd=0,
        )
        source = message.reply_to if message.reply_to is not None else sm.source_field
        tlvs = tlv(Tag.RECEIPTED_MESSAGE_ID, message.shown + b"\0") + tlv(
            Tag.MESSAGE_STATE, bytes((_STATES.get(state, MessageState.UNKNOWN),))
        )
        frame = build_sm(Command.DELIVER_SM, 0, sm.destination_field, source, text, _RECEIPT, tlvs)
        self.post(message.account, frame, message.id, message.customer)

    def stored(self, mails: list[Mail], now: float) -> None:
        """Their batch is durable."""
        touched: dict[Account, None] = {}
        for mail in mails:
            if mail.home:
                mail.account.mailbox.hot.append(mail)
            touched[mail.account] = None
        for account in touched:
            self._bound(account)
            self.pump(account, now)

    def lost(self, mails: list[Mail]) -> None:
        """Their batch was not stored: whoever brought them gets no acknowledgement and brings them again."""
        for mail in mails:
            if mail.home:
                self._context.journal.remove(mail)
            else:
                mail.account.mailbox.cold -= 1

    def _bound(self, account: Account) -> None:
        """Holds the account's limit: the oldest mail ends, visibly, when newer would be over it."""
        box = account.mailbox
        over = len(box) - account.settings.receipts.limit
        while over > 0 and box.hot:
            over -= 1
            self._end(box.hot.popleft(), State.RECEIPT_EXPIRED)
            self._context.metrics.mail_expired.labels(account.name).inc()

    # -- delivering ----------------------------------------------------------------------------------------------------

    def pump(self, account: Account, now: float) -> None:
        """Delivers what waits, as far as the windows of the account's receive-capable sessions go."""
        box = account.mailbox
        hot = box.hot
        if not hot:
            if box.cold and not box.paging and account.sessions:
                self._page(account)
            return
        sessions = [customer for customer in account.sessions if customer.session.can_receive]
        if not sessions:
            return
        dirty = self._context.dirty
        count = len(sessions)
        skipped: list[Mail] = []
        full = False
        while hot and not full:
            mail = hot.popleft()
            if mail.due > now:
                skipped.append(mail)
                if len(skipped) >= 64:
                    break
                continue
            customer = mail.customer
            if customer is None or customer not in sessions or customer.session.room <= 0:
                for _ in range(count):
                    account.turn += 1
                    customer = sessions[account.turn % count]
                    if customer.session.room > 0:
                        break
                else:
                    skipped.append(mail)
                    full = True
                    break
            mail.customer = None
            mail.busy = True
            box.sent += 1
            customer.session.request(mail.frame, mail, now)
            dirty[customer] = None
        if skipped:
            hot.extendleft(reversed(skipped))
        if len(hot) < PAGE and box.cold and not box.paging:
            self._page(account)

    def _page(self, account: Account) -> None:
        box = account.mailbox
        box.paging = True

        def arrived(rows: list[ColdRow]) -> None:
            box.paging = False
            for row in rows:
                mail = self.revive(account, row.id, row.data)
                box.hot.append(mail)
                box.upto = row.id
            box.cold -= len(rows)
            if not rows and not box.hot and not box.sent:
                # Every row was read; what is still counted was lost or expired on the way.
                self._recount(account)
            elif rows:
                self.pump(account, self._context.now())
                self._context.flush()

        self._context.store.page(Kind.MAIL, account.name, box.upto, PAGE, arrived)

    def _recount(self, account: Account) -> None:
        account.mailbox.cold = max(0, account.mailbox.cold)

    def revive(self, account: Account, identity: int, payload: bytes) -> Mail:
        """Mail read back from the store."""
        expires, about, _name, frame = read_mail(payload)
        return Mail(identity, account, frame, about, expires)

    def answered(self, customer: Customer, answers: list[tuple[Any, int, int, bytes]], now: float) -> None:
        """The customer's responses to deliver_sm."""
        account = customer.account
        box = account.mailbox
        taken = 0
        for mail, _command, status, _frame in answers:
            if not mail.busy:
                continue
            mail.busy = False
            box.sent -= 1
            if status == 0:
                taken += 1
                self._end(mail, State.RECEIPT_DONE)
            elif status in _NEVER:
                self._end(mail, State.RECEIPT_EXPIRED, status)
            else:
                self._again([mail], now, wait=True)
        if taken:
            account.delivered.inc(taken)
        self._context.store.kick()
        self.pump(account, now)

    def _end(self, mail: Mail, state: State, error: int = 0) -> None:
        context = self._context
        batch = context.store.batch
        if mail.home:
            batch.marks.append(mark(Entry.MAIL_DONE, mail.id))
            context.journal.remove(mail)
        else:
            batch.drop.append((Kind.MAIL, mail.account.name, b"", mail.id))
        if mail.about:
            context.event(mail.about, state, error=error)

    def _again(self, mails: list[Mail], now: float, *, wait: bool) -> None:
        """Not acknowledged: goes again, in order, after a pause where the customer was there and silent or unwilling."""
        if not mails:
            return
        account = mails[0].account
        retry = account.settings.receipts.retry
        self._context.metrics.redelivered.labels(account.name).inc(len(mails))
        for mail in mails:
            if wait:
                mail.attempts += 1
                mail.due = now + min(_MAX_PAUSE, retry * 2 ** min(mail.attempts - 1, 10))
        account.mailbox.hot.extendleft(sorted(mails, key=lambda one: one.id, reverse=True))

    def unanswered(self, account: Account, mails: list[Any], now: float, *, wait: bool) -> None:
        """The session that had these is silent or gone."""
        back = [mail for mail in mails if isinstance(mail, Mail) and mail.busy]
        for mail in back:
            mail.busy = False
        account.mailbox.sent -= len(back)
        self._again(back, now, wait=wait)
        self.pump(account, now)

    def sweep(self, now: float) -> None:
        """Once a second: mail whose time is over, and another try for what was put off."""
        wall = self._context.wall()
        for account in self._context.accounts.values():
            box = account.mailbox
            if not box.hot and not box.cold:
                continue
            # Mail expires in the order it came, give or take a changed setting.
            while box.hot and box.hot[0].expires <= wall:
                self._end(box.hot.popleft(), State.RECEIPT_EXPIRED)
                self._context.metrics.mail_expired.labels(account.name).inc()
                self._context.store.kick()
            if account.sessions:
                self.pump(account, now)

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Cold mail whose time is over."""
        context = self._context
        for row in rows:
            account = context.accounts.get(row.owner)
            _expires, about, _name, _frame = read_mail(row.data)
            if account is not None:
                box = account.mailbox
                if row.id <= box.upto:
                    continue  # in memory: ends there
                box.cold = max(0, box.cold - 1)
                context.metrics.mail_expired.labels(account.name).inc()
            context.store.batch.drop.append((row.kind, row.owner, row.key, row.id))
            if about:
                context.event(about, State.RECEIPT_EXPIRED)
        context.store.kick()
