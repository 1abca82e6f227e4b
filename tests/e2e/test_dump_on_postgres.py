"""A dump of the store on PostgreSQL, keys apart, put back after a person was erased: he stays erased, and the daemon goes
on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

from tests import postgres
from tests.e2e.harness import PASSWORD, Gateway, Upstream, new_database, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step

NUMBER, OTHER = b"447700900123", b"447700900456"
WORDS = ("--reason", "support", "--note", "ticket 17", "--json")
ERASE = ("subject", "erase", "+447700900123", "--reason", "law", "--note", "ticket 17", "--yes", "--json")
APART = ("keys", "secrets", "held")


def send(gateway: Gateway, count: int) -> None:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD, 0x02) == 0
        for number in range(count):
            assert status(probe.ask(0x04, submit_body(b"text %d" % number, (NUMBER, OTHER)[number % 2]))) == 0


def said(gateway: Gateway, *words: str) -> dict[str, object]:
    done = gateway.command(*words)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def run(program: str, *words: str) -> None:
    subprocess.run([str(postgres.programs() / program), *words], check=True, capture_output=True)


def found(gateway: Gateway, number: str) -> int:
    return len(said(gateway, "log", "search", number, *WORDS)["records"])  # type: ignore[arg-type]


def test_who_was_erased_since_a_dump_stays_erased(make_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    url = new_database()
    data, keys = str(tmp_path / "data.dump"), str(tmp_path / "keys.dump")
    with (
        RawSmsc(repeat(Step())) as smsc,
        make_gateway([Upstream(smsc.port)], store={"path": "store", "url": url}) as gateway,
    ):
        send(gateway, 8)
        wait_for("the last submits", lambda: len(smsc.submits()) >= 8)
        run("pg_dump", "-Fc", "-n", "smppd", *(f"--exclude-table-data=smppd.{one}" for one in APART), "-f", data, url)
        run("pg_dump", "-Fc", "--data-only", *(f"-tsmppd.{one}" for one in APART), "-f", keys, url)
        assert "wrapped" not in Path(data).read_bytes().decode("latin-1").partition("COPY smppd.keys")[2][:200]
        assert found(gateway, "+447700900123") == 4
        erased = said(gateway, *ERASE)
        assert (erased["erased"], erased["complete"]) == (4, True)
        send(gateway, 2)
        gateway.finish()
        run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-c", "DROP SCHEMA smppd CASCADE", url)
        run("pg_restore", "-d", url, data)
        run("pg_restore", "-d", url, keys)
        refused = gateway.command("restore", "--from", str(tmp_path))
        assert refused.returncode == 1 and "PostgreSQL's own tools" in refused.stderr
        again = said(gateway, "restore", "--json")
        assert again["erasures"]["records"] == 4 and again["short_ids_skipped"]  # type: ignore[index]
        once_more = said(gateway, "restore", "--json")
        assert once_more["erasures"]["records"] == 0, "what is done is done"  # type: ignore[index]
        gateway.start()
        send(gateway, 2)
        assert (found(gateway, "+447700900123"), found(gateway, "+447700900456")) == (1, 5)
        assert said(gateway, "log", "verify", "--json")["ok"]
