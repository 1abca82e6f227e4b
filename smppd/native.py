"""Lets the compiled form of the modules on a message's path run in place of their sources, while it is the same code.

`tools/compile.py` compiles them with mypyc into `smppd/_native/TAG/`, away from the sources, with a manifest that says
what they were compiled from. `install` compares that with the sources as they are now: equal, and a finder gives these
modules to whoever imports them; anything else, and the sources run, as they would without any of this. All or none, decided
once a process. `SMPPD_INTERPRETED=1` always runs the sources (profilers, coverage, debuggers).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

PACKAGE: Final = Path(__file__).parent
SUFFIX: Final = EXTENSION_SUFFIXES[0]
TAG: Final = SUFFIX.strip(".").removesuffix(".so")
"""Interpreter, version and platform, such as `cpython-311-x86_64-linux-gnu`: a build fits no other."""
MANIFEST: Final = "manifest.json"
LIBRARY: Final = "smppd__mypyc"
"""The extension that holds all compiled code; the modules' own files only point into it."""

compiled: bool = False
"""Whether this process runs the compiled modules."""
reason: str = "not looked for"
"""Why it does not, in a few words; empty when it does."""


class Unfit(Exception):
    """There is no compiled form that may run; the text says why."""


@dataclass(frozen=True, slots=True)
class Build:
    """A compiled form that fits: its directory, and the dotted names of its modules."""

    directory: Path
    modules: frozenset[str]

    def file(self, name: str) -> Path:
        """Where the module or the library of this name stands."""
        return self.directory.joinpath(*name.split(".")).with_suffix(SUFFIX)

    def spec(self, name: str) -> ModuleSpec | None:
        """For the import system: how to load this file."""
        path = str(self.file(name))
        return spec_from_file_location(name, path, loader=ExtensionFileLoader(name, path))


class Finder:
    """Of `sys.meta_path`: answers for the modules of one build and for nothing else."""

    def __init__(self, build: Build) -> None:
        self.build = build

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` has it (which would bring half the standard library with it)."""
        return self.build.spec(fullname) if fullname in self.build.modules else None


def digest(package: Path, compiler: str, tag: str, modules: Iterable[str], sources: Iterable[str]) -> str:
    """SHA-256, in hex, over what a build is made of.

    `sources` are paths below `package`: the modules themselves and all of ours that they import, whose constants and
    types went into the code. `compiler` names the compiler and its settings. OSError when a source is not there.
    """
    seen = hashlib.sha256("\0".join((compiler, tag, *sorted(modules))).encode())
    for name in sorted(sources):
        content = (package / name).read_bytes()
        seen.update(b"\0%s\0%d\0" % (name.encode(), len(content)))
        seen.update(content)
    return seen.hexdigest()


def find(package: Path = PACKAGE, environ: Mapping[str, str] = os.environ) -> Build:
    """The build of these sources for this interpreter; `Unfit` when there is none or it is not wanted. Loads nothing."""
    if environ.get("SMPPD_INTERPRETED", "0") not in ("", "0"):
        raise Unfit("SMPPD_INTERPRETED is set")
    directory = package / "_native" / TAG
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        made_of = digest(package, manifest["compiler"], TAG, manifest["modules"], manifest["sources"])
        if made_of != manifest["digest"]:
            raise Unfit("the sources changed since they were compiled")
        return Build(directory, frozenset(manifest["modules"]))
    except FileNotFoundError:
        raise Unfit("not compiled for this Python, or a source has gone") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise Unfit("the manifest of the compiled modules cannot be read") from None


def install() -> None:
    """Called once, before any other module of ours is imported. Never raises: the sources are always there to run."""
    global compiled, reason
    try:
        build = find()
        _load_library(build)
    except Unfit as error:
        compiled, reason = False, str(error)
    else:
        sys.meta_path.insert(0, Finder(build))
        compiled, reason = True, ""


def _load_library(build: Build) -> None:
    """Loads what all compiled modules share, so that a library which cannot be loaded stops none of their imports."""
    spec = build.spec(LIBRARY)
    if spec is None or spec.loader is None:
        raise Unfit("the compiled library cannot be found")
    try:
        library = module_from_spec(spec)
        sys.modules[LIBRARY] = library
        spec.loader.exec_module(library)
    except ImportError as error:
        sys.modules.pop(LIBRARY, None)
        raise Unfit("the compiled library cannot be loaded") from error
