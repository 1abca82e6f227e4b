"""A stand-in for the daemon: a proxy of bytes with the daemon's command line and /readyz, which starts in no time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import config

STAND_IN = """
import asyncio, signal, ssl, sys, yaml

async def main(path):
    doc = yaml.safe_load(open(path))
    base = path.rpartition("/")[0]
    listener, upstream, http = doc["listeners"][0], doc["upstreams"][0]["address"], doc["http"]["address"]
    context = None
    if "tls" in listener:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(base + "/" + listener["tls"]["certificate"], base + "/" + listener["tls"]["key"])

    async def pump(reader, writer):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def customer(reader, writer):
        up_reader, up_writer = await asyncio.open_connection(*upstream.split(":"))
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer), return_exceptions=True)

    async def ready(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.0 200 OK\\\\r\\\\n\\\\r\\\\n")
        await writer.drain()
        writer.close()

    await asyncio.start_server(customer, *listener["address"].split(":"), ssl=context)
    await asyncio.start_server(ready, *http.split(":"))
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()

match sys.argv[1:]:
    case ["passwd", "--stdin"]:
        assert sys.stdin.read().strip()
        print("$argon2id$stand-in")
    case ["keys", "init", "--config", path]:
        open(path.rpartition("/")[0] + "/keys/kek", "x").close()
    case ["run", "--config", path]:
        asyncio.run(main(path))
""".replace("\\\\", "\\")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(config, "smppd", lambda *arguments: [sys.executable, str(script), *arguments])
    monkeypatch.setattr(config, "ROOT", tmp_path)
    return script
