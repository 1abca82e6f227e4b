"""Small pictures of counts: what is drawn, and what is said of it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from smppd.console.sparkline import HEIGHT, POINTS, WIDTH, sparkline


def test_nothing_yet_and_one_value_are_a_line() -> None:
    assert "nothing yet" in sparkline([], "sent") and f"H{WIDTH}" in sparkline([], "sent")
    assert "now 3, at most 3" in sparkline([3], "sent")


def test_the_newest_value_is_said_and_the_label_is_escaped() -> None:
    drawn = sparkline([0, 5, 2], 'sent to "<b>"')
    assert "now 2, at most 5" in drawn and "<b>" not in drawn and "&quot;&lt;b&gt;&quot;" in drawn


@given(st.lists(st.floats(-10, 1e9), max_size=400), st.text(max_size=20).filter(str.isprintable))
def test_it_is_xml_and_stays_in_its_box(values: list[float], label: str) -> None:
    drawn = sparkline(values, label)
    ElementTree.fromstring(drawn)
    line = re.findall(r'class="spark-line" d="M([^"]*)"', drawn)[0]
    points = [tuple(map(float, one.split())) for one in line.split("L")] if "H" not in line else []
    assert len(points) <= POINTS
    assert all(-0.1 <= x <= WIDTH + 0.1 and 0 <= y <= HEIGHT for x, y in points)
