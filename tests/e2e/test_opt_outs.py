"""STOP from a handset on the running daemon: it holds from the next message on, after kill -9 right behind its deliver_sm_resp,
for a message that was already waiting; the commands work beside it; and no file has a number."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc
from tests.e2e.test_privacy import disguises

PERSON, THIRD, FOURTH = b"447700900987", b"447700900654", b"447700900321"
OWN = b"447700900001"
REFUSED = 0x0B


def field(number: bytes) -> bytes:
    return b"\1\1" + number + b"\0"


def mo(source: bytes, text: bytes) -> bytes:
    return b"\0" + field(source) + field(OWN) + b"\0\0\0\0\0\0\0\0\0" + bytes((len(text),)) + text


def submit(customer: Probe, to: bytes, text: bytes = b"news") -> int:
    return status(customer.ask(0x04, submit_body(text, to, OWN)))


def says(smsc: RawSmsc, source: bytes, text: bytes) -> None:
    """A handset says something; its deliver_sm_resp came."""
    before = len(smsc.responses())
    smsc.deliver(mo(source, text))
    smsc.wait(lambda: len(smsc.responses()) > before)
    assert status(smsc.responses()[-1]) == 0


def test_stop_holds_whatever_happens(make_gateway: Callable[..., Gateway]) -> None:
    confirm = {"answers": {"stop": "You will get no more messages."}}
    acme = account(numbers=["+" + OWN.decode()], opt_out=confirm)
    with RawSmsc() as one, RawSmsc() as other:
        upstreams = [Upstream(one.port, name="one"), Upstream(other.port, name="other")]
        gateway = make_gateway(upstreams, [acme], routes=[{"upstreams": ["one"]}])
        with gateway, Probe(gateway.plain_port) as customer:
            customer.bind("acme", PASSWORD, 0x02)
            assert submit(customer, PERSON) == 0
            one.wait(lambda: len(one.submits()) == 1)

            # one waits for a carrier that is away, and its recipient says STOP by another
            one.stop()
            gateway.wait_links("one", 0)
            assert submit(customer, PERSON, b"waits") == 0 and submit(customer, THIRD, b"goes") == 0
            says(other, PERSON, b"Stop.")
            gateway.kill()  # right behind its deliver_sm_resp

        config: dict[str, Any] = gateway.config
        with RawSmsc() as again:
            config["upstreams"][0]["address"] = f"127.0.0.1:{again.port}"
            gateway.write_config()
            with gateway, Probe(gateway.plain_port) as customer:
                customer.bind("acme", PASSWORD, 0x02)
                again.wait(lambda: len(again.submits()) == 2)
                sent = b"".join(again.submits())
                assert b"waits" not in sent and b"goes" in sent and b"no more messages" in sent
                assert submit(customer, PERSON) == REFUSED
                assert submit(customer, THIRD) == 0
                assert gateway.metric("smppd_messages_refused_total", account="acme", reason="opt-out") == 2
                assert gateway.metric("smppd_opt_outs") == 1

                _commands(gateway, customer, again)
                _no_number(gateway)


def _commands(gateway: Gateway, customer: Probe, smsc: RawSmsc) -> None:
    def run(*words: str, status: int = 0, stdin: str = "") -> str:
        done = gateway.command("optout", *words, stdin=stdin)
        assert done.returncode == status, done.stderr
        return done.stdout

    own = ("--account", "acme")
    assert "word stop" in run("check", "+" + PERSON.decode(), *own)
    run("check", "+" + FOURTH.decode(), *own, status=1)
    run("add", "+" + FOURTH.decode(), *own)
    assert submit(customer, FOURTH) == REFUSED
    asked = ("explain", *own, "--from", OWN.decode(), "--to", "+" + FOURTH.decode(), "--text", "hello")
    assert "opt-out: the recipient has opted out: refused (ESME_RINVDSTADR)." in gateway.command(*asked).stdout
    run("remove", "+" + FOURTH.decode(), *own)
    assert submit(customer, FOURTH) == 0
    (part,) = json.loads(gateway.command(*asked, "--json").stdout)["parts"]
    assert {"screen": "opt-out", "says": "the recipient has not opted out"} in part["screens"]
    run("import", "-", *own, stdin=f"number,sender\n+{THIRD.decode()},{OWN.decode()}\n")
    assert submit(customer, THIRD) == REFUSED

    says(smsc, FOURTH, b"please stop texting me")
    (waiting,) = json.loads(run("review", "--json"))["waiting"]
    run("review", "--suppress", waiting["record"])
    assert submit(customer, FOURTH) == REFUSED

    exported = run("export")
    assert len(list(csv.DictReader(io.StringIO(exported)))) == 3 and "7700" not in exported
    says(smsc, PERSON, b"START")
    assert submit(customer, PERSON) == 0
    run("import", "-", stdin=exported)
    assert submit(customer, PERSON) == REFUSED
    # The trail is written behind the acknowledgement: a kill may take an entry away. The register has word and time.
    wait_for("the word on the trail", lambda: _words(gateway)[-1:] == ["start"])


def _words(gateway: Gateway) -> list[str]:
    done = gateway.command("audit", "show", "--event", "opt out", "--json")
    entries = [json.loads(line)["what"] for line in done.stdout.splitlines()]
    assert all(len(one["number"]) == 32 for one in entries if one["action"] in ("stop", "start", "add", "check"))
    return [one["word"] for one in entries if "word" in one]


def _no_number(gateway: Gateway) -> None:
    """In no file of the store, nor in the log, while all of it is there and after the end."""
    for _ in range(2):
        files = [file for file in (gateway.directory / "store").rglob("*") if file.is_file()]
        for file in [*files, gateway.log_file]:
            data = file.read_bytes()
            for number in (PERSON, THIRD, FOURTH):
                for form, octets in disguises(number.decode()).items():
                    assert octets not in data, f"{form} in {file.name}"
        gateway.terminate()
