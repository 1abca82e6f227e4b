"""The lock on a node's directory: one daemon, and commands that look."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.store.api import StoreError
from smppd.store.lock import Lock, in_use


def test_a_look_at_the_lock_keeps_no_daemon_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_use(tmp_path)
    daemon = Lock(tmp_path)
    assert in_use(tmp_path)
    with pytest.raises(StoreError, match="another smppd is using this store"):
        Lock(tmp_path)
    daemon.release()
    assert not in_use(tmp_path)
    looking = Lock(tmp_path)  # a command that looks, just now
    monkeypatch.setattr("smppd.store.lock.time.sleep", lambda _seconds: looking.release())
    Lock(tmp_path).release()
