"""Log lines about states that began or ended: an upstream is paused and takes messages again, the disk is full and has space
again. The sweep writes them, so a state that lasts for less than a second has no line."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from smppd.relay.state.model import UpstreamState

log = logging.getLogger("smppd.relay")


class LogChanges:
    """See the module."""

    def __init__(self) -> None:
        self._was_full = False
        self._failures: dict[str, int] = {}
        """Of each upstream, as of the last line about it: each pause adds a failure, and the end of them makes it 0."""

    def write(self, upstreams: Mapping[str, UpstreamState], full: bool, now: float) -> None:
        """Writes what has changed since the last call. ``full``: the store takes no messages. ``now``: monotonic seconds."""
        if full != self._was_full:
            self._was_full = full
            if full:
                log.error("no space, refusing messages")
            else:
                log.warning("space again, accepting messages")
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
