"""`make import-samples`: `smppd import` on the samples that Kannel's and Jasmin's own packages ship.

Kannel's come from its Debian packages (kannel.conf, the examples, the tests' configuration), Jasmin's from its source package
(jasmin.cfg and a store); both are fetched into a directory that is removed afterwards. Each has to give a configuration that
`smppd check` takes, and no password of the sample may be shown. Ends with 1 if not.

    python -m tests.campaigns.imports [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

# Words that the samples have for passwords and that are no other word of ours.
_SECRETS: Final = re.compile(r"foobar|rL4y|jclipwd|3Xsw|smppspwd")


def fetch(directory: Path) -> None:
    """The packages, unpacked; nothing of them is run. CalledProcessError."""
    apt = directory / "kannel"
    apt.mkdir()
    subprocess.run(["apt-get", "download", "-qq", "kannel", "kannel-docs", "kannel-extras"], cwd=apt, check=True)
    for package in apt.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, apt / "root"], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-qq",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
        "jasmin",
    ]
    subprocess.run(pip, cwd=directory, check=True)
    with tarfile.open(next(directory.glob("jasmin-*.tar.gz"))) as archive:
        archive.extractall(directory / "jasmin", filter="data")


def convert(gateway: str, files: list[Path], directory: Path) -> tuple[int, dict[str, Any], str]:
    """(status, what `--json` says, all that was said) of an import, whose result is checked once more by `smppd check`."""
    out = Path(tempfile.mkdtemp(dir=directory)) / "smppd.yaml"
    command = [sys.executable, "-m", "smppd", "import", gateway, *map(str, files), "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode not in (0, 1) or not done.stdout:
        return done.returncode, {}, said
    check = subprocess.run(
        [sys.executable, "-m", "smppd", "check", "--config", str(out)], capture_output=True, text=True, check=False
    )
    return check.returncode, json.loads(done.stdout), said + out.read_text()


def main() -> int:
    """0 when all samples were imported."""
    parser = argparse.ArgumentParser(description="Import the samples of Kannel's and Jasmin's packages.")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="leave what was fetched and made there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) if args.keep is None else args.keep
        directory.mkdir(exist_ok=True)
        fetch(directory)
        kannel = sorted((directory / "kannel/root").rglob("*.conf"))
        jasmin = next((directory / "jasmin").iterdir()) / "misc/config"
        store = sorted((jasmin / "store").glob("jcli-prod.*"))
        cases = [("kannel", [path]) for path in kannel if re.search(rb"(?m)^group *=", path.read_bytes())]
        cases += [("jasmin", [jasmin / "jasmin.cfg"]), ("jasmin", store), ("jasmin", [jasmin / "jasmin.cfg", *store])]
        failed = 0
        for gateway, files in cases:
            status, found, said = convert(gateway, files, directory)
            wrong = status != 0 or _SECRETS.search(said) is not None
            failed += wrong
            label = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
            counts = (
                ", ".join(f"{found[key]} {key}" for key in ("accounts", "upstreams", "routes"))
                if found
                else said.strip()
            )
            left = f", {len(found['left'])} left" if found else ""
            print(f"{'FAILED ' if wrong else ''}{gateway} {label}: check {status}: {counts}{left}")
    print(f"{len(cases) - failed} of {len(cases)} samples imported and checked")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
