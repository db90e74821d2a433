"""Arrays on their way into PostgreSQL: what arrives is what was sent, byte for byte as psycopg does it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from fix_postgres import Schema
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.types.numeric import Float8, Int2, Int4, Int8

from logger.repositories.wire import (
    Float8Array,
    Int2Array,
    Int4Array,
    Int8Array,
    PgArray,
    TextArray,
    Timestamptz,
    TimestamptzArray,
    register_arrays,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEFORE_2000 = -1, 0, 946_684_799_999_999, 946_684_800_000_000, 946_684_800_000_001

CASES: list[tuple[type[PgArray], str, Any, list[Any]]] = [
    (Float8Array, "float8[]", Float8, [0.0, -0.0, 1.5, -1e308, 5e-324, 1e-7, 123456.0]),
    (Int8Array, "int8[]", Int8, [0, 1, -1, 2**31, 2**63 - 1, -(2**63)]),
    (Int4Array, "int4[]", Int4, [0, 1, -1, 2**31 - 1, -(2**31)]),
    (Int2Array, "int2[]", Int2, [0, 192, -1, 2**15 - 1, -(2**15)]),
]
TIMES = [*BEFORE_2000, 1_700_000_000_123_456]


def instants(microseconds: list[int]) -> list[datetime]:
    return [EPOCH + timedelta(microseconds=us) for us in microseconds]


def by_psycopg(values: list[Any]) -> bytes:
    """What psycopg makes of a list of its own types, without our dumpers."""
    dumper = Transformer().get_dumper(values, psycopg.adapt.PyFormat.BINARY)
    data = dumper.dump(values)
    assert data is not None
    return bytes(data)


@pytest.mark.parametrize(("kind", "_sql", "element", "values"), CASES, ids=[c[1] for c in CASES])
def test_bytes_are_those_of_psycopg(kind: type[PgArray], _sql: str, element: Any, values: list[Any]) -> None:
    assert kind(np.array(values)).to_binary() == by_psycopg([element(v) for v in values])


def test_bytes_of_times_are_those_of_psycopg() -> None:
    assert TimestamptzArray(np.array(TIMES)).to_binary() == by_psycopg(instants(TIMES))


def test_bytes_of_missing_values_are_those_of_psycopg() -> None:
    array = Float8Array(np.array([np.nan, 1.0, np.nan, np.nan, 2.0]))
    assert array.to_binary() == by_psycopg([None, Float8(1), None, None, Float8(2)])


@pytest.mark.parametrize(("kind", "_sql", "element", "values"), CASES, ids=[c[1] for c in CASES])
@pytest.mark.parametrize("size", [0, 1, 6, 5000])
def test_arrays_come_back_from_the_server(
    schema: Schema, kind: type[PgArray], _sql: str, element: Any, values: list[Any], size: int
) -> None:
    sent = np.resize(np.array(values), size)
    with schema.connect() as connection:
        row = connection.execute(f"SELECT %s::{_sql}, pg_typeof(%s)::text", (kind(sent), kind(sent)))
        received, type_name = row.fetchone() or ()
    assert received == sent.tolist()
    assert type_name.endswith("[]")


def test_times_before_2000_come_back_to_the_microsecond(schema: Schema) -> None:
    with schema.connect() as connection:
        row = connection.execute("SELECT %s", (TimestamptzArray(np.array(TIMES)),)).fetchone()
    assert row == (instants(TIMES),)


@pytest.mark.parametrize(
    "values", [[np.nan], [np.nan, 1.0], [1.0, np.nan], [np.nan] * 84, [np.nan, np.inf, -np.inf, 0.0]]
)
def test_nan_becomes_null_and_nothing_else_does(schema: Schema, values: list[float]) -> None:
    with schema.connect() as connection:
        row = connection.execute("SELECT %s", (Float8Array(np.array(values)),)).fetchone()
    assert row == ([None if np.isnan(v) else v for v in values],)


def test_empty_array_is_an_array_and_not_null(schema: Schema) -> None:
    empty = np.array([], dtype=np.int16)
    with schema.connect() as connection:
        row = connection.execute(
            "SELECT %s, cardinality(%s)", (Int2Array(empty), Int2Array(empty))
        ).fetchone()
    assert row == ([], 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.floats(allow_nan=False), st.just(float("nan"))), max_size=20))
def test_any_floats_have_the_bytes_of_psycopg(values: list[float]) -> None:
    expected = by_psycopg([None if np.isnan(v) else Float8(v) for v in values]) if values else None
    sent = Float8Array(np.array(values, dtype=np.float64)).to_binary()
    if not values or np.isnan(values).all():  # psycopg cannot tell the type of what holds no value
        assert int.from_bytes(sent[8:12], "big") == 701
    else:
        assert sent == expected


def test_int_of_other_width_is_sent_in_the_width_of_the_array() -> None:
    narrow, wide = np.array([1, 2], dtype=np.int16), np.array([1, 2], dtype=np.int64)
    assert Int4Array(narrow).to_binary() == Int4Array(wide).to_binary()


@pytest.mark.parametrize("texts", [[(0, "a")], [(1, ""), (3, "Ä€𝄞")], [(n, str(n)) for n in range(4)]])
def test_texts_arrive_among_nulls(schema: Schema, texts: list[tuple[int, str]]) -> None:
    with schema.connect() as connection:
        row = connection.execute("SELECT %s", (TextArray(4, texts),)).fetchone()
    assert row == ([dict(texts).get(n) for n in range(4)],)
    assert TextArray(4, texts).to_binary() == by_psycopg([dict(texts).get(n) for n in range(4)])


def test_text_with_a_nul_is_refused_before_it_is_sent() -> None:
    with pytest.raises(psycopg.DataError, match="no text with a NUL"):
        TextArray(2, [(1, "a\0b")]).to_binary()


@pytest.mark.parametrize("at", TIMES)
def test_one_moment_arrives_to_the_microsecond(schema: Schema, at: int) -> None:
    with schema.connect() as connection:
        row = connection.execute("SELECT %s, pg_typeof(%s)::text", (Timestamptz(at), Timestamptz(at)))
        assert row.fetchone() == (instants([at])[0], "timestamp with time zone")


def test_dumpers_belong_to_one_connection_only(schema: Schema) -> None:
    with psycopg.connect(schema.conninfo) as plain:
        with pytest.raises(psycopg.ProgrammingError, match="Int4Array"):
            plain.execute("SELECT %s", (Int4Array(np.array([1])),))
        register_arrays(plain)
        assert plain.execute("SELECT %s", (Int4Array(np.array([1])),)).fetchone() == ([1],)
