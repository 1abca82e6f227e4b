"""An installation with people: operators who log in to the commands with passphrase and code, on a clock of the test's own."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smppd.cli.main import main
from smppd.operators import totp
from smppd.vault.kek import load_kek
from tests.cli.installation import CONFIG, FileSource
from tests.store.builder import Builder

MODULES = (
    "smppd.office.access",
    "smppd.office.authority",
    "smppd.cli.authority",
    "smppd.cli.commands.approvals",
    "smppd.cli.commands.login",
    "smppd.cli.commands.operators",
)
PASSPHRASE = "walnut ferry ochre lamp"


class Clock:
    """Stands for the module `time` in what asks who somebody is. Nobody waits."""

    def __init__(self) -> None:
        self.now = time.time()
        self.slept = 0.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


class Person:
    """An operator and what he proves himself with."""

    def __init__(self, name: str, passphrase: str, shown: str) -> None:
        self.name, self.passphrase = name, passphrase
        uri = re.search(r"^otpauth://\S+$", shown, re.M)
        assert uri is not None
        self.uri = uri[0]
        secret = re.search(r"[?&]secret=([A-Z2-7]+)", self.uri)
        assert secret is not None
        self.typed = secret[1]
        self.secret = base64.b32decode(secret[1])
        self.recovery = re.findall(r"^  ((?:[a-z2-9]{4}-){3}[a-z2-9]{4})$", shown, re.M)
        assert len(self.recovery) == 8

    def code(self, now: float) -> str:
        return totp.code_at(self.secret, int(now) // totp.STEP)


class Staff:
    """The installation; `clock` is what its commands take for the time."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.capsys, self.monkeypatch = path, capsys, monkeypatch
        self.clock = Clock()
        for module in MODULES:
            monkeypatch.setattr(f"{module}.time", self.clock)
        monkeypatch.setenv("PASSWORD", "not-used")
        monkeypatch.delenv("SSH_CONNECTION", raising=False)
        (path / "run").mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path / "run"))
        second = CONFIG.split("\n  - system_id", 1)[1].split("\nupstreams", 1)[0].replace("acme", "other")
        (path / "smppd.yaml").write_text(CONFIG.replace("\nupstreams", "\n  - system_id" + second + "\nupstreams"))
        self.output: list[str] = []
        """All that was printed, but what new operators are shown once."""
        self.files = 0
        assert self.run("keys", "init")[0] == 0

    def run(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        """(status, standard output, standard error) of a command."""
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8", "surrogateescape"))))
        try:
            status = main([*words, "--config", str(self.path / "smppd.yaml")])
        except SystemExit as error:
            status = int(str(error.code))
        shown = self.capsys.readouterr()
        if "otpauth" not in shown.out:
            self.output.append(shown.out + shown.err)
        return status, shown.out, shown.err

    def builder(self) -> Builder:
        """Writes records."""
        builder = Builder(self.path / "var", load_kek(FileSource(self.path / "keys/kek")))
        builder.now = self.clock.now - 3600
        return builder

    def add(self, name: str, *roles: str, options: tuple[str, ...] = (), passphrase: str = PASSPHRASE) -> Person:
        """A new operator, added by root without a login."""
        words = [word for role in roles for word in ("--role", role)]
        status, out, err = self.run("operators", "add", name, *words, *options, "--stdin", stdin=passphrase + "\n")
        assert status == 0, err
        return Person(name, passphrase, out)

    def credentials(self, person: Person, code: str | None = None, passphrase: str | None = None) -> tuple[str, ...]:
        """The options of a login, with a code of now unless another is given. The clock goes on, so each code is a new one."""
        if code is None:
            self.clock.now += totp.STEP
            code = person.code(self.clock.now)
        self.files += 1
        file = self.path / "credentials" / str(self.files)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.write_text(f"{person.passphrase if passphrase is None else passphrase}\n{code}\n")
        file.chmod(0o600)
        return ("--operator", person.name, "--credentials", str(file))

    def by(self, person: Person, *words: str, stdin: str = "") -> tuple[int, str, str]:
        """A command as somebody who logs in for it."""
        return self.run(*words, *self.credentials(person), stdin=stdin)

    def trail(self, *events: str) -> list[dict[str, Any]]:
        """The entries of the audit trail, of these events."""
        entries = [json.loads(line) for line in self.run("audit", "show", "--json")[1].splitlines()]
        return [entry for entry in entries if not events or entry["event"] in events]
