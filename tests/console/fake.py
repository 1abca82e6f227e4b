"""A daemon that answers by docs/control.md, from values that a test sets; and a browser without a socket."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from smppd.console.app import App
from smppd.console.web import Incoming, Reply
from smppd.control.wire import ControlError
from smppd.daemon.askers import SHOWS_NEED
from smppd.operators.roles import Role, may

NOW = 1_796_000_000.0
"""The time of the tests: a Monday in November 2026."""


def session(**fields: Any) -> dict[str, Any]:
    """A session as `show sessions` has it."""
    return {
        "id": "c17",
        "side": "customer",
        "name": "acme",
        "address": "192.0.2.7:40123",
        "tls": {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "subject": None},
        "mode": "transceiver",
        "version": "3.4",
        "state": "bound",
        "since": NOW - 90,
        "age": 90.0,
        "window": 50,
        "used": 3,
        "outstanding_window": 50,
        "outstanding": 1,
        "rate": 12.5,
        "messages": 1234,
        "last_pdu": "submit_sm",
        "idle": 0.4,
        "unsent": 0,
        **fields,
    }


def account(name: str = "acme", **fields: Any) -> dict[str, Any]:
    """An account as `show accounts` has it."""
    return {
        "name": name,
        "sessions": 1,
        "max_binds": 8,
        "window": 50,
        "throughput": 200.0,
        "rate": 12.5,
        "queued": 40,
        "queue_max": 1000,
        "oldest": 7.0,
        "oldest_id": "0ca8a21246000000",
        "held": 0,
        "mailbox": 2,
        "oldest_mail": 3.0,
        "accepted": 1234,
        "refused": 5,
        "delivered": 1200,
        "suspended": None,
        "configured_suspended": False,
        **fields,
    }


def upstream(name: str = "carrier-a", **fields: Any) -> dict[str, Any]:
    """An upstream as `show upstreams` has it."""
    return {
        "name": name,
        "address": "192.0.2.200:3550",
        "enabled": True,
        "state": "bound",
        "links": 2,
        "sessions": 2,
        "window": 100,
        "window_used": 20,
        "throughput": None,
        "rate": 12.0,
        "ready": 2,
        "unknown": 0,
        "waiting": 40,
        "waiting_receipts": 9,
        "oldest_receipt": 11.0,
        "failures": 0,
        "again_in": None,
        "last_error": None,
        "submitted": 1190,
        "act": None,
        **fields,
    }


def queue(**fields: Any) -> dict[str, Any]:
    """A lane as `show queues` has it."""
    return {
        "account": "acme",
        "upstreams": ["carrier-a", "carrier-b"],
        "waiting": 40,
        "memory": 40,
        "disk": 0,
        "oldest": 7.0,
        "oldest_id": "0ca8a21246000000",
        "code": False,
        "opens": None,
        "why": "flowing",
        **fields,
    }


def message(**fields: Any) -> dict[str, Any]:
    """A message as `show messages` has it."""
    return {
        "id": "0ca8a21246000000",
        "account": "acme",
        "phase": "queued",
        "upstream": "carrier-a",
        "accepted": NOW - 7,
        "age": 7.0,
        "expires": NOW + 3600,
        "tries": 0,
        "from": "Acme",
        "to": "+44770***0123",
        "part": None,
        "duplicate": False,
        "memory": True,
        **fields,
    }


class FakeDaemon:
    """Answers requests. `shows`: what each view has; `asked`: all requests; `refuses`: code and sentence for the next act;
    `roles`: of the operators, who are shown what the real daemon would show them."""

    def __init__(self) -> None:
        self.roles: dict[str, tuple[Role, ...]] = {}
        self.asked: list[dict[str, Any]] = []
        self.refuses: tuple[str, str] | None = None
        self.down = False
        self.shows: dict[str, Any] = {
            "sessions": [session(), session(id="u4", side="carrier", name="carrier-a", address="192.0.2.200:3550")],
            "accounts": [account(), account("other", sessions=0)],
            "upstreams": [upstream(), upstream("carrier-b", state="down", links=0, last_error="Connection refused.")],
            "queues": [queue(), queue(account="other", why="no link")],
            "messages": [message(), message(id="0ca8a21246000001", account="other")],
            "bans": [{"address": "198.51.100.9", "scope": "address", "who": "acme", "left": 600.0}],
            "suspensions": [],
            "acts": [],
            "config": {
                "path": "/etc/smppd/smppd.yaml",
                "loaded": NOW - 3600,
                "hash": "ab" * 32,
                "last_reload": None,
                "acts": [],
                "settings": {"listeners": [{"address": "0.0.0.0:3550"}], "drain": 30, "accounts": []},
            },
            "limits": [{"name": "binds", "of": "acme", "limit": 8, "used": 1, "share": 0.125}],
            "rules": [{"policy": "standard", "rule": "links", "mode": "shadow", "hits": 0, "shadow": 12}],
            "health": {
                "ready": True,
                "state": "degraded",
                "checks": {"store": "ok", "upstreams": "degraded: b is down"},
            },
            "flow": {
                "step": 1,
                "from": NOW - 5,
                "accounts": {"acme": {"accepted": [1, 2, 3, 4, 5], "delivered": [0, 1, 2, 3, 4]}},
                "upstreams": {"carrier-a": {"submitted": [1, 2, 3, 4, 5], "receipts": [0, 0, 1, 1, 2]}},
            },
        }

    def __call__(self, request: Mapping[str, object]) -> dict[str, Any]:
        self.asked.append(dict(request))
        if self.down:
            raise ControlError("no smppd runs on the store var", "")
        if request["do"] == "act":
            if self.refuses is not None:
                code, sentence = self.refuses
                raise ControlError(sentence, code)
            return {"v": 1, "said": f"{request['act']} of {request['target']} is done.", "changed": True}
        what = str(request["do"]).removeprefix("show ")
        roles = self.roles.get(str(request.get("operator")), ())
        if not any(may(roles, act) for act in SHOWS_NEED[what]):
            raise ControlError("no role of his allows it", "role")
        found = self.shows[what]
        if isinstance(found, list) and request.get("operator") == "olga":
            found = [one for one in found if one.get("account", one.get("name", one.get("of"))) == "acme"]
        return {"v": 1, "at": NOW, what: found}

    def acts(self) -> list[dict[str, Any]]:
        """The acts that were asked for."""
        return [one for one in self.asked if one["do"] == "act"]


class Browser:
    """Asks an App as a browser does: it keeps cookies, follows nothing by itself, and sends forms as they were given."""

    def __init__(self, app: App, *, secure: bool = True, address: str = "192.0.2.50") -> None:
        self.app = app
        self.secure = secure
        self.address = address
        self.cookies: dict[str, str] = {}
        self.reply = Reply(0)

    def get(self, path: str, **headers: str) -> Reply:
        """Asks for a page."""
        return self._ask("GET", path, b"", headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Reply:
        """Sends a form with exactly these fields."""
        body = urlencode(fields).encode()
        return self._ask("POST", path, body, {"content-type": "application/x-www-form-urlencoded", **headers})

    def send(self, path: str, fields: Mapping[str, str], page: str = "") -> Reply:
        """Opens the page of a form (`page`, or the path itself) and sends it with its token."""
        self.get(page or path)
        return self.post(path, {"form": self.token(), **fields})

    def token(self) -> str:
        """The form token of the page that was shown last."""
        found = re.search(r'name="form" value="([0-9a-f]*)"', self.text)
        assert found is not None, "there is no form on this page"
        return found[1]

    @property
    def text(self) -> str:
        """The page that was shown last, as it came."""
        return self.reply.body.decode()

    @property
    def words(self) -> str:
        """The same without tags."""
        return unescape(" ".join(re.sub(r"<[^>]*>", " ", self.text).split()))

    @property
    def location(self) -> str:
        """Where the last reply leads."""
        return dict(self.reply.headers).get("Location", "")

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        parts = urlsplit(path)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.reply = self.app.reply(Incoming(method, parts.path, parts.query, sent, body, self.address, self.secure))
        for name, value in self.reply.headers:
            if name == "Set-Cookie":
                self._keep(value)
        return self.reply

    def _keep(self, header: str) -> None:
        name, _, value = header.split(";")[0].partition("=")
        assert "; HttpOnly" in header and "; SameSite=Strict" in header and "; Path=/" in header
        assert ("; Secure" in header) == self.secure == name.startswith("__Host-")
        if value:
            self.cookies[name] = value
        else:
            self.cookies.pop(name, None)


def query_of(path: str) -> dict[str, list[str]]:
    """The query of a path."""
    return parse_qs(urlsplit(path).query)


Clock = Callable[[], float]
