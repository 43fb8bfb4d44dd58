"""Types: what texts are, and that nothing is lost on the way from one type to another."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.sql_types import TEXT
from lookbook.tasks.tables.load.column_types import DLT_NAMES, INFERRED, as_canonical, canonical, fitted
from lookbook.tasks.tables.spec.values import SQL_TYPES


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("SET TimeZone = 'UTC'")
    return made


def of_text(connection: duckdb.DuckDBPyConnection, value: str, kind: str, *, strict: bool) -> Any:
    """A text as one of a type, as text again; None where it does not fit."""
    found = connection.execute(
        f"SELECT CAST({fitted('v', TEXT, kind, strict=strict)} AS VARCHAR) FROM (SELECT $1 AS v)", [value]
    )
    return (found.fetchone() or (None,))[0]


def inferred(connection: duckdb.DuckDBPyConnection, value: str) -> str:
    """The type that a column of this value alone would get."""
    fits = [kind for kind in INFERRED if of_text(connection, value, kind, strict=True) is not None]
    return DLT_NAMES[fits[0]] if fits else "text"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *((value, "bigint") for value in ("0", "-1", "9223372036854775807")),
        *((value, "double") for value in ("1.5", "-0.25", "1.50", "0.30000000000000004", "1e-05", "1e+16", "-0")),
        *((value, "bool") for value in ("true", "FALSE", "True")),
        ("2024-02-29", "date"),
        *((value, "timestamp") for value in ("2024-01-01T10:00", "2024-01-01 10:00:00.5Z", "2024-01-01T10:00:00+0200")),
        # No number: it would not be written back as it stands, or is none in plain digits.
        *(
            (value, "text")
            for value in (
                "007",
                "+1",
                "1_000",
                "0x10",
                "1,5",
                "1e999",
                "1e3",
                "12E5",
                "9223372036854775808",
                "12345678901234567890",
                "12345678901234567.89",
                "1.123456789012345678",
                "nan",
                "",
                " 1",
                "1 ",
                "\u0661",
            )
        ),
        *((value, "text") for value in ("2024-02-30", "24-01-01", "01/02/2024", "10:00", "yes", "1.", ".5")),
    ],
)
def test_a_text_is_what_it_shows_beyond_doubt(connection: duckdb.DuckDBPyConnection, value: str, kind: str) -> None:
    assert inferred(connection, value) == kind


@given(st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=200)
def test_an_integer_comes_back_as_it_was(connection: duckdb.DuckDBPyConnection, value: int) -> None:
    assert of_text(connection, str(value), "BIGINT", strict=True) == str(value)


@given(st.text(max_size=12))
@settings(max_examples=500)
def test_no_text_is_taken_for_a_number_that_would_not_bring_it_back(
    connection: duckdb.DuckDBPyConnection, value: str
) -> None:
    found = of_text(connection, value.replace("\x00", ""), "BIGINT", strict=True)
    assert found is None or found == value


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=300)
def test_a_number_that_a_program_writes_is_read_back(connection: duckdb.DuckDBPyConnection, value: float) -> None:
    found = of_text(connection, repr(value), "DOUBLE", strict=True)
    assert found is not None
    assert float(found) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12) | st.decimals(-1, 1, allow_nan=False))
@settings(max_examples=300)
def test_no_text_is_taken_for_a_double_that_is_another_number(
    connection: duckdb.DuckDBPyConnection, value: Decimal
) -> None:
    found = of_text(connection, f"{value:f}", "DOUBLE", strict=True)
    assert found is None or Decimal(found) == value


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        (" 007 ", "BIGINT", "7"),
        ("1.5", "BIGINT", None),
        ("yes", "BOOLEAN", "true"),
        ("1.50", "DECIMAL(10, 2)", "1.50"),
        ("1.500", "DECIMAL(10, 2)", "1.50"),
        ("1.505", "DECIMAL(10, 2)", None),
        ("123456789", "DECIMAL(10, 2)", None),
        ("1.5e-05", "DECIMAL(10, 6)", "0.000015"),
        ("1.5E-05", "DECIMAL(10, 5)", None),
        ("1e400", "DECIMAL(38, 2)", None),
        ("9007199254740993", "DOUBLE", None),
        ("0.1000000000000000055", "DOUBLE", "0.1"),
        ("2024-01-01", "TIMESTAMP WITH TIME ZONE", "2024-01-01 00:00:00+00"),
        ("2024-01-01T10:00:00+02:00", "TIMESTAMP WITH TIME ZONE", "2024-01-01 08:00:00+00"),
        ("2024-01-01T10:00:00+02:00", "TIMESTAMP", None),
        ("10:30", "TIME", "10:30:00"),
        ('{"a": 1}', "JSON", '{"a": 1}'),
        ('{"a": 1', "JSON", None),
        ("nan", "DOUBLE", "nan"),
        ("1e999", "DOUBLE", None),
    ],
)
def test_a_declared_type_takes_what_is_meant(
    connection: duckdb.DuckDBPyConnection, value: str, kind: str, wanted: str | None
) -> None:
    assert of_text(connection, value, kind, strict=False) == wanted


@pytest.mark.parametrize(
    ("value", "before", "after", "wanted"),
    [
        ("1.5", "DOUBLE", "BIGINT", None),
        ("2.0", "DOUBLE", "BIGINT", "2"),
        ("9007199254740993", "BIGINT", "DOUBLE", None),
        ("9007199254740992", "BIGINT", "DOUBLE", "9007199254740992.0"),
        ("9.99", "DOUBLE", "DECIMAL(10, 2)", "9.99"),
        ("1.1", "DOUBLE", "DECIMAL(38, 18)", "1.100000000000000000"),
        ("1.1", "DECIMAL(38, 18)", "DOUBLE", "1.1"),
        ("12345678901234567.89", "DECIMAL(38, 2)", "DOUBLE", None),
        ("9.999", "DOUBLE", "DECIMAL(10, 2)", None),
        ("TIMESTAMP '2024-01-01 00:00:00'", "TIMESTAMP", "DATE", "2024-01-01"),
        ("TIMESTAMP '2024-01-01 10:00:00'", "TIMESTAMP", "DATE", None),
        ("DATE '2024-01-01'", "DATE", "TIMESTAMP", "2024-01-01 00:00:00"),
        ("2", "BIGINT", "BOOLEAN", None),
        ("DATE '2024-01-01'", "DATE", "BIGINT", None),
        ("1.5", "DOUBLE", "VARCHAR", "1.5"),
        ("to_json([1])", "JSON", "VARCHAR", "[1]"),
        ("to_json(7)", "JSON", "BIGINT", "7"),
    ],
)
def test_a_value_of_another_type_fits_only_whole(
    connection: duckdb.DuckDBPyConnection, value: str, before: str, after: str, wanted: str | None
) -> None:
    sql = fitted(f"(CAST({value} AS {before}))", before, after, strict=True)
    assert connection.execute(f"SELECT CAST({sql} AS VARCHAR)").fetchone() == (wanted,)


@pytest.mark.parametrize(
    "value",
    [
        *("1::TINYINT", "1::UBIGINT", "1::HUGEINT", "1::FLOAT", "1.5::DECIMAL(9, 3)", "true", "uuid()", "[1]"),
        *("{'a': 1}", "MAP {'a': 1}", "INTERVAL 1 DAY", "now()", "now()::TIMESTAMP_NS", "now()::TIMESTAMP_S"),
        *("'1'::BIT", "'a'::ENUM('a')", "TIME '10:00'", "'\\x00'::BLOB", "DATE '2024-01-01'"),
    ],
)
def test_every_type_becomes_one_that_a_spec_can_declare(connection: duckdb.DuckDBPyConnection, value: str) -> None:
    (found,) = connection.execute(f"SELECT typeof({value})").fetchone() or ("",)
    sql = as_canonical(f"({value})", found)
    (made,) = connection.execute(f"SELECT typeof({sql})").fetchone() or ("",)
    assert made.replace(",", ", ") == canonical(found)
    assert canonical(found) in SQL_TYPES.values() or canonical(found).startswith("DECIMAL(")
