"""`make console-check`: the web console in a real browser, before a real daemon with traffic.

Headless Chromium logs in with a code, sees the flow move, kicks a session and suspends an account; an owner sees his account
alone, a wrong role is refused, a login ends when nobody clicks; names that attack stay text; every page is read by axe-core in
both schemes and at the size of a phone, works without JavaScript, and is asked for by the keyboard. Then a browser's questions
on every page are put for a while, and the daemon's CPU is measured. Ends with 1 if anything is not so.

Needs Chromium and its driver; axe-core is fetched from the package index of Node by npm (network) unless `--axe FILE` names it.

    python -m tests.campaigns.console [--screenshots DIR] [--axe FILE] [--seconds 30]
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from smppd.console.web import HEADERS, HSTS
from tests import forked
from tests.campaigns.chromium import DESKTOP, PHONE, Chromium
from tests.campaigns.console_records import OFFICERS, look_at_a_message
from tests.campaigns.console_records import PAGES as RECORDS
from tests.campaigns.stacks import certificates
from tests.cli.staff import PASSPHRASE, Person
from tests.e2e.children import Smsc
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.ports import free_port

AXE: Final = "axe-core@4.10.3"
ATTACKED: Final = "+12125550123"
TEXT: Final = "<script>1</script>"
HOSTILE: Final = b"<img src=x>"
"""A sender's name as a customer may send it: 11 characters at the most."""
STEP: Final = 30
PAGES: Final = (
    *(
        "/",
        "/sessions",
        "/upstreams",
        "/accounts",
        "/accounts/acme",
        "/queues",
        "/messages",
        "/limits",
        "/bans",
        "/acts",
    ),
    *RECORDS,
    *("/rules", "/config", "/logins", "/act/kick?target=acme", "/act/move?target=carrier-a", "/sessions?name=nobody"),
)
LIVE: Final = tuple(page for page in PAGES if "?" not in page and page not in (*RECORDS, "/config", "/logins"))
FINE: Final = 0.01
"""Of a core: what the daemon may spend on a browser that is left open on every page."""


class Failed(Exception):
    """Something is not as it was promised."""


def check(holds: object, what: str) -> None:
    """Failed naming `what` unless it holds."""
    if not holds:
        raise Failed(what)
    print(f"  ok  {what}", flush=True)


class Console:
    """`smppd console` as a process."""

    def __init__(self, gateway: Gateway, certs: Path, **settings: Any) -> None:
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        tls = {"certificate": str(certs / "server.pem"), "key": str(certs / "server.key")}
        gateway.config["console"] = {"address": f"127.0.0.1:{self.port}", "tls": tls, **settings}
        gateway.write_config()
        self.log = gateway.directory / f"console-{self.port}.log"
        words = ["console", "--config", str(gateway.config_file)]
        self.process = forked.Forked(words, ("/dev/null", str(self.log), str(self.log)))
        wait_for("the console", self._is_up)

    def _is_up(self) -> bool:
        status = self.process.poll()
        if status is not None:
            raise Failed(f"the console ended with status {status}: {self.log.read_text()[-2000:]}")
        try:
            return self.ask("/login").status == 200
        except OSError:
            return False

    def ask(self, path: str, cookie: str = "", **headers: str) -> http.client.HTTPResponse:
        """A page, as a program gets it."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        asking = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        sent = {"Cookie": cookie} if cookie else {}
        asking.request(
            "GET", path, headers={**sent, **{name.replace("_", "-"): value for name, value in headers.items()}}
        )
        answer = asking.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        asking.close()
        return answer

    def stop(self) -> None:
        """SIGTERM, and what it says then."""
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(30)
        text = self.log.read_text(errors="replace")
        check(
            status == 0 and "Traceback" not in text,
            f"the console ended well (status {status}) {text[-800:] if status else ''}",
        )


class Codes:
    """One-time codes of a person, each used once: a code of the next step is taken too, and then the step is waited for."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self._used = 0

    def next(self) -> str:
        """A code that was not given yet, and is taken now."""
        step = max(self._used + 1, int(time.time()) // STEP)
        while step > int(time.time()) // STEP + 1:
            time.sleep(0.2)
        self._used = step
        return self.person.code(step * STEP)


def log_in(browser: Chromium, console: Console, codes: Codes) -> None:
    """By a browser that is not known: two codes."""
    browser.open(console.url + "/")
    browser.wait("the login", lambda: "/login" in browser.url)
    browser.type("#name", codes.person.name)
    browser.type("#passphrase", PASSPHRASE)
    browser.type("#code", codes.next())
    browser.click("main button")
    browser.wait("the second look", lambda: browser.find("form[action='/login/code']"))
    browser.type("#code", codes.next())
    browser.click("main button")
    browser.wait("the first page", lambda: browser.find("nav.menu"))


def log_out(browser: Chromium) -> None:
    browser.click(".me button")
    browser.wait("the login", lambda: "/login" in browser.url)


@contextmanager
def traffic(gateway: Gateway, name: str) -> Iterator[None]:
    """A customer who sends on and on, until the end."""
    secret = gateway.directory / f"password-{name}"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    words = ["simulate", "customer", "--config", str(gateway.config_file), "--account", name, "--plain", "--binds", "2"]
    words += ["--messages", "100000", "--rate", "40/s", "--password-file", str(secret)]
    log = str(gateway.directory / f"customer-{name}.log")
    process = forked.Forked(words, ("/dev/null", log, log))
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def axe_source(given: Path | None, scratch: Path) -> str:
    """The text of axe-core's script."""
    if given is not None:
        return given.read_text("utf-8")
    subprocess.run(["npm", "pack", "--silent", AXE], cwd=scratch, check=True, timeout=120, stdout=subprocess.DEVNULL)
    with tarfile.open(next(scratch.glob("axe-core-*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def violations(browser: Chromium, axe: str) -> list[str]:
    """What axe-core finds on this page by the rules of WCAG 2.2 A and AA."""
    browser.script(axe)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = browser.later(
        "const done = arguments[1]; axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}})"
        ".then(r => done(r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 3).join(', '))));",
        tags,
    )
    return list(found)


def people(gateway: Gateway) -> dict[str, Codes]:
    """An operator, a supporter, a privacy officer and the owner of acme."""
    found = {}
    for name, words in {
        "ada": ["operator"],
        "sue": ["support"],
        "pia": ["privacy-officer"],
        "olga": ["account-owner", "--account", "acme"],
    }.items():
        made = gateway.command("operators", "add", name, "--role", *words, "--stdin", stdin=PASSPHRASE + "\n")
        check(made.returncode == 0, f"an operator {name}: {made.stderr[:300]}")
        found[name] = Codes(Person(name, PASSPHRASE, made.stdout))
    return found


def run(arguments: argparse.Namespace) -> None:
    """All of it. Failed, or an error of the browser."""
    pictures: Path | None = arguments.screenshots
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="console-check-")))
        axe = axe_source(arguments.axe, scratch)
        print(f"axe-core, SHA-256 {hashlib.sha256(axe.encode()).hexdigest()[:16]}")
        (scratch / "certs").mkdir()
        certs = certificates(scratch / "certs")
        login = {"system_id": "gateway", "password": UPSTREAM_PASSWORD, "behaviour": {"receipt_delay": 0.5}}
        smsc = stack.enter_context(Smsc(login))
        upstreams = [Upstream(smsc.port, name="carrier-a", sessions=2), Upstream(smsc.port, name="carrier-b")]
        policies = {"standard": [{"name": "links", "mode": "shadow", "when": {"text": "http"}, "do": "refuse"}]}
        acme = account("acme", throughput="100/s", max_binds=8, policies=["standard"])
        accounts = [acme, account("globex", max_binds=4), account("initech")]
        accounts += [account(f"customer-{number:04}") for number in range(arguments.accounts)]
        gateway = stack.enter_context(Gateway(scratch / "gateway", certs, upstreams, accounts, policies=policies))
        codes = people(gateway)
        console = Console(gateway, certs, hosts=["localhost"], session="1h", idle="30m")
        stack.callback(console.stop)
        stack.enter_context(traffic(gateway, "acme"))
        stack.enter_context(traffic(gateway, "globex"))
        headers_are_there(console)
        browser = stack.enter_context(Chromium())
        browser.size(*DESKTOP)
        operator(browser, console, gateway, codes["ada"], pictures)
        hostile(browser, console, gateway)
        if not arguments.no_axe:
            accessible(browser, console, axe)
        without_scripts(browser, console)
        left_open(browser, console, gateway, arguments.seconds)
        browser.open(console.url + "/")
        log_out(browser)
        roles(browser, console, codes, axe, pictures)
        idle(browser, gateway, certs, codes["ada"])


def headers_are_there(console: Console) -> None:
    """On every kind of answer."""
    for path in ("/", "/login", "/nothing", "/static/console.css", "/static/htmx.min.js"):
        answer = console.ask(path)
        found = dict(answer.getheaders())
        check(all(found.get(name) == value for name, value in (*HEADERS, HSTS)), f"{path}: the headers are there")
    check(console.ask("/", Host="evil.example").status == 421, "another Host is refused")


def operator(browser: Chromium, console: Console, gateway: Gateway, codes: Codes, pictures: Path | None) -> None:
    """What an operator does."""
    log_in(browser, console, codes)
    check("was not known" in browser.text(), "a new browser is said")
    cookies = browser.script("return document.cookie")
    check(cookies == "", "no cookie can be read by a script")
    browser.open(console.url + "/")
    browser.wait("traffic", lambda: re.search(r"acme\b[^\n]*\d+(\.\d)?/s", browser.text("#live")), 40)
    path = "return document.querySelector('#live .spark-line').getAttribute('d')"
    before = browser.script(path)
    browser.wait("the flow to move", lambda: browser.script(path) != before, 15)
    check(True, "the flow moves by itself")
    for picture, where, size in (
        ("now-desktop", "/", DESKTOP),
        ("sessions-desktop", "/sessions", DESKTOP),
        ("upstreams-desktop", "/upstreams", DESKTOP),
        ("now-phone", "/", PHONE),
        ("sessions-phone", "/sessions", PHONE),
    ):
        shoot(browser, console, where, size, "light", pictures, picture)
    shoot(browser, console, "/", DESKTOP, "dark", pictures, "now-dark")
    browser.size(*DESKTOP)
    browser.scheme("light")
    kick(browser, console, gateway, pictures)
    suspend(browser, console)
    pause(browser, console)


def shoot(
    browser: Chromium, console: Console, path: str, size: tuple[int, int], scheme: str, pictures: Path | None, name: str
) -> None:
    """A picture of a page, where pictures are wanted."""
    if pictures is None:
        return
    browser.size(*size)
    browser.scheme(scheme)
    browser.open(console.url + path)
    file = pictures / f"{name}.png"
    browser.screenshot(file)
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--skip-if-larger", "--output", str(file), "64", str(file)], check=False)


def kick(browser: Chromium, console: Console, gateway: Gateway, pictures: Path | None) -> None:
    """Cuts a session, with a reason."""
    browser.open(console.url + "/sessions?name=acme")
    browser.wait("a session of acme", lambda: browser.find("a[id^='kick-c']"))
    name = browser.script("return document.querySelector(\"a[id^='kick-c']\").id.slice(5)")
    browser.click(f"#kick-{name}")
    browser.wait("the act's page", lambda: browser.find("#reason"))
    shown = browser.text()
    check("acme" in shown and "127.0.0.1" in shown, "the act's page says whom it is about")
    browser.click("main button")
    check("/act/kick" in browser.url, "without a reason nothing is done")
    browser.type("#reason", "does not read its receipts")
    if pictures is not None:
        browser.screenshot(pictures / "act-desktop.png")
        if shutil.which("pngquant"):
            file = str(pictures / "act-desktop.png")
            subprocess.run(["pngquant", "--force", "--skip-if-larger", "--output", file, "64", file], check=False)
    browser.click("main button")
    browser.wait("the daemon's sentence", lambda: browser.find(".note.good"))
    print("      " + browser.text(".note.good"))
    wait_for(
        "the session to end", lambda: f'"id": "{name}"' not in gateway.command("show", "sessions", "--json").stdout
    )
    check(True, f"session {name} was cut")
    shown = gateway.command("audit", "show", "--json").stdout
    entry = next(json.loads(line) for line in shown.splitlines() if '"act"' in line and "kick" in line)
    check(
        "ada" in json.dumps(entry) and "does not read" in json.dumps(entry),
        "it is on the audit trail, with name and reason",
    )


def suspend(browser: Chromium, console: Console) -> None:
    """Suspends an account and gives it back."""
    for act, words in (("suspend", "suspended"), ("resume", "")):
        browser.open(f"{console.url}/act/{act}?target=initech")
        browser.type("#reason", "asked by phone")
        browser.click("main button")
        browser.wait("the daemon's sentence", lambda: browser.find(".note.good"))
        print("      " + browser.text(".note.good"))
        browser.open(console.url + "/accounts/initech")
        check(("Suspended since" in browser.text()) is bool(words), f"initech: {act}")


def pause(browser: Chromium, console: Console) -> None:
    """Pauses an upstream, which then stands among the acts."""
    browser.open(console.url + "/upstreams")
    browser.click("#pause-carrier-b")
    browser.type("#reason", "maintenance of theirs")
    browser.click("main button")
    browser.wait("the daemon's sentence", lambda: browser.find(".note.good"))
    browser.open(console.url + "/acts")
    check(
        "carrier-b" in browser.text("#live") and "maintenance of theirs" in browser.text("#live"),
        "the pause is among the acts",
    )
    browser.open(console.url + "/")
    check("Changed by hand" in browser.text(), "the first page says what was changed by hand")


def hostile(browser: Chromium, console: Console, gateway: Gateway) -> None:
    """A sender and a failed bind that attack."""
    browser.open(f"{console.url}/act/pause?target=carrier-a")
    browser.type("#reason", "so that messages wait <script>document.title='owned'</script>")
    browser.click("main button")
    browser.wait("the daemon's sentence", lambda: browser.find(".note.good"))
    with Probe(gateway.plain_port) as probe:
        check(probe.bind("initech", PASSWORD) == 0, "a customer who attacks is bound")
        body = submit_body(TEXT.encode(), ATTACKED[1:].encode(), HOSTILE).replace(b"\1\1" + HOSTILE, b"\5\0" + HOSTILE)
        check(status(probe.ask(0x04, body)) == 0, "his message is taken")
        browser.open(console.url + "/messages?account=initech")
        check("queued" in browser.text("#live"), "it waits, with its sender masked")
    for page in PAGES:
        browser.open(console.url + page)
        check(
            not browser.script("return document.querySelectorAll('main img, main script, main iframe').length"),
            f"{page}: no markup of others",
        )
        check("owned" not in browser.script("return document.title"), f"{page}: no script of others ran")
    for page in (
        "/messages?id=%3Cscript%3Ealert(1)%3C/script%3E",
        "/sessions?name=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
    ):
        browser.open(console.url + page)
        check(not browser.script("return document.querySelectorAll('main script').length"), "what is typed stays text")
    browser.open(f"{console.url}/act/unpause?target=carrier-a")
    browser.type("#reason", "over")
    browser.click("main button")
    browser.wait("the daemon's sentence", lambda: browser.find(".note.good"))


def accessible(browser: Chromium, console: Console, axe: str) -> None:
    """axe-core on every page; the keyboard; nothing that the browser complains about."""
    browser.complaints()
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        for size in (DESKTOP, PHONE):
            browser.size(*size)
            for page in PAGES:
                browser.open(console.url + page)
                found = violations(browser, axe)
                check(not found, f"{page}, {scheme}, {size[0]} wide: axe-core finds nothing {found or ''}")
                wide = browser.script(
                    "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                check(wide <= 0, f"{page}, {size[0]} wide: nothing sticks out")
    browser.size(*DESKTOP)
    browser.scheme("light")
    browser.open(console.url + "/sessions")
    browser.press("\ue004")
    check(browser.script("return document.activeElement.className") == "skip", "the first Tab is on the skip link")
    browser.press("\ue007")
    browser.press("\ue004")
    inside = browser.script("return document.getElementById('main').contains(document.activeElement)")
    outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle")
    check(inside and outline != "none", "it leads to the content, and the focus is seen")
    time.sleep(6)
    check(
        browser.script("return document.getElementById('main').contains(document.activeElement)"),
        "a refresh leaves the focus",
    )
    found = browser.complaints()
    check(not found, f"the browser complains about nothing {found[:3]}")


def without_scripts(browser: Chromium, console: Console) -> None:
    """All of it works without JavaScript."""
    browser.scripts(False)
    for page in PAGES:
        browser.open(console.url + page)
        check(browser.find("main h1") and not browser.find("form[action='/login']"), f"{page}: without JavaScript")
    browser.open(f"{console.url}/act/log-level?target=info")
    browser.type("#reason", "without scripts")
    browser.click("main button")
    browser.wait("the daemon's sentence", lambda: browser.find(".note.good"))
    check(True, "an act works without JavaScript")
    browser.scripts(True)


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def left_open(browser: Chromium, console: Console, gateway: Gateway, seconds: float) -> None:
    """The daemon's CPU with every page asked for as an open browser asks, against its CPU with none."""
    jar = browser._do("GET", "/cookie")
    cookie = "; ".join(f"{one['name']}={one['value']}" for one in jar)
    browser.open("about:blank")

    def used(work: Callable[[], None]) -> float:
        began, before = time.monotonic(), cpu(gateway.pid)
        while time.monotonic() - began < seconds:
            work()
        return (cpu(gateway.pid) - before) / (time.monotonic() - began)

    times: dict[str, list[float]] = {}

    def every_page() -> None:
        until = time.monotonic() + 5
        for page in LIVE:
            asked = time.monotonic()
            status = console.ask(page, cookie, HX_Request="true").status
            if status != 200:
                raise Failed(f"{page}: {status} to a page that refreshes itself")
            times.setdefault(page, []).append(time.monotonic() - asked)
        time.sleep(max(0.0, until - time.monotonic()))

    alone = used(lambda: time.sleep(1))
    watched = used(every_page)
    again = used(lambda: time.sleep(1))
    extra = watched - (alone + again) / 2
    print(
        f"      the daemon's CPU: {alone:.2%} and {again:.2%} of a core unwatched, {watched:.2%} watched on {len(LIVE)} pages"
    )
    middle = {page: statistics.median(some) for page, some in times.items()}
    print("      medians: " + ", ".join(f"{page} {1000 * took:.0f} ms" for page, took in middle.items()))
    check(extra < FINE, f"a browser on every page costs it {extra:.2%} of a core")
    check(max(middle.values()) < 0.5, "each page is there within 500 ms")


def roles(browser: Chromium, console: Console, codes: dict[str, Codes], axe: str, pictures: Path | None) -> None:
    """The owner of acme, a supporter who looks at a message, and a privacy officer."""
    log_in(browser, console, codes["olga"])
    for page in ("/", "/accounts", "/sessions", "/queues", "/messages"):
        browser.open(console.url + page)
        text = browser.text("main")
        check("globex" not in text and "initech" not in text, f"{page}: an owner sees nothing of others")
    check("acme" in browser.text(), "... and his own account")
    for page in ("/accounts/globex", "/upstreams", "/config", "/bans", "/act/kick?target=globex"):
        browser.open(console.url + page)
        check("There is no such" in browser.text(), f"{page}: is not there for an owner")
    log_out(browser)
    log_in(browser, console, codes["sue"])
    browser.open(console.url + "/sessions")
    check(not browser.find("a.act"), "a supporter is offered no act")
    browser.open(console.url + "/act/kick?target=acme")
    check("No role of yours" in browser.text(), "a wrong role is refused")
    masked, whole = look_at_a_message(browser, console.url, ATTACKED, pictures)
    check(ATTACKED not in masked and TEXT not in masked, "a search shows a message masked")
    check(ATTACKED in whole and TEXT in whole, "with a reason it is shown whole, its text as text")
    check(not browser.script("return document.querySelectorAll('main script, main img').length"), "no markup of it")
    browser.open(console.url + "/")
    log_out(browser)
    log_in(browser, console, codes["pia"])
    for page in OFFICERS:
        browser.open(console.url + page)
        found = violations(browser, axe)
        check(browser.find("main h1") and not found, f"{page}: axe-core finds nothing {found or ''}")
    log_out(browser)


def idle(browser: Chromium, gateway: Gateway, certs: Path, codes: Codes) -> None:
    """A login ends when nobody clicks, though the page refreshes itself."""
    console = Console(gateway, certs, hosts=["localhost"], idle="8s")
    try:
        log_in(browser, console, codes)
        browser.open(console.url + "/sessions")
        browser.wait("the end of the login", lambda: "/login" in browser.url, 30)
        check("has ended" in browser.text(), "an idle login ends by itself, and the page says so")
    finally:
        console.stop()


def main(words: list[str]) -> int:
    """0 where all holds."""
    parser = argparse.ArgumentParser(prog="console-check")
    parser.add_argument("--screenshots", type=Path, help="a directory for pictures of the pages")
    parser.add_argument("--axe", type=Path, help="axe.min.js, instead of fetching it")
    parser.add_argument("--no-axe", action="store_true", help="leave out that every page is read by axe-core")
    parser.add_argument("--accounts", type=int, default=0, metavar="N", help="so many more, which send nothing")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each measurement of CPU lasts")
    try:
        run(parser.parse_args(words))
    except Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print("console-check: all as promised")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
