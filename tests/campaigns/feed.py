"""`make feed-kills`, `make feed-rabbitmq`: the event feed over many kills of the daemon, under a steady load.

A customer submits 500 messages a second over one session, an SMSC sends a receipt for each, and the daemon with all its
processes is killed at random moments. Then the log's own octets say which lines there have to be, and each must stand once in
the feed's file and once at a consumer of its socket; and `log export`, gone on with from its last cursor after each kill while
messages flow, must give each message once. With `--rabbitmq` docs/examples/feed_to_rabbitmq.py stands before a real
broker (Debian's `rabbitmq-server`; aio-pika is installed into an environment that is removed afterwards): each line must be in
a queue that is bound for all, and what comes again must carry the key that it had. Ends with 1 where one did not.

    python -m tests.campaigns.feed [--kills 20] [--rate 500] [--seconds 5] [--rabbitmq]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.campaigns.stacks import certificates
from tests.crash.load import Smsc
from tests.e2e.children import ROOT
from tests.e2e.feeding import Consumer, SteadyCustomer, expected, faults, keys, lines_of
from tests.e2e.harness import Gateway, Upstream, account, wait_for
from tests.ports import free_port

EXAMPLE: Final = ROOT / "docs" / "examples" / "feed_to_rabbitmq.py"
_SERVERS: Final = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
_QUEUE: Final = "everything"
_TAKE: Final = """
import json, sys, pika
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
if sys.argv[2] == "bind":
    channel.exchange_declare("smppd", exchange_type="topic", durable=True)
    channel.queue_declare("everything", durable=True)
    channel.queue_bind("everything", "smppd", "#")
else:
    for method, properties, body in channel.consume("everything", auto_ack=True, inactivity_timeout=3):
        if method is None:
            break
        print(json.dumps({"message_id": properties.message_id, "line": json.loads(body)}))
connection.close()
"""


class Exports:
    """`log export`, again and again, each from the last cursor of the one before."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._after: list[str] = []
        self.told: Counter[str] = Counter()
        self.number = 0

    def go_on(self) -> int:
        """The messages since the last time; how many."""
        done = self._gateway.command("log", "export", "--format", "jsonl", *self._after)
        if done.returncode:
            raise RuntimeError(f"log export: {done.returncode}: {done.stderr.strip()[:200]}")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.told.update(row["id"] for row in rows)
        if rows:
            self._after = ["--after", rows[-1]["cursor"]]
        self.number += 1
        return len(rows)


class Broker:
    """A RabbitMQ of its own directory, port and node, and a Python that has aio-pika, and pika to read with."""

    def __init__(self, directory: Path) -> None:
        server = next((found for one in _SERVERS if (found := shutil.which(one))), None)
        if server is None:
            raise SystemExit("there is no rabbitmq-server: apt-get install rabbitmq-server")
        venv.create(directory / "venv", with_pip=True)
        self.python = str(directory / "venv" / "bin" / "python")
        subprocess.run([self.python, "-m", "pip", "install", "-qq", "aio-pika", "pika"], check=True, timeout=600)
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        home = directory / "broker"
        home.mkdir()
        self._environment = {
            **os.environ,
            "HOME": str(home),
            "RABBITMQ_NODENAME": f"smppd{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
        }
        with (home / "out").open("wb") as out:
            self._process = subprocess.Popen([server], env=self._environment, stdout=out, stderr=out, cwd=home)
        wait_for("the broker", lambda: self.take("bind").returncode == 0, 120)

    def take(self, what: str) -> subprocess.CompletedProcess[str]:
        """Binds the queue (`bind`), or empties it (`all`)."""
        command = [self.python, "-c", _TAKE, self.url, what]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def lines(self) -> list[dict[str, Any]]:
        """All that is in the queue, in its order; it is empty then."""
        done = self.take("all")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        subprocess.run(["epmd", "-port", self._environment["ERL_EPMD_PORT"], "-kill"], capture_output=True, check=False)


class Shipper:
    """The example, started; it is killed now and then."""

    def __init__(self, broker: Broker, socket: Path, cursor: Path) -> None:
        self._command = [broker.python, str(EXAMPLE), str(socket), broker.url, str(cursor)]
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def again(self) -> None:
        """kill -9, and another one."""
        self.end()
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> int:
    """0 where every event was told once."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.feed", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=500.0, help="messages a second")
    parser.add_argument("--seconds", type=float, default=5.0, help="between two kills at most")
    parser.add_argument("--seed", type=int, default=20261130)
    parser.add_argument("--rabbitmq", action="store_true", help="also through the example into a real broker")
    parser.add_argument("--kill-shipper", action="store_true", help="the example is killed too, after each fourth")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smppd-feed-") as scratch, ExitStack() as stack:
        wrong = campaign(args, Path(scratch), stack)
    print("each event once" if not wrong else "; ".join(wrong))
    return 1 if wrong else 0


def campaign(args: argparse.Namespace, scratch: Path, stack: ExitStack) -> list[str]:
    """What went wrong."""
    rng = random.Random(args.seed)
    (scratch / "certs").mkdir()
    certs = certificates(scratch / "certs")
    broker = None
    if args.rabbitmq:
        broker = Broker(scratch)
        stack.callback(broker.close)
    smsc = stack.enter_context(Smsc())
    feed = {"file": {"path": "feed.jsonl", "rotate": "4MiB", "keep": 1000}, "socket": {"path": "feed.sock"}}
    acme = account(receipts={"window": 50, "retry": "1s"}, unknown_after="1s")
    gateway = Gateway(scratch / "gateway", certs, [Upstream(smsc.port)], [acme], feed=feed)
    stack.callback(gateway.kill)
    store, file, socket = (gateway.directory / name for name in ("store", "feed.jsonl", "feed.sock"))
    consumer = Consumer(socket)
    consumer.start()
    shipper = None
    if broker is not None:
        shipper = Shipper(broker, socket, scratch / "cursor")
        stack.callback(lambda: shipper.end())
    customer = SteadyCustomer(gateway.plain_port, args.rate)
    exports = Exports(gateway)
    began = time.monotonic()
    flowing = 0.0
    for number in range(args.kills):
        gateway.start()
        seconds = rng.uniform(args.seconds / 5, args.seconds)
        customer.run(gateway, seconds)
        flowing += seconds
        exports.go_on()
        if shipper is not None and args.kill_shipper and number % 4 == 3:
            shipper.again()
    gateway.start()
    customer.run(gateway, 2.0, kill=False)
    wrong = _judge("the file", lambda: keys(lines_of(file)), store)
    wrong += _judge("the consumer", lambda: keys(consumer.lines), store)
    gaps = gateway.metric("smppd_feed_gaps_total")
    again = 0
    if broker is not None and shipper is not None:
        wrong_there, again = _in_broker(broker, store)
        wrong += wrong_there
    while exports.go_on():
        pass
    records = Counter(f"{one:016x}" for what, one in expected(store).values() if what == "record")
    if exports.told != records:
        missing, more = records - exports.told, exports.told - records
        wrong.append(f"the exports: {missing.total()} messages missing, {more.total()} twice or strange")
    gateway.finish()
    consumer.end()
    figures = {
        "kills": args.kills,
        "acknowledged": customer.acknowledged,
        "rate": round(customer.acknowledged / (flowing + 2.0)),
        "lines": len(expected(store)),
        "gaps": int(gaps),
        "files": len(list(file.parent.glob("feed.jsonl*"))),
        "connections": consumer.connections,
        "exports": exports.number,
        "exported": exports.told.total(),
        "seconds": round(time.monotonic() - began),
    }
    if broker is not None:
        figures["again_in_broker"] = again
    print(json.dumps(figures))
    return wrong


def _judge(where: str, told: Any, store: Path) -> list[str]:
    deadline = time.monotonic() + 60
    while (found := faults(told(), store)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return [f"{where}: {one}" for one in found]


def _in_broker(broker: Broker, store: Path) -> tuple[list[str], int]:
    """What is wrong in the queue, and how many lines came again, after a kill of the shipper."""
    every: list[dict[str, Any]] = []
    deadline = time.monotonic() + 120
    while True:
        every += broker.lines()
        told = Counter(one["message_id"] for one in every if one["message_id"][0] not in "ag")
        found = faults(Counter(dict.fromkeys(told, 1)), store)
        if not found or time.monotonic() > deadline:
            break
        time.sleep(1)
    wrong = [f"the broker: {one}" for one in found]
    if any(one["message_id"] != one["line"]["key"] for one in every):
        wrong.append("the broker: a message id is not its line's key")
    return wrong, sum(count - 1 for count in told.values())


if __name__ == "__main__":
    sys.exit(main())
