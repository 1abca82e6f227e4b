"""From a request to a reply: the login pages, the door in front of every other page, forms and their tokens, and errors.

Everything here waits for the store or the daemon, so it runs in a worker thread. A handler that fails is answered by a page
that says so; what it was stands in the log, without content.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlencode

from smppd.config import Settings
from smppd.console.asking import Daemon
from smppd.console.browsers import REMEMBERED
from smppd.console.gate import Gate, Visitor
from smppd.console.office import OfficeError, Offices
from smppd.console.page import FIELD_MAX, Answer, Asked, Page, Refusal
from smppd.console.render import Renderer
from smppd.console.web import Incoming, Reply, set_cookie
from smppd.office.authority import check_role
from smppd.operators.login import REFUSAL_FLOOR, Claim
from smppd.operators.roles import Act

LOGIN: Final = "/login"
LOGIN_PATHS: Final = frozenset({LOGIN, "/login/code"})
"""The pages that nobody needs a login for, and which cost a passphrase's hash."""
LOGOUT: Final = "/logout"
HOME: Final = "/"
_REFUSED: Final = (
    "Name, passphrase and code do not fit together, or not now, or not from here. After some failures it takes up to 15 minutes"
    " until a login is looked at again."
)
_ENDED: Final = "This form is too old. Please fill it in again."
_TOKEN_FIELD: Final = "form"

log = logging.getLogger("smppd.console")


class _Route(NamedTuple):
    pattern: re.Pattern[str]
    page: Page


class App:
    """All pages of one console. For any thread."""

    def __init__(
        self,
        settings: Settings,
        offices: Offices,
        gate: Gate,
        daemon: Daemon,
        pages: Sequence[Page],
        now: Callable[[], float],
        draw: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """now: epoch seconds. draw(n): n random octets."""
        self._settings = settings
        self._offices = offices
        self._gate = gate
        self._daemon = daemon
        self._pages = tuple(pages)
        self._routes = [_Route(_pattern(page.path), page) for page in pages]
        self._now = now
        self._draw = draw
        self._renderer = Renderer(now)

    def reply(self, incoming: Incoming) -> Reply:
        """The reply to a request. Never raises."""
        try:
            return self._reply(incoming)
        except Refusal as refusal:
            return self._message(refusal.status, refusal.sentence)
        except OfficeError as error:
            log.error("the console cannot use the store: %s", error)
            return self._message(503, "The store cannot be used at the moment; the console's log says why.")
        except Exception:  # the edge: the browser gets an answer, and the console goes on
            # Without the page's path and fields: they may hold a number.
            log.exception("a page failed")
            return self._message(500, "This page failed. What it was stands in the console's log.")

    # -- the door ----------------------------------------------------------------------------------------------------------

    def _reply(self, incoming: Incoming) -> Reply:
        if incoming.method not in ("GET", "HEAD", "POST"):
            raise Refusal(405, "Only GET and POST are known here.")
        try:
            query = incoming.query_fields()
            form = incoming.form_fields() if incoming.method == "POST" else {}
        except ValueError:
            raise Refusal(400, "This is no form of the console.") from None
        if any(len(value) > FIELD_MAX for value in (*query.values(), *form.values())):
            raise Refusal(400, f"A field is longer than {FIELD_MAX} characters.")
        if incoming.method == "POST" and incoming.headers.get("sec-fetch-site", "same-origin") not in (
            "same-origin",
            "none",
        ):
            raise Refusal(403, "This form came from another site.")
        if incoming.path in LOGIN_PATHS:
            return self._login(incoming, query, form)
        return self._page(incoming, query, form)

    def _page(self, incoming: Incoming, query: Mapping[str, str], form: Mapping[str, str]) -> Reply:
        token = incoming.cookie("session")
        refresh = "hx-request" in incoming.headers and incoming.method == "GET"
        route, args = self._route(incoming.path)
        visitor = self._gate.visitor(token, incoming.address, None if route is None else route.act, person=not refresh)
        if visitor is None:
            return self._to_login(incoming, refresh, token)
        if incoming.path == LOGOUT:
            return self._logout(incoming, token, form)
        allowed = route is not None and route.opens(visitor.operator.may)
        if route is not None and route.act is not None and not allowed:
            self._tell_refused(visitor, route.act)
        if route is None or not _may_know(route, visitor):
            return self._message(404, "There is no such page.", visitor, token)
        if not allowed:
            return self._message(403, "No role of yours allows this page.", visitor, token)
        if incoming.method == "POST":
            if not route.posts:
                raise Refusal(405, "This page takes no form.")
            if not self._gate.is_form_token(token, form.get(_TOKEN_FIELD, "")):
                return self._message(403, _ENDED, visitor, token)
        asked = Asked(
            visitor.authority,
            "POST" if incoming.method == "POST" else "GET",
            incoming.path,
            args,
            query,
            form,
            self._now(),
            refresh,
            self._daemon.on_behalf(visitor.authority),
            self._settings,
            self._offices,
            visitor.id,
        )
        try:
            answer = route.handler(asked)
        except Refusal as refusal:
            return self._message(refusal.status, refusal.sentence, visitor, token)
        return self._answered(answer, route, asked, visitor, token)

    def _tell_refused(self, visitor: Visitor, act: Act) -> None:
        """Puts on the trail that somebody asked for what no role of his allows, as commands do."""
        with suppress(OfficeError), self._offices() as office:
            check_role(office, visitor.authority, act)

    def _route(self, path: str) -> tuple[Page | None, dict[str, str]]:
        for route in self._routes:
            found = route.pattern.fullmatch(path)
            if found is not None:
                # An account's name may have signs that a path has only as octets in hexadecimal: a+b is a%2Bb.
                return route.page, {name: unquote(value) for name, value in found.groupdict().items()}
        return None, {}

    def _answered(self, answer: Answer, page: Page, asked: Asked, visitor: Visitor, token: str) -> Reply:
        if answer.to:
            if not answer.to.startswith("/") or answer.to.startswith("//"):
                raise AssertionError("a page leads to a page of the console")
            if answer.note:
                self._gate.note(token, answer.note)
            return Reply(303, headers=(("Location", answer.to),))
        if answer.body is not None:
            name = re.sub(r"[^A-Za-z0-9._-]", "_", answer.filename) or "file"
            headers = (("Content-Disposition", f'attachment; filename="{name}"'),)
            return Reply(answer.status, answer.body, answer.kind, headers)
        here = asked.path + ("?" + urlencode(asked.query) if asked.query else "")
        values = {"title": page.title, **answer.values, "asked": asked, "page": page, "here": here}
        return Reply(answer.status, self._render(answer.template, values, visitor, token, notes=not asked.refresh))

    def _render(
        self, template: str, values: Mapping[str, Any], visitor: Visitor | None, token: str, *, notes: bool = True
    ) -> bytes:
        menu: dict[str, list[Page]] = {}
        for page in self._pages:
            if page.menu and visitor is not None and _may_open(page, visitor):
                menu.setdefault(page.menu, []).append(page)
        common = {
            "me": None if visitor is None else visitor.operator.name,
            "roles": [] if visitor is None else sorted(visitor.operator.roles),
            "accounts_seen": None if visitor is None else visitor.authority.accounts,
            "may": (lambda act: False) if visitor is None else visitor.operator.may,
            "menu": list(menu.items()),
            "form_token": self._gate.form_token(token) if token else "",
            "notes": self._gate.notes(token) if notes and visitor is not None else [],
            "now": self._now(),
        }
        return self._renderer.page(template, {**common, **values})

    def _message(self, status: int, sentence: str, visitor: Visitor | None = None, token: str = "") -> Reply:
        values = {"title": _TITLES.get(status, "It did not work"), "sentence": sentence, "status": status}
        return Reply(status, self._render("message", values, visitor, token, notes=False))

    # -- logging in and out ------------------------------------------------------------------------------------------------

    def _to_login(self, incoming: Incoming, refresh: bool, token: str) -> Reply:
        if refresh:
            # htmx loads the whole page anew, which leads to the login and says why.
            return Reply(401, headers=(("HX-Refresh", "true"),))
        gone = (set_cookie("session", "", incoming.secure),) if token else ()
        where = "?ended=1" if token else ""
        return Reply(303, headers=(("Location", LOGIN + where), *gone))

    def _login(self, incoming: Incoming, query: Mapping[str, str], form: Mapping[str, str]) -> Reply:
        second = incoming.path != LOGIN
        if incoming.method != "POST":
            if second:
                return Reply(303, headers=(("Location", LOGIN),))
            sentence = "Your login has ended. Please log in again." if "ended" in query else ""
            return self._login_form(incoming, "login", sentence)
        cookie = incoming.cookie("form")
        if not cookie or not self._gate.is_form_token(cookie, form.get(_TOKEN_FIELD, "")):
            return self._login_form(incoming, "login", _ENDED, 403)
        browser, agent = incoming.cookie("browser"), incoming.headers.get("user-agent", "")
        if second:
            waits = incoming.cookie("waits")
            entry = self._gate.second(waits, form.get("code", ""), browser, incoming.address, agent)
            if entry is None:
                return self._login_form(incoming, "login", "That took too long. Please log in again.", 403)
        else:
            claim = Claim(form.get("name", ""), form.get("passphrase", ""), form.get("code", ""))
            entry = self._gate.enter(claim, browser, incoming.address, agent)
        if entry.waits:
            reply = self._login_form(incoming, "second", "")
            return reply._replace(headers=(*reply.headers, set_cookie("waits", entry.waits, incoming.secure)))
        if not entry.token:
            reply = self._login_form(incoming, "second" if second else "login", _REFUSED, 403)
            return reply._replace(floor=REFUSAL_FLOOR)
        headers = (
            ("Location", HOME),
            set_cookie("session", entry.token, incoming.secure),
            set_cookie("browser", entry.browser, incoming.secure, REMEMBERED),
            set_cookie("form", "", incoming.secure),
            set_cookie("waits", "", incoming.secure),
        )
        return Reply(303, headers=headers)

    def _login_form(self, incoming: Incoming, template: str, sentence: str, status: int = 200) -> Reply:
        cookie = incoming.cookie("form") or self._draw(16).hex()
        values = {"title": "Log in", "sentence": sentence}
        body = self._render(template, values, None, cookie)
        return Reply(status, body, headers=(set_cookie("form", cookie, incoming.secure),))

    def _logout(self, incoming: Incoming, token: str, form: Mapping[str, str]) -> Reply:
        if incoming.method != "POST" or not self._gate.is_form_token(token, form.get(_TOKEN_FIELD, "")):
            return Reply(303, headers=(("Location", HOME),))
        self._gate.leave(token)
        return Reply(303, headers=(("Location", LOGIN), set_cookie("session", "", incoming.secure)))


_TITLES: Final = {
    400: "Not understood",
    403: "Not allowed",
    404: "Not found",
    405: "Not understood",
    409: "Not now",
    500: "It failed",
    503: "Not at the moment",
}


def _pattern(path: str) -> re.Pattern[str]:
    """`/log/{id}` matches one part for each pair of braces, without what a path can hide."""
    parts = re.split(r"\{(\w+)\}", path)
    fixed, names = parts[::2], parts[1::2]
    text = re.escape(fixed[0])
    for name, after in zip(names, fixed[1:], strict=True):
        text += f"(?P<{name}>(?:[!$&-.0-~]|%(?!2[Ff])[2-7][0-9A-Fa-f]){{1,128}})" + re.escape(after)
    return re.compile(text)


def _may_know(page: Page, visitor: Visitor) -> bool:
    """Whether a page is there for somebody: to an account owner, what is not his does not exist."""
    return page.owners or visitor.authority.accounts is None


def _may_open(page: Page, visitor: Visitor) -> bool:
    return _may_know(page, visitor) and page.opens(visitor.operator.may)
