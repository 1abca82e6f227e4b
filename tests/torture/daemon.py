"""The daemon under torture: `smppd run` on a store of its own, plain SMPP on loopback, with layers under it if asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests import forked
from tests.e2e.children import ROOT
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account
from tests.torture.plan import Options
from tests.torture.record import Record, read_database, read_record

START: Final = 60.0


class StartFailure(Exception):
    """The daemon did not become ready; the text says what it said last."""


class Daemon(Gateway):
    """See the module. ``environment`` goes to the daemon only; ``mutation``: one of ``mutated``."""

    def __init__(
        self,
        directory: Path,
        options: Options,
        smsc: int,
        accounts: list[dict[str, Any]],
        *,
        upstream: dict[str, Any] | None = None,
        mutation: str | None = None,
        **sections: Any,
    ) -> None:
        settings = {"response": "5s", **(upstream or {})}
        super().__init__(
            directory, directory, [Upstream(smsc, name="sim", settings=tuple(settings.items()))], accounts, **sections
        )
        self.config["listeners"] = [{"address": f"127.0.0.1:{self.plain_port}"}]
        self.write_config()
        self.source = options.source
        self.short = options.short
        self.mutation = mutation
        self.environment: dict[str, str] = {}
        self.store = directory / "store"
        self.password = PASSWORD

    def keys(self) -> None:
        """Makes the keys and the store. Without any layer: the store begins on a disk that has it all."""
        if self.short and self.source == ROOT:
            made = forked.run(["keys", "init", "--config", str(self.config_file)])
            if made.returncode:
                raise StartFailure(made.stderr)
            return
        made = subprocess.run(
            [sys.executable, "-m", "smppd", "keys", "init", "--config", str(self.config_file)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.source,
            check=False,
        )
        if made.returncode:
            raise StartFailure(made.stderr)

    def launch(self) -> None:
        """Starts the process; does not wait for it."""
        if self.short and self.source == ROOT and self.mutation is None and self.environment.keys() <= forked.PRELOADED:
            streams = os.devnull, str(self.log_file), str(self.log_file)
            environment = {**os.environ, **self.environment}
            self.process = forked.Forked(["run", "--config", str(self.config_file)], streams, environment=environment)
            return
        module = "smppd" if self.mutation is None else "tests.torture.mutated"
        environment = {**os.environ, "PYTHONPATH": f"{self.source}{os.pathsep}{ROOT}", **self.environment}
        if self.mutation is not None:
            environment |= {"TORTURE_MUTATION": self.mutation, "SMPPD_INTERPRETED": "1"}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "run", "--config", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.source,
                env=environment,
                start_new_session=True,
            )

    def await_ready(self, seconds: float = START) -> float:
        """Waits for /readyz; the seconds it took. ``StartFailure`` when it ends or never gets there."""
        assert self.process is not None
        began = time.monotonic()
        while not self.ready():
            status = self.process.poll()
            if status is not None:
                raise StartFailure(f"smppd ended with status {status}: {self.last_words()}")
            if time.monotonic() - began > seconds:
                raise StartFailure(f"smppd is not ready after {seconds:g} s: {self.last_words()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def kill9(self) -> bool:
        """kill -9, now; whether it was still running."""
        assert self.process is not None
        if self.process.poll() is not None:
            return False
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        return True

    def last_words(self) -> str:
        """The last line of its log, without the name of any directory."""
        lines = self.log_text().strip().splitlines() or [""]
        return lines[-1][-300:].replace(str(self.directory), "...")

    def complaints(self) -> list[str]:
        """Lines of its log that a daemon in order does not write, shortened: tracebacks and internal errors."""
        text = self.log_text()
        return [f"the daemon's log has {text.count('Traceback')} tracebacks"] if "Traceback" in text else []

    def status(self) -> dict[str, Any]:
        """/status, as `smppd status` reads it."""
        told: dict[str, Any] = json.loads(self.http("/status")[1])
        return told

    def waiting(self) -> int:
        """Messages and mail that it still has to bring somewhere, as it says itself; 0 when it does not run."""
        if self.process is None or self.process.poll() is not None:
            return 0
        return sum(int(one["queued"]) + int(one["mailbox"]) for one in self.status()["accounts"])

    @property
    def url(self) -> str | None:
        """The database that it works on, None for the embedded store."""
        url: str | None = self.config["store"].get("url")
        return url

    def ends(self) -> list[str]:
        """Ends it as an operator would, where it runs; what was wrong with it."""
        if self.process is None or self.process.poll() is not None:
            return []
        faults = []
        if errors := self.metric("smppd_internal_errors_total"):
            faults.append(f"the daemon counted {errors:g} internal errors")
        if damaged := self.metric("smppd_damaged_items"):
            faults.append(f"{damaged:g} items are told as damaged")
        # The customer's acknowledgements of its last receipts are still on their way into the record.
        try:
            status = self.terminate(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return [*faults, "the daemon did not end within 60 s of SIGTERM"]
        return [*faults, f"the daemon ended with status {status}"] if status else faults

    def record(self) -> Record:
        """What it wrote down, once it has ended. Raises StoreError or sqlite3.Error."""
        if self.url is not None:
            return read_database(self.url, self.config_file)
        return read_record(self.store, self.config_file)

    def verifies(self) -> list[str]:
        """What `smppd log verify` has to say against its log."""
        checked = self.command("log", "verify")
        if not checked.returncode:
            return []
        return [f"`smppd log verify` says: {(checked.stdout + checked.stderr).strip()[:200]}"]


__all__ = ["PASSWORD", "Daemon", "StartFailure", "account"]
