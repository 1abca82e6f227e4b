"""A request of a browser and the reply to it, as values: what of HTTP the console needs to know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

FIELDS: Final = 100
"""Fields of a form or a query; more are refused."""
_COOKIES: Final = 16384
_COOKIE: Final = re.compile("[0-9a-zA-Z]{1,64}")

HTML: Final = "text/html; charset=utf-8"

HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
"""Of every reply."""
HSTS: Final = ("Strict-Transport-Security", "max-age=31536000")
"""Of every reply over TLS."""


class Incoming(NamedTuple):
    """A request. path: without the query. headers: name in small letters -> value, the first of each. address: the browser's,
    empty for this host. secure: whether it came over TLS."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    address: str
    secure: bool

    def __repr__(self) -> str:
        return f"<Incoming {self.method} ***>"

    def cookie(self, name: str) -> str:
        """The value of a cookie of ours; empty where there is none."""
        wanted = _cookie_name(name, self.secure)
        # By hand: http.cookies gives up at the first cookie that it cannot read, and on loopback those of every other server
        # on this host are sent along.
        for one in self.headers.get("cookie", "")[:_COOKIES].split(";"):
            found, _, value = one.strip().partition("=")
            if found == wanted and _COOKIE.fullmatch(value):
                return value
        return ""

    def query_fields(self) -> dict[str, str]:
        """The fields of the query. ValueError where there are too many."""
        return fields(self.query)

    def form_fields(self) -> dict[str, str]:
        """The fields of the form that is the body. ValueError where it is none."""
        if (
            self.headers.get("content-type", "").partition(";")[0].strip().lower()
            != "application/x-www-form-urlencoded"
        ):
            raise ValueError("no form")
        return fields(self.body.decode("utf-8", "replace"))


class Reply(NamedTuple):
    """What is sent. floor: seconds after the request before which it is not sent."""

    status: int
    body: bytes = b""
    kind: str = HTML
    headers: tuple[tuple[str, str], ...] = ()
    floor: float = 0.0

    def __repr__(self) -> str:
        return f"<Reply {self.status} ***>"


def fields(text: str) -> dict[str, str]:
    """The first value of each field of an encoded form or query. ValueError where there are too many."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS, errors="replace"):
        found.setdefault(name, value)
    return found


def set_cookie(name: str, value: str, secure: bool, seconds: float | None = None) -> tuple[str, str]:
    """The header that gives the browser a cookie, or takes it away (an empty value). seconds: None: until the browser ends.
    Over TLS its name makes the browser refuse it from any other host and path (RFC 6265bis, __Host-)."""
    parts = [f"{_cookie_name(name, secure)}={value}", "Path=/", "HttpOnly", "SameSite=Strict"]
    if secure:
        parts.append("Secure")
    if not value:
        parts.append("Max-Age=0")
    elif seconds is not None:
        parts.append(f"Max-Age={int(seconds)}")
    return "Set-Cookie", "; ".join(parts)


def _cookie_name(name: str, secure: bool) -> str:
    return f"__Host-smppd-{name}" if secure else f"smppd-{name}"
