"""YAML to a tree: positions, the scalars of YAML 1.2, and the bounds that make hostile files harmless."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.config.tree import TreeError, read_tree


def plain(text: str) -> Any:
    tree = read_tree(text.encode())
    assert tree.mistakes == []
    return tree.root.plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("no", "no"),
        ("NO", "NO"),
        ("true", True),
        ("12:30", "12:30"),
        ("44", 44),
        ("+44", "+44"),
        ("0044", "0044"),
        ("0x1400", 0x1400),
        ("3.4", 3.4),
        ("1_000", "1_000"),
        ("2026-11-22", "2026-11-22"),
        ("'44'", "44"),
        ("!!str 44", "44"),
        ("~", None),
        ("", None),
        (".inf", ".inf"),
        ("9" * 30, "9" * 30),
    ],
)
def test_scalars(text: str, value: object) -> None:
    assert plain(f"key: {text}") == {"key": value}


def test_positions_of_keys_and_values() -> None:
    root = read_tree(b"a: 1\nlist:\n  - {x: 7}\n").root
    entry = root.value["list"]
    assert (entry.line, entry.column) == (2, 1)
    inner = entry.node.value[0].value["x"]
    assert (inner.line, inner.column, inner.node.line, inner.node.column) == (3, 6, 3, 9)


def test_merge_keys_and_aliases() -> None:
    assert plain("base: &b {x: 1, y: 2}\na: {<<: *b, y: 3}\nb: {<<: [*b, {z: 4}]}") == {
        "base": {"x": 1, "y": 2},
        "a": {"x": 1, "y": 3},
        "b": {"x": 1, "y": 2, "z": 4},
    }


def test_a_key_given_twice_is_a_mistake_and_the_first_counts() -> None:
    tree = read_tree(b"a: 1\nb: 2\na: 3\n")
    assert tree.mistakes == [(3, 1, "a: key given twice (first in line 1)")]
    assert tree.root.plain() == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "text", ["a: !!python/object/apply:os.system [id]", "a: !x {}", "a: !!int '7'", "a: !!binary x"]
)
def test_tags_make_nothing(text: str) -> None:
    assert [mistake[2] for mistake in read_tree(text.encode()).mistakes] == ["YAML tags are not used here"]


def bomb() -> str:
    """Nine levels of nine aliases: 81 aliases that would expand to 9 to the 9th power."""
    levels = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    levels += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(levels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not YAML: a `[` is not closed, or a comma is missing between its entries"),
        ("a: {b: 1\nc: 2", "not YAML: a `{` is not closed, or a comma is missing between its entries"),
        ("a:\n\t- x", "not YAML: a tab stands here: indent with spaces only"),
        ("a:\n  b: 1\n\tc: 2", "not YAML: a tab stands here: indent with spaces only"),
        ("a:\n  - x: 1\n  \ty: 2", "not YAML: a tab stands here: indent with spaces only"),
        (
            "a: 1\n  b: 2",
            "not YAML: a `:` where none can stand: this line is indented further than the one it belongs with, or a text"
            " with `: ` in it needs quotes",
        ),
        (
            "a:\n    b: 1\n  c: 2",
            "not YAML: a key is expected here: this line's indentation fits none above it, or a bracket or quote is not in"
            " its place",
        ),
        (
            "a:\n  - b\n  c: d",
            "not YAML: an entry of this list has no `- `, or this line's indentation is wrong",
        ),
        ("a: 1\nb\nc: 2", "not YAML: the line above is a key without its `:`, or is indented too little"),
        ('a: "b', "not YAML: a quote is not closed"),
        ("a: @x", "not YAML: a text cannot begin with this character unless it stands in quotes"),
        ("a: %x", "not YAML: a text cannot begin with this character unless it stands in quotes"),
        ("a: *secret", "alias of nothing: no such anchor above"),
        ("a: &x [*x]", "alias within what it stands for"),
        ("[" * 51 + "]" * 51, "is nested deeper than 50 levels"),
        ("[" * 100_000, "is nested deeper than 50 levels"),
        (bomb(), "too many aliases: at most 10000, and 100000 values by them"),
        ("a: &x 1\nb: [" + "*x," * 10_001 + "]", "too many aliases: at most 10000, and 100000 values by them"),
        ("a: 1\n---\nb: 2", "has a second document; one is read"),
        ("? [a]\n: b", "a key must be plain text"),
        ("a: \x00", "has a control character here"),
        ("", "is empty"),
        ("# only a comment", "is empty"),
        ("x" * (4 << 20) + "y", "is longer than 4 MiB"),
    ],
)
def test_what_is_no_tree(text: str, message: str) -> None:
    with pytest.raises(TreeError) as caught:
        read_tree(text.encode())
    assert caught.value.message == message


def test_wrong_encoding_has_its_line() -> None:
    with pytest.raises(TreeError) as caught:
        read_tree(b"a: 1\nb: \xff\n")
    assert (caught.value.line, caught.value.message) == (2, "is not UTF-8 here")


def test_nothing_of_the_text_is_in_an_error() -> None:
    with pytest.raises(TreeError) as caught:
        read_tree(b"password: %hunter2hunter2\n")
    assert "hunter2" not in caught.value.message
    with pytest.raises(TreeError) as caught:
        read_tree(b"password: !hunter2!x y\n")
    assert "hunter2" not in caught.value.message
