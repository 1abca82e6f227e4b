"""TLVs in rules: what may be written, and what a mistake is told as."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.config import TlvTest
from tests.config.helpers import BASE, lines, loaded

RULE = "policies: {p: [{name: r, %s}]}\n"


def test_text_and_octets_as_they_are_written(tmp_path: Path) -> None:
    """A number without quotes keeps the form in which it was written: `0x0001` has two octets, `1101` four characters."""
    when = "when: {tlv: {0x1400: 1101, 0x1401: 0x0001, 5122: [a*, '0x00*', {matches: '^b'}]}}"
    settings = loaded(tmp_path, BASE + RULE % (when + ", do: {set_tlv: {0x1400: 1101, 0x1401: 0x0001, 0x1402: a*}}"))
    rule = settings.policies["p"].rules[0]
    assert rule.when is not None
    assert rule.when.tlv == (
        (0x1400, (TlvTest(b"1101"),)),
        (0x1401, (TlvTest(b"\0\1"),)),
        (0x1402, (TlvTest(b"a", True), TlvTest(b"", True), TlvTest(pattern="^b"))),
    )
    assert rule.do.set_tlv == ((0x1400, b"1101"), (0x1401, b"\0\1"), (0x1402, b"a*"))


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (
            "when: {tlv: {0x1400: 0x1}}, do: pass",
            "when.tlv: TLV 0x1400: 0x needs two hexadecimal digits for each octet",
        ),
        ("when: {tlv: {x: 1}}, do: pass", "when.tlv: must name TLVs by tags such as 0x1400"),
        ("when: {tlv: {0x10000: 1}}, do: pass", "when.tlv: must name TLVs by tags such as 0x1400"),
        ("when: {tlv: {0x1400: 1, 5120: 1}}, do: pass", "when.tlv: names a tag twice"),
        ("when: {tlv: 0x1400}, do: pass", "when.tlv: must be a mapping of tags such as 0x1400 to values"),
        ("when: {tlv: {0x1400: []}}, do: pass", "when.tlv: TLV 0x1400: must have at least one value"),
        ("when: {tlv: {0x1400: {like: x}}}, do: pass", "when.tlv: TLV 0x1400: must be a value, `prefix*`"),
        ("when: {tlv: {0x1400: {matches: '('}}}, do: pass", "when.tlv: not an RE2 pattern"),
        ("do: {set_tlv: {0x1400: {matches: x}}}", "do.set_tlv: TLV 0x1400: must be text, or octets such as 0x0102"),
        ("do: {set_tlv: {0x0424: text}}", "do.set_tlv: TLV 0x0424 is part of what a message is"),
        ("do: {set_tlv: {0x020C: '0x0001'}}", "do.set_tlv: TLV 0x020C is part of what a message is"),
        ("do: {set_tlv: {}}", "do.set_tlv: must be a mapping"),
        ("when: {service_type: toolong}, do: pass", "when.service_type: must be at most 5 ASCII characters"),
        ("when: {dlt: perfect}, do: pass", "when.dlt: must be 'ok'"),
    ],
)
def test_mistakes(tmp_path: Path, rule: str, told: str) -> None:
    (line,) = lines(tmp_path, BASE + RULE % rule)
    assert f"policies.p[0].{told}" in line


def test_no_more_than_a_rule_may_set(tmp_path: Path) -> None:
    many = ", ".join(f"{0x1400 + i}: x" for i in range(17))
    assert "sets more than 16 TLVs" in lines(tmp_path, BASE + RULE % f"do: {{set_tlv: {{{many}}}}}")[0]
    assert "more than 1024 octets" in lines(tmp_path, BASE + RULE % f"do: {{set_tlv: {{0x1400: {'x' * 1025}}}}}")[0]
