"""Takes smppd's event feed to RabbitMQ: `python feed_to_rabbitmq.py /run/smppd/feed.sock amqp://localhost/ cursor-file`.

An example to start from; it needs `pika` (pip install pika). A line goes to the exchange `smppd` under the routing key
ACCOUNT.EVENT, and the broker confirms that it has it before the cursor moves on. So nothing is lost whoever is killed, and after
a kill some lines come again: `message_id` is the line's `key`, which stays the same, so a consumer knows them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pika.exceptions

EXCHANGE = "smppd"
BATCH = 500
"""Lines after which the cursor is kept at the latest."""
PAUSE = 1.0
"""Seconds before the feed or the broker is tried again."""


def main() -> None:
    """Goes on until it is stopped."""
    feed, broker, cursor_file = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    while True:
        try:
            ship(feed, broker, cursor_file)
        except (OSError, pika.exceptions.AMQPError) as error:
            print(f"{type(error).__name__}, again in {PAUSE:g} s", file=sys.stderr)
        time.sleep(PAUSE)


def ship(feed: str, broker: str, cursor_file: Path) -> None:
    """One connection to each side. Returns when the feed ends."""
    connection = pika.BlockingConnection(pika.URLParameters(broker))
    try:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
        channel.confirm_delivery()  # from here on a publish returns when the broker has the message, or raises
        for lines in batches(feed, load(cursor_file)):
            for line in lines:
                if line["event"] != "mark":
                    publish(channel, line)
            save(cursor_file, lines[-1]["cursor"])
            connection.process_data_events(0)  # heartbeats
    finally:
        if connection.is_open:
            connection.close()


def publish(channel: Any, line: dict[str, Any]) -> None:
    """One line. It is on the broker's disk when this returns, where a durable queue is bound for it."""
    properties = pika.BasicProperties(
        content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent, message_id=line["key"]
    )
    key = f"{line.get('account') or '-'}.{line['event']}"
    channel.basic_publish(EXCHANGE, key, json.dumps(line).encode(), properties)


def batches(feed: str, after: str) -> Iterator[list[dict[str, Any]]]:
    """What one read of the socket brought, at most BATCH lines at a time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect(feed)
        link.sendall(json.dumps({"after": after}).encode() + b"\n")
        rest = b""
        while data := link.recv(65536):
            *whole, rest = (rest + data).split(b"\n")
            lines = [json.loads(line) for line in whole]
            for line in lines:
                if "error" in line:
                    raise SystemExit(f"the feed says: {line['error']}")
                if line["event"] == "gap":
                    print(f"a gap: {line['reason']}, {line['from']} to {line['to']}", file=sys.stderr)
            for at in range(0, len(lines), BATCH):
                yield lines[at : at + BATCH]


def load(cursor_file: Path) -> str:
    """The cursor that was kept; everything from the oldest on where there is none."""
    return cursor_file.read_text().strip() if cursor_file.exists() else "oldest"


def save(cursor_file: Path, cursor: str) -> None:
    """Replaces the file as a whole."""
    fresh = cursor_file.with_name(cursor_file.name + ".new")
    with fresh.open("w") as file:
        file.write(cursor + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(cursor_file)


if __name__ == "__main__":
    main()
