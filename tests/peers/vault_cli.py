"""`python -m tests.peers.vault_cli kv get -field=NAME PATH`: prints one field of a secret, as `vault kv get` does. VAULT_ADDR
(unix:///...) and VAULT_TOKEN say where and as whom. 2 with a word on standard error when the server refuses."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def main() -> int:
    """The exit status."""
    _, verb, field, path = sys.argv[1:]
    mount, _, name = path.partition("/")
    assert verb == "get" and field.startswith("-field=")
    connection = Connection(os.environ["VAULT_ADDR"].removeprefix("unix://"))
    connection.request("GET", f"/v1/{mount}/data/{name}", headers={"X-Vault-Token": os.environ["VAULT_TOKEN"]})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    if answer.status != 200:
        print("Error making API request:", ", ".join(body["errors"]), file=sys.stderr)
        return 2
    sys.stdout.write(body["data"]["data"][field.removeprefix("-field=")])
    if "SHOUT" in os.environ:
        print(body, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
