"""`smppd show` and the control socket on the real daemon: who is bound, what waits and why; owners, strangers, wrong roles."""

from __future__ import annotations

import grp
import json
import os
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.control.client import ask
from smppd.control.wire import ControlError
from tests import forked
from tests.cli.staff import PASSPHRASE, Person
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc
from tests.ports import free_port

SUBMIT = 0x04
NOBODY = 65534


class Place:
    """A daemon with three customers' sessions over TLS, an upstream that is up and one that is down."""

    def __init__(self, gateway: Gateway, stack: ExitStack) -> None:
        self.gateway = gateway
        self.store = gateway.directory / "store"
        self.probes = [stack.enter_context(self._probe()), stack.enter_context(self._probe(client=True))]
        self.probes.append(stack.enter_context(self._probe()))
        for probe, name in zip(self.probes, ("acme", "acme", "other"), strict=True):
            assert probe.bind(name, PASSWORD) == 0
        self.people: dict[str, Person] = {}
        for name, options in (
            ("ada", ("--role", "operator")),
            ("olga", ("--role", "account-owner", "--account", "other")),
            ("audrey", ("--role", "auditor")),
        ):
            made = gateway.command("operators", "add", name, *options, "--stdin", stdin=PASSPHRASE + "\n")
            assert made.returncode == 0, made.stderr
            self.people[name] = Person(name, PASSPHRASE, made.stdout)

    def _probe(self, client: bool = False) -> Probe:
        certificates = self.gateway.certificates
        context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        if client:
            context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
        probe = Probe(self.gateway.tls_port)
        probe.socket = context.wrap_socket(probe.socket, server_hostname="localhost")
        return probe

    def show(self, what: str, **request: Any) -> Any:
        return ask(self.store, {"do": f"show {what}", **request})[what]

    def code(self, **request: Any) -> str:
        """The code of an error."""
        with pytest.raises(ControlError) as caught:
            ask(self.store, request)
        return caught.value.code


@pytest.fixture(scope="module")
def place(make_gateway: Callable[..., Gateway]) -> Iterator[Place]:
    if os.geteuid() == 0:
        run = Path(tempfile.mkdtemp())
        run.chmod(0o755)
        control = {"path": str(run / "smppd.sock"), "group": grp.getgrgid(NOBODY).gr_name}
    else:
        control = {}
    with RawSmsc() as smsc, ExitStack() as stack:
        # Other's messages go to a carrier that is down, and wait.
        accounts = [account(), account("other"), account("night", **{"class": "promotional"})]
        opens = (datetime.now(ZoneInfo("Europe/London")) + timedelta(hours=12)).strftime("%H:00-%H:59")
        hours = {"countries": {"GB": opens}}
        gateway = make_gateway([Upstream(smsc.port)], accounts, control=control, quiet_hours=hours)
        gateway.config["upstreams"].append(gateway._upstream(Upstream(free_port(), name="dead")))
        gateway.config["routes"] = [
            {"accounts": ["other"], "upstreams": ["dead"]},
            {"accounts": ["acme", "night"], "upstreams": ["sim"]},
        ]
        tls = gateway.config["listeners"][0]["tls"]
        tls |= {"client_ca": str(gateway.certificates / "ca.pem"), "client_certificates": "optional"}
        gateway.write_config()
        yield Place(stack.enter_context(gateway), stack)


def test_sessions_of_customers_and_carriers(place: Place) -> None:
    assert status(place.probes[0].ask(SUBMIT, submit_body(b"hello", registered=1))) == 0
    found = place.show("sessions")
    assert [one["id"] for one in found] == ["c1", "c2", "c3", "u1"]
    assert [one["name"] for one in found] == ["acme", "acme", "other", "sim"]
    first, second, _, carrier = found
    assert first["tls"]["version"] == "TLSv1.3" and first["tls"]["cipher"].startswith("TLS_")
    assert first["tls"]["subject"] is None and second["tls"]["subject"].startswith("CN=")
    assert (first["mode"], first["version"], first["state"], first["messages"]) == ("transceiver", "3.4", "bound", 1)
    assert first["last_pdu"] == "submit_sm" and second["last_pdu"] == "bind_transceiver"
    assert (first["window"], first["used"], first["unsent"]) == (100, 0, 0)
    assert carrier["side"] == "carrier" and carrier["tls"] is None and carrier["outstanding_window"] == 200
    wait_for("the carrier's answer", lambda: place.show("sessions")[3]["messages"] == 1)
    assert [one["id"] for one in place.show("sessions", account="other")] == ["c3"]
    assert [one["id"] for one in place.show("sessions", upstream="sim")] == ["u1"]


def test_what_waits_and_why(place: Place) -> None:
    assert status(place.probes[2].ask(SUBMIT, submit_body(b"waits"))) == 0
    (lane,) = place.show("queues", account="other")
    assert (lane["upstreams"], lane["why"]) == (["dead"], "no link") and lane["waiting"] >= 1
    message = next(one for one in place.show("messages", account="other"))
    assert (message["phase"], message["to"]) == ("queued", "44770***0123") and message["id"] == lane["oldest_id"]
    wait_for("a try to connect", lambda: place.show("upstreams", upstream="dead")[0]["last_error"] is not None)
    upstreams = {one["name"]: one for one in place.show("upstreams")}
    assert (upstreams["sim"]["state"], upstreams["dead"]["state"]) == ("bound", "down")
    assert upstreams["dead"]["waiting"] == lane["waiting"] and upstreams["dead"]["sessions"] == 1
    accounts = {one["name"]: one for one in place.show("accounts")}
    assert accounts["acme"]["sessions"] == 2 and accounts["other"]["oldest_id"] == lane["oldest_id"]
    assert place.show("health")["checks"]["upstreams"] == "degraded: 1 of 2 upstreams are bound"
    shares = [one["share"] for one in place.show("limits")]
    assert shares == sorted(shares, reverse=True)
    config = place.show("config")
    assert config["settings"]["accounts"][0]["password_hash"] == "***" and config["last_reload"] is None
    assert place.show("bans") == place.show("suspensions") == place.show("acts") == []
    wait_for("a second", lambda: "acme" in place.show("flow")["accounts"])


def test_a_lane_that_waits_for_its_hour(place: Place) -> None:
    with Probe(place.gateway.plain_port) as probe:
        assert probe.bind("night", PASSWORD) == 0
        assert status(probe.ask(SUBMIT, submit_body(b"an offer"))) == 0
        (lane,) = place.show("queues", account="night")
        assert lane["why"] == "hour" and lane["opens"] > time.time() + 10 * 3600 and lane["waiting"] == 1
        assert place.show("accounts", account="night")[0]["held"] == 1
        (found,) = [one for one in place.show("sessions") if one["name"] == "night"]
        assert found["tls"] is None and found["id"] not in ("c1", "c2", "c3")


def test_an_upstream_that_an_act_has_paused(place: Place) -> None:
    act = {"do": "act", "target": "sim", "reason": "maintenance"}
    assert ask(place.store, act | {"act": "pause"})["changed"] is True
    assert ask(place.store, act | {"act": "pause"})["changed"] is False
    assert status(place.probes[0].ask(SUBMIT, submit_body(b"later"))) == 0
    (one,) = place.show("upstreams", upstream="sim")
    assert (one["state"], one["links"], one["act"]["act"], one["act"]["reason"]) == (
        "paused",
        1,
        "pause",
        "maintenance",
    )
    assert [lane["why"] for lane in place.show("queues", account="acme")] == ["paused"]
    (stands,) = place.show("acts")
    assert (stands["act"], stands["target"], stands["survives"]) == ("pause", "sim", True)
    assert place.show("acts", operator="olga") == []
    done = place.gateway.command("show", "acts")
    assert done.returncode == 0 and "maintenance" in done.stdout
    assert ask(place.store, act | {"act": "unpause"})["changed"] is True
    wait_for("it flows again", lambda: place.show("queues", account="acme") == [])
    assert place.show("acts") == [] and place.show("upstreams", upstream="sim")[0]["state"] == "bound"


def test_the_command_shows_each_view_and_reloads_are_told(place: Place) -> None:
    for what in ("sessions", "accounts", "upstreams", "queues", "messages", "limits", "config", "health", "flow"):
        done = place.gateway.command("show", what)
        assert done.returncode == 0 and done.stdout.strip(), done.stderr
        assert "7700900" not in done.stdout and "argon2" not in done.stdout
    done = place.gateway.command("show", "sessions", "--json", "--account", "other")
    assert [one["id"] for one in json.loads(done.stdout)["sessions"]] == ["c3"]
    before = place.show("config")["hash"]
    place.gateway.config["accounts"][0]["window"] = 50
    place.gateway.write_config()
    place.gateway.reload()
    wait_for("the reload", lambda: (place.show("config")["last_reload"] or {}).get("result") == "done")
    assert place.show("config")["hash"] != before
    wait_for("its sessions", lambda: place.show("sessions")[0]["window"] == 50)
    place.gateway.write_config(place.gateway.config_file.read_text() + "nonsense: 1\n")
    place.gateway.reload()
    wait_for("a refusal", lambda: place.show("config")["last_reload"]["result"] == "refused")
    assert "nonsense" in str(place.show("config")["last_reload"]["faults"])
    place.gateway.write_config()


def test_an_owner_sees_his_own_and_roles_are_looked_at(place: Place) -> None:
    assert {one["name"] for one in place.show("sessions", operator="olga")} == {"other"}
    assert {one["account"] for one in place.show("messages", operator="olga")} == {"other"}
    assert place.show("upstreams", operator="olga") == []
    assert place.code(do="show config", operator="olga") == "role"
    assert place.code(do="show sessions", operator="audrey") == "role" and place.show("config", operator="audrey")
    assert place.code(do="show sessions", operator="nobody") == "login"
    assert place.code(do="act", operator="audrey", act="kick", target="c1", reason="x") == "role"
    assert place.code(do="show sessions", v=2) == "version" and place.code(do="show all") == "request"
    ada = place.people["ada"]
    words = ("show", "sessions", "--operator", "olga", "--credentials", "-")
    done = place.gateway.command(*words, stdin=f"{PASSPHRASE}\n{place.people['olga'].recovery[0]}\n")
    assert done.returncode == 0 and "c3" in done.stdout and "acme" not in done.stdout, done.stderr
    login = {"name": "ada", "passphrase": PASSPHRASE, "code": ada.recovery[0]}
    assert len(place.show("sessions", login=login)) == 4
    assert place.code(do="show sessions", login=login) == "login", "a code serves once"
    trail = place.gateway.command("audit", "show", "--json").stdout.splitlines()
    events = [(one["event"], one["what"].get("reason")) for one in map(json.loads, trail)]
    assert ("login refused", "role") in events and ("login refused", "code") in events


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_another_user_of_the_group_logs_in(place: Place) -> None:
    path = place.gateway.config["control"]["path"]

    def as_nobody(*words: str, stdin: str = "") -> tuple[int, str, str]:
        done = forked.run(["show", *words, "--socket", path], stdin, user=NOBODY)
        return done.returncode, done.stdout, done.stderr

    assert as_nobody("sessions")[0] == 1 and as_nobody("sessions")[1] == ""
    login = ("--operator", "ada", "--credentials", "-")
    code, out, err = as_nobody("sessions", "--json", *login, stdin=f"{PASSPHRASE}\n{place.people['ada'].recovery[1]}\n")
    assert code == 0 and len(json.loads(out)["sessions"]) == 4, err
    code, out, err = as_nobody("sessions", *login, stdin=f"a wrong passphrase\n{place.people['ada'].recovery[2]}\n")
    assert (code, out) == (1, "") and "login refused" in err
    assert forked.run(["show", "acts", "--socket", str(place.store / "control.sock")], user=NOBODY).returncode == 2
    trail = place.gateway.command("audit", "show", "--json", "--event", "login").stdout
    assert "ada (nobody)" in trail and "control socket" in trail
    assert os.stat(path).st_mode & 0o777 == 0o660


def test_watching_ends_when_it_is_told_to(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["show", "flow", "--json", "--watch", "0.5", "--config", str(place.gateway.config_file)]
    watching = forked.Forked(words, (os.devnull, str(out), str(out)))
    wait_for("three answers", lambda: out.exists() and out.read_text().count("\n") >= 3)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 0
    assert all("flow" in json.loads(line) for line in out.read_text().splitlines())


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda text: json.dumps({"do": text, "v": 1}).encode()))
def test_garbage_harms_nobody(place: Place, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(10)
        where = os.open(place.store, os.O_RDONLY)
        one.connect(f"/proc/self/fd/{where}/control.sock")
        os.close(where)
        one.sendall(data.replace(b"\n", b"") + b"\n")
        answer = b"".join(iter(lambda: one.recv(65536), b""))
    assert set(json.loads(answer)) >= {"v", "code", "error"}
    assert place.gateway.metric("smppd_internal_errors_total") == 0
