"""Compiles the modules on a message's path with mypyc into `smppd/_native/` (`make native`; docs/adr/0006).

Takes the sources as they are at the start, builds in `build/native`, tries the result, and then puts it in place of the
one before in one step. Does nothing when the present build is already of these sources.

    python -m tools.compile              compile, if need be; status 1 when that cannot be done
    python -m tools.compile --optional   the same, but a warning instead of an error: everything works from the sources
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from smppd import native

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "smppd"
WORK: Final = ROOT / "build" / "native"

# What gains 2 % or more of a message's cost by `make bench-micro`, alone or with what it calls (docs/adr/0006).
ROOMS: Final = ("consent", "policy", "relay", "traffic")  # with what is split off or added later
LEFT_OUT: Final = frozenset(
    {
        "policy.explain",
        "relay.acting",
        "relay.adopting",
        "relay.erasing",
        "relay.flow",
        "relay.inheritance",
        "relay.ledger.joined",
        "relay.operations",
        "relay.receipts.mo_owners",
        "relay.recovery",
        "relay.stranded",
        "relay.turns",
        "relay.views",
    }
)
SINGLE: Final = tuple(
    (
        "ids lists.named lists.table message numbering protocol.allowance protocol.framing protocol.joiner protocol.receipt"
        " protocol.receipt_ids protocol.receipt_states protocol.session protocol.timers protocol.wire vault.keys vault.seal"
    ).split()
)


def chosen(package: Path = PACKAGE) -> tuple[str, ...]:
    """The modules to compile, without `smppd.`, sorted."""
    files = (file.relative_to(package) for room in ROOMS for file in (package / room).rglob("[!_]*.py"))
    rooms = (".".join(file.with_suffix("").parts) for file in files)
    return tuple(sorted({*SINGLE, *rooms} - LEFT_OUT))


# -O3 in one piece takes three times as long to build and is not faster by what can be measured.
OPTIMISE: Final = "1"
# A private attribute `_real` becomes the C name `__real`, a keyword of GNU C.
DEFINES: Final = ("-D__real=real_", "-D__imag=imag_")


class CompileError(Exception):
    """The modules cannot be compiled; the text says why and, for a fault of the sources, where."""


def file_of(module: str, package: Path = PACKAGE) -> Path | None:
    """`ids` -> .../relay/ids.py, `config` -> .../config/__init__.py, None for what is no module of ours."""
    path = package.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if module and candidate.is_file():
            return candidate
    return None


def imported(file: Path) -> Iterator[str]:
    """What a file imports of ours, without `smppd.`: `from smppd.a import b` gives a and a.b, one of which is a module."""
    for node in ast.walk(ast.parse(file.read_bytes(), filename=file.name)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name.removeprefix("smppd.") for name in names if name.startswith("smppd."))


def sources(modules: Iterable[str], package: Path = PACKAGE) -> list[str]:
    """The files, relative to the package, that `modules` and all they import of ours stand in, sorted.

    Not only the modules': mypyc writes other modules' constants into the code, and relies on their types.
    """
    found: set[Path] = set()
    todo = list(modules)
    while todo:
        file = file_of(todo.pop(), package)
        if file and file not in found:
            found.add(file)
            todo += imported(file)
    return sorted(file.relative_to(package).as_posix() for file in found)


def compiler() -> str:
    """Compiler and settings, as the manifest names them."""
    try:
        return f"mypyc {version('mypy')} -O{OPTIMISE}"
    except PackageNotFoundError:
        raise CompileError("mypy, which brings mypyc, is not installed (requirements/dev.txt)") from None


def fresh(directory: Path) -> bool:
    """Whether the build in `directory` is what compiling now would give."""
    try:
        manifest = json.loads((directory / native.MANIFEST).read_bytes())
        wanted = native.digest(PACKAGE, compiler(), native.TAG, full(chosen()), sources(chosen()))
        return bool(manifest["digest"] == wanted)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):
        return False


def full(modules: Iterable[str]) -> list[str]:
    """Dotted names with the package, sorted."""
    return sorted(f"smppd.{module}" for module in modules)


def require_compiler() -> None:
    """CompileError that says what to install, where there is no C compiler or no Python.h."""
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if not shutil.which(command):
        raise CompileError(f"there is no C compiler ({command}); on Debian: apt install gcc libc6-dev")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise CompileError("Python.h is missing; on Debian: apt install python3-dev")


def generate(snapshot: Path, modules: Sequence[str], c_files: Path, cache: Path) -> list[Any]:
    """Sources to C: the setuptools extensions of all modules and of their library. CompileError with mypy's messages."""
    from mypyc.build import mypycify

    files = [str(Path("smppd", *module.split(".")).with_suffix(".py")) for module in modules]
    said = io.StringIO()
    with contextlib.chdir(snapshot), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            return list(
                mypycify(
                    ["--config-file", "setup.cfg", "--cache-dir", str(cache), *files],
                    opt_level=OPTIMISE,
                    debug_level="0",
                    multi_file=True,
                    target_dir=str(c_files),
                    group_name=native.LIBRARY.removesuffix("__mypyc"),
                )
            )
        except SystemExit as error:
            text = f"{said.getvalue()}\n{error.code if isinstance(error.code, str) else ''}".strip()
            raise CompileError(f"mypyc does not take the sources:\n{text}") from None


def make(extensions: Sequence[Any], objects: Path, out: Path) -> None:
    """C to shared objects below `out`, on all cores. CompileError; what the C compiler said is on standard error."""
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext
    from setuptools.errors import BaseError

    class Builder(build_ext):  # type: ignore[misc]
        """build_ext can build several extensions at a time, but nearly all code is in the files of one."""

        def build_extensions(self) -> None:
            def build(extension: Any, source: str) -> list[str]:
                made: list[str] = self.compiler.compile(
                    [source],
                    output_dir=str(objects),
                    include_dirs=extension.include_dirs,
                    extra_postargs=[*extension.extra_compile_args, *DEFINES],
                )
                return made

            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                parts = [(one, [pool.submit(build, one, source) for source in one.sources]) for one in extensions]
                for extension, jobs in parts:
                    files = [file for job in jobs for file in job.result()]
                    self.compiler.link_shared_object(files, self.get_ext_fullpath(extension.name))

    command = Builder(Distribution({"ext_modules": list(extensions)}))
    command.build_lib, command.build_temp = str(out), str(objects)
    command.ensure_finalized()
    try:
        command.run()
    except BaseError as error:
        raise CompileError(f"the C compiler failed: {error}") from None


def build(destination: Path, work: Path) -> str:
    """Compiles the chosen modules into `destination`, replacing what is there in one step. Returns what was done, in words."""
    require_compiler()
    began = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    snapshot, c_files, objects, staging = (work / name for name in ("sources", "c", "objects", "out"))
    for directory in (snapshot, c_files, objects, staging):
        shutil.rmtree(directory, ignore_errors=True)
    # Somebody may edit while this runs: what is compiled and what the manifest speaks of is one copy.
    shutil.copytree(PACKAGE, snapshot / "smppd", ignore=shutil.ignore_patterns("_native", "__pycache__"))
    shutil.copy(ROOT / "setup.cfg", snapshot)
    modules = chosen(snapshot / "smppd")
    files = sources(modules, snapshot / "smppd")
    names = full(modules)
    make(generate(snapshot, modules, c_files, work / "mypy"), objects, staging)
    manifest = {
        "compiler": compiler(),
        "modules": names,
        "sources": files,
        "digest": native.digest(snapshot / "smppd", compiler(), native.TAG, names, files),
    }
    (staging / native.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    attempt(snapshot / "smppd", staging, names)
    swap(staging, destination)
    size = sum(file.stat().st_size for file in destination.rglob("*.so")) / 1024
    return f"compiled {len(names)} modules with {compiler()} in {time.monotonic() - began:.0f} s ({size:,.0f} KiB)"


def attempt(package: Path, staging: Path, names: Sequence[str]) -> None:
    """Imports every module from the new build, in a process of its own. CompileError when one cannot be."""
    shutil.copytree(staging, package / "_native" / native.TAG)
    script = (
        "import importlib, sys\nfrom smppd import native\nassert native.compiled, native.reason\n"
        "for name in sys.argv[1:]:\n    assert importlib.import_module(name).__file__.endswith(native.SUFFIX), name\n"
    )
    environ = {key: value for key, value in os.environ.items() if key != "SMPPD_INTERPRETED"}
    command = [sys.executable, "-c", script, *names]
    done = subprocess.run(command, cwd=package.parent, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(f"the compiled modules do not import:\n{done.stderr.strip()}")


def swap(staging: Path, destination: Path) -> None:
    """Puts a directory in the place of another. Processes that have mapped the old files keep them."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    incoming, outgoing = (destination.with_name(f".{word}-{os.getpid()}") for word in ("new", "old"))
    shutil.copytree(staging, incoming)
    if destination.exists():
        destination.rename(outgoing)
    incoming.rename(destination)
    shutil.rmtree(outgoing, ignore_errors=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One compilation at a time in a checkout."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.compile", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--optional", action="store_true", help="warn instead of failing")
    parser.add_argument("--force", action="store_true", help="compile even if the present build is of these sources")
    args = parser.parse_args(argv)
    destination = PACKAGE / "_native" / native.TAG
    try:
        with alone():
            if args.force or not fresh(destination):
                print("smppd set-up: compiling the message path (half a minute; only after changes to it)", flush=True)
                print(f"smppd set-up: {build(destination, WORK)}")
    except (CompileError, OSError, SyntaxError) as error:
        if not args.optional:
            print(f"smppd set-up: {error}", file=sys.stderr)
            return 1
        advice = (
            "WARNING: the modules on a message's path could not be compiled, so smppd runs them interpreted. Nothing is "
            "missing, but a message costs nearly twice the processor time. The reason stands below; `make native` tries "
            "again."
        )
        print(f"{textwrap.fill(advice, 100)}\n\n{error}\n", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
