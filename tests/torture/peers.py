"""The event loop of the peers, in a thread of its own, so that a campaign reads as a plain sequence of steps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from tests.torture.customer import Customer
from tests.torture.smsc import Smsc, Step, Submit

T = TypeVar("T")


class Peers:
    """One SMSC, or some with one book, and some customers. ``smscs``: how many; ``smsc`` is the first."""

    def __init__(self, script: Callable[[Submit, int], Step] | None = None, smscs: int = 1) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="peers", daemon=True)
        self._thread.start()
        self.smsc = Smsc(script)
        self.others = [self.smsc.another(number) for number in range(1, smscs)]
        self.customers: list[Customer] = []
        self.at_end: list[Callable[[], object]] = []
        """What else has to be stopped at the end, however it comes; last one first."""
        for each in (self.smsc, *self.others):
            self.wait(each.start())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for function in reversed(self.at_end):
            function()
        for each in self.customers:
            self.wait(each.stop())
        for one in (self.smsc, *self.others):
            self.wait(one.stop())
        self.wait(asyncio.sleep(0.02))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def wait(self, task: Coroutine[Any, Any, T], seconds: float = 30.0) -> T:
        """Runs a coroutine in the loop."""
        return asyncio.run_coroutine_threadsafe(task, self.loop).result(seconds)

    def call(self, function: Callable[[], T], seconds: float = 30.0) -> T:
        """Runs a function in the loop."""

        async def run() -> T:
            return function()

        return self.wait(run(), seconds)

    def add(self, customer: Customer) -> Customer:
        """Lets a customer bind."""
        self.customers.append(customer)
        self.call(customer.start)
        return customer
