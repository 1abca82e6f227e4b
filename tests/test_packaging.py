"""The package, the locks, the image and the unit keep their promises: hashed, without secrets, without privileges.

Reads files and asks git; the slow half, a build without Docker, is `make docker-steps`.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import smppd
from smppd.config import parse
from tools.unit import Unit, UnitError, service

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("runtime", "otel", "postgres", "build", "dev", "peers", "node", "fuzz", "packages", "chart")

# Put together so that this file does not hold what it forbids.
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE" + rb" KEY-----")
MACHINE = re.compile(
    r"(?<![\w.])/(?:w[o]rk|r[o]ot|h[o]me/\w+|Us[e]rs/\w+)(?=/)"  # somebody's checkout or home
    r"|\b[\w-]+\.(?:int[e]rnal|c[o]rp|int[r]anet)\b(?!\()"  # somebody's network
    r"|\b(?:art[i]factory|n[e]xus-repository|dev[p]i)\b",  # somebody's package registry
)


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements: str) -> set[str]:
    """The distributions that the lines of a .in file or of install_requires ask for, normalised."""
    lines = (line.split("#")[0].strip() for line in requirements.splitlines())
    return {normalise(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in lines if line and line[0] != "-"}


def locked(name: str) -> dict[str, list[str]]:
    """A lock's requirements: normalised name -> what follows it, the version first."""
    lines = (line for line in read(f"requirements/{name}.txt").splitlines() if not line.startswith("#"))
    found: dict[str, list[str]] = {}
    for requirement in "\n".join(lines).replace("\\\n", " ").splitlines():
        words = requirement.split()
        if words:
            found[normalise(re.split(r"[=<>~!]", words[0], maxsplit=1)[0])] = words
    return found


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(read("setup.cfg"))
    return parser


def tracked() -> list[Path]:
    """What git tracks, or every file of ours where this is no checkout."""
    if (ROOT / ".git").exists():
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        files = [ROOT / name.decode() for name in names.split(b"\0") if name]
    else:
        away = {".venv", "node_modules", "var", "__pycache__"}
        files = [path for path in ROOT.rglob("*") if not away & set(path.relative_to(ROOT).parts)]
    return [file for file in files if file.is_file()]


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    requirements = locked(name)
    assert requirements
    for words in requirements.values():
        assert re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9a-z.]*", words[0]), words[0]
        assert len(words) > 1, f"{words[0]} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in words[1:]), words[0]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_what_its_source_asks_for(name: str) -> None:
    assert named(read(f"requirements/{name}.in")) <= locked(name).keys()


def test_every_lock_is_known() -> None:
    assert {path.stem for path in (ROOT / "requirements").glob("*.txt")} == set(LOCKS)


def test_locks_agree_on_versions() -> None:
    versions: dict[str, set[str]] = {}
    for name in LOCKS:
        for package, words in locked(name).items():
            versions.setdefault(package, set()).add(words[0])
    assert not {package: found for package, found in versions.items() if len(found) > 1}


def test_the_package_asks_for_what_is_locked() -> None:
    assert named(setup()["options"]["install_requires"]) == named(read("requirements/runtime.in"))


@pytest.mark.parametrize(("extra", "package"), [("otel", "opentelemetry"), ("postgres", "psycopg")])
def test_an_extra_asks_for_what_is_locked_and_the_tests_have_all_of_it(extra: str, package: str) -> None:
    assert named(setup()["options.extras_require"][extra]) == named(read(f"requirements/{extra}.in"))
    assert locked(extra).keys() <= locked("dev").keys() | locked("runtime").keys()
    assert not any(package in one for one in locked("runtime"))


def test_what_is_installed_without_dependencies_finds_them_in_the_runtime_lock() -> None:
    for package in locked("peers"):
        for requirement in importlib.metadata.requires(package) or []:
            if "extra ==" not in requirement:
                assert named(requirement) <= locked("runtime").keys(), f"{package} needs {requirement}"


def test_the_environment_is_the_locked_one() -> None:
    for package, words in (locked("runtime") | locked("dev") | locked("peers")).items():
        assert importlib.metadata.version(package) == words[0].partition("==")[2], f"{package}: run make venv"


def test_no_lock_names_a_registry() -> None:
    for name in LOCKS:
        assert "://" not in read(f"requirements/{name}.txt")
    packages = json.loads(read("tests/peers/package-lock.json"))["packages"]
    for path, package in packages.items():
        assert "resolved" not in package, path
        assert not path or package["integrity"].startswith("sha512-"), path


def test_node_smpp_is_provisioned() -> None:
    node = ROOT / ".venv" / "bin" / "node"
    assert node.exists(), "the node-smpp peer is missing: run make test, or make node once"
    script = (
        "process.stdout.write(require('./package-lock.json').packages['node_modules/smpp'].version); require('smpp')"
    )
    answer = subprocess.run(
        [node, "-e", script], cwd=ROOT / "tests" / "peers", capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, ""), "node-smpp does not load: run make node"
    assert answer.stdout == json.loads(read("tests/peers/package.json"))["dependencies"]["smpp"]


def test_no_private_key_and_no_machine_is_committed() -> None:
    files = tracked()
    assert files
    for file in files:
        name = file.relative_to(ROOT).as_posix()
        assert file.suffix not in {".pem", ".key", ".p12"}, name
        content = file.read_bytes()
        assert not PRIVATE_KEY.search(content), f"{name} holds a private key"
        found = MACHINE.search(content.decode("utf-8", "replace"))
        assert not found, f"{name} names a machine: {found and found[0]}"


@pytest.mark.parametrize(
    "text", ["in /ro" + "ot/x", "'/wo" + "rk/main'", "see /ho" + "me/me/x", "https://pypi.acme.int" + "ernal/"]
)
def test_a_machine_is_recognised(text: str) -> None:
    assert MACHINE.search(text)


@pytest.mark.parametrize(
    "text", ["/opt/smppd/bin", "the network/work/time", "/var/lib/smppd", "the root/of", "x.internal()"]
)
def test_ordinary_text_names_no_machine(text: str) -> None:
    assert not MACHINE.search(text)


def test_every_file_of_the_package_gets_into_the_wheel() -> None:
    for file in (ROOT / "smppd").rglob("*.py"):
        assert (file.parent / "__init__.py").exists(), f"{file.parent.relative_to(ROOT)} is no package"
    # setuptools itself says what it would pack, in a process of its own, without building anything.
    script = (
        "from setuptools import Distribution\n"
        "d = Distribution(); d.parse_config_files(); c = d.get_command_obj('build_py'); c.ensure_finalized()\n"
        "import os\n"
        "print('\\n'.join(os.path.normpath(os.path.join(s, f)) for _, s, _, fs in c.data_files for f in fs))\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    packed = set(answer.stdout.split())
    data = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "smppd").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert "smppd/py.typed" in data
    assert data <= packed, "package_data in setup.cfg leaves files out"


def test_the_console_script_is_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="smppd")
    assert script.value == "smppd.__main__:main"
    assert (Path(sys.executable).parent / "smppd").exists()


def test_the_changelog_knows_this_version() -> None:
    assert smppd.__version__ == importlib.metadata.version("smppd"), "run make venv"
    assert f"## [{smppd.__version__}]" in read("CHANGELOG.md")


def test_the_makefile_has_its_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), flags=re.M))
    promised = "venv demo test check lint bench bench-profile torture fuzz certs docker-steps clean"
    assert set(promised.split()) <= targets
    assert targets <= set(read("Makefile").split(".PHONY:")[1].split("\n\n")[0].replace("\\\n", " ").split())


def test_continuous_integration_runs_what_a_change_must_pass() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail" and lines.count("make check") == 1
    steps = re.search(r"^check: (.*?) ##", read("Makefile"), flags=re.M)
    assert steps and steps[1].split() == ["lint", "types", "test", "test-stores"]


def test_every_module_that_a_target_runs_exists() -> None:
    modules = set(re.findall(r"-m ((?:bench|tests|tools)[\w.]*)", read("Makefile")))
    assert {"tests.fuzz", "tests.torture", "bench", "tools.compile"} <= modules
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def dockerfile() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: (RUN, command) and so on, continued lines joined."""
    text = re.sub(r"^#.*\n", "", read("Dockerfile"), flags=re.M).replace("\\\n", " ")
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line]


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's instructions, a list for each FROM."""
    found: list[list[tuple[str, str]]] = []
    for instruction in dockerfile():
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def test_docker_steps_are_the_dockerfile_s() -> None:
    build, _ = stages()
    script = read("tools/docker-steps.sh")
    steps = [
        line.removeprefix("step ").replace('"$root"', "") for line in script.splitlines() if line.startswith("step ")
    ]
    assert steps == [rest for word, rest in build if word == "RUN"]
    copied = {source for word, rest in build if word == "COPY" for source in rest.split()[:-1]}
    listed = re.search(r"git ls-files .*? -- (.*?) \|", script)
    assert listed and copied == set(listed[1].split())


def test_the_image_is_built_from_the_locks_alone() -> None:
    for word, rest in dockerfile():
        assert word != "ADD"
        if " pip install " in rest:
            assert "--require-hashes" in rest or "--no-index" in rest, rest
        assert ":latest" not in rest
    kept = {line[1:].rstrip("/") for line in read(".dockerignore").splitlines() if line.startswith("!")}
    for word, rest in stages()[0]:
        for source in rest.split()[:-1] if word == "COPY" else []:
            assert source.split("/")[0] in kept, f".dockerignore leaves {source} out"
            assert (ROOT / source).exists(), source


def test_the_image_runs_without_privileges() -> None:
    final = stages()[1]
    words = dict(final)
    assert words["USER"] == "10001:10001"
    assert words["STOPSIGNAL"] == "SIGTERM"
    assert words["EXPOSE"].split() == ["3550", "9180"]
    assert "/healthz" in words["HEALTHCHECK"]
    assert json.loads(words["ENTRYPOINT"]) == ["smppd"]
    assert json.loads(words["CMD"])[:2] == ["run", "--config"]
    assert all(rest.startswith("--from=build ") for word, rest in final if word == "COPY")
    order = [word for word, _ in final]
    assert "RUN" not in order[order.index("USER") :], "nothing is done after privileges are dropped"


@pytest.fixture
def installed() -> Iterator[Unit]:
    """What docs/operations.md installs, in a directory that other users can look into."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        held = root / "etc/smppd/credentials"
        held.mkdir(parents=True)
        environment = {**os.environ, "PYTHON": sys.executable}
        made = root / "made"
        subprocess.run([ROOT / "certs/make.sh", made], check=True, capture_output=True, env=environment)
        shutil.copy(made / "server.key", held / "server.key")
        shutil.copy(made / "server.pem", root / "etc/smppd/server.pem")
        (held / "carrier-a").write_text("not a real one\n")
        text = read("deploy/smppd.yaml").replace("/var/lib/smppd", f"{root}/var/lib/smppd")
        text = text.replace("0.0.0.0:3550", "127.0.0.1:0").replace("smsc.example.net:3550", "127.0.0.1:9")
        config = root / "etc/smppd/smppd.yaml"
        config.write_text(text + "http: {address: '127.0.0.1:0'}\ndrain: 2s\n")
        for file in held.iterdir():
            file.chmod(0o600)
        smppd_script = Path(sys.executable).parent / "smppd"
        environment["CREDENTIALS_DIRECTORY"] = str(held)
        subprocess.run(
            [smppd_script, "keys", "init", "--config", config], check=True, capture_output=True, env=environment
        )
        unit = Unit(root, smppd_script)
        unit.prepare()
        try:
            yield unit
        finally:
            unit.close()


def test_the_unit_is_hardened() -> None:
    lines = {line for line in read("deploy/smppd.service").splitlines() if line and not line.startswith("#")}
    wanted = """DynamicUser=yes User=smppd ProtectSystem=strict ProtectHome=yes NoNewPrivileges=yes PrivateTmp=yes
        CapabilityBoundingSet= LimitNOFILE=65536 LimitCORE=0 UMask=0077 Restart=on-failure TimeoutStopSec=60
        LoadCredential=kek:/etc/smppd/credentials/kek StateDirectory=smppd MemoryDenyWriteExecute=yes
        Type=notify-reload NotifyAccess=main WatchdogSec=30"""
    assert set(wanted.split()) <= lines
    assert "ExecStart=/opt/smppd/bin/smppd run --config /etc/smppd/smppd.yaml" in lines


def test_the_unit_lets_password_threads_yield() -> None:
    filters = service(read("deploy/smppd.service"))["SystemCallFilter"]
    assert filters.index("~@privileged @resources") < filters.index("setpriority"), "what comes later counts"


def test_the_unit_hands_over_every_secret_that_its_configuration_names() -> None:
    named = set(re.findall(r"credential: ([\w.-]+)", read("deploy/smppd.yaml")))
    handed = {value.partition(":")[0] for value in service(read("deploy/smppd.service"))["LoadCredential"]}
    assert named == handed


def test_the_consoles_unit_may_no_more_than_the_daemons() -> None:
    daemon, console = service(read("deploy/smppd.service")), service(read("deploy/smppd-console.service"))
    kept = (
        "ProtectSystem",
        "NoNewPrivileges",
        "CapabilityBoundingSet",
        "MemoryDenyWriteExecute",
        "RestrictAddressFamilies",
    )
    same = (*kept, "User", "DynamicUser", "StateDirectory", "SystemCallFilter", "UMask", "LimitCORE", "LoadCredential")
    for name in (*same, "PrivateDevices", "PrivateUsers", "ProtectHome", "PrivateTmp", "RestrictNamespaces"):
        assert daemon[name] == console[name], name
    assert console["ExecStart"] == ["/opt/smppd/bin/smppd console --config /etc/smppd/smppd.yaml"]
    assert int(console["CPUWeight"][0]) < 100, "the daemon goes first"


def test_install_steps_are_the_documented_ones() -> None:
    script = read("tools/install-steps.sh")
    steps = [
        re.sub(r'"?\$root"?', "", line.removeprefix("step ")) for line in script.splitlines() if line[:5] == "step "
    ]
    page = read("docs/operations.md")
    page = page[page.index("### A virtual environment") : page.index("### Docker")]
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", page, flags=re.S))
    documented = [line for line in blocks.splitlines() if line and not line.startswith(("systemctl", "export"))]
    assert steps == documented


@pytest.mark.parametrize("secret", ["kek", "server.key", "carrier-a"])
def test_a_unit_without_one_of_its_secrets_does_not_start(installed: Unit, secret: str) -> None:
    (installed.credentials / secret).unlink()
    with pytest.raises(UnitError, match="ended with status 1"):
        installed.start()


def test_the_documented_unit_starts_reloads_and_stops(installed: Unit) -> None:
    installed.start()
    limits = Path(f"/proc/{installed.process.pid}/limits").read_text()  # type: ignore[union-attr]
    assert re.search(r"^Max core file size +0 +0 ", limits, flags=re.M)
    installed.wait_for("WATCHDOG=1")
    installed.reload()
    installed.stop()


# -- the Debian package, the chart ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_the_maintainer_scripts_are_shell_and_stop_at_a_failure(name: str) -> None:
    script = ROOT / "deploy" / "deb" / name
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/sh" and "set -e" in lines
    subprocess.run(["sh", "-n", script], check=True)


def test_no_maintainer_script_deletes_what_is_people_s() -> None:
    for name in ("postinst", "prerm", "postrm"):
        for command in re.findall(r"^\s*(?:.*; )?(rm .*)$", read(f"deploy/deb/{name}"), flags=re.M):
            assert not re.search(r"^rm (-\S* )*-\w*r|/var/lib/smppd|/etc/smppd", command), command


def test_the_package_depends_on_one_python() -> None:
    control = read("deploy/deb/control")
    assert "python3 (>= @PYTHON@~), python3 (<< @BELOW@~)" in control
    assert set(re.findall(r"@(\w+)@", control)) == set(re.findall(r"@([A-Z_]+)@", read("tools/deb.sh")))


def test_the_package_s_unit_is_the_unit() -> None:
    """What tools/deb.sh exchanges in the unit stands there."""
    unit = read("deploy/smppd.service")
    for line in ("DynamicUser=yes", "Type=notify-reload"):
        assert re.search(f"^{line}$", unit, flags=re.M)
    assert unit.count("/opt/smppd/bin/") == 2 and unit.startswith("# ")


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load(read("deploy/helm/smppd/Chart.yaml"))
    assert (chart["version"], chart["appVersion"]) == (smppd.__version__, smppd.__version__)


def test_the_chart_s_values_are_those_of_its_schema() -> None:
    values = yaml.safe_load(read("deploy/helm/smppd/values.yaml"))
    schema = json.loads(read("deploy/helm/smppd/values.schema.json"))
    assert values.keys() == schema["properties"].keys() - {"global"}
    for name, section in schema["properties"].items():
        if "properties" in section:
            assert values[name].keys() == section["properties"].keys(), name


def test_the_chart_s_configuration_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = yaml.safe_load(read("deploy/helm/smppd/values.yaml"))
    for name in ("tls.crt", "tls.key", "kek"):
        (tmp_path / name).write_text("here\n")
        (tmp_path / name).chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = parse(values["config"].encode(), tmp_path / "smppd.yaml")
    assert settings.http is not None and settings.http.port == values["http"]["port"]
    assert settings.listeners[0].port == values["service"]["targetPort"]
    assert settings.drain < values["terminationGracePeriodSeconds"]


def test_the_chart_s_pod_is_restricted() -> None:
    pod = read("deploy/helm/smppd/templates/statefulset.yaml") + read("deploy/helm/smppd/templates/_helpers.tpl")
    for line in (
        "replicas: 1",
        "runAsNonRoot: true",
        "runAsUser: 10001",
        "seccompProfile: {type: RuntimeDefault}",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "capabilities: {drop: [ALL]}",
        "automountServiceAccountToken: false",
        "{path: /healthz, port: http}",
        "{path: /readyz, port: http}",
    ):
        assert line in pod, line
