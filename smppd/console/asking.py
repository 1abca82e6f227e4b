"""The running daemon, as the pages see it: what it shows, kept for two seconds for all who may see the same, and its acts.

Many browsers that look at one page cost the daemon one question in two seconds. What was shown to one is given to another only
where both have the same roles and the same accounts, for that is all the daemon's answer depends on.
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


class Daemon:
    """The daemon. For any thread."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        """clock: seconds that only go forward."""
        self._ask = ask
        self._clock = clock
        self._kept: dict[tuple[object, ...], _Kept] = {}
        self._asking: dict[tuple[object, ...], threading.Lock] = {}
        self._lock = threading.Lock()

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
                kept = self._keep(key, self._answer(request))
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
            if len(self._kept) >= _ANSWERS:
                self._kept = {old: one for old, one in self._kept.items() if now < one.until}
            if len(self._kept) >= _ANSWERS:
                self._kept.clear()
            kept = self._kept[key] = _Kept(answer, now + KEPT)
        return kept

    def _answer(self, request: Mapping[str, object]) -> dict[str, Any]:
        try:
            return self._ask(request)
        except ControlError as error:
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
