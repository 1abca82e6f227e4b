"""Nobody lives in the spool: for tests that write batches by hand."""

from __future__ import annotations

from smppd.store.api import Renewed


class Nobody:
    """``store.api.Tenant`` of nothing."""

    def places(self) -> list[int]:
        return []

    def alive_in(self, place: int) -> int:
        return 0

    def opened(self) -> int:
        return 0

    def begin(self, place: int) -> None:
        pass

    def leave(self, place: int) -> None:
        pass

    def renew(self, place: int, most: int, octets: int, *, rows: bool) -> Renewed:
        return Renewed(0, 0, True)
