"""Holds the house in its shape: who may import whom, where Twisted and the SMPP libraries appear, what may not occur.

The checker reads sources with `ast` and imports nothing of them; its own tests run it on sources that break a rule.
Imports under TYPE_CHECKING and inside functions count like any other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent

# room -> what it may import of ours, besides itself; "store.api" is that one module. Imports point down only.
TABLE: dict[str, frozenset[str]] = {
    "protocol": frozenset(),
    "pacing": frozenset(),
    "numbering": frozenset(),
    "passwords": frozenset(),
    "durable": frozenset(),
    "secrecy": frozenset(),
    "child": frozenset({"secrecy"}),
    "narrow_http": frozenset(),
    "config": frozenset({"pacing", "numbering"}),
    "metrics": frozenset(),
    "events": frozenset(),
    "message": frozenset({"protocol"}),
    "policy": frozenset({"message", "protocol", "config", "metrics", "numbering", "pacing"}),
    # Big lists by name. What rules ask of one is policy's; how it is compiled, kept and exchanged is here.
    "lists": frozenset({"config", "policy", "numbering", "durable", "child"}),
    # What is unusual in an account's traffic: screens, as `policy` has them, with a memory of their own.
    "traffic": frozenset({"message", "protocol", "config", "numbering", "policy"}),
    "ids": frozenset(),
    "vault": frozenset({"durable", "message", "config", "metrics", "numbering", "events"}),
    # What people want to be sent.
    "consent": frozenset(
        {"message", "protocol", "config", "numbering", "policy", "vault", "store.api", "store.consents"}
    ),
    "audit": frozenset({"durable", "message", "config", "events", "vault"}),
    "store": frozenset({"durable", "pacing", "message", "vault", "config", "metrics", "events"}),
    # Of a store it knows what any back end gives.
    "records": frozenset(
        {
            "durable",
            "pacing",
            "ids",
            "message",
            "numbering",
            "vault",
            "audit",
            "config",
            "events",
            "store.api",
            "store.log",
            "store.documents",
            "store.erasures",
            "store.holds",
            "store.underway",
        }
    ),
    # People and what they may do: of a store it knows the documents.
    "operators": frozenset(
        {"message", "vault", "audit", "config", "events", "passwords", "store.api", "store.documents"}
    ),
    # What is said about an installation as a whole, from its configuration, its store and its trail.
    "reports": frozenset(
        {"ids", "message", "vault", "audit", "config", "events", "store", "records", "operators", "policy"}
    ),
    "backup": frozenset(
        {"durable", "pacing", "ids", "message", "vault", "audit", "config", "events", "store", "records"}
    ),
    # What happened to messages, told from the committed log by a process of its own, which opens the store itself.
    "feed": frozenset({"durable", "child", "ids", "message", "config", "events", "vault", "audit", "store", "records"}),
    # A sample of their lives as spans, by a process of its own too.
    "spans": frozenset({"child", "message", "config", "vault", "store"}),
    "relay": frozenset(
        {
            "protocol",
            "config",
            "metrics",
            "message",
            "numbering",
            "ids",
            "pacing",
            "policy",
            "consent",
            "vault",
            "store.api",
        }
    ),
    # Configurations of other gateways: text in, ours out.
    "migration": frozenset({"passwords"}),
    # How others speak to the running daemon.
    "control": frozenset(),
    "net": frozenset({"relay", "protocol", "message", "config", "metrics", "events", "passwords"}),
    # The customers and carriers of `smppd demo` and `smppd simulate` know of smppd what anybody on the wire knows.
    "demo": frozenset({"protocol", "passwords"}),
    "daemon": frozenset(
        {
            "pacing",
            "ids",
            "message",
            "config",
            "metrics",
            "events",
            "policy",
            "lists",
            "consent",
            "vault",
            "audit",
            "store",
            "records",
            "feed",
            "spans",
            "operators",
            "relay",
            "net",
            "traffic",
            "control",
            "narrow_http",
            "native",
        }
    ),
    # Chooses between compiled and interpreted before any other module of ours is imported.
    "native": frozenset(),
}
# What people do with the data of an installation, whoever serves them. Of the relay it knows how a route is found.
TABLE["office"] = (
    TABLE["records"]
    | TABLE["operators"]
    | frozenset(
        {"consent", "control", "lists", "operators", "policy", "protocol", "records", "store", "relay.accept.routing"}
    )
)
# The web console is a process of its own: it asks the daemon as anybody does, and knows nothing of it.
TABLE["console"] = (
    TABLE["records"]
    | TABLE["reports"]
    | TABLE["operators"]
    | frozenset({"consent", "control", "durable", "narrow_http", "numbering", "office", "reports"})
)
# These are what a person starts: they may import anything and nobody below imports them.
TOP = frozenset({"cli", "__main__"})

TWISTED_ROOMS = frozenset({"net", "store", "daemon", "cli", "demo", "console", "narrow_http"})
# What callers of the store see has no Twisted either: only the store's threads have.
TWISTED_FREE_MODULES = frozenset({"store", "store.api", "store.log"})
# The other side of the wire in `smppd demo`. Whoever speaks to smpp.twisted does so in smpp.pdu's operations, so these
# import both; in the daemon itself smpp.pdu stays with protocol/wire.py.
PEER_STACK = ("demo", "cli.commands.demo", "cli.commands.simulate")
# SQL of the embedded store stays in its back end: what others know of a store is store/api.py and store/log.py.
SQLITE = "store.sqlite"
POSTGRES = "store.postgres"
SQLITE_ELSEWHERE = {
    "audit.trail": "a back end of its own, below the store: audit.db is one file with one table and one writer a call",
}
# A back end is known by name to itself and to these; all others open a store's parts by store/opening.py.
BACK_ENDS = ("store.sqlite", "store.postgres")
NAMES_BACK_ENDS = {
    "store.opening": BACK_ENDS,
    # What works on the files of the embedded store, and is refused where `store.url` is set.
    "backup.take": (SQLITE,),
    "backup.restore": (SQLITE,),
    "backup.opt_outs": (SQLITE,),
    "cli.shredding": (SQLITE,),
}
FORBIDDEN_MODULES = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"})
FORBIDDEN_CALLS = frozenset({"eval", "exec", "__import__"})
YAML_LOADS = frozenset({"load", "load_all"})
YAML_UNSAFE = frozenset(
    {"unsafe_load", "unsafe_load_all", "full_load", "full_load_all", "UnsafeLoader", "FullLoader", "Loader"}
)


def module_name(path: PurePosixPath) -> str:
    """smppd/store/api.py -> store.api; smppd/store/__init__.py -> store; smppd/__init__.py -> an empty name."""
    parts = path.with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that is imported: `from a import b, c` gives a.b and a.c; a relative one ".",
    and import_module of something that is no literal "?"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "."
            else:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and called(node).split(".")[-1] == "import_module":
            first = node.args[0] if node.args else None
            literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
            yield node.lineno, first.value if literal else "?"  # type: ignore[union-attr]


def called(node: ast.Call) -> str:
    """What a call names: `a.b(...)` gives a.b; an empty string for anything that is no plain name."""
    parts: list[str] = []
    target: ast.expr = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    return ".".join(reversed([*parts, target.id])) if isinstance(target, ast.Name) else ""


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def import_faults(module: str, name: str) -> Iterator[str]:
    """The rules that an import of `name` (as `imported` gives it) breaks in smppd's module `module`."""
    room = module.split(".")[0]
    if name == ".":
        yield "imports are absolute"
    if name == "?" and room not in TOP:
        yield "a room names what it imports"
    if name.split(".")[0] in FORBIDDEN_MODULES:
        yield f"{name.split('.')[0]} must not occur"
    if under(name, "twisted") and (room not in TWISTED_ROOMS or module in TWISTED_FREE_MODULES):
        yield "Twisted appears in net, the store's threads, daemon, console, narrow_http, cli and demo only"
    if name.split(".")[0] in ("sqlite3", "_sqlite3") and not under(module, SQLITE) and module not in SQLITE_ELSEWHERE:
        yield "sqlite3 is imported in store/sqlite only"
    if name.split(".")[0] in ("psycopg", "psycopg_binary", "psycopg_c") and not under(module, POSTGRES):
        yield "psycopg is imported in store/postgres only"
    if under(name, "smpp"):
        second = name.split(".")[1] if "." in name else ""
        peer = any(under(module, package) for package in PEER_STACK)
        if second == "twisted" and not peer:
            yield "smpp.twisted belongs to the demo's simulator and the tests"
        if second == "pdu" and not peer and module != "protocol.wire":
            yield "smpp.pdu is imported by protocol/wire.py alone"
        if second not in ("twisted", "pdu"):
            yield "name the part of smpp that is meant"
    if under(name, "smppd"):
        yield from own_faults(module, name.removeprefix("smppd").lstrip("."))


def own_faults(module: str, name: str) -> Iterator[str]:
    """The rules that an import of our own `name` (without "smppd.") breaks in `module`."""
    room, target = module.split(".")[0], name.split(".")[0]
    for back_end in BACK_ENDS:
        if under(name, back_end) and not under(module, back_end) and back_end not in NAMES_BACK_ENDS.get(module, ()):
            yield f"{back_end} is imported by store/opening.py"
    if target not in TABLE and target not in TOP:
        # `import smppd`, `from smppd import __version__`: the package itself, which holds nothing else.
        if target not in ("", "__version__"):
            yield f"{target} is no room of the table"
    elif not room:
        if target != "native":
            yield "the package itself imports nothing of ours but native"
    elif target == room:
        # Who imports store.api runs store/__init__.py too, which must not bring the rest along.
        if module == "store" and not under(name, "store.api"):
            yield "store/__init__.py imports store.api at most"
    elif room not in TOP and not any(under(name, allowed) for allowed in TABLE.get(room, frozenset())):
        yield f"{room} must not import {name}"


def construct_faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and rule of what may not occur in any file: eval, exec, unsafe YAML."""
    yaml_names = {"yaml"} | {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "yaml" and alias.asname
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "yaml":
            for alias in node.names:
                if alias.name in YAML_UNSAFE | YAML_LOADS:
                    yield node.lineno, f"yaml.{alias.name} is not safe"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in yaml_names:
            if node.attr in YAML_UNSAFE:
                yield node.lineno, f"yaml.{node.attr} is not safe"
        elif isinstance(node, ast.Call):
            name = called(node)
            if name.removeprefix("builtins.") in FORBIDDEN_CALLS:
                yield node.lineno, f"{name} must not occur"
            base, _, function = name.rpartition(".")
            if base in yaml_names and function in YAML_LOADS:
                loaders = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "Loader")]
                if not any("Safe" in ast.unparse(loader) for loader in loaders):
                    yield node.lineno, f"yaml.{function} without a safe loader"


def faults(path: str, source: str) -> list[str]:
    """Every rule that one Python file breaks, as "path:line: rule". `path` is relative to the checkout."""
    where = PurePosixPath(path)
    tree = ast.parse(source, filename=path)
    found: list[tuple[int, str]] = []
    if not ast.get_docstring(tree):
        found.append((1, "a file opens with its job in a docstring"))
    found += construct_faults(tree)
    if where.parts[0] == "smppd":
        module = module_name(where)
        if module and module.split(".")[0] not in TABLE.keys() | TOP:
            found.append((1, f"{module.split('.')[0]} is no room of the table"))
        found += ((line, fault) for line, name in imported(tree) for fault in import_faults(module, name))
    else:
        found += (
            (line, f"{name} must not occur") for line, name in imported(tree) if name.split(".")[0] in FORBIDDEN_MODULES
        )
    return [f"{path}:{line}: {fault}" for line, fault in sorted(set(found))]


# Pairs of our files that import each other, which none should: each of these goes when one side no longer needs the other.
def mutual(sources: Mapping[str, str]) -> set[frozenset[str]]:
    """The pairs of modules that import each other. sources: the text of each of our modules, by its name without "smppd."."""
    targets: dict[str, set[str]] = {}
    for module, source in sources.items():
        found = targets[module] = set()
        for _line, name in imported(ast.parse(source)):
            own = name.removeprefix("smppd.") if under(name, "smppd") else ""
            while own and own not in sources:  # `from smppd.relay.guard import Guard` names what is in a module
                own = own.rpartition(".")[0]
            if own and own != module:
                found.add(own)
    return {
        frozenset((module, target))
        for module, found in targets.items()
        for target in found
        if module in targets[target]
    }


def house() -> list[Path]:
    folders = ("smppd", "tests", "bench", "tools", "certs")
    files = (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")))
    return [file for file in files if "node_modules" not in file.parts]


def test_the_house_keeps_its_shape() -> None:
    found = [fault for file in house() for fault in faults(file.relative_to(ROOT).as_posix(), file.read_text("utf-8"))]
    assert not found, "\n" + "\n".join(found)


def test_no_two_files_import_each_other() -> None:
    files = (file for file in house() if file.relative_to(ROOT).parts[0] == "smppd")
    named = ((module_name(PurePosixPath(file.relative_to(ROOT).as_posix())), file) for file in files)
    found = mutual({module: file.read_text("utf-8") for module, file in named if module})
    assert not found, f"these import each other: {sorted(map(sorted, found))}"


# Inside the relay, from the bottom up: a file or folder imports what stands below it, and of its own line only itself.
RELAY: tuple[frozenset[str], ...] = (
    frozenset({"state", "log_counts"}),
    frozenset({"ledger"}),
    frozenset({"guard"}),
    frozenset({"context"}),
    frozenset({"restore", "record", "short_ids", "alphabets", "reply_senders", "turns"}),
    frozenset({"deliver", "send"}),
    frozenset({"accept", "receipts"}),
    frozenset(
        {
            "operations",
            "recovery",
            "adopting",
            "inheritance",
            "spill",
            "withdrawal",
            "acting",
            "erasing",
            "gauges",
            "flow",
            "log_changes",
            "stranded",
        }
    ),
    frozenset({"views"}),
    frozenset({"relay"}),
)


def climbs(module: str, name: str) -> bool:
    """Whether an import of `name` (without "smppd.") by a module of the relay points up, or to the side."""
    room, target = module.split(".")[1], name.split(".")[1]
    level = {one: number for number, some in enumerate(RELAY) for one in some}
    return room != target and level[target] >= level[room]


def test_nothing_in_the_relay_imports_what_stands_above_it() -> None:
    found = []
    for path in sorted((ROOT / "smppd" / "relay").rglob("[!_]*.py")):
        module = module_name(PurePosixPath(path.relative_to(ROOT).as_posix()))
        for _, name in imported(ast.parse(path.read_bytes())):
            parts = name.split(".")
            if parts[:2] == ["smppd", "relay"] and len(parts) > 2 and climbs(module, name.removeprefix("smppd.")):
                found.append(f"{module} imports {name}")
    assert not found


@pytest.mark.parametrize(
    ("module", "name", "up"),
    [
        ("relay.state.model", "relay.ledger.payload", True),
        ("relay.send.lanes", "relay.accept.parts", True),
        ("relay.send.lanes", "relay.deliver.mailroom", True),
        ("relay.context", "relay.guard.Guard", False),
        ("relay.guard", "relay.context.Context", True),
        ("relay.accept.desk", "relay.send.dispatch", False),
        ("relay.accept.desk", "relay.accept.brake", False),
        ("relay.receipts.parking", "relay.relay.Relay", True),
    ],
)
def test_an_import_that_points_up_is_found(module: str, name: str, up: bool) -> None:
    assert climbs(module, name) is up


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("from smppd.a.y import Y", "from smppd.a.x import X", True),
        ("from smppd.a import y", "import smppd.a.x", True),
        ("if TYPE_CHECKING:\n    from smppd.a.y import Y", "def f():\n    from smppd.a.x import X", True),
        ("from smppd.a.y import Y", "from smppd.a.z import Z", False),
        ("from smppd.a.y import Y", "import ast", False),
        ("from smppd.a.x import X", "", False),
    ],
)
def test_files_that_import_each_other_are_found(first: str, second: str, found: bool) -> None:
    pair = frozenset(("a.x", "a.y"))
    assert mutual({"a": "", "a.x": first, "a.y": second, "a.z": "import smppd.a.x"}) == ({pair} if found else set())


def test_every_exception_for_sqlite_is_one() -> None:
    for module in SQLITE_ELSEWHERE:
        source = ROOT.joinpath("smppd", *module.split(".")).with_suffix(".py").read_text("utf-8")
        assert any(name.split(".")[0] == "sqlite3" for _line, name in imported(ast.parse(source))), module


def test_whoever_may_name_a_back_end_does() -> None:
    for module, back_ends in NAMES_BACK_ENDS.items():
        source = ROOT.joinpath("smppd", *module.split(".")).with_suffix(".py").read_text("utf-8")
        named = [name.removeprefix("smppd.") for _line, name in imported(ast.parse(source))]
        there = [one for one in back_ends if (ROOT / "smppd" / one.replace(".", "/")).is_dir()]
        assert there and all(any(under(name, one) for name in named) for one in there), module


def test_the_documentation_says_who_names_a_back_end() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("| names a back end | why |", 1)[1]
    rows = page.split("\n\n", 1)[0].splitlines()[2:]
    told = {found[1] for row in rows for found in re.finditer(r"`([\w/]+)\.py`", row.split(" | ")[0])}
    assert {one.replace("/", ".") for one in told} == NAMES_BACK_ENDS.keys()


def test_the_checker_sees_the_house() -> None:
    seen = {file.relative_to(ROOT).as_posix() for file in house()}
    assert {"smppd/__init__.py", "smppd/protocol/wire.py", "tests/test_imports.py", "tools/lock.py"} <= seen


def test_the_table_is_the_one_in_the_documentation() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("| room | may import |", 1)[1]
    told: dict[str, frozenset[str]] = {}
    for row in page.split("\n\n", 1)[0].splitlines()[2:]:
        rooms, imports = row.strip("| ").split(" | ")
        for room in re.findall(r"`([\w.]+)`", rooms):
            told[room] = frozenset(re.findall(r"`([\w.]+)`", imports))
    assert {room: names for room, names in told.items() if room not in TOP} == TABLE


@pytest.mark.parametrize("room", sorted(TABLE))
def test_the_table_is_held_in_both_directions(room: str) -> None:
    for target in sorted(TABLE | dict.fromkeys(TOP)):
        source = f'"""Job."""\nfrom smppd.{target} import anything\n'
        allowed = target == room or target in TABLE[room]
        assert bool(faults(f"smppd/{room}/x.py", source)) is not allowed, target


@pytest.mark.parametrize(
    ("path", "code", "rule"),
    [
        ("protocol/x.py", "import smppd.message", "protocol must not import message"),
        ("protocol/x.py", "from smppd import message", "protocol must not import message"),
        ("protocol/x.py", "if TYPE_CHECKING:\n    from smppd.message import Message", "must not import message"),
        ("protocol/x.py", "def f():\n    import smppd.relay.accept.desk", "must not import relay.accept.desk"),
        ("protocol/x.py", "importlib.import_module('smppd.relay')", "must not import relay"),
        ("protocol/x.py", "importlib.import_module(name)", "names what it imports"),
        ("protocol/x.py", "from . import wire", "imports are absolute"),
        ("protocol/x.py", "from ..message import Message", "imports are absolute"),
        ("message.py", "import smppd.vault", "message must not import vault"),
        ("relay/x.py", "from smppd.store.sqlite import Store", "relay must not import store.sqlite"),
        ("relay/x.py", "from smppd.store import api, sqlite", "relay must not import store.sqlite"),
        ("relay/x.py", "import smppd.store", "relay must not import store"),
        ("daemon/x.py", "from smppd.store.sqlite import files", "store.sqlite is imported by store/opening.py"),
        ("daemon/x.py", "import smppd.store.postgres", "store.postgres is imported by store/opening.py"),
        (
            "cli/commands/x.py",
            "def f():\n    from smppd.store.sqlite.keys import KeyStore",
            "is imported by store/opening.py",
        ),
        ("backup/take.py", "from smppd.store.postgres import copies", "store.postgres is imported by store/opening.py"),
        ("store/opening/x.py", "from smppd.store.sqlite import files", "is imported by store/opening.py"),
        ("store/postgres/x.py", "from smppd.store.sqlite import files", "store.sqlite is imported by store/opening.py"),
        ("relay/x.py", "from smppd.store.apiary import x", "must not import store.apiary"),
        ("store/__init__.py", "from smppd.store.sqlite import Store", "imports store.api at most"),
        ("net/x.py", "from smppd.store.api import Records", "net must not import store.api"),
        ("records/x.py", "from smppd.store.sqlite import files", "records must not import store.sqlite"),
        ("relay/x.py", "from smppd.store.log import Records", "relay must not import store.log"),
        ("relay/x.py", "import smppd.daemon", "relay must not import daemon"),
        ("__init__.py", "from smppd.protocol import wire", "package itself imports nothing"),
        ("protocol/x.py", "from smppd import native", "protocol must not import native"),
        ("utils.py", "", "utils is no room"),
        ("protocol/x.py", "from smppd.helpers import x", "helpers is no room"),
        ("records/x.py", "import sqlite3", "sqlite3 is imported in store/sqlite only"),
        ("backup/x.py", "from sqlite3 import Error", "sqlite3 is imported in store/sqlite only"),
        ("cli/commands/x.py", "def f():\n    import sqlite3.dbapi2", "sqlite3 is imported in store/sqlite only"),
        ("daemon/x.py", "if TYPE_CHECKING:\n    import sqlite3", "sqlite3 is imported in store/sqlite only"),
        ("store/api.py", "import sqlite3", "sqlite3 is imported in store/sqlite only"),
        ("audit/x.py", "import sqlite3", "sqlite3 is imported in store/sqlite only"),
        ("store/x.py", "import psycopg", "psycopg is imported in store/postgres only"),
        ("records/x.py", "from psycopg import Error", "psycopg is imported in store/postgres only"),
        ("protocol/x.py", "import twisted", "Twisted appears in"),
        ("policy/x.py", "from twisted.internet import reactor", "Twisted appears in"),
        ("vault/x.py", "import twisted.internet.defer as d", "Twisted appears in"),
        ("relay/x.py", "if TYPE_CHECKING:\n    from twisted.internet import defer", "Twisted appears in"),
        ("store/api.py", "from twisted.internet import defer", "Twisted appears in"),
        ("store/log.py", "from twisted.internet import defer", "Twisted appears in"),
        ("config/x.py", "import twisted", "Twisted appears in"),
        ("__main__.py", "import twisted", "Twisted appears in"),
        ("protocol/session.py", "from smpp.pdu import operations", "wire.py alone"),
        ("net/x.py", "from smpp import pdu", "wire.py alone"),
        ("daemon/http.py", "from smpp.pdu import operations", "wire.py alone"),
        ("net/x.py", "import smpp.twisted.server", "smpp.twisted belongs to"),
        ("cli/commands/send.py", "import smpp.twisted.client", "smpp.twisted belongs to"),
        ("protocol/wire.py", "import smpp", "name the part"),
        ("vault/x.py", "import pickle", "pickle must not occur"),
        ("vault/x.py", "from pickle import loads", "pickle must not occur"),
        ("cli/x.py", "eval('1')", "eval must not occur"),
        ("cli/x.py", "exec('x = 1')", "exec must not occur"),
        ("cli/x.py", "builtins.eval('1')", "eval must not occur"),
        ("cli/x.py", "__import__('os')", "__import__ must not occur"),
        ("config/x.py", "yaml.load(text)", "without a safe loader"),
        ("config/x.py", "yaml.load(text, yaml.UnsafeLoader)", "not safe"),
        ("config/x.py", "yaml.load(text, Loader=yaml.FullLoader)", "not safe"),
        ("config/x.py", "import yaml as y\ny.load(text)", "without a safe loader"),
        ("config/x.py", "from yaml import load", "yaml.load is not safe"),
        ("config/x.py", "yaml.unsafe_load(text)", "not safe"),
    ],
)
def test_a_broken_rule_is_found(path: str, code: str, rule: str) -> None:
    found = faults(f"smppd/{path}", f'"""Job."""\n{code}\n')
    assert any(rule in fault for fault in found), found


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("protocol/x.py", "from smppd.protocol import wire\nimport struct"),
        ("protocol/wire.py", "from smpp.pdu.constants import command_status_name_map"),
        ("relay/x.py", "from smppd.store.api import Records\nimport smppd.store.api\nfrom smppd.store import api"),
        ("store/threads.py", "from twisted.internet import threads"),
        ("store/sqlite/x.py", "import sqlite3\nfrom sqlite3 import Error"),
        ("store/postgres/x.py", "import psycopg\nfrom psycopg.pq import ExecStatus"),
        ("net/x.py", "from twisted.internet import reactor\nfrom smppd.relay.accept.desk import SubmitDesk"),
        ("cli/commands/demo.py", "from smpp.twisted.server import SMPPServerFactory\nfrom smppd.daemon import run"),
        ("cli/main.py", "importlib.import_module(f'smppd.cli.commands.{name}')"),
        ("demo/smsc.py", "from smpp.pdu import operations\nimport smpp.twisted.server"),
        ("daemon.py", "import smppd.store.opening\nfrom smppd.daemon import http"),
        ("store/opening.py", "import smppd.store.postgres\nfrom smppd.store.sqlite.store import SqliteStore"),
        ("store/postgres/x.py", "from smppd.store.postgres.store import Store"),
        ("backup/take.py", "from smppd.store.sqlite import copies"),
        ("__init__.py", "from smppd import native"),
        ("__main__.py", "from smppd import __version__\nfrom smppd.cli.commands import demo"),
        ("config/x.py", "yaml.load(text, Loader=yaml.SafeLoader)\nyaml.load(text, yaml.CSafeLoader)"),
        ("config/x.py", "yaml.safe_load(text)\nyaml.compose(text)"),
        ("store/x.py", "cursor.execute('SELECT 1')\nconnection.exec('x')\nre.compile('x')"),
    ],
)
def test_what_is_allowed_passes(path: str, code: str) -> None:
    assert faults(f"smppd/{path}", f'"""Job."""\n{code}'.rstrip("\n") + "\n") == []


@pytest.mark.parametrize("path", ["smppd/protocol/x.py", "smppd/net/__init__.py", "tests/x.py", "bench/x.py"])
def test_a_file_without_a_docstring_is_found(path: str) -> None:
    assert faults(path, "x = 1\n") == [f"{path}:1: a file opens with its job in a docstring"]


def test_forbidden_modules_are_found_outside_the_package_too() -> None:
    assert faults("tests/x.py", '"""Job."""\nimport pickle\n') == ["tests/x.py:2: pickle must not occur"]
