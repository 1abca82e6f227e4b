"""The files that pages are made of: one style sheet, one script of ours, and htmx, all from this package.

`static/htmx.min.js` is htmx.org 2.0.11 as npm has it, unchanged, under the Zero-Clause BSD licence beside it;
`static/htmx.sha256` has its hash.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple

from smppd.console.web import Reply

_KINDS: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


class StaticFile(NamedTuple):
    """A file, its media type, and the tag by which a browser knows that it has it."""

    body: bytes
    kind: str
    tag: str

    def reply(self, has: str) -> Reply:
        """The reply to a browser that has the file of tag `has` already."""
        headers = (("ETag", self.tag), ("Cache-Control", "no-cache"))
        return (
            Reply(304, kind=self.kind, headers=headers)
            if has == self.tag
            else Reply(200, self.body, self.kind, headers)
        )


def _read(name: str) -> StaticFile:
    body = resources.files("smppd.console").joinpath("static", name).read_bytes()
    return StaticFile(body, _KINDS[name.rpartition(".")[2]], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


STATIC: Final = {f"/static/{name}": _read(name) for name in ("console.css", "console.js", "htmx.min.js", "icon.svg")}
"""Path -> file. Nothing in them is secret, so they need no login."""
