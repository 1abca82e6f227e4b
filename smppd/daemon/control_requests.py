"""The requests that commands can send to the running daemon over its control socket."""

from __future__ import annotations

import pwd
from typing import Any

from smppd.control.wire import ControlError
from smppd.daemon.answers import Listing
from smppd.daemon.audit_log import Audit
from smppd.daemon.control import RequestHandler
from smppd.events import AuditEvent
from smppd.net.door import Door
from smppd.vault.keys import KeyRing


def control_requests(door: Door, audit: Audit, ring: KeyRing) -> dict[str, RequestHandler]:
    """The name of each request, and the function that handles it."""

    def bans_list(_request: dict[str, Any], _uid: int) -> Listing:
        return Listing("bans", (ban._asdict() for ban in door.bans()))

    def bans_lift(request: dict[str, Any], uid: int) -> dict[str, object]:
        address = request.get("address")
        try:
            lifted = door.lift(address if isinstance(address, str) else "")
        except ValueError:
            raise ControlError("this is no address; `smppd bans list` shows those that are banned") from None
        if lifted:
            facts = {"peer": str(address), "by": _user(uid), "count": str(lifted)}
            operator = request.get("operator")
            # As the command says, which has looked at the login; whoever runs it is what the kernel says.
            named = {"operator": operator[:32]} if isinstance(operator, str) and operator else {"login": "none"}
            audit(AuditEvent.BAN_LIFTED, facts | named)
        return {"lifted": lifted}

    def keys_kek(_request: dict[str, Any], _uid: int) -> dict[str, object]:
        return {"version": ring.kek_version}

    return {"bans list": bans_list, "bans lift": bans_lift, "keys kek": keys_kek}


def _user(uid: int) -> str:
    """The name of a user of this host, with the number that the kernel gave."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)
