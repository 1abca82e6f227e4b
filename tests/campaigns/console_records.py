"""The console's pages about records and people in a real browser, for `make console-check`: search, life, reveal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

PAGES: Final = (
    "/log",
    "/log/message",
    "/explain",
    "/opt-outs",
    "/consents",
    "/approvals",
)
"""For somebody who may search; `OFFICERS` are for a privacy officer."""
OFFICERS: Final = ("/holds", "/erasures", "/audit", "/reports")


def look_at_a_message(browser: Any, url: str, number: str, pictures: Path | None) -> tuple[str, str]:
    """Searches for a number, opens the newest message and shows it whole, as somebody who has logged in and may reveal. What a
    person reads of it, masked and whole. pictures: for message-desktop.png and revealed-desktop.png."""
    browser.open(url + "/log")
    browser.type("#number", number)
    browser.click("#reason option:nth-child(2)")
    browser.type("#note", "ticket 17")
    browser.click("main form.card button")
    browser.wait("what was found", lambda: browser.find("#found"))
    assert number not in browser.url, "a number stands in no address"
    browser.click("form[action='/log/message'] button")
    browser.wait("the message's life", lambda: browser.find("svg.life"))
    masked = browser.text("main")
    if pictures is not None:
        browser.screenshot(pictures / "message-desktop.png")
    browser.type("#note", "ticket 17, the customer asks")
    browser.click("form[action='/log/reveal'] button")
    browser.wait("the message as a whole", lambda: browser.find("meta[http-equiv='refresh']"))
    whole = browser.text("main")
    if pictures is not None:
        browser.screenshot(pictures / "revealed-desktop.png")
    return masked, whole
