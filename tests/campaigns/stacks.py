"""`make stacks`: smppd between Jasmin, smpp.twisted, smpplib and node-smpp, each as strict as it comes.

Jasmin is installed from the package index into an environment that is removed afterwards (`--python` names one that has it).
For each pair of customer and carrier: enquiries for unknown ids, a message that a cancel comes too late for, MO messages that
nobody owns, with messages in flight. No session may end, and every message must have its receipt. Ends with 1 if one did not.

    python -m tests.campaigns.stacks [--python FILE] [--messages 20]
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import venv
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from smppd.demo.process import Child
from tests.e2e.children import CLIENTS, ROOT, Smsc
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Gateway, Upstream, account, wait_for

PEER: Final = str(ROOT / "tests/peers/jasmin_peer.py")
CUSTOMERS: Final = ("jasmin", "smpp.twisted", "smpplib", "node-smpp")
CARRIERS: Final = ("jasmin", "smpp.twisted")
ENQUIRIES: Final = {"jasmin": 2, "smpp.twisted": 2, "smpplib": 1, "node-smpp": 3}
MESSAGE: Final = {"from": [1, 1, "447700900001"], "to": [1, 1, "447700900123"], "body": b"hello".hex(), "registered": 1}
NOBODY: Final = "447700900599"


def install(directory: Path) -> str:
    """The Python of an environment with Jasmin. CalledProcessError when it cannot be installed."""
    venv.create(directory, with_pip=True)
    python = str(directory / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-qq", "jasmin"], check=True, timeout=900)
    return python


def certificates(directory: Path) -> Path:
    """Certificates for the run."""
    spec = importlib.util.spec_from_file_location("certs_make", ROOT / "certs/make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["certs_make"] = module
    spec.loader.exec_module(module)
    module.make(directory, datetime.now(UTC))
    return directory


def carrier(name: str, python: str) -> Child:
    """An SMSC and its port."""
    login = {"system_id": "gateway", "password": UPSTREAM_PASSWORD}
    if name == "jasmin":
        return Child([python, PEER, "carrier"], login, ROOT)
    return Smsc({**login, "behaviour": {"receipt_delay": 0.01}})


def customer(name: str, python: str, gateway: Gateway) -> Child:
    """A client, still binding."""
    login = {"port": gateway.plain_port, "system_id": "acme", "password": PASSWORD}
    if name == "jasmin":
        return Child([python, PEER, "customer"], login, ROOT)
    twisted = [sys.executable, "-m", "tests.peers.twisted_client"]
    command = twisted if name == "smpp.twisted" else CLIENTS[name]
    return Child(command, {"frames": True, "answers": True, "retry": False, "window": 10, **login}, ROOT)


def meet(customers: str, carriers: str, python: str, messages: int, scratch: Path, certs: Path) -> list[str]:
    """What went wrong between this customer and this carrier."""
    faults: list[str] = []
    with ExitStack() as stack:
        smsc = stack.enter_context(carrier(carriers, python))
        port = smsc.port if isinstance(smsc, Smsc) else smsc.expect("listening")["port"]
        directory = scratch / f"{customers}-{carriers}"
        gateway = stack.enter_context(Gateway(directory, certs, [Upstream(port)], [account()]))
        peer = stack.enter_context(customer(customers, python, gateway))
        peer.expect("bound")
        mo: dict[str, Any] = {"to": NOBODY}
        if isinstance(smsc, Smsc):
            mo |= {"from": "447700900777", "body": b"nobody's".hex()}
        submit: dict[str, Any] = {"count": messages} if customers == "jasmin" else {"messages": [MESSAGE] * messages}
        peer.order("submit", **submit)
        for number in range(3):
            smsc.order("mo", **mo)
            peer.order("enquire", id=("0123456789abcdef", "no such id", "7")[number])
        told = peer.collect("enquired", 3 * ENQUIRIES[customers])
        if any(one["status"] not in ("ESME_RINVMSGID", "0x0000000C") for one in told):
            faults.append("an enquiry for an unknown id was answered otherwise")
        answers = peer.collect("answer", messages)
        if any(one["status"] != "ESME_ROK" for one in answers):
            faults.append("a message was refused")
        peer.collect("deliver", messages)
        peer.order("enquire", id=answers[0]["id"])
        peer.collect("enquired", ENQUIRIES[customers])
        wait_for("the refusals", lambda: gateway.metric("smppd_mo_messages_total", outcome="no owner") == 3)
        log = gateway.log_text()
        faults += [
            f"the log has {event!r}" for event in ("upstream lost", "session ended", "generic_nack") if event in log
        ]
        if gateway.metric("smppd_messages_unanswered_total"):
            faults.append("messages became unknown")
        if peer.pending("lost") or smsc.pending("lost"):
            faults.append("a peer saw its session end")
        peer.order("unbind")
    return faults


def main() -> int:
    """Runs all pairs and says how each went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="the Python of an environment that has Jasmin")
    parser.add_argument("--messages", type=int, default=20, help="messages in flight in each meeting")
    options = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory(prefix="smppd-stacks-") as name:
        scratch = Path(name)
        try:
            python = options.python or install(scratch / "jasmin")
        except (subprocess.SubprocessError, OSError) as error:
            print(f"Jasmin cannot be installed: {error}", file=sys.stderr)
            return 1
        certs = certificates(scratch / "certificates")
        for carriers in CARRIERS:
            for customers in CUSTOMERS:
                faults = meet(customers, carriers, python, options.messages, scratch, certs)
                print(f"{customers:13} -> smppd -> {carriers:13} {'; '.join(faults) or 'no link lost'}", flush=True)
                status |= bool(faults)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
