"""What waits for somebody: mail (a deliver_sm for a customer), mailboxes, and receipts whose message is not known yet."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from smppd.relay.ledger.journal import HEAD, WEIGHT, Entry, Living
from smppd.relay.ledger.payload import is_frame
from smppd.relay.state.queues import Queue
from smppd.store.api import ColdRow, Kind

if TYPE_CHECKING:
    from smppd.relay.state.model import Account, Customer, UpstreamState

_MAIL: Final = Struct(">IQB")
FIRST_ROWS: Final = 16
"""Cold rows that are read at once while nobody knows how large they are."""
# Octets that a page of rows should take in memory.
_PAGE_OCTETS: Final = 1 << 20


def rows_for(rows: list[ColdRow], most: int) -> int:
    """How many rows of the size of these make a page, 1 to ``most``."""
    octets = sum(len(row.data) for row in rows) // len(rows) + WEIGHT
    return max(1, min(most, _PAGE_OCTETS // octets))


class Mail(Living):
    """A deliver_sm for a customer, kept until acknowledged. ``about``: id of the record it belongs to: the message it is a
    receipt of, or its own for MO. ``kept``: tried again when there was no space. ``busy``: sent and unanswered.
    ``piece``: which part of a long text goes next to a peer of SMPP 3.3; ``left``: how many follow the one that was sent."""

    __slots__ = (
        "about",
        "account",
        "attempts",
        "busy",
        "customer",
        "done",
        "due",
        "expires",
        "kept",
        "left",
        "piece",
        "stored",
    )

    def __init__(self, identity: int, account: Account, frame: bytes, about: int, expires: int) -> None:
        self.id = identity
        self.frame = frame
        self.home = 0
        self.weight = 0
        self.account = account
        self.about = about
        self.expires = expires
        self.attempts = 0
        self.due = 0.0
        self.busy = False
        self.done = False
        self.kept = False
        self.left = 0
        self.piece = 0
        self.stored = False
        self.customer: Customer | None = None

    def __repr__(self) -> str:
        return f"<Mail {self.id:016x}>"

    def payload(self) -> bytes:
        """What the spool keeps of it."""
        names = self.account.name_bytes
        return _MAIL.pack(self.expires, self.about, len(names)) + names + self.frame

    def entry(self) -> bytes:
        """The spool entry that opens it."""
        payload = self.payload()
        return HEAD.pack(Entry.MAIL, HEAD.size + len(payload), self.id) + payload

    def row(self) -> ColdRow:
        """Its cold row."""
        return ColdRow(Kind.MAIL, self.account.name, b"", self.id, self.expires, self.payload())


def read_mail(payload: bytes) -> tuple[int, int, str, bytes]:
    """(expires, about, account name, frame) of a mail's payload. Raises ValueError or struct.error on what is none."""
    expires, about, length = _MAIL.unpack_from(payload, 0)
    at = _MAIL.size + length
    name, frame = payload[_MAIL.size : at].decode(), payload[at:]
    if not name or not is_frame(frame):
        raise ValueError("no mail is stored like this")
    return expires, about, name, frame


_PARK: Final = Struct(">IB")


class Parked(Living):
    """A receipt that came before its message was known: kept until the message turns up or it expires. ``keys``: what the
    message may be called, first the id as it came."""

    __slots__ = ("done", "expires", "keys", "upstream")

    def __init__(
        self, identity: int, upstream: UpstreamState, keys: tuple[bytes, ...], frame: bytes, expires: int
    ) -> None:
        super().__init__(identity, frame)
        self.upstream = upstream
        self.keys = keys
        self.expires = expires
        self.done = False

    def __repr__(self) -> str:
        return f"<Parked {self.id:016x}>"

    def payload(self) -> bytes:
        """What the spool keeps of it."""
        name = self.upstream.name.encode()
        return _PARK.pack(self.expires, len(name)) + name + self.frame

    def entry(self) -> bytes:
        """The spool entry that opens it."""
        payload = self.payload()
        return HEAD.pack(Entry.PARK, HEAD.size + len(payload), self.id) + payload


def read_parked(payload: bytes) -> tuple[int, str, bytes]:
    """(expires, upstream name, frame) of a parked receipt's payload; raises as ``read_mail`` does."""
    expires, length = _PARK.unpack_from(payload, 0)
    at = _PARK.size + length
    name, frame = payload[_PARK.size : at].decode(), payload[at:]
    if not name or not is_frame(frame):
        raise ValueError("no receipt is stored like this")
    return expires, name, frame


class Mailbox:
    """What waits for one customer. ``hot``: in memory, oldest first. ``later``: in memory, waiting for another try, by id;
    ``due`` is a heap of (when, id) of these, and of some that are gone. ``ends``: no mail of ``later`` expires before.
    ``octets``: what the mail in memory was counted with. ``sent``: how many are unanswered. ``cold``: rows that are not in
    memory, ``unstored`` of them in a batch; ``read``: ids of rows that are. Rows up to ``upto`` were read. ``rows``: how many
    are read at once, after the size of the last ones."""

    __slots__ = (
        "account", "cold", "due", "ends", "hot", "later", "octets", "paging", "read", "rows", "sent", "unstored", "upto",
    )  # fmt: skip

    def __init__(self, account: Account) -> None:
        self.account = account
        self.hot: Queue[Mail] = Queue()
        self.later: dict[int, Mail] = {}
        self.due: list[tuple[float, int]] = []
        self.ends = 0
        self.octets = 0
        self.rows = FIRST_ROWS
        self.sent = 0
        self.cold = 0
        self.unstored = 0
        self.read: set[int] = set()
        self.upto = 0
        self.paging = False

    def __len__(self) -> int:
        return len(self.hot) + len(self.later) + self.cold + self.sent
