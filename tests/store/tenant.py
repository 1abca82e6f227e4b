"""Who lives in the spool where there is no relay: nobody, or numbers."""

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


class Lodger:
    """A tenant of numbers."""

    def __init__(self) -> None:
        self.live: dict[int, list[int]] = {}
        self.place = 0
        self.new = 0
        self.rows: list[int] = []
        self.young: set[int] = set()

    def adds(self, *numbers: int) -> None:
        self.live[self.place] += numbers
        self.new += len(numbers)

    def ends(self, *numbers: int) -> None:
        for some in self.live.values():
            some[:] = [one for one in some if one not in numbers]

    def places(self) -> list[int]:
        return list(self.live)

    def alive_in(self, place: int) -> int:
        return len(self.live.get(place, ()))

    def opened(self) -> int:
        return self.new

    def begin(self, place: int) -> None:
        self.live[place] = []
        self.place, self.new = place, 0

    def leave(self, place: int) -> None:
        assert not self.live.pop(place)

    def renew(self, place: int, most: int, octets: int, *, rows: bool) -> Renewed:
        some = [one for one in self.live[place][: min(most, octets)] if one not in self.young]
        self.live[place] = [one for one in self.live[place] if one not in some]
        (self.rows.extend if rows else self.live[self.place].extend)(some)
        return Renewed(len(some), len(some), not self.live[place])
