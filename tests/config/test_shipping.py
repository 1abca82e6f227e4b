"""Settings of the shipping: where TLS is needed, what a reload changes, what `check` says."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from smppd.cli.commands.check import advice, deeper
from smppd.config import Settings, ShippedFile, Shipping, SyslogServer, changes


def settings(path: Path, shipping: dict[str, Any] | None) -> Settings:
    values: dict[str, Any] = {
        "listeners": [{"address": "127.0.0.1:2775"}],
        "store": {"path": path / "store"},
        "keys": {"file": path / "kek"},
    }
    return Settings.model_validate(values | ({} if shipping is None else {"shipping": shipping}))


def test_nothing_is_shipped_unless_asked_for(tmp_path: Path) -> None:
    shipping = settings(tmp_path, None).shipping
    assert (shipping.file, shipping.syslog, shipping.alarm_after) == (None, None, 300.0)


def test_the_defaults() -> None:
    file = ShippedFile(path=Path("/var/log/smppd/shipped.jsonl"))
    assert (file.rotate, file.keep) == (64 << 20, 10)
    syslog = SyslogServer(address="127.0.0.1:6514")
    assert (syslog.facility, syslog.app_name, syslog.host, syslog.port) == ("authpriv", "smppd", "127.0.0.1", 6514)


def test_elsewhere_without_tls_must_be_allowed() -> None:
    with pytest.raises(ValidationError, match=r"logs\.example\.net is not loopback: give it tls"):
        SyslogServer(address="logs.example.net:6514")
    SyslogServer(address="logs.example.net:6514", plaintext="allowed")
    SyslogServer.model_validate({"address": "logs.example.net:6514", "tls": {"ca": "system"}})
    SyslogServer(address="[::1]:514")


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "127.0.0.1:6514", "facility": "everything"},
        {"address": "127.0.0.1:6514", "app_name": "two words"},
        {"address": "127.0.0.1:6514", "app_name": ""},
        {"address": "127.0.0.1"},
        {"address": "127.0.0.1:6514", "tls": {"certificate": "c.pem"}},
        {},
    ],
)
def test_servers_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SyslogServer.model_validate(wrong)


@pytest.mark.parametrize("wrong", [{"rotate": "1KiB"}, {"keep": 0}, {"path": ""}])
def test_files_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ShippedFile.model_validate({"path": "f", **wrong})
    assert ShippedFile(path=Path("f"), rotate=0).rotate == 0


def test_a_reload_says_what_changes(tmp_path: Path) -> None:
    one = settings(tmp_path, None)
    other = settings(tmp_path, {"file": {"path": "f"}, "alarm_after": "1m"})
    found = changes(one, other)
    assert found.refusals == []
    assert found.changes == ["shipping: file none -> set", "shipping: alarm_after 5m -> 1m"]
    third = settings(tmp_path, {"file": {"path": "f", "keep": 3}, "alarm_after": "1m"})
    assert changes(other, third).changes == ["shipping: file.keep 10 -> 3"]


def test_check_looks_at_files_and_warns(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    wrong = settings(tmp_path, {"file": {"path": tmp_path / "no" / "file"}})
    assert ("shipping.file.path", f"{tmp_path / 'no'} is not a directory") in list(deeper(wrong, now))
    (tmp_path / "ca.pem").write_text("nothing")
    tls = {"address": "logs.example.net:6514", "tls": {"ca": tmp_path / "ca.pem"}}
    faults = dict(deeper(settings(tmp_path, {"syslog": tls}), now))
    assert "has no certificate" in faults["shipping.syslog.tls.ca"]
    plain = {"address": "logs.example.net:6514", "plaintext": "allowed"}
    said = list(advice(settings(tmp_path, {"syslog": plain, "file": {"path": tmp_path / "store" / "f"}})))
    assert any("the audit trail crosses the network readable" in one for one in said)
    assert any("lies in the store's directory" in one for one in said)


def test_an_empty_section_is_none() -> None:
    assert Shipping.model_validate({}) == Shipping()
