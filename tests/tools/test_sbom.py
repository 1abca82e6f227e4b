"""The list of what is inside: the locked packages and nothing else, with their hashes and who needs whom."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tools.lock import REQUIREMENTS, blocks
from tools.sbom import of_runtime

LOCK = blocks((REQUIREMENTS / "runtime.txt").read_text())


def environment() -> dict[str, Any]:
    """What is said of an environment with the locked packages, a tool besides, and a dependency on it."""
    versions = {name: re.match(r"[^=\s]+==(\S+)", block) for name, block in LOCK.items()}
    components: list[dict[str, Any]] = [
        {"type": "library", "bom-ref": f"ref-{name}", "name": name, "version": found[1], "externalReferences": [{}]}
        for name, found in versions.items()
        if found is not None
    ]
    components.append({"type": "library", "bom-ref": "ref-pytest", "name": "pytest", "version": "1"})
    dependencies = [{"ref": "ref-twisted", "dependsOn": ["ref-zope-interface", "ref-pytest"]}, {"ref": "ref-pytest"}]
    return {"components": components, "dependencies": dependencies, "metadata": {}}


def test_the_locked_packages_and_the_data() -> None:
    found = of_runtime(environment())
    names = {one["name"] for one in found["components"]}
    assert names - set(LOCK) == {"Unicode confusables (UTS 39)"} and set(LOCK) <= names
    by_name = {one["name"]: one for one in found["components"]}
    assert all(one["name"] == "smppd:lock:sha256" for one in by_name["twisted"]["properties"])
    assert len(by_name["cryptography"]["properties"]) > 1
    needs = {one["ref"]: one["dependsOn"] for one in found["dependencies"]}
    assert needs["ref-twisted"] == ["ref-zope-interface"] and "ref-pytest" not in needs
    [root] = [ref for ref in needs if ref.startswith("smppd==")]
    assert {"ref-twisted", "ref-cryptography", "unicode-confusables"} <= set(needs[root])
    assert found == of_runtime(environment())


def test_another_environment_is_refused() -> None:
    other = environment()
    other["components"][0]["version"] = "0"
    with pytest.raises(ValueError, match="run make venv"):
        of_runtime(other)
    del other["components"][0]
    with pytest.raises(ValueError, match="not installed"):
        of_runtime(other)
