"""What is inside smppd, as a CycloneDX list: `python -m tools.sbom FILE` (`make sbom`).

The packages of requirements/runtime.txt as they are installed in this environment, with their versions, licences and who
needs whom from cyclonedx-py, the hashes that the lock accepts, and the data of others that smppd itself carries. Checked
against the schema of CycloneDX 1.6 before it is written. The same sources and lock give the same octets.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import smppd
from tools.lock import REQUIREMENTS, blocks, normalise

ROOT: Final = Path(__file__).resolve().parent.parent
SCHEMA: Final = "1.6"
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the list."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 1:
        print("usage: python -m tools.sbom FILE", file=sys.stderr)
        return 2
    from cyclonedx.schema import SchemaVersion  # of requirements/packages.txt
    from cyclonedx.validation.json import JsonStrictValidator

    text = json.dumps(of_runtime(installed()), indent=2, sort_keys=True) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        print(f"sbom: not a CycloneDX {SCHEMA} document: {error}", file=sys.stderr)
        return 1
    Path(words[0]).parent.mkdir(parents=True, exist_ok=True)
    Path(words[0]).write_text(text, "utf-8")
    print(f"{words[0]}: {len(json.loads(text)['components'])} components, valid CycloneDX {SCHEMA}")
    return 0


def installed() -> dict[str, Any]:
    """What cyclonedx-py says of this environment."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--spec-version", SCHEMA]
    done = subprocess.run([*command, "--of", "JSON", sys.executable], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of_runtime(found: dict[str, Any]) -> dict[str, Any]:
    """The part of it that a package of smppd has inside. ValueError when the environment is not the locked one."""
    lock = blocks((REQUIREMENTS / "runtime.txt").read_text())
    kept: list[dict[str, Any]] = []
    for component in found["components"]:
        name = normalise(component["name"])
        if name not in lock:
            continue
        wanted = re.match(r"[^=\s]+==(\S+)", lock[name])
        if wanted is None or component["version"] != wanted[1]:
            raise ValueError(f"{name} {component['version']} is installed, the lock says otherwise: run make venv")
        hashes = sorted(_HASH.findall(lock[name]))
        # One of these is the file that was installed, which depends on Python and processor.
        component["properties"] = [{"name": "smppd:lock:sha256", "value": one} for one in hashes]
        kept.append({key: value for key, value in component.items() if key != "externalReferences"})
    missing = lock.keys() - {normalise(one["name"]) for one in kept}
    if missing:
        raise ValueError(f"not installed: {', '.join(sorted(missing))}: run make venv")
    root = f"smppd=={smppd.__version__}"
    references = {one["bom-ref"] for one in kept}
    data = vendored()
    dependencies = [
        {"ref": one["ref"], "dependsOn": sorted(references & set(one.get("dependsOn", ())))}
        for one in found.get("dependencies", ())
        if one["ref"] in references
    ]
    direct = {normalise(name) for name in _direct()}
    needs = sorted(one["bom-ref"] for one in kept if normalise(one["name"]) in direct)
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SCHEMA}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SCHEMA,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "smppd",
                "version": smppd.__version__,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "purl": f"pkg:pypi/smppd@{smppd.__version__}",
            },
            "tools": found["metadata"].get("tools", {}),
        },
        "components": sorted([*kept, *data], key=lambda one: str(one["bom-ref"])),
        "dependencies": sorted(
            [{"ref": root, "dependsOn": sorted([*needs, *(one["bom-ref"] for one in data)])}, *dependencies],
            key=lambda one: str(one["ref"]),
        ),
    }


def _direct() -> list[str]:
    """The packages that smppd itself imports."""
    lines = (line.split("#")[0].strip() for line in (REQUIREMENTS / "runtime.in").read_text().splitlines())
    return [re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in lines if line and line[0] != "-"]


def vendored() -> list[dict[str, Any]]:
    """Data of others that is in smppd's own files."""
    file = ROOT / "smppd" / "policy" / "confusables.json"
    facts = json.loads(file.read_text("utf-8"))
    return [
        {
            "type": "data",
            "bom-ref": "unicode-confusables",
            "name": "Unicode confusables (UTS 39)",
            "version": facts["version"],
            "licenses": [{"license": {"id": "Unicode-3.0"}}],
            "copyright": "Copyright © 1991-2025 Unicode, Inc.",
            "properties": [
                {"name": "smppd:file", "value": str(file.relative_to(ROOT))},
                {"name": "smppd:source", "value": facts["source"]},
            ],
        }
    ]


if __name__ == "__main__":
    raise SystemExit(main())
