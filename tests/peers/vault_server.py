"""A server in the form of HashiCorp Vault's KV version 2 (developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2), on a Unix
socket: `python -m tests.peers.vault_server SOCKET STATE`. STATE is a JSON file that is read for each request: `token`, `kek`
(the secret's field), `mode`."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any, Final

PATH: Final = "/v1/secret/data/smppd"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    state: Path

    def address_string(self) -> str:
        return "local"

    def log_message(self, *_rest: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        state: dict[str, Any] = json.loads(self.state.read_text())
        mode = state.get("mode", "")
        if mode == "hang":
            time.sleep(30)
        if mode == "slow":
            time.sleep(1.5)
        if self.headers.get("X-Vault-Token") != state["token"]:
            return self._say(403, {"errors": ["permission denied"]})
        if self.path != PATH:
            return self._say(404, {"errors": []})
        if mode == "sealed":
            return self._say(503, {"errors": ["Vault is sealed"]})
        kek = {"garbage": "no key at all\n", "long": "x" * 100_000, "empty": ""}.get(mode, state["kek"])
        return self._say(200, {"data": {"data": {"kek": kek}, "metadata": {"version": 1}}})

    def _say(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingUnixStreamServer):
    """The listener; a request that hangs does not keep it from ending."""

    daemon_threads = True


def main() -> None:
    """Serves until it is ended."""
    Handler.state = Path(sys.argv[2])
    with Server(sys.argv[1], Handler) as server:
        print("listening", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
