"""A real browser for campaigns: headless Chromium, driven through its own driver by the WebDriver protocol (W3C)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from tests.ports import free_port

_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in answers (WebDriver section 12)
PATIENCE: Final = 20.0
DESKTOP: Final = (1280, 860)
PHONE: Final = (390, 844)


class BrowserError(Exception):
    """The browser cannot do something; the text is what its driver says."""


class Chromium:
    """One browser with cookies of its own. Use as a context manager."""

    def __init__(self, *, dark: bool = False) -> None:
        driver = shutil.which("chromedriver")
        browser = shutil.which("chromium") or shutil.which("chromium-browser")
        if driver is None or browser is None:
            raise BrowserError("this needs Chromium and its driver (on Debian: apt install chromium chromium-driver)")
        port = free_port()
        self._driver = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._base = f"http://127.0.0.1:{port}"
        self._session = ""
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        if dark:
            flags.append("--force-dark-mode")
        wanted = {
            "acceptInsecureCerts": True,
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": browser, "args": flags},
        }
        try:
            self._wait("the driver", lambda: self._is_up())
            answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{answer['sessionId']}"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser and its driver."""
        if self._session:
            try:
                self._ask("DELETE", self._session)
            except BrowserError:
                pass
            self._session = ""
        self._driver.terminate()
        self._driver.wait(10)

    # -- what a person does ------------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Goes to a page and waits until it is there."""
        self._do("POST", "/url", {"url": url})

    def reload(self) -> None:
        """Loads the page anew."""
        self._do("POST", "/refresh", {})

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._do("GET", "/url"))

    def find(self, css: str) -> str | None:
        """The first element of a selector."""
        found = self._do("POST", "/elements", {"using": "css selector", "value": css})
        return str(found[0][_ELEMENT]) if found else None

    def click(self, css: str) -> None:
        """Clicks on the first element of a selector."""
        element = self._there(css)
        self.script("arguments[0].scrollIntoView({block: 'center'})", {_ELEMENT: element})
        self._do("POST", f"/element/{element}/click", {})

    def type(self, css: str, text: str) -> None:
        """Types into a field, instead of what stood there."""
        element = self._there(css)
        self._do("POST", f"/element/{element}/clear", {})
        self._do("POST", f"/element/{element}/value", {"text": text})

    def press(self, keys: str) -> None:
        """Presses keys where the focus is; \\ue004 is Tab, \\ue007 Enter (WebDriver section 17.4.2)."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._do("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def text(self, css: str = "body") -> str:
        """What a person reads in the first element of a selector."""
        return str(self._do("GET", f"/element/{self._there(css)}/text"))

    def script(self, source: str, *values: Any) -> Any:
        """What a script of ours gives in the page."""
        return self._do("POST", "/execute/sync", {"script": source, "args": list(values)})

    def later(self, source: str, *values: Any) -> Any:
        """The same of a script that calls its last argument when it has its answer."""
        return self._do("POST", "/execute/async", {"script": source, "args": list(values)})

    def wait(self, what: str, done: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Waits until something holds. BrowserError naming it when it does not."""
        self._wait(what, done, seconds)

    def size(self, width: int, height: int) -> None:
        """Sets the size of the page, as a screen of so many points would have it."""
        device = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._do("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": device})

    def scheme(self, scheme: str) -> None:
        """`dark` or `light`, as a person's settings say."""
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self._do("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": features})

    def scripts(self, on: bool) -> None:
        """Switches JavaScript off or on, from the next page."""
        params = {"value": not on}
        self._do("POST", "/goog/cdp/execute", {"cmd": "Emulation.setScriptExecutionDisabled", "params": params})

    def screenshot(self, path: Path) -> None:
        """What is on the screen, as PNG."""
        path.write_bytes(base64.b64decode(self._do("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """What the browser's console said since it was last asked: errors of scripts, what the policy kept out."""
        found = self._do("POST", "/se/log", {"type": "browser"})
        return [str(one["message"]) for one in found if one["level"] in ("SEVERE", "WARNING")]

    # -- the protocol ------------------------------------------------------------------------------------------------------

    def _there(self, css: str) -> str:
        found: list[str] = []

        def look() -> bool:
            element = self.find(css)
            found[:] = [element] if element is not None else []
            return bool(found)

        self._wait(css, look)
        return found[0]

    def _do(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask(method, self._session + path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                value = json.load(error)["value"]
            raise BrowserError(f"{value['error']}: {value['message'].splitlines()[0]}") from None
        except OSError as error:
            raise BrowserError(f"the driver does not answer: {error}") from None

    def _is_up(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except BrowserError:
            return False

    @staticmethod
    def _wait(what: str, done: Callable[[], object], seconds: float = PATIENCE) -> None:
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                raise BrowserError(f"{what} was not there within {seconds:g} s")
            time.sleep(0.1)
