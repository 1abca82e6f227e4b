"""The running daemon, as the pages see it: what it shows, kept for two seconds for all who may see the same, and its acts.

Many browsers that look at one page cost the daemon one question in two seconds. What was shown to one is given to another only
where both have the same roles and the same accounts, for that is all the daemon's answer depends on.

A daemon that hangs answers nobody, and each question waits for it in a thread that makes pages. So as long as the last one
was not answered one question at a time waits, and the others are told at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from smppd.console.page import Refusal
from smppd.control.wire import ControlError
from smppd.operators.roles import Authority

KEPT: Final = 2.0
"""Seconds for which an answer is given again."""
_ANSWERS: Final = 256
"""Answers that are kept at one time."""

Ask = Callable[[Mapping[str, object]], dict[str, Any]]
"""A request on the control socket, and its answer. ControlError."""

_STATUS: Final = {"role": 403, "unknown": 404, "state": 409, "request": 400}


class _Kept(NamedTuple):
    answer: dict[str, Any]
    until: float


class _Away(NamedTuple):
    """The daemon did not answer. until: it is not asked again before."""

    sentence: str
    until: float


class Daemon:
    """The daemon. For any thread."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        """clock: seconds that only go forward."""
        self._ask = ask
        self._clock = clock
        self._kept: dict[tuple[object, ...], _Kept] = {}
        self._asking: dict[tuple[object, ...], threading.Lock] = {}
        self._lock = threading.Lock()
        self._away: _Away | None = None

    def on_behalf(self, authority: Authority) -> Asking:
        """The daemon, for one person."""
        return Asking(self, authority)

    def shown(self, authority: Authority, what: str, fields: Mapping[str, str | int]) -> Any:
        """See `Asking.show`."""
        request = {"v": 1, "do": f"show {what}", "operator": authority.operator, **fields}
        key = (what, json.dumps(fields, sort_keys=True), authority.roles, authority.accounts)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and self._clock() < kept.until:
                return _named(kept.answer, what)
            if len(self._asking) >= _ANSWERS:
                self._asking.clear()
            one = self._asking.setdefault(key, threading.Lock())
        with one:  # who asks the same meanwhile waits for this answer
            with self._lock:
                kept = self._kept.get(key)
            if kept is None or self._clock() >= kept.until:
                kept = self._keep(key, self._looked(request))
        return _named(kept.answer, what)

    def done(self, authority: Authority, act: str, target: str, reason: str, fields: Mapping[str, str | int]) -> str:
        """See `Asking.act`."""
        request = {"v": 1, "do": "act", "act": act, "target": target, "reason": reason, "operator": authority.operator}
        said = self._answer({**request, **fields}).get("said")
        with self._lock:
            self._kept.clear()  # the next page shows what it did
        return said if isinstance(said, str) else "Done."

    def _keep(self, key: tuple[object, ...], answer: dict[str, Any]) -> _Kept:
        now = self._clock()
        with self._lock:
            # One that nobody is given any more is let go at once: with a thousand accounts it may be megabytes.
            self._kept = {old: one for old, one in self._kept.items() if now < one.until}
            if len(self._kept) >= _ANSWERS:
                self._kept.clear()
            kept = self._kept[key] = _Kept(answer, now + KEPT)
        return kept

    def _looked(self, request: Mapping[str, object]) -> dict[str, Any]:
        with self._lock:
            away = self._away
            if away is not None:
                if self._clock() < away.until:
                    raise Refusal(503, away.sentence)
                self._away = _Away(away.sentence, float("inf"))  # this thread tries, and says how it went
        try:
            return self._answer(request)
        finally:
            with self._lock:
                if self._away is not None and self._away.until == float("inf"):
                    self._away = None

    def _answer(self, request: Mapping[str, object]) -> dict[str, Any]:
        try:
            answer = self._ask(request)
            self._away = None
            return answer
        except ControlError as error:
            self._away = None if error.code else _Away(_sentence(str(error)), self._clock() + KEPT)
            raise Refusal(_STATUS.get(str(getattr(error, "code", "")), 503), _sentence(str(error))) from None


class Asking:
    """The daemon, asked on behalf of one person (`page.Asking`)."""

    def __init__(self, daemon: Daemon, authority: Authority) -> None:
        self._daemon = daemon
        self._authority = authority

    def show(self, what: str, **fields: str | int) -> Any:
        """See `page.Asking`."""
        return self._daemon.shown(self._authority, what, fields)

    def act(self, act: str, target: str, reason: str, **fields: str | int) -> str:
        """See `page.Asking`."""
        return self._daemon.done(self._authority, act, target, reason, fields)


def _named(answer: Mapping[str, Any], what: str) -> Any:
    """What was asked for: under its name, or, where it is no list, the answer itself."""
    return answer.get(what, answer)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
