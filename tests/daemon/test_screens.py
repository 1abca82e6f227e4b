"""Which screens each account has, by its configuration."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.consent.suppression import Hashes, Register
from smppd.daemon.screens import Screens
from tests.relay.fakes import settings

AD = {"p": [{"name": "ad", "when": {"text": "sale"}, "do": {"class": "promotional"}}]}


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        ({}, []),  # nothing of it can be promotional: it is not asked, at no cost
        ({"acme": {"class": "promotional"}}, ["hours"]),
        ({"policies": AD}, ["hours"]),
        ({"acme": {"class": "promotional", "quiet_hours": "off"}}, []),
        ({"acme": {"class": "promotional", "quiet_hours": "shadow"}}, ["hours"]),
    ],
)
def test_hours(sections: dict[str, Any], names: list[str]) -> None:
    made = Screens(Register(Hashes(bytes(32)))).of(settings(**sections), {})
    assert [one.name for one in made["acme"]] == ["opt-out", *names]
