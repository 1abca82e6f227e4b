"""The files of the pages: what is vendored is what its maker published, and nothing is loaded from elsewhere."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

from smppd.console.files import STATIC
from smppd.console.web import HEADERS

HERE = resources.files("smppd.console")


def test_htmx_is_as_it_was_published() -> None:
    """htmx.org 2.0.11 of npm, dist/htmx.min.js."""
    said, name = HERE.joinpath("static/htmx.sha256").read_text().split()
    assert name == "htmx.min.js"
    assert hashlib.sha256(STATIC["/static/htmx.min.js"].body).hexdigest() == said
    assert said == "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
    assert "Zero-Clause BSD" in HERE.joinpath("static/htmx.LICENSE.txt").read_text()


def test_a_browser_that_has_a_file_gets_it_only_once() -> None:
    for file in STATIC.values():
        assert file.reply("").status == 200 and file.reply(file.tag).status == 304 and file.reply('"x"').status == 200


def test_nothing_is_loaded_from_elsewhere() -> None:
    templates = [one for one in HERE.joinpath("templates").iterdir() if one.name.endswith(".html")]
    assert len(templates) > 10
    for one in templates:
        text = one.read_text("utf-8")
        assert not re.search(r'(?:src|href|action)="(?!/|#|\{\{|")', text), one.name
        assert "|safe" not in text.replace(" ", "") and "autoescape" not in text, one.name
        assert "style=" not in text and not re.search(r"\son(?!ce|ly|e)[a-z]+=", text), one.name
    css = STATIC["/static/console.css"].body.decode()
    assert "url(" not in css and "@import" not in css


def test_the_policy_lets_only_our_own_files_in() -> None:
    policy = dict(HEADERS)["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy and ":" not in policy
    for part in (
        "script-src 'self'",
        "style-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ):
        assert part in policy


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_texts_have_the_contrast_that_wcag_asks_for() -> None:
    """4.5 to 1 (WCAG 2.2, 1.4.3), in both schemes."""
    css = STATIC["/static/console.css"].body.decode()
    schemes = re.findall(r":root \{(.*?)\}", css, re.S)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        pairs = [(text, back) for text in ("text", "quiet", "link") for back in ("back", "card", "stripe", "side")]
        pairs += [(word, f"{word}-back") for word in ("good", "warn", "bad")]
        pairs += [(word, "card") for word in ("good", "bad")] + [("good", "back"), ("button-text", "button")]
        pairs += [
            ("card", "bad"),
            ("text", "bad-back"),
            ("text", "warn-back"),
            ("text", "good-back"),
            ("bad", "stripe"),
        ]
        for one, other in pairs:
            high, low = sorted((_luminance(colours[one]), _luminance(colours[other])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (one, other)
