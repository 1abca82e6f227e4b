"""The short form of `make fuzz`: the corpus again, and some thousand inputs made from it by chance, the same each time."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.__main__ import NAMES
from tests.fuzz.targets import CORPUS, TARGETS

_INPUTS = 1_500


def seeds(name: str) -> list[bytes]:
    """The corpus of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def mutated(chance: random.Random, known: list[bytes]) -> bytes:
    """One input: octets changed, left out, doubled, put in, or two inputs joined."""
    data = bytearray(chance.choice(known))
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 5):
            case 0 if data:
                data[at % len(data)] = chance.randint(0, 255)
            case 1:
                del data[at : at + chance.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + chance.randint(1, 30)] * chance.randint(1, 4)
            case 3:
                data[at:at] = chance.choice((b"\0", b"\xff", b"id:", b"stat:", b"\x04\x24", b"1" * 200, b"\n\t", b": "))
            case 4:
                other = chance.choice(known)
                data[at:] = other[chance.randint(0, len(other)) :]
            case _ if data:
                data[at % len(data)] ^= 1 << chance.randint(0, 7)
    return bytes(data[:4096])


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_what_is_made_from_it(name: str) -> None:
    known = seeds(name)
    assert len(known) >= 3
    chance = random.Random(f"{name} 1")
    for data in (*known, b"", *(mutated(chance, known) for _ in range(_INPUTS))):
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"{name} with {data.hex()}") from error


def test_the_campaign_knows_every_target() -> None:
    assert set(NAMES) == TARGETS.keys()


def test_a_finding_is_found() -> None:
    with pytest.raises(AssertionError, match="broken with 0"):
        _run(lambda data: 1 // (len(data) - 3), b"\0\1\2")


def _run(target: object, data: bytes) -> None:
    assert callable(target)
    try:
        target(data)
    except Exception as error:
        raise AssertionError(f"broken with {data.hex()}") from error
