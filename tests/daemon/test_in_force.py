"""The settings in force as they are shown: all of them, and nothing that is secret or a person's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smppd.config import Settings
from smppd.config.loader import parse
from smppd.daemon.answers import Listing
from smppd.daemon.in_force import LONGEST, shown_settings
from tests.relay.fakes import HASH, settings


def shown(made: Settings, names: frozenset[str] | None = None) -> dict[str, Any]:
    line = b"".join(Listing("settings", shown_settings(made, names)).pieces())
    assert b"argon2id" not in line
    found: dict[str, Any] = json.loads(line)["settings"]
    return found


def test_defaults_are_filled_in_and_hashes_are_not_shown() -> None:
    found = shown(settings(acme={"class": "promotional"}))
    assert set(found) == set(Settings.model_fields) - {"path"}
    (acme,) = found["accounts"]
    assert (acme["system_id"], acme["password_hash"], acme["class"], acme["max_binds"]) == (
        "acme",
        "***",
        "promotional",
        4,
    )
    assert found["upstreams"][0]["password"] == {"file": None, "credential": None, "env": "PW"}
    assert found["limits"]["connections"] == 10_000 and found["keys"]["file"] == "kek"


def test_numbers_of_people_and_arguments_of_commands_are_hidden() -> None:
    made = settings(
        acme={"numbers": ["+447700900123"], "region": "GB", "policies": ["house"]},
        policies={"house": [{"name": "one", "when": {"destination": ["+447700900"]}, "do": "refuse"}]},
        keys={"command": ["/usr/bin/vault", "read", "-token=s3cret"]},
    )
    text = json.dumps(shown(made))
    assert "7700900" not in text and "s3cret" not in text and "/usr/bin/vault" in text
    assert shown(made)["policies"]["house"]["rules"][0]["name"] == "one"


def test_long_lists_are_cut_and_say_so() -> None:
    words = [f"word{number}" for number in range(LONGEST + 5)]
    found = shown(settings(acme={"keywords": words}))
    kept = found["accounts"][0]["keywords"]
    assert kept[:2] == ["word0", "word1"] and kept[-1] == "... and 5 more" and len(kept) == LONGEST + 1
    many = [{"system_id": f"a{number}", "password_hash": HASH, "networks": "any"} for number in range(200)]
    assert len(shown(settings(more=many))["accounts"]) == 201, "accounts are all shown"


def test_an_owner_is_shown_his_accounts_alone() -> None:
    more = [{"system_id": "other", "password_hash": HASH, "networks": "any"}]
    found = shown(settings(more=more), frozenset({"other"}))
    assert list(found) == ["accounts"] and [one["system_id"] for one in found["accounts"]] == ["other"]


def test_settings_know_the_digest_of_their_file() -> None:
    text = f"listeners: [{{address: '127.0.0.1:2775'}}]\nstore: {{path: var}}\nkeys: {{file: kek}}\n# {HASH}\n"
    made = parse(text.encode(), Path("smppd.yaml"))
    assert len(made.digest) == 64 and made.digest != parse(text.encode() + b"#\n", Path("smppd.yaml")).digest
    assert settings().digest == ""
