"""Values in binary: what the server reads is what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.store.postgres import binary
from smppd.store.postgres.connection import Connection
from tests import postgres

_INT8 = st.integers(-1 << 63, (1 << 63) - 1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)


@pytest.fixture(scope="module")
def db() -> Iterator[Connection]:
    made = Connection(postgres.server().address())
    types = (binary.INT4S, binary.INT8S, binary.TEXTS, binary.BYTEAS)
    made.prepare("back", "SELECT row($1, $2, $3, $4)::text", types)
    made.prepare(
        "json",
        "SELECT json_build_array($1, $2, $3, (SELECT array_agg(encode(b, 'hex')) FROM unnest($4) b))::text",
        types,
    )
    yield made
    made.close()


@given(
    st.lists(
        st.tuples(st.integers(-1 << 31, (1 << 31) - 1), _INT8, _TEXT, st.binary(max_size=9)), min_size=1, max_size=5
    )
)
def test_lists_arrive_as_they_are(db: Connection, rows: list[tuple[int, int, str, bytes]]) -> None:
    small, large, texts, octets = ([row[at] for row in rows] for at in range(4))
    values: list[bytes | None] = [
        binary.int4s(small),  # type: ignore[arg-type]
        binary.int8s(large),  # type: ignore[arg-type]
        binary.texts(texts),  # type: ignore[arg-type]
        binary.byteas(octets),  # type: ignore[arg-type]
    ]
    read = db.execute("json", values)
    assert read is not None
    assert json.loads(read) == [small, large, texts, [one.hex() for one in octets]]  # type: ignore[union-attr]


def test_an_empty_list_is_null(db: Connection) -> None:
    assert db.execute("back", [binary.int4s([]), binary.int8s([]), binary.texts([]), binary.byteas([])]) == b"(,,,)"


def test_a_text_the_server_cannot_have_is_made_one_it_can() -> None:
    assert binary.clean("a\0b\udc80c\N{SNOWMAN}") == "a\N{REPLACEMENT CHARACTER}b?c\N{SNOWMAN}"
