"""Messages for the demo and the tests: mixed alphabets and lengths, from and to numbers that belong to nobody."""

from __future__ import annotations

from typing import Final

from smppd.demo.fields import Outgoing
from smppd.protocol.longmessage import Carriage, split

# Numbers set aside for fiction: +44 7700 900000 to 900999 and +1 212 555 0100 to 0199.
SENDER: Final = (1, 1, "447700900001")
ALPHANUMERIC: Final = (5, 0, "SMPPD")

_TEXTS: Final = (
    "Your parcel {n} comes today between 10 and 12.",
    "Ihr Paket {n} kommt heute. Grüße, schöne Tage und 5 € Gutschein [nur heute]",
    "Ваша посылка {n} прибудет сегодня.",
    "您的包裹 {n} 今天送达。 📦",
    "Το δέμα {n} έρχεται σήμερα· καλή σας ημέρα.",
    "Reminder {n}: your appointment is tomorrow at nine. Reply to this message if you cannot come, and we shall find "
    "another day together. Please bring your papers, your card and, if you have it, the letter that we sent last week.",
    "Напоминание {n}: завтра в девять утра. Если вы не можете прийти, ответьте на это сообщение, и мы найдём другой день.",
    "Code {n}",
)


def number(index: int) -> str:
    """The index-th destination, 1,000 different ones."""
    return f"447700900{index % 1000:03d}"


def mixed(count: int) -> list[Outgoing]:
    """``count`` submits: GSM, extension table, UCS-2, emoji, parts by UDH and by SAR, payload, binary. Deterministic."""
    messages: list[Outgoing] = []
    turn = 0
    while len(messages) < count:
        to = (1, 1, number(turn))
        sender = ALPHANUMERIC if turn % 5 == 0 else SENDER
        if turn % 19 == 18:
            messages.append(Outgoing(sender, to, bytes(range(turn % 100, turn % 100 + 60)), data_coding=4))
        else:
            text = _TEXTS[turn % len(_TEXTS)].format(n=f"{turn:06d}")
            messages.extend(outgoing(text, sender, to, _CARRIAGES[turn // len(_TEXTS) % 3], ref=turn))
        turn += 1
    return messages[:count]


_CARRIAGES: Final = (Carriage.UDH, Carriage.SAR, Carriage.PAYLOAD)


def outgoing(
    text: str,
    source: tuple[int, int, str],
    destination: tuple[int, int, str],
    by: Carriage = Carriage.UDH,
    ref: int = 0,
) -> list[Outgoing]:
    """One text as the submits it takes. Raises ``TextError`` when it is too long."""
    pieces = split(text, by=by, ref=ref)
    result = []
    for place, piece in enumerate(pieces, 1):
        payload = by is Carriage.PAYLOAD and len(piece.body) > 140
        result.append(
            Outgoing(
                source,
                destination,
                b"" if payload else piece.udh + piece.body,
                piece.data_coding,
                0x40 if piece.udh else 0,
                payload=piece.body if payload else None,
                sar=(ref & 0xFFFF, len(pieces), place) if by is Carriage.SAR and len(pieces) > 1 else None,
            )
        )
    return result
