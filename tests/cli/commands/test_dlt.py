"""`smppd dlt check`: every bad line, with nothing of its text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smppd.cli.main import main

GOOD = "kind,id,entity,header,class,text\nentity,1101,,,,\ntemplate,2001,1101,,service,Code {#numeric#}\n"


def test_all_bad_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "r.csv"
    file.write_text(GOOD)
    assert main(["dlt", "check", str(file)]) == 0
    assert capsys.readouterr() == ("", "1 entities, 0 headers, 1 templates\n")
    file.write_text(GOOD + "template,2002,1101,,service,Dear {#var#}\n" * 7)
    assert main(["dlt", "check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"r.csv:{n}" for n in range(4, 11)]
    assert "Dear" not in out and err.endswith("7 bad lines\n")
    assert main(["dlt", "check", str(file), "--untyped", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["templates"], told["classes"], len(told["bad"])) == (2, {"service": 2}, 6)
    assert main(["dlt", "check", str(file), "--variable-length", "0"]) == 2
