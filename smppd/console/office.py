"""What the console needs of an installation to know people: their documents, and the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from smppd.audit.trail import Actor
from smppd.operators.desk import Desk
from smppd.operators.people import Operator, People


class OfficeError(Exception):
    """The store, its keys or the audit trail cannot be used. The text is a sentence without anything secret."""


class Office(Protocol):
    """The desk, the people and the trail of a store, open for one thread."""

    @property
    def desk(self) -> Desk:
        """The sealed documents."""

    @property
    def people(self) -> People:
        """The operators."""

    def vouched(self, operator: Operator) -> bool:
        """Whether an operator is as the audit trail says that he was left."""

    def record(self, event: str, who: str, what: Mapping[str, str | int], result: str, actor: Actor) -> None:
        """Puts an entry on the trail. OfficeError when it cannot be written: then nothing may be done."""


Offices = Callable[[], AbstractContextManager[Office]]
"""Opens the office, in the thread that uses it. OfficeError, from the body of the `with` too."""
