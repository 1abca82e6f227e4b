"""What the demos share: the daemon as a child, other commands of ours, the search in the sealed log, and how steps are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from smppd.cli.commands import CommandError
from smppd.message import masked

START: Final = 30.0
STOP: Final = 20.0
# How the simulated SMSC behaves: a little slow, sometimes busy, some phones off, ids in two forms as with real ones.
BEHAVIOUR: Final[dict[str, Any]] = {
    "response_delay": 0.005,
    "throttled": 0.01,
    "receipt_delay": 0.3,
    "early": 0.05,
    "undelivered": 0.02,
    "ids": "hexdec",
}


def step(console: Console, what: str) -> None:
    """Tells what is done."""
    console.print(f"[green]*[/] {what}", soft_wrap=True)


def short(path: Path) -> str:
    """The path as seen from here, where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def run_smppd(*arguments: str) -> str:
    """Runs another command of ours; CommandError with what it said when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "smppd", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise CommandError(f"smppd {' '.join(arguments[:2])} failed: {said}")
    return done.stdout


def find(console: Console, config: Path, number: str) -> tuple[str, list[str]]:
    """Searches the sealed log for one number and shows what came: the newest id found, and what is not as promised."""
    wanted = f"+{number}"
    step(console, f"the sealed log, searched for one number: smppd log search {wanted} --reason support\n")
    try:
        text = run_smppd("log", "search", wanted, "--reason", "support", "--json", "--config", str(config))
    except CommandError as error:
        return "", [str(error)]
    records = [record for record in json.loads(text)["records"] if record["to"] == masked(wanted)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("time", "id", "from", "to", "state"):
        table.add_column(column, no_wrap=True)
    for record in records[:5]:
        time_of_day = str(record["time"])[11:19]
        table.add_row(time_of_day, *(str(record[column]) for column in ("id", "from", "to", "state")))
    console.print(table)
    if not records:
        return "", ["the log search did not find the message"]
    faults = ["the log search showed a number unmasked"] if number in text else []
    return str(records[0]["id"]), faults


class DemoDaemon:
    """`smppd run` as a child; left, it is stopped."""

    def __init__(self, config: Path, log: Path, http_port: int) -> None:
        self._http_port = http_port
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "smppd", "run", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def __enter__(self) -> DemoDaemon:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Waits for /readyz and the links upstream."""
        from smppd.demo.view import scrape

        deadline = time.monotonic() + START
        while True:
            status = self._process.poll()
            if status is not None:
                raise CommandError(f"smppd ended at once with status {status}; see {short(self._log)}")
            if self._ready() and scrape(self._http_port).get("smppd_upstream_links", 0) >= 1:
                return
            if time.monotonic() > deadline:
                raise CommandError(f"smppd was not ready after {START:g} s; see {short(self._log)}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http_port}/readyz", timeout=2) as page:
                return int(page.status) == 200
        except OSError:
            return False

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """kill -9 of it and of all that it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP)

    def stop(self) -> int:
        """SIGTERM; SIGKILL to its group when it does not end in time. The exit status."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait(STOP)
