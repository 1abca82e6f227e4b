"""What a page is: where it is found, who may ask for it, and the function that answers.

A handler runs in a worker thread, so it may wait for the daemon and the store; a few run at one time, the others wait and are
told `busy` when there are too many. It gets an `Asked` and gives an `Answer`; what it cannot do it says by raising Refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from smppd.config import Settings
from smppd.console.office import Office
from smppd.operators.roles import Act, Authority

FIELD_MAX: Final = 2000
"""Characters of one field of a form; the longer ones are refused before a handler sees them."""


class Refusal(Exception):
    """A request that is answered by a page with one sentence. status: of HTTP."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Asking(Protocol):
    """The running daemon, on behalf of who asked. The same question within two seconds is answered from memory."""

    def show(self, what: str, **fields: str | int) -> Any:
        """What `show WHAT` is answered under its name: a list of objects, or an object. Refusal where the daemon refuses or
        does not answer."""

    def act(self, act: str, target: str, reason: str, **fields: str | int) -> str:
        """Does an act; what the daemon says then. Refusal where it does not do it."""


class Asked(NamedTuple):
    """A request that passed the door: somebody is logged in and has a role for the page, and a form had its token.

    authority: who it is, and for which act (the page's). method: GET or POST. args: what stood in the braces of the page's
    path. query, form: the first value of each field. now: epoch seconds. refresh: it was asked by the page itself and not by a
    person.
    """

    authority: Authority
    method: str
    path: str
    args: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    now: float
    refresh: bool
    daemon: Asking
    settings: Settings
    office: Callable[[], AbstractContextManager[Office]]
    session: str
    """Names the login, for the handlers that work on logins; it opens nothing."""

    def __repr__(self) -> str:
        return f"<Asked {self.method} ***>"

    def sees(self, account: str) -> bool:
        """Whether an account may be shown to who asks."""
        return self.authority.sees(account)


class Answer(NamedTuple):
    """An answer: a template with its values; or, with `to`, the way to another page (303); or, with `body`, a file.

    note: a sentence that the next page shows once. kind, filename: of `body`.
    """

    template: str = ""
    values: Mapping[str, Any] = {}
    status: int = 200
    to: str = ""
    note: str = ""
    body: bytes | None = None
    kind: str = "application/octet-stream"
    filename: str = ""

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.template} ***>"


def show(template: str, /, status: int = 200, **values: Any) -> Answer:
    """A page of a template, `templates/NAME.html`."""
    return Answer(template, values, status)


def go(to: str, note: str = "") -> Answer:
    """After something was done: on to another page, which says `note` once. to: a path of the console."""
    return Answer(to=to, note=note, status=303)


def download(body: bytes, kind: str, filename: str) -> Answer:
    """A file for the browser to keep."""
    return Answer(body=body, kind=kind, filename=filename)


Handler = Callable[[Asked], Answer]


class Page(NamedTuple):
    """path: fixed words and names in braces, each for one part: `/log/{id}`. title: in the heading and the navigation.
    act: what one of the roles has to allow; None for whoever is logged in. menu: its group in the navigation, empty where it
    has no line there. owners: whether account owners may ask too; then the handler shows nothing of other accounts. posts:
    whether it takes forms. live: whether the browser asks for its block `live` again every few seconds. also: acts of which
    any opens it as well.
    """

    path: str
    title: str
    act: Act | None
    handler: Handler
    menu: str = ""
    owners: bool = False
    posts: bool = False
    live: bool = False
    also: frozenset[Act] = frozenset()

    def opens(self, may: Callable[[Act], bool]) -> bool:
        """Whether somebody who may do what `may` says may ask for it."""
        return self.act is None or any(may(act) for act in (self.act, *self.also))
