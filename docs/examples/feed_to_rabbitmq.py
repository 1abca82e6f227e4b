"""Takes smppd's event feed to RabbitMQ: `python feed_to_rabbitmq.py /run/smppd/feed.sock amqp://localhost/ cursor-file`.

An example to start from; it needs aio-pika (`pip install aio-pika`). A line goes to the topic exchange `smppd` under the routing
key ACCOUNT.EVENT. What one read of the socket brought is published at once, the broker confirms that it has all of it, and only
then the cursor moves on. So nothing is lost whoever is killed. After a kill of this program some lines come again:
`message_id` is the line's `key`, which stays the same, so whoever consumes knows them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.abc import AbstractExchange

EXCHANGE = "smppd"
BATCH = 500
"""Lines that are on their way to the broker at most."""
PAUSE = 1.0
"""Seconds before the feed or the broker is tried again."""


async def main() -> None:
    """Goes on until it is stopped."""
    feed, broker, cursor_file = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    while True:
        try:
            async with await aio_pika.connect(broker) as connection:
                channel = await connection.channel(publisher_confirms=True)
                exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
                await ship(feed, exchange, cursor_file)
        except (OSError, aio_pika.exceptions.AMQPError) as error:
            print(f"{type(error).__name__}, again in {PAUSE:g} s", file=sys.stderr)
        await asyncio.sleep(PAUSE)


async def ship(feed: str, exchange: AbstractExchange, cursor_file: Path) -> None:
    """One connection to the feed, until it ends."""
    reader, writer = await asyncio.open_unix_connection(feed)
    try:
        writer.write(json.dumps({"after": load(cursor_file)}).encode() + b"\n")
        rest = b""
        while data := await reader.read(65536):
            *whole, rest = (rest + data).split(b"\n")
            lines = [json.loads(line) for line in whole]
            for at in range(0, len(lines), BATCH):
                some = lines[at : at + BATCH]
                await asyncio.gather(*(publish(exchange, line) for line in some))
                save(cursor_file, some[-1]["cursor"])
    finally:
        writer.close()


async def publish(exchange: AbstractExchange, line: dict[str, Any]) -> None:
    """One line. The broker has it on its disk when this returns, where a durable queue is bound for it."""
    if line.get("code") in ("full", "busy"):
        raise ConnectionError(line["error"])  # later there may be room
    if "error" in line:
        raise SystemExit(f"the feed says: {line['error']}")
    if line["event"] == "mark":
        return
    if line["event"] == "gap":
        print(f"a gap: {line['reason']}, {line['from']} to {line['to']}", file=sys.stderr)
    message = aio_pika.Message(
        json.dumps(line).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=line["key"],
    )
    await exchange.publish(message, f"{line.get('account') or '-'}.{line['event']}", mandatory=False)


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
    asyncio.run(main())
