"""A draft as the text of a configuration file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import yaml

from smppd.migration.draft import Left

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _./+-]*(?<! )")


class _Writer(yaml.SafeDumper):
    """Quotes every text but plain words: our reader follows YAML 1.2, this library 1.1, and what one takes for a text may be a
    number to the other."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def _text(writer: _Writer, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) is not None
    return writer.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Writer.add_representer(str, _text)


def yaml_text(settings: dict[str, Any], head: Sequence[str], left: Sequence[Left]) -> str:
    """The file: comments at its head, the settings, and at its end what was left out, a line each."""
    body = yaml.dump(settings, Dumper=_Writer, sort_keys=False, allow_unicode=False, width=110)
    lines = [*(f"# {line}".rstrip() for line in head), "", body.rstrip()]
    if left:
        lines += ["", "# Not carried over, or not as it was:"]
        lines += [f"#   {_one_line(str(one))}" for one in left]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
