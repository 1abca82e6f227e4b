"""What is said to a person when something cannot be done for him."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
WRONG: Final = 2
"""Asked wrongly, or there is no store."""
ANOTHER_PERSON: Final = 3
"""It was asked for, and another person has to agree."""


class OfficeError(Exception):
    """It was not done; the text is the sentence to say, without anything secret. `status`: FAILED, WRONG or ANOTHER_PERSON,
    which is the exit status of a command too. `request`: the number of the request that waits for a person, 0 for none."""

    def __init__(self, message: str, status: int = FAILED, request: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.request = request
