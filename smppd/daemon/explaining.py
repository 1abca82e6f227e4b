"""What the screens of a running daemon say of a message that somebody asks about: `smppd explain`."""

from __future__ import annotations

from typing import Any

from smppd.control.wire import EXPLAIN, ControlError
from smppd.daemon.control import RequestHandler
from smppd.message import Address, Verdict
from smppd.relay.relay import Relay

_LONGEST = 100_000


def explain_requests(relay: Relay) -> dict[str, RequestHandler]:
    """The request `explain screens`: ``account``, ``frame`` (a submit_sm in hexadecimal), ``class`` and ``source`` ([TON, NPI,
    digits in hexadecimal] or null), which the rules gave it. The answer's ``screens`` are [name, sentence] each."""

    def screens(request: dict[str, Any], _uid: int) -> dict[str, object]:
        account, frame, kind, source = (request.get(key) for key in ("account", "frame", "class", "source"))
        if (
            not isinstance(account, str)
            or not isinstance(frame, str)
            or len(frame) > _LONGEST
            or not isinstance(kind, str)
        ):
            raise ControlError("this is no request to explain a message")
        try:
            address = None
            if source is not None:
                ton, npi, digits = source
                address = Address(int(ton), int(npi), bytes.fromhex(digits))
            said = relay.explain_screens(account, bytes.fromhex(frame), Verdict(source=address, message_class=kind))
        except KeyError:
            raise ControlError(f"the daemon has no account {account}") from None
        except (ValueError, TypeError, IndexError):
            raise ControlError("this is no request to explain a message") from None
        return {"screens": [list(one) for one in said]}

    return {EXPLAIN: screens}
