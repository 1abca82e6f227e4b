"""A file that is there whole or not at all, with and without files that have no name."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from smppd.cli.commands import CommandError
from smppd.cli.whole_file import WholeFile


@pytest.fixture(params=["without a name", "with one"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "with one":
        monkeypatch.delattr(os, "O_TMPFILE")
    return str(request.param)


def test_it_is_there_when_it_is_whole(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with WholeFile(path) as file:
        file.text.write("é\n")
        assert not path.exists()
        file.commit()
    assert path.read_bytes() == "é\n".encode() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, CommandError])
def test_after_any_error_nothing_is_left(kind: str, tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), WholeFile(tmp_path / "x.json") as file:
        file.text.write("half")
        raise error("x")
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays_unless_forced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(CommandError, match="--force"):
        WholeFile(path)
    with WholeFile(path, force=True) as file:
        file.text.write("new")
        assert path.read_text() == "old"
        file.commit()
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(CommandError, match="is there already"):
        WholeFile(tmp_path, force=True)


def test_what_somebody_made_meanwhile_stays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with WholeFile(path) as file:
        path.write_text("theirs")
        with pytest.raises(CommandError, match="meanwhile"):
            file.commit()
    assert path.read_text() == "theirs" and list(tmp_path.iterdir()) == [path]


def test_a_link_is_not_followed(kind: str, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CommandError):
        WholeFile(tmp_path / "link.json")
    with pytest.raises(CommandError, match="cannot be written"):
        WholeFile(tmp_path / "no such directory" / "x.json")


def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from smppd.cli.whole_file import WholeFile\n"
        "file = WholeFile(Path(sys.argv[1]) / 'x.json'); file.text.write('half' * 9999); file.text.flush()\n"
        "print('written', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None and child.stdout.readline() == b"written\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL and not list(tmp_path.iterdir())
