"""The compiled form: it runs only while it is the form of these very sources, and both forms answer alike.

Run in both passes of `make test`; the second one, on the compiled modules, sets SMPPD_TEST_COMPILED.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from smppd import native
from tools import compile as tool

COMPILED_PASS = bool(os.environ.get("SMPPD_TEST_COMPILED"))
MODULES = ["smppd.ids", "smppd.message"]
SOURCES = ["message.py", "ids.py"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of two sources with a manifest that fits them, and no shared objects."""
    for name in SOURCES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'"""{name}"""\n')
    directory = tmp_path / "_native" / native.TAG
    directory.mkdir(parents=True)
    made_of = native.digest(tmp_path, "mypyc 1", native.TAG, MODULES, SOURCES)
    manifest = {"compiler": "mypyc 1", "modules": MODULES, "sources": SOURCES, "digest": made_of}
    (directory / native.MANIFEST).write_text(json.dumps(manifest))
    return tmp_path


def why(package: Path, **environ: str) -> str:
    with pytest.raises(native.Unfit) as caught:
        native.find(package, environ)
    return str(caught.value)


def manifest_of(package: Path) -> Path:
    return package / "_native" / native.TAG / native.MANIFEST


class TestFind:
    def test_a_build_of_these_sources_is_found(self, package: Path) -> None:
        build = native.find(package, {})
        assert build.modules == set(MODULES)
        assert build.file("smppd.ids") == manifest_of(package).parent / f"smppd/ids{native.SUFFIX}"

    @pytest.mark.parametrize("source", SOURCES)
    def test_an_edit_ends_it_and_taking_it_back_restores_it(self, package: Path, source: str) -> None:
        before = (package / source).read_text()
        (package / source).write_text(before + "x = 1\n")
        assert why(package) == "the sources changed since they were compiled"
        (package / source).write_text(before)
        assert native.find(package, {})

    def test_other_files_do_not_matter(self, package: Path) -> None:
        (package / "daemon.py").write_text("x = 1\n")
        assert native.find(package, {})

    def test_a_source_that_has_gone_ends_it(self, package: Path) -> None:
        (package / "message.py").unlink()
        assert "a source has gone" in why(package)

    def test_another_python_has_none(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native, "TAG", "cpython-399-riscv64-linux-gnu")
        assert "not compiled for this Python" in why(package)

    def test_a_build_moved_to_another_python_s_place_does_not_fit(
        self, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (package / "_native" / native.TAG).rename(package / "_native" / "other")
        monkeypatch.setattr(native, "TAG", "other")
        assert why(package) == "the sources changed since they were compiled"

    @pytest.mark.parametrize("key", ["compiler", "modules", "sources", "digest"])
    def test_the_manifest_cannot_say_something_else(self, package: Path, key: str) -> None:
        content = json.loads(manifest_of(package).read_text())
        changed: Any = content[key][1:]
        manifest_of(package).write_text(json.dumps(content | {key: changed}))
        assert why(package) == "the sources changed since they were compiled"

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"modules": 1}', '"\\ud800"', "\xff"])
    def test_a_broken_manifest_is_no_build(self, package: Path, text: str) -> None:
        manifest_of(package).write_bytes(text.encode("latin-1"))
        assert why(package) == "the manifest of the compiled modules cannot be read"

    def test_the_environment_decides(self, package: Path) -> None:
        assert why(package, SMPPD_INTERPRETED="1") == "SMPPD_INTERPRETED is set"
        assert native.find(package, {"SMPPD_INTERPRETED": "0"}) == native.find(package, {"SMPPD_INTERPRETED": ""})

    def test_looking_reads_each_source_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Milliseconds for all of them: every process of smppd begins with it."""
        files = [path.relative_to(native.PACKAGE).as_posix() for path in native.PACKAGE.rglob("*.py")]
        read: list[Path] = []
        plain = Path.read_bytes

        def reads(path: Path) -> bytes:
            read.append(path)
            return plain(path)

        monkeypatch.setattr(Path, "read_bytes", reads)
        native.digest(native.PACKAGE, "", "", (), files)
        assert sorted(read) == sorted(native.PACKAGE / name for name in files)


class TestInstall:
    def test_a_library_that_does_not_load_leaves_the_sources(
        self, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build = native.find(package, {})
        build.file(native.LIBRARY).write_bytes(b"no shared object")
        monkeypatch.setattr(native, "find", lambda: build)
        monkeypatch.setattr(native, "compiled", True)
        monkeypatch.setattr(native, "reason", "")
        loaded, path = sys.modules.get(native.LIBRARY), list(sys.meta_path)
        try:
            native.install()
        finally:
            if loaded:
                sys.modules[native.LIBRARY] = loaded
        assert (native.compiled, native.reason) == (False, "the compiled library cannot be loaded")
        assert sys.meta_path == path

    def test_the_finder_answers_for_its_modules_alone(self, package: Path) -> None:
        finder = native.Finder(native.find(package, {}))
        spec = finder.find_spec("smppd.message")
        assert spec and spec.origin == str(finder.build.file("smppd.message"))
        for name in ("smppd", "smppd.relay", "smppd.daemon", "message", "smppd.message.x", native.LIBRARY):
            assert finder.find_spec(name) is None

    def test_the_sources_run_when_asked_to(self) -> None:
        code = "from smppd import native, message; print(native.compiled, message.__file__)"
        environ = os.environ | {"SMPPD_INTERPRETED": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        assert done.stdout == f"False {native.PACKAGE / 'message.py'}\n"


# What takes all of a generator at once, so that it does not matter that mypyc makes a list of it beforehand.
EAGER = {
    "all",
    "any",
    "bytes",
    "dict",
    "fromkeys",
    "frozenset",
    "join",
    "list",
    "max",
    "min",
    "next",
    "set",
    "sorted",
    "sum",
    "tuple",
}


def taken_differently(source: str) -> list[str]:
    """What mypyc compiles to something else than the interpreter runs, and mypy does not object to.

    One name for two types of exception in a function: the second one becomes a TypeError when it is caught. A generator
    as an argument: it is run before the call, outside of a `try` that the function called has around it.
    """
    found: list[str] = []

    def look(node: ast.AST, caught: dict[str, set[str]]) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            caught = {}
        if isinstance(node, ast.ExceptHandler) and node.name and node.type:
            types = caught.setdefault(node.name, set())
            types.add(ast.unparse(node.type))
            if len(types) > 1:
                found.append(f"{node.lineno}: {node.name} names exceptions of different types")
        if isinstance(node, ast.Call) and any(isinstance(argument, ast.GeneratorExp) for argument in node.args):
            if ast.unparse(node.func).rpartition(".")[2] not in EAGER:
                found.append(f"{node.lineno}: a generator is handed to {ast.unparse(node.func)}")
        for child in ast.iter_child_nodes(node):
            look(child, caught)

    look(ast.parse(source), {})
    return found


ONCE = "def {}():\n    try:\n        g()\n    except {} as error:\n        h(error)\n"
TWICE = ONCE.format("f", "A") + "    except B as error:\n        h(error)\n"
APART = ONCE.format("f", "A") + ONCE.format("i", "B")


class TestWhatMypycTakesDifferently:
    def test_none_of_it_is_compiled(self) -> None:
        for module in tool.chosen():
            file = tool.file_of(module)
            assert file
            assert not taken_differently(file.read_text()), module

    @pytest.mark.parametrize("source", ["f(x for x in y)", "self.f(1, (x for x in y))", TWICE])
    def test_it_is_found(self, source: str) -> None:
        assert taken_differently(source)

    @pytest.mark.parametrize("source", ["b''.join(x for x in y)", "f([x for x in y])", APART])
    def test_nothing_else_is(self, source: str) -> None:
        assert not taken_differently(source)


class TestTool:
    def test_every_module_it_compiles_exists(self) -> None:
        for module in (*tool.chosen(), *tool.LEFT_OUT):
            assert tool.file_of(module), f"tools/compile.py names smppd.{module}, which is no module"

    def test_what_a_module_imports_is_what_its_build_depends_on(self, tmp_path: Path) -> None:
        texts = {
            "a.py": "from smppd.room import b\nimport smppd.c\nimport json\nfrom smppd import d\n",
            "room/__init__.py": "from smppd.e import f\n",
            "room/b.py": "def f():\n    from smppd.a import g\n",
            "c.py": "", "d.py": "", "e.py": "", "unused.py": "",
        }  # fmt: skip
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        assert tool.sources(["a"], tmp_path) == ["a.py", "c.py", "d.py", "e.py", "room/__init__.py", "room/b.py"]

    def test_every_module_of_the_message_path_is_compiled_however_deep_it_lies(self) -> None:
        path = {
            ".".join(file.relative_to(tool.PACKAGE).with_suffix("").parts)
            for room in ("consent", "policy", "relay")
            for file in (tool.PACKAGE / room).rglob("*.py")
            if file.stem != "__init__"
        }
        chosen = set(tool.chosen())
        assert path - tool.LEFT_OUT <= chosen and not chosen & tool.LEFT_OUT
        for module in ("accept.desk", "send.dispatch", "receipts.receipts", "deliver.mailroom", "ledger.ledger"):
            assert f"relay.{module}" in chosen

    def test_neither_the_command_line_nor_the_daemon_s_wiring_costs_a_compilation(self) -> None:
        rooms = {name.split("/")[0] for name in tool.sources(tool.chosen())}
        assert not rooms & {"cli", "demo", "daemon", "net", "__main__.py", "__init__.py", "native.py"}

    def test_without_a_compiler_it_warns_or_fails_and_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setenv("CC", "no-such-compiler")
        monkeypatch.setattr(tool, "WORK", tmp_path)
        assert tool.main(["--force"]) == 1
        assert "apt install gcc" in capsys.readouterr().err
        assert tool.main(["--force", "--optional"]) == 0
        said = capsys.readouterr().err
        assert said.startswith("WARNING: ") and "apt install gcc" in said and "make native" in said

    def test_a_build_takes_the_place_of_the_one_before_in_one_step(self, tmp_path: Path) -> None:
        staging, destination = tmp_path / "out", tmp_path / "_native" / "tag"
        for content in ("one", "two"):
            staging.mkdir(exist_ok=True)
            (staging / "x").write_text(content)
            tool.swap(staging, destination)
            assert (destination / "x").read_text() == content
        assert [path.name for path in destination.parent.iterdir()] == ["tag"]


class TestCompiledPass:
    __test__ = COMPILED_PASS

    def test_this_process_runs_the_compiled_modules(self) -> None:
        assert native.compiled, native.reason
        for module in tool.full(tool.chosen()):
            assert str(importlib.import_module(module).__file__).endswith(native.SUFFIX), module

    def test_nothing_of_the_relay_runs_interpreted_but_what_is_left_out(self) -> None:
        importlib.import_module("smppd.relay.relay")
        left_out = set(tool.full(tool.LEFT_OUT))
        interpreted = [
            name
            for name, module in sys.modules.items()
            if name.startswith(("smppd.consent.", "smppd.relay.", "smppd.policy.")) and not hasattr(module, "__path__")
            if name not in left_out and not str(module.__file__).endswith(native.SUFFIX)
        ]
        assert not interpreted

    def test_the_daemon_runs_them(self) -> None:
        done = subprocess.run([sys.executable, "-m", "smppd", "--version"], capture_output=True, text=True, check=True)
        assert " (compiled, " in done.stdout

    def test_a_traceback_s_frames_name_module_function_and_line(self) -> None:
        from smppd.daemon.logs import frames
        from smppd.protocol import wire

        with pytest.raises(wire.BodyError) as caught:
            wire.Sm(b"\0\0\0\x12\0\0\0\4" + bytes(10))
        modules = [frame.split(":")[0] for frame in frames(caught.value.__traceback__)]
        assert "smppd.protocol.wire" in modules
        assert all(int(frame.split(":")[2]) > 0 for frame in frames(caught.value.__traceback__))

    def test_a_wrong_type_is_refused_at_once_without_its_value(self) -> None:
        from smppd.protocol import wire

        with pytest.raises(TypeError) as caught:
            wire.Sm("447700900123")  # type: ignore[arg-type]
        assert "447700900123" not in str(caught.value)


def test_the_pass_is_what_it_says() -> None:
    if COMPILED_PASS:
        assert native.compiled, native.reason
    elif os.environ.get("SMPPD_INTERPRETED"):
        assert not native.compiled
    assert native.compiled is not bool(native.reason)
