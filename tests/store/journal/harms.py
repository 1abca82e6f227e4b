"""What can happen to journal files, for hypothesis: they are cut, altered, mixed up, removed."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from smppd.store.journal.blocks import SECTOR
from smppd.store.journal.reader import Placed, in_file

Files = dict[int, bytes]
"""Number -> content."""
Harm = Callable[[Files], None]


def _exchanged(number: int, data: bytes, which: int, place: int) -> bytes:
    """A file with two of its blocks in each other's place."""
    found = [one for one in in_file(number, data) if isinstance(one, Placed)]
    if len(found) < 2:
        return data
    one, other = sorted((found[which % len(found)], found[place % len(found)]), key=lambda each: each.at)
    first, second = (data[each.at : each.at + each.octets] for each in (one, other))
    between = data[one.at + one.octets : other.at]
    return data[: one.at] + second + between + first + data[other.at + other.octets :] if one is not other else data


@st.composite
def harms(draw: st.DrawFn) -> Harm:
    """Something that happens to some files. Numbers beyond what there is count from the start again."""
    which, place, octets = (
        draw(st.integers(0, 9)),
        draw(st.integers(0, 1 << 16)),
        draw(st.binary(min_size=1, max_size=700)),
    )
    kind = draw(
        st.sampled_from(("cut", "flip", "zeros", "over", "into", "out", "swap", "gone", "copy", "strange", "exchange"))
    )

    def harm(files: Files) -> None:
        numbers = sorted(files)
        if not numbers:
            return
        number = numbers[which % len(numbers)]
        other = numbers[place % len(numbers)]
        data = files[number]
        at = place % max(1, len(data))
        sector = at // SECTOR * SECTOR
        if kind == "cut":
            files[number] = data[:at]
        elif kind == "flip" and data:
            files[number] = data[:at] + bytes((data[at] ^ (1 << which % 8),)) + data[at + 1 :]
        elif kind == "zeros":
            files[number] = data[:sector] + bytes(len(data[sector : sector + SECTOR])) + data[sector + SECTOR :]
        elif kind == "over":
            files[number] = data[:at] + octets + data[at + len(octets) :]
        elif kind == "into":
            files[number] = data[:at] + octets + data[at:]
        elif kind == "out":
            files[number] = data[:sector] + data[sector + SECTOR :]
        elif kind == "swap":
            files[number], files[other] = files[other], data
        elif kind == "gone":
            del files[number]
        elif kind == "exchange":
            files[number] = _exchanged(number, data, which, place)
        elif kind == "copy":
            files[max(numbers) + 1] = data
        else:
            files[max(numbers) + 1] = octets

    return harm
