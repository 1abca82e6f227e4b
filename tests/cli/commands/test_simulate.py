"""`smppd simulate`: what its stack cannot do is told in a sentence before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.cli.main import main


def test_a_password_that_the_stack_cannot_bring_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "password").write_text("Nine-9999\n")
    assert main(["simulate", "smsc", "--address", "127.0.0.1:0", "--password-file", str(tmp_path / "password")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "passwords of at most 8 octets" in err and "Nine" not in err
