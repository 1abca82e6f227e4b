"""Settings of the event feed: defaults, what is refused, what a reload and `check` say."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from smppd.cli.commands.check import deeper
from smppd.config import ConfigError, Feed, FeedFile, Settings, changes, load
from smppd.config.feed import FeedEvent
from smppd.feed.lines import EVENTS


def settings(path: Path, feed: dict[str, Any] | None) -> Settings:
    values: dict[str, Any] = {
        "listeners": [{"address": "127.0.0.1:2775"}],
        "store": {"path": path / "store"},
        "keys": {"file": path / "kek"},
    }
    return Settings.model_validate(values | ({} if feed is None else {"feed": feed}))


def test_nothing_is_told_unless_asked_for(tmp_path: Path) -> None:
    feed = settings(tmp_path, None).feed
    assert (feed.on, feed.numbers, feed.accounts, feed.events, feed.alarm_after) == (False, "none", (), (), 300.0)
    file = FeedFile(path=Path("f"))
    assert (file.rotate, file.rotate_every, file.keep) == (64 << 20, None, 10)


def test_all_events_can_be_asked_for() -> None:
    assert sorted(get_args(FeedEvent)) == list(EVENTS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"file": {"path": "f", "rotate": "1KiB"}},
        {"file": {"path": "f", "keep": 0}},
        {"socket": {"path": "s", "consumers": 0}},
        {"socket": {"path": "s" * 108}},
        {"file": {"path": "f"}, "socket": {"path": "f"}},
        {"numbers": "whole"},
        {"events": ["delivered"]},
        {"text": True},
    ],
)
def test_what_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Feed.model_validate(wrong)


def test_accounts_are_known(tmp_path: Path) -> None:
    file = tmp_path / "smppd.yaml"
    file.write_text(
        'listeners: [{address: "127.0.0.1:2775"}]\nstore: {path: var}\nkeys: {file: kek}\nfeed: {accounts: [acme]}\n'
    )
    with pytest.raises(ConfigError, match="no account is named acme"):
        load(file)


def test_a_reload_says_what_changes(tmp_path: Path) -> None:
    one, other = settings(tmp_path, None), settings(tmp_path, {"file": {"path": "f"}, "numbers": "masked"})
    found = changes(one, other)
    assert found.refusals == []
    assert found.changes == ["feed: file none -> set", "feed: numbers changed"]


def test_check_looks_at_directories_and_groups(tmp_path: Path) -> None:
    feed = {"file": {"path": tmp_path / "no" / "f"}, "socket": {"path": tmp_path / "s", "group": "no such group"}}
    faults = dict(deeper(settings(tmp_path, feed), dt.datetime.now(dt.UTC)))
    assert faults["feed.file.path"] == f"{tmp_path / 'no'} is not a directory"
    assert faults["feed.socket.group"] == "there is no group no such group here"
