"""Log lines about states that began or ended: an upstream is paused and takes messages again, the store takes no
messages and takes them again. The sweep writes them, so a state that lasts for less than a second has no line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from smppd.relay.state.model import UpstreamState
from smppd.store.api import Availability

log = logging.getLogger("smppd.relay")
_STORE_SAYS: Final = {
    Availability.FULL: "no space, refusing messages",
    Availability.AWAY: "the store cannot be reached, refusing messages",
}
_STORE_BACK: Final = {
    Availability.FULL: "space again, accepting messages",
    Availability.AWAY: "the store is reached again, accepting messages",
}


class LogChanges:
    """See the module."""

    def __init__(self) -> None:
        self._store = Availability.OK
        self._failures: dict[str, int] = {}
        """Of each upstream, as of the last line about it: each pause adds a failure, and the end of them makes it 0."""

    def write(self, upstreams: Mapping[str, UpstreamState], store: Availability, now: float) -> None:
        """Writes what has changed since the last call. ``now``: monotonic seconds."""
        if store is not self._store:
            if store is Availability.OK:
                log.warning(_STORE_BACK[self._store])
            else:
                log.error(_STORE_SAYS[store])
            self._store = store
        for upstream in upstreams.values():
            before = self._failures.get(upstream.name, 0)
            if upstream.failures == before:
                continue
            self._failures[upstream.name] = upstream.failures
            if upstream.failures > before:
                seconds = round(max(0.0, upstream.paused_until - now), 1)
                log.warning("upstream paused", extra={"fields": {"upstream": upstream.name, "again_in": seconds}})
            elif not upstream.failures:
                log.info("upstream takes messages again", extra={"fields": {"upstream": upstream.name}})
