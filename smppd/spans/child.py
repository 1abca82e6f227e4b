"""The process that sends spans: `python -m smppd.spans.child`, started by the daemon, of which nothing of this takes time.

It works until its parent ends (see `child`); then it sends what it has, for a moment, and ends. Nothing that it reports holds
anything of a message.
"""

from __future__ import annotations

import select
import sys
import threading
import time
from typing import Any, Final

from smppd import child
from smppd.spans.follower import Follower
from smppd.spans.job import Job
from smppd.spans.lives import Lives, Sampler
from smppd.spans.outbox import Outbox
from smppd.store.api import StoreError
from smppd.store.opening import installed

LOOK: Final = 0.2
"""Seconds between two looks for new rows, where there were none."""
SAY: Final = 1.0
"""Seconds between two reports to the daemon, and between two looks for messages of which no more is waited for."""
LAST: Final = 2.0
"""Seconds for what is to be sent when the daemon ends."""


class Tracer:
    """Moves the lives on. Without a loop of its own: `step` is called again at once where it says so."""

    def __init__(self, follower: Follower, lives: Lives, outbox: Outbox) -> None:
        self._follower = follower
        self._lives = lives
        self._outbox = outbox
        self._again_ms = 0
        self._unread = ""

    def step(self, now_ms: int) -> bool:
        """Whether there may be more rows. now_ms: epoch milliseconds."""
        try:
            spans, more = self._follower.step()
        except StoreError as error:
            self._unread = str(error)
            return False
        self._unread = ""
        # Where rows wait to be read, what is waited for may stand in them.
        if not more and not 0 <= self._again_ms - now_ms <= SAY * 1000:
            self._again_ms = now_ms + int(SAY * 1000)
            spans += self._lives.overdue(now_ms)
        if spans:
            self._outbox.put(spans)
        return more

    def end(self) -> None:
        """Gives out what is followed."""
        self._outbox.put(self._lives.end())
        self._outbox.end()

    def report(self) -> dict[str, Any]:
        """What was done, for the daemon."""
        outbox = self._outbox
        return {
            "sent": outbox.sent,
            "failures": outbox.failures,
            "open": self._lives.open,
            "dropped": {
                "open": self._lives.given_up,
                "queue": outbox.overflowed,
                "collector": outbox.refused,
            },
            "reason": self._unread or outbox.reason,
        }


def main() -> int:
    """Does the job on standard input; see `child.run`."""
    return child.run(lambda line: _trace(Job.read(line)), StoreError)


def _trace(job: Job) -> None:
    records = installed(job.store, job.node, settle=False).records(job.node)
    try:
        sampler = Sampler(job.sample)
        lives = Lives(sampler, job.accounts)
        follower = Follower(records, sampler, lives)  # what is committed from here on is traced
        from smppd.spans.collector import Collector  # what it needs is an extra, and slow to import

        outbox = Outbox(Collector(job).send)
        sender = threading.Thread(target=outbox.run, name="sender", daemon=True)
        sender.start()
        tracer = Tracer(follower, lives, outbox)
        child.say(tracer.report())
        said = time.monotonic()
        busy = False
        while not select.select([0], [], [], 0 if busy else LOOK)[0]:
            busy = tracer.step(int(time.time() * 1000))
            if time.monotonic() - said >= SAY:
                said = time.monotonic()
                child.say(tracer.report())
        until = time.monotonic() + LAST
        while tracer.step(int(time.time() * 1000)) and time.monotonic() < until:
            pass
        tracer.end()
        sender.join(max(0.0, until - time.monotonic()))
        child.say(tracer.report())
    finally:
        records.close()


if __name__ == "__main__":
    sys.exit(main())
