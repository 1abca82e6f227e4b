"""One bad item stops nothing but itself. An error that an item causes is caught at the item, counted, and logged without
content; the item is set aside (table `damaged`). The other items of the batch, of the tick or of the start go on.

Faults of the store itself are not caught here. They end the daemon (`store.api.Fault`, `Sink.store_broken`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from smppd.ids import id_time
from smppd.metrics import Metrics
from smppd.relay.ledger.ledger import Ledger
from smppd.relay.ledger.payload import write_message
from smppd.relay.state.model import Account, Mail, Message, UpstreamState
from smppd.store.api import Damaged, Fault, Spool

log = logging.getLogger("smppd.relay")

SUBMIT: Final = "submit"
OPERATION: Final = "enquiry"  # query_sm, cancel_sm, replace_sm
DELIVER: Final = "deliver"
RECEIPT: Final = "receipt"
ANSWER: Final = "answer"
SEND: Final = "send"
MAIL: Final = "mail"
COMMIT: Final = "commit"
ROWS: Final = "rows"
SWEEP: Final = "sweep"
SPILL: Final = "spill"
REROUTE: Final = "reroute"
LINK: Final = "link"
TIMER: Final = "timer"
START: Final = "start"
ACT: Final = "act"
STORE: Final = "store"
PLACES: Final = (
    SUBMIT,
    OPERATION,
    DELIVER,
    RECEIPT,
    ANSWER,
    SEND,
    MAIL,
    COMMIT,
    ROWS,
    SWEEP,
    SPILL,
    REROUTE,
    LINK,
    TIMER,
    START,
    ACT,
    STORE,
)
"""Where an item was met: the values of a metric's label, and of the column `place`."""

# Errors that no item can be the cause of.
_FATAL: Final = (Fault, MemoryError)
# Seconds between two lines of the log on one chore.
_QUIET: Final = 60.0
# Where no trace of a text may be kept (`content: hide` or `hash`): no longer than what waits for a receipt may.
_TRACELESS: Final = 72 * 3600.0
_NOBODYS: Final = 30 * 86400.0


class Guard:
    """See the module. ``accounts``: all there are, by name. ``wall``: epoch seconds; ``now``: monotonic ones.
    ``withdraw(message)`` takes a message out of wherever it stands, and tells its sender as far as that goes."""

    def __init__(
        self,
        store: Spool,
        ledger: Ledger,
        metrics: Metrics,
        accounts: Mapping[str, Account],
        wall: Callable[[], float],
        now: Callable[[], float],
        withdraw: Callable[[Message], None],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._metrics = metrics
        self._accounts = accounts
        self._wall = wall
        self._now = now
        self._withdraw = withdraw
        self._chores: dict[str, tuple[float, int]] = {}

    # -- items ---------------------------------------------------------------------------------------------------------

    def caught(self, place: str, error: Exception, *, kind: str = "", owner: str = "", identity: int = 0) -> None:
        """Counts and logs an error that an item caused. Raises the error again where no item can be the cause. To be called
        within an `except`."""
        if isinstance(error, _FATAL):
            raise error
        self._metrics.set_aside.labels(place).inc()
        fields: dict[str, str] = {"place": place}
        if kind:
            fields["kind"] = kind
        if owner:
            fields["owner"] = owner.partition("\n")[0]
        if identity:
            fields["id"] = f"{identity:016x}"
        log.error("an item was set aside", exc_info=error, extra={"fields": fields})

    def keep_damaged(self, place: str, error: Exception, kind: str, owner: str, identity: int, data: bytes) -> None:
        """Does what `caught` does, and keeps the item among the damaged ones with the current batch."""
        self.caught(place, error, kind=kind, owner=owner, identity=identity)
        now = int(self._wall())
        since = min(now, int(id_time(identity))) if identity else now
        until = since + int(self.lifetime(owner))
        self._store.batch.damaged.append(Damaged(kind, owner, identity, place, type(error).__name__, now, until, data))
        self._store.nudge()

    def lifetime(self, owner: str) -> float:
        """Seconds for which a damaged item may be kept: as long as the numbers and the text in it may be kept. ``owner``: an
        account, a lane of an account, or an upstream. Where the owner is no known account, the shortest time of all accounts
        counts. May be called in any thread."""
        accounts = list(self._accounts.values())
        account = self._accounts.get(owner.partition("\n")[0])
        shortest = _NOBODYS
        for one in [account] if account is not None else accounts:
            settings = one.settings
            shortest = min(shortest, settings.kept.new_body, settings.kept.numbers)
            pipeline = one.pipeline
            if settings.content != "encrypt" or (pipeline is not None and pipeline.hides):
                shortest = min(shortest, _TRACELESS)
        return shortest

    def set_message_aside(self, place: str, error: Exception, message: Message) -> None:
        """Sets a message aside. It is taken out of all lists, its record says so, and its sender is told if that is
        possible."""
        try:
            kind, data = "message", write_message(message)
        except Exception:  # noqa: BLE001  what it cannot say of itself is left out
            kind, data = "frame", message.frame
        self.keep_damaged(place, error, kind, message.account.name, message.id, data)
        try:
            self._withdraw(message)
        except Exception as another:  # noqa: BLE001  the item's edge
            self.caught(place, another, kind="message", owner=message.account.name, identity=message.id)

    def set_mail_aside(self, place: str, error: Exception, mail: Mail) -> None:
        """Sets mail aside: its customer does not get it."""
        account = mail.account
        self.keep_damaged(place, error, "frame", account.name, mail.id, mail.frame)
        box = account.mailbox
        box.take_out(mail)
        box.end_delivery(mail)
        mail.done = True
        if mail.id in box.read:
            box.read.discard(mail.id)
        elif mail.cold is not None:
            box.backlog.take()
        self._ledger.close(mail)

    def keep_frame(self, place: str, error: Exception, upstream: UpstreamState, sm: bytes) -> None:
        """Keeps a PDU of a carrier that could not be handled: it may be acknowledged with the batch, as nothing is lost."""
        self.keep_damaged(place, error, "frame", upstream.name, 0, sm)

    def call_guarded(self, place: str, function: Callable[[], object]) -> None:
        """Calls a function, which may be anything that others must not suffer from."""
        try:
            function()
        except Exception as error:  # noqa: BLE001  the item's edge
            self.caught(place, error)

    # -- chores --------------------------------------------------------------------------------------------------------

    def do_chore(self, name: str, chore: Callable[[], object]) -> None:
        """Does one chore of the housekeeping. What it raises stops no other one: it is counted by the chore's name, and logged
        once a minute for each."""
        try:
            chore()
        except _FATAL:
            raise
        except Exception:
            self._metrics.chores_failed.labels(name).inc()
            now = self._now()
            until, silent = self._chores.get(name, (0.0, 0))
            if now < until:
                self._chores[name] = (until, silent + 1)
                return
            self._chores[name] = (now + _QUIET, 0)
            log.exception("error in housekeeping", extra={"fields": {"chore": name, "since_last": silent + 1}})
