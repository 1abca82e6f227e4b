"""The models themselves: what they fill in, what they refuse in code, secrets, and the JSON Schema they publish."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from pydantic import ValidationError

from smppd.config import Account, KeyRef, Listener, Route, SecretError, SecretRef, Settings, Upstream
from smppd.config.describe import json_schema, markdown
from tests.config.helpers import HASH

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT: dict[str, Any] = {"system_id": "acme", "password_hash": HASH, "networks": "any"}
UPSTREAM: dict[str, Any] = {"name": "a", "address": "127.0.0.1:1", "system_id": "x", "password": {"env": "PW"}}


def test_built_in_code_numbers_need_no_unit() -> None:
    account = Account(**ACCOUNT, throughput=3.2, retain=86400.0)
    assert (account.throughput, account.burst, account.retain.numbers) == (3.2, 7, 86400)


def test_burst_follows_throughput() -> None:
    assert Account(**ACCOUNT, throughput="0.1/s").burst == 1
    assert Account(**ACCOUNT, throughput=None).burst is None
    assert Account(**ACCOUNT, throughput="10/s", burst=500).burst == 500
    assert Upstream(**UPSTREAM, throughput="500/s").burst == 50
    assert Upstream(**UPSTREAM).burst is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Account(**ACCOUNT).window = 5  # type: ignore[misc]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_no_tls(address: str) -> None:
    assert Listener(address=address).tls is None


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "smsc.example.net:1", "[::ffff:192.0.2.1]:1"]
)
def test_elsewhere_plain_smpp_must_be_allowed(address: str) -> None:
    with pytest.raises(ValidationError, match="is not loopback"):
        Listener(address=address)
    assert Listener(address=address, plaintext="allowed").plaintext == "allowed"


def test_client_certificates_follow_the_ca() -> None:
    tls = {"certificate": "c", "key": "k"}
    with_ca = Listener(address="127.0.0.1:1", tls={**tls, "client_ca": "ca"}).tls
    without = Listener(address="127.0.0.1:1", tls=tls).tls
    assert with_ca is not None and with_ca.client_certificates == "required"
    assert without is not None and without.client_certificates == "off"
    with pytest.raises(ValidationError, match="needs client_ca"):
        Listener(address="127.0.0.1:1", tls={**tls, "client_certificates": "optional"})


def test_proxy_protocol_needs_its_networks() -> None:
    with pytest.raises(ValidationError, match="needs proxy_from"):
        Listener(address="127.0.0.1:1", proxy_protocol="required")
    assert Listener(address="127.0.0.1:1", proxy_protocol="required", proxy_from="10.0.0.0/8").proxy_from


def test_upstream_certificate_and_key_go_together() -> None:
    for half in ({"certificate": "c"}, {"key": "k"}):
        with pytest.raises(ValidationError, match="both or not at all"):
            Upstream(**UPSTREAM, tls=half)
    both = Upstream(**UPSTREAM, tls={"certificate": "c", "key": "k"}).tls
    assert both is not None and both.ca == "system"


def test_client_certificate_forms() -> None:
    colons = ":".join(["AB"] * 32)
    for given, fingerprint, name in ((colons, "ab" * 32, None), ("acme.example.net", None, "acme.example.net")):
        got = Account(**ACCOUNT, client_certificate=given).client_certificate
        assert got is not None and (got.fingerprint, got.name) == (fingerprint, name)


@pytest.mark.parametrize(
    "wrong", [{"0": "gone"}, {"a b": "delivered"}, {"x" * 33: "delivered"}, {str(n): "expired" for n in range(101)}]
)
def test_words_of_receipts_that_are_refused(wrong: dict[str, str]) -> None:
    assert Upstream(**UPSTREAM, receipt_states={"0": "delivered"}).receipt_states == {"0": "delivered"}
    with pytest.raises(ValidationError):
        Upstream.model_validate(UPSTREAM | {"receipt_states": wrong})


def test_numbers_and_routes_are_normalised() -> None:
    assert Account(**ACCOUNT, numbers=["+44 7700 900000", "+44770090*"]).numbers == ("447700900000", "44770090*")
    route = Route(destination="+44 77", upstreams=["a", {"name": "b", "weight": 3}])
    assert route.destination == ("4477",)
    assert [(upstream.name, upstream.weight) for upstream in route.upstreams] == [("a", 1), ("b", 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM", "salt under 8"),
        (
            "$argon2id$v=19$m=4096,t=3,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM",
            "too cheap",
        ),
        ("$argon2id$v=19$m=9999999,t=2,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ", "too dear"),
        (
            "$argon2i$v=19$m=19456,t=2,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1",
            "must be an Argon",
        ),
        ("plain", "must be an Argon2id hash"),
    ],
)
def test_hashes_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        Account(system_id="acme", password_hash=text, networks="any")
    assert text not in str(caught.value)


def test_one_or_two_hashes() -> None:
    assert len(Account(system_id="a", password_hash=[HASH, HASH], networks="any").password_hash) == 2
    for wrong in ([], [HASH] * 3):
        with pytest.raises(ValidationError):
            Account(system_id="a", password_hash=wrong, networks="any")


def test_a_masked_hash_still_verifies() -> None:
    phc = Argon2id(salt=b"0123456789abcdef", length=32, iterations=2, lanes=1, memory_cost=19456)
    account = Account(system_id="a", password_hash=phc.derive_phc_encoded(b"pw"), networks="any")
    Argon2id.verify_phc_encoded(b"pw", account.password_hash[0])


# -- secrets -------------------------------------------------------------------------------------------------------


def test_a_secret_from_a_file_loses_one_newline(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    for content, secret in ((b"pw\n", b"pw"), (b"pw\r\n", b"pw"), (b"pw\n\n", b"pw\n"), (b" p w", b" p w")):
        path.write_bytes(content)
        assert SecretRef(file=path).resolve() == secret
    path.write_bytes(b"\n")
    with pytest.raises(SecretError, match=f"file {path} is empty"):
        SecretRef(file=path).resolve()
    path.write_bytes(b"x" * 70_000)
    with pytest.raises(SecretError, match="too long for a secret"):
        SecretRef(file=path).resolve()
    with pytest.raises(SecretError, match="cannot be read: No such file"):
        SecretRef(file=tmp_path / "none").resolve()


def test_a_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMPPD_TEST_PW", "p w")
    assert SecretRef(env="SMPPD_TEST_PW").resolve() == b"p w"
    monkeypatch.delenv("SMPPD_TEST_PW")
    with pytest.raises(SecretError, match="SMPPD_TEST_PW is not set"):
        SecretRef(env="SMPPD_TEST_PW").resolve()


def test_a_key_from_a_command() -> None:
    assert KeyRef(command=[sys.executable, "-c", "print('k')"]).resolve() == b"k"
    with pytest.raises(SecretError, match="ended with status 3"):
        KeyRef(command=[sys.executable, "-c", "print('k'); raise SystemExit(3)"]).resolve()
    with pytest.raises(SecretError, match="cannot be run: No such file"):
        KeyRef(command=["/none/such"]).resolve()
    with pytest.raises(SecretError, match="took longer than"):
        KeyRef(command=[sys.executable, "-c", "import sys; sys.stdin.read(); import time; time.sleep(9)"]).resolve(0.05)


def test_a_key_from_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(SecretError, match="CREDENTIALS_DIRECTORY is not set"):
        KeyRef(credential="kek").resolve()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "kek").write_bytes(b"k\n")
    (tmp_path / "kek").chmod(0o440)
    assert KeyRef(credential="kek").resolve() == b"k"
    assert KeyRef(credential="kek").path == tmp_path / "kek"


@pytest.mark.parametrize(
    "wrong", [{}, {"file": "a", "command": ["b"]}, {"command": []}, {"credential": "../x"}, "text"]
)
def test_keys_that_are_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        KeyRef.model_validate(wrong)


# -- what is published ---------------------------------------------------------------------------------------------


def test_the_published_schema_is_current() -> None:
    assert (ROOT / "config/smppd.schema.json").read_text() == json_schema(), "smppd schema > config/smppd.schema.json"


def test_the_page_is_current() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    assert page == markdown(), "smppd schema --markdown > docs/configuration.md"


def test_every_key_is_described() -> None:
    schema = json.loads(json_schema())
    for name, model in {"Settings": schema, **schema["$defs"]}.items():
        for branch in (model, *model.get("anyOf", ())):
            for key, field in branch.get("properties", {}).items():
                assert field.get("description") or "$ref" in field, f"{name}.{key}"


def test_links_of_the_page_lead_somewhere() -> None:
    page = markdown()
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    slugs = {"".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_") for title in headings}
    links = {part.split(")", 1)[0] for part in page.split("](#")[1:]}
    assert links and links <= slugs


def test_the_file_it_came_from_is_no_key() -> None:
    assert "path" not in json.loads(json_schema())["properties"]
    assert Settings.model_fields["path"].exclude
