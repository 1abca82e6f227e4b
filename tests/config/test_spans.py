"""Settings of tracing: defaults, what is refused, what a reload and `check` say."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from smppd.cli.commands.check import deeper
from smppd.config import ConfigError, Settings, Tracing, changes, load
from smppd.spans import job

URL = "https://collector.example:4318/v1/traces"
HEAD = 'listeners: [{address: "127.0.0.1:2775"}]\nstore: {path: var}\nkeys: {file: kek}\n'


def settings(path: Path, **tracing: Any) -> Settings:
    values = {
        "listeners": [{"address": "127.0.0.1:2775"}],
        "store": {"path": path / "store"},
        "keys": {"file": path / "kek"},
    }
    return Settings.model_validate(values | {"tracing": tracing})


def test_it_is_off_unless_asked_for() -> None:
    tracing = Tracing()
    assert (tracing.on, tracing.sample, tracing.accounts, tracing.ca, tracing.headers) == (
        False,
        0.001,
        (),
        "system",
        None,
    )


@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:4318/v1/traces", "http://[::1]:4318/x", "https://c.example"])
def test_urls(url: str) -> None:
    assert Tracing(otlp=url).on


@pytest.mark.parametrize(
    "wrong",
    [
        {"otlp": "http://collector.example:4318/v1/traces"},
        {"otlp": "https://me:secret@collector.example/"},
        {"otlp": "https://collector.example/?key=secret"},
        {"otlp": "https://collector.example/#x"},
        {"otlp": "https://collector.example:port/"},
        {"otlp": "https://"},
        {"otlp": "https://[::1"},
        {"otlp": "grpc://collector.example"},
        {"otlp": "collector.example:4318"},
        {"otlp": "https://collector.example/a b"},
        {"otlp": ""},
        {"otlp": URL, "sample": 0},
        {"otlp": URL, "sample": 1.1},
        {"otlp": URL, "sample": "1%"},
        {"otlp": URL, "sample": True},
        {"otlp": URL, "headers": "Authorization: secret"},
        {"otlp": URL, "text": True},
    ],
)
def test_what_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Tracing.model_validate(wrong)
    assert "secret@" not in str(caught.value) and "key=" not in str(caught.value)


def test_accounts_are_known_and_an_empty_section_is_none(tmp_path: Path) -> None:
    file = tmp_path / "smppd.yaml"
    file.write_text(HEAD + "tracing: {accounts: [acme]}\n")
    with pytest.raises(ConfigError, match="no account is named acme"):
        load(file)
    file.write_text(HEAD + "tracing:\n")
    assert not load(file).tracing.on


def test_a_reload_says_what_changes(tmp_path: Path) -> None:
    found = changes(settings(tmp_path), settings(tmp_path, otlp=URL, sample=0.5))
    assert found.refusals == []
    assert found.changes == [f"tracing: otlp none -> {URL}", "tracing: sample 0.001 -> 0.5"]


def test_check_says_that_the_extra_is_missing_and_looks_at_the_ca(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "find_spec", lambda _name: None)
    faults = dict(deeper(settings(tmp_path, otlp=URL, ca=tmp_path / "none.pem"), dt.datetime.now(dt.UTC)))
    assert "pip install 'smppd[otel]'" in faults["tracing.otlp"]
    assert "no certificate that can be read" in faults["tracing.ca"]
