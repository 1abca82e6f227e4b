"""What commands tell the running daemon of consents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smppd.consent.register import Register
from smppd.consent.register_proof import ANY, ConsentKeys
from smppd.control.wire import ControlError
from smppd.daemon.consents import consent_requests, load
from smppd.office import consents as module
from smppd.office.consents import tell
from smppd.store.consents import Standing
from smppd.store.opening import embedded

KEYS = ConsentKeys(b"k" * 32)
SCOPE = KEYS.scope("promotional", ANY.encode())


def standing(number: int) -> Standing:
    return Standing("acme", KEYS.subject("acme", b"44770090%04d" % number), SCOPE)


def has(register: Register, number: int) -> bool:
    return register.stands("acme", b"44770090%04d" % number, "promotional", lambda: b"x")


def test_what_is_told_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register = Register(KEYS)
    handler = consent_requests(register)["consents changed"]
    asked: list[int] = []

    def ask(_directory: Path, request: dict[str, Any]) -> Any:
        assert request["do"] == "consents changed"
        asked.append(len(request["add"]) + len(request["remove"]))
        return handler(request, 0)

    monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr("smppd.store.sqlite.installation.in_use", lambda _directory: True)
    assert tell(embedded(tmp_path), [standing(number) for number in range(1200)])
    assert asked == [500, 500, 200] and len(register) == 1200 and has(register, 7)
    assert tell(embedded(tmp_path), [standing(3)], [standing(3), standing(4)])
    assert has(register, 3), "another consent says the same"
    assert not has(register, 4)


def test_without_a_daemon_nobody_is_told(tmp_path: Path) -> None:
    assert not tell(embedded(tmp_path), [standing(1)])


@pytest.mark.parametrize(
    "said",
    [
        {"add": "x"},
        {"add": [1]},
        {"add": [["acme", "zz", ""]]},
        {"add": [["acme", "00", ""]]},
        {"remove": [["acme", "00" * 16, "00"]]},
        {"add": [["acme", "00" * 16]]},
        {"add": [["acme", "00" * 16, ""]] * 501},
    ],
)
def test_what_is_no_request_changes_nothing(said: dict[str, Any]) -> None:
    register = Register(KEYS)
    with pytest.raises(ControlError):
        consent_requests(register)["consents changed"](said, 0)
    assert len(register) == 0


def test_all_pages_are_read() -> None:
    class Pages:
        def standing(self, after: int, limit: int) -> list[tuple[int, Standing]]:
            return [(number, standing(number)) for number in range(after + 1, min(after + 4, 11))]

    assert [one.subject for one in load(Pages())] == [standing(number).subject for number in range(1, 11)]  # type: ignore[arg-type]
