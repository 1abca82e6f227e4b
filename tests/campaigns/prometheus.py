"""`make prometheus`: a real Prometheus scrapes the daemon while messages flow; every panel and every rule is asked.

Ends with 1 where a query or rule is refused, or has no data and nobody explains why (`QUIET`).

    python -m tests.campaigns.prometheus [--seconds 40] [--prometheus FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml

from tests.campaigns.stacks import certificates
from tests.e2e.children import ROOT, Smsc
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, submit_body
from tests.ports import free_port

RATE: Final = 50
QUIET: Final = {
    "smppd_messages_expired_total": "no validity passes in this minute",
    "smppd_messages_unanswered_total": "the carrier answers everything",
    "smppd_messages_resent_total": "likewise",
    "smppd_receipts_redelivered_total": "the customer takes its receipts at once",
    "smppd_receipts_expired_total": "likewise",
    "smppd_bad_pdus_total": "the customer sends none",
    "smppd_upstream_link_failures_total": "the carrier's link stands",
    "smppd_mo_messages_total": "no handset sends anything",
    "smppd_messages_rejected_total": "the carrier refuses nothing for good",
}
"""Series that do not exist before their first event, and why there is none here."""
_SCRAPE: Final = """
global: {{scrape_interval: 1s, evaluation_interval: 2s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: smppd
    static_configs: [{{targets: ["{target}"]}}]
"""
_VARIABLES: Final = {"$instance": ".*", "$account": ".*", "$upstream": ".*", "$__rate_interval": "15s"}


class Prometheus:
    """The server, as a child process."""

    def __init__(self, program: str, directory: Path, target: str) -> None:
        self.port = free_port()
        config = directory / "prometheus.yml"
        config.write_text(_SCRAPE.format(rules=ROOT / "docs/alerts.yml", target=target))
        words = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=error",
        ]
        self._process = subprocess.Popen(words)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def ask(self, path: str, **values: str) -> Any:
        """An answer of its API. OSError."""
        address = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(error.read().decode(errors="replace")[:500]) from None

    def up(self) -> bool:
        """Whether it has read the daemon's series."""
        try:
            return bool(self.ask("/api/v1/query", query='up{job="smppd"} == 1')["result"])
        except OSError:  # it is starting
            return False


def flow(gateway: Gateway, seconds: float) -> None:
    """A customer who submits RATE messages a second and takes his receipts; now and then a rule refuses one."""
    with Probe(gateway.tls_port, gateway.certificates / "ca.pem") as wrong:
        wrong.bind("acme", "wrong")
    with Probe(gateway.tls_port, gateway.certificates / "ca.pem") as probe:
        assert probe.bind("acme", PASSWORD) == 0
        until = time.monotonic() + seconds
        sequences = count(100)
        while time.monotonic() < until:
            began = time.monotonic()
            waiting = RATE // 5
            for number in range(waiting):
                text = b"a prize" if number == 3 else b"hello"
                probe.send(frame(0x04, 0, next(sequences), submit_body(text, b"447700900%03d" % number, registered=1)))
            while waiting:
                one = probe.read()
                if one[4:8] == b"\0\0\0\x05":
                    probe.send(frame(0x80000005, 0, int.from_bytes(one[12:16]), b"\0"))
                else:
                    waiting -= 1
            time.sleep(max(0.0, 0.2 - (time.monotonic() - began)))


def explained(query: str) -> str:
    """Why a query has no data; empty where nobody knows."""
    return next((why for series, why in QUIET.items() if series in query), "")


def panels() -> list[tuple[str, str]]:
    """(title, query) of every panel, its variables filled in."""
    board = json.loads((ROOT / "docs/grafana-dashboard.json").read_text("utf-8"))
    found = []
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in _VARIABLES.items():
                query = query.replace(name, value)
            found.append((panel["title"], query))
    return found


def asked(server: Prometheus) -> int:
    """Asks everything, prints what came, and gives the number of faults."""
    faults = data = quiet = 0

    def look(kind: str, title: str, query: str) -> None:
        nonlocal faults, data, quiet
        try:
            result = server.ask("/api/v1/query", query=query)["result"]
        except OSError as error:
            faults += 1
            print(f"REFUSED  {kind}  {title}: {error}\n         {query}")
            return
        if result:
            data += 1
        elif why := explained(query):
            quiet += 1
            print(f"no data  {kind}  {title}: {why}")
        else:
            faults += 1
            print(f"NO DATA  {kind}  {title}\n         {query}")

    for title, query in panels():
        look("panel", title, query)
    for group in yaml.safe_load((ROOT / "docs/alerts.yml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                look("record", rule["record"], rule["record"])
    rules = [rule for group in server.ask("/api/v1/rules")["groups"] for rule in group["rules"]]
    for rule in rules:
        if rule["health"] != "ok":
            faults += 1
            print(f"NOT OK   rule  {rule['name']}: {rule['health']} {rule.get('lastError', '')}")
        elif rule.get("state") == "firing":
            print(f"firing   rule  {rule['name']}")
    print(f"{data} queries with data, {quiet} without and explained, {len(rules)} rules evaluated, {faults} faults")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.prometheus", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=40.0, metavar="N")
    found = ROOT / ".venv/bin/prometheus"
    parser.add_argument("--prometheus", default=shutil.which("prometheus") or str(found), metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        (directory / "certificates").mkdir()
        rules = {"spam": [{"name": "prize", "when": {"text": "prize"}, "do": "refuse"}]}
        acme = account(policies=["spam"], throughput="500/s")
        behaviour = {"receipt_delay": 0.2, "throttled": 0.02, "undelivered": 0.02}
        login = {"system_id": "gateway", "password": "sm5c-Pw1", "behaviour": behaviour}
        limits = (("throughput", "400/s"),)
        with Smsc(login) as smsc:
            upstream = Upstream(smsc.port, settings=limits)
            place = directory / "gateway"
            with Gateway(
                place, certificates(directory / "certificates"), [upstream], [acme], policies=rules
            ) as gateway:
                server = Prometheus(args.prometheus, directory, f"127.0.0.1:{gateway.http_port}")
                try:
                    wait_for("Prometheus has read the daemon's series", server.up, 30.0)
                    flow(gateway, args.seconds / 2)
                    gateway.reload()
                    flow(gateway, args.seconds / 2)
                    return 1 if asked(server) else 0
                finally:
                    server.stop()


if __name__ == "__main__":
    sys.exit(main())
