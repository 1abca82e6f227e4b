"""The page for a customer's engineers: what stands on it follows the configuration, and nothing of anybody else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smppd.cli.main import main
from smppd.config import Settings
from smppd.config.statuses import STATUSES
from smppd.reports.guide import facts, markdown
from tests.config.helpers import HASH, loaded

TEXT = f"""\
listeners:
  - address: 192.0.2.80:3550
    plaintext: allowed
  - address: 127.0.0.1:2775
accounts:
  - {{system_id: acme, password_hash: '{HASH}', networks: 192.0.2.0/24%s}}
  - {{system_id: rival, password_hash: '{HASH}', networks: any}}
upstreams:
  - {{name: secretcarrier, address: "127.0.0.1:2776", system_id: gwlogin, password: {{env: PW}}}}
routes: [{{upstreams: secretcarrier}}]
policies:
  hiddenpolicy:
    - name: hiddenrule
      when: {{text: casino}}
      do: {{refuse: {{status: ESME_RX_R_APPN, reason: hidden}}}}
store: {{path: var}}
keys: {{file: kek}}
"""


def settings(directory: Path, more: str = "") -> Settings:
    return loaded(directory, TEXT % (f", {more}" if more else ""))


def guide(directory: Path, more: str = "", address: tuple[str, int] | None = None) -> tuple[dict[str, Any], str]:
    got = settings(directory, more)
    made = facts(got, got.accounts[0], address)
    return made, markdown(made)


def test_nothing_secret_and_nobody_else_stands_on_it(tmp_path: Path) -> None:
    made, page = guide(tmp_path, "policies: hiddenpolicy, numbers: ['447700900111']")
    for text in (page, json.dumps(made)):
        for word in ("argon2", "rival", "secretcarrier", "gwlogin", "hidden", "casino", "447700900111", "PW"):
            assert word not in text.replace("SMPP_PW", ""), word
    assert "ESME_RX_R_APPN" in page and "0x00000066" in page


def test_where_to_connect(tmp_path: Path) -> None:
    _, page = guide(tmp_path)
    assert "| 192.0.2.80 | 3550 | no TLS |" in page and "2775" not in page
    assert "Connect from 192.0.2.0/24; from elsewhere binds are refused." in page
    made, page = guide(tmp_path, address=("smpp.example.com", 443))
    assert "| smpp.example.com | 443 |" in page and [one["host"] for one in made["endpoints"]] == ["smpp.example.com"]
    assert 'HOST, PORT = "smpp.example.com", 443' in page and "<<" not in page


@pytest.mark.parametrize(
    ("more", "there", "missing"),
    [
        ("max_binds: 3", "| sessions at one time | 3 | one more is refused: ESME_RALYBND |", "ends the oldest"),
        ("when_full: evict_oldest", "one more ends the oldest of them", "more than 4 sessions"),
        ("throughput: null", "| no limit | - |", "more than 50/s"),
        ("throughput: 7/s", "7/s, 14 at once", "no limit"),
        ("message_id: decimal10", "10 decimal digits", "16 hexadecimal"),
        ("content: hide", "of texts nothing is kept", "texts are kept"),
        ("opt_out: receipt", "end with a receipt REJECTD", "wants no messages"),
        ("opt_out: off", "No text and no number", "Opt-outs"),
        ("quiet_hours: off", "## Answers", "Quiet hours"),
        ("quiet_hours: hold, acknowledge: upstream", "are refused (ESME_RSUBMITFAIL)", "wait here until"),
        ("quiet_hours: hold", "wait here until the next one begins", "or it is quiet hours"),
        ("acknowledge: upstream", "are the network's own", "before the network has it"),
        ("consent: required", "whose consent is on record", "nothing follows within 1 h"),
        ("deduplicate: 60s", "sent again within 1m", "may deliver it twice."),
        ("client_certificate: acme.example", "the one with the name acme.example", "fingerprint"),
        ("strict_fields: true", "to the letter of SMPP 3.4", "hexx"),
        ("binds: transmitter", "client.bind_transmitter(", "bind_transceiver"),
        ("class: one_time_code", "one-time codes: they overtake", "promotional messages go"),
        ("interface_versions: 5.0", "SMPP versions: 5.0", "3.3, 3.4"),
    ],
)
def test_it_says_what_is_configured(tmp_path: Path, more: str, there: str, missing: str) -> None:
    _, page = guide(tmp_path, more)
    assert there in page and missing not in page


def test_every_status_is_one_of_smpp_and_told_once(tmp_path: Path) -> None:
    made, _ = guide(tmp_path, "policies: hiddenpolicy")
    names = [one["status"] for one in made["statuses"]]
    assert len(set(names)) == len(names) and set(names) <= STATUSES.keys()
    assert all(one["what_to_do"] and one["when"] for one in made["statuses"])


def test_the_command_prints_writes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(settings(tmp_path).path)
    assert main(["account", "guide", "acme", "--config", path]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("# SMPP access for acme\n") and not printed.err
    out = tmp_path / "acme.md"
    assert main(["account", "guide", "acme", "--config", path, "--out", str(out)]) == 0
    assert out.read_text() == printed.out
    capsys.readouterr()
    assert main(["account", "guide", "acme", "--config", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["account"] == "acme"
    assert main(["account", "guide", "nobody", "--config", path]) == 1
    assert "no account nobody" in capsys.readouterr().err
    assert main(["account", "guide", "acme", "--config", path, "--address", "x"]) == 2
    assert main(["account", "guide", "acme", "--config", path, "--out", str(tmp_path)]) == 1
