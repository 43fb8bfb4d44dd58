"""Filters: what they mean is what DuckDB makes of the same condition; what can't be meant has a named error."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import UsageError
from lookbook.tasks.exports.filter_columns import columns_of, fitted, matches
from lookbook.tasks.exports.filters import (
    MOST_CONDITIONS,
    MOST_LEVELS,
    Filter,
    as_document,
    canonical,
    filter_json_schema,
    read_condition,
    read_conditions,
    read_filter,
)

TABLE = pa.table(
    {
        "size": ["9", " 10", None, "11.5", "", "+100"],
        "fit": ["9", "10", None, "XL", "11", ""],
        "code": ["9007199254740993", "9007199254740992", None, "1", "2", "3"],
        "row": pa.array(range(6), pa.int64()),
        "product_key": ["1", "2", "3", "4", None, "O'Neil"],
        "sha256": ["aa", "bb", "cc", "dd", "ee", "ff"],
        "gender": ["Women", "Men", None, "Women", "women", "Wo\"men'; DROP TABLE t; --"],
        "year": pa.array([2010, 2012, None, 2015, -1, 2**40], pa.int64()),
        "width": pa.array([1, 2, None, 3, 2, 60], pa.int32()),
        "score": [0.1, 0.3, None, float("nan"), 0.30000000000000004, 1.0],
        "flag": [True, False, None, True, False, True],
        "day": [date(2020, 1, 1), date(2021, 6, 1), None, date(2020, 1, 2), None, date(1999, 1, 1)],
        "taken": pa.array(["2020-01-01T12:00", None, None, None, None, "2021-01-01"], pa.string()).cast(
            pa.timestamp("s")
        ),
        "name": ["Nike Summer Shoes", "summer-shoes, red", None, "Summery Shoe", "SHOES for Süden", "x"],
    }
)
NAME = "name"


def rows_where(wanted: Filter) -> set[int]:
    found = matches(fitted(wanted, TABLE, NAME), TABLE, NAME)
    return {row for row, holds in enumerate(found.to_pylist()) if holds}


def sql_of(wanted: dict[str, Any], parameters: list[Any]) -> str:
    """The reference: the condition as SQL with parameters."""
    if "and" in wanted or "or" in wanted:
        word = "and" if "and" in wanted else "or"
        return "(" + f" {word} ".join(sql_of(part, parameters) for part in wanted[word]) + ")"
    if "not" in wanted:
        return f"(not {sql_of(wanted['not'], parameters)})"
    column, operator = wanted["column"], wanted["op"]
    if operator.startswith("is"):
        return f"({column} {operator})"
    if operator == "contains":
        parameters.append(wanted["value"])
        return f"contains(lower({column}), lower(?))"
    if operator.endswith("in"):
        parameters.extend(wanted["value"])
        return f"({column} {operator} ({', '.join('?' * len(wanted['value']))}))"
    parameters.append(wanted["value"])
    return f"({column} {operator} ?)"


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "gender": st.sampled_from(["Women", "Men", "women", "", "Wo\"men'; DROP TABLE t; --"]),
    "year": st.sampled_from([2010, 2012, 2015, -1, 0, 2**40]),
    "width": st.sampled_from([1, 2, 3, 60, 2**40]),
    "score": st.sampled_from([0.1, 0.3, 0.30000000000000004, 1.0, 2.0]),
}
COMPARISONS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    column = draw(st.sampled_from(sorted(VALUES)))
    kind = draw(st.sampled_from(["compare", "in", "null", "contains"]))
    if kind == "null":
        return {"column": column, "op": draw(st.sampled_from(["is null", "is not null"]))}
    if kind == "in":
        operator = draw(st.sampled_from(["in", "not in"]))
        return {"column": column, "op": operator, "value": draw(st.lists(VALUES[column], min_size=1, max_size=3))}
    if kind == "contains":
        return {"column": "gender", "op": "contains", "value": draw(st.sampled_from(["wom", "'", "%", "_", "."]))}
    return {"column": column, "op": draw(COMPARISONS), "value": draw(VALUES[column])}


DOCUMENTS = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def reference() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    # NaN is missing to arrow's order and largest to DuckDB's: that row is compared in a test of its own.
    connection.register("t", TABLE.filter(pa.array([True, True, True, False, True, True])))
    return connection


@given(document=DOCUMENTS)
@settings(deadline=None)
def test_a_filter_finds_what_duckdb_finds(reference: duckdb.DuckDBPyConnection, document: dict[str, Any]) -> None:
    parameters: list[Any] = []
    statement = f"select row from t where {sql_of(document, parameters)}"
    expected = {row for (row,) in reference.execute(statement, parameters).fetchall()}
    assert rows_where(read_filter(document)) - {3} == expected


@given(document=DOCUMENTS)
@settings(deadline=None)
def test_the_canonical_form_means_the_same_and_is_its_own(document: dict[str, Any]) -> None:
    wanted = fitted(read_filter(document), TABLE, NAME)
    plain = canonical(wanted)
    assert canonical(plain) == plain
    assert rows_where(plain) == rows_where(wanted)
    assert read_filter(json.loads(json.dumps(as_document(plain)))) == plain


def test_order_nesting_and_repeats_tell_nothing() -> None:
    one = read_filter({"and": [{"column": "a", "op": "in", "value": ["y", "x", "x"]}, {"and": [{"text": "t"}]}]})
    other = read_filter({"and": [{"text": "t"}, {"text": "t"}, {"column": "a", "op": "in", "value": ["x", "y"]}]})
    assert canonical(one) == canonical(other)
    twice = read_filter({"not": {"not": {"text": "t"}}})
    assert canonical(twice) == read_filter({"text": "t"})


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("gender=Women", {"column": "gender", "op": "=", "value": "Women"}),
        ("gender == Women", {"column": "gender", "op": "=", "value": "Women"}),
        ("year>=2012", {"column": "year", "op": ">=", "value": "2012"}),
        ("blurry_score<0.3", {"column": "blurry_score", "op": "<", "value": "0.3"}),
        ("a!=b=c", {"column": "a", "op": "!=", "value": "b=c"}),
        ("season in Summer,Fall", {"column": "season", "op": "in", "value": ["Summer", "Fall"]}),
        ('season NOT  in "a, b", c', {"column": "season", "op": "not in", "value": ["a, b", "c"]}),
        ("season is null", {"column": "season", "op": "is null"}),
        ("season is  NOT null ", {"column": "season", "op": "is not null"}),
        ("name contains in the sun", {"column": "name", "op": "contains", "value": "in the sun"}),
        ('name=" x "', {"column": "name", "op": "=", "value": "x"}),
        ("name=", {"column": "name", "op": "=", "value": ""}),
        ("in in in", {"column": "in", "op": "in", "value": ["in"]}),
    ],
)
def test_the_short_form_says_the_same_as_json(text: str, document: dict[str, Any]) -> None:
    assert read_condition(text) == read_filter(document)


@pytest.mark.parametrize("text", ["", "gender", "=x", "a b=c", "x; DROP TABLE t", "gender in", 'a in "x', "a'='b'"])
def test_what_is_no_condition_says_what_is_taken(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no condition|cannot be told apart") as caught:
        read_condition(text)
    assert "COLUMN=VALUE" in caught.value.way_out


def test_several_conditions_have_to_hold_together() -> None:
    wanted = read_conditions(["gender=Women", "year>=2012"], text="summery", ids=["4", "9"])
    assert wanted is not None
    assert rows_where(wanted) == {3}
    assert read_conditions() is None


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("summer shoes", {0, 1}),
        ("SHOES", {0, 1, 4}),
        ("shoe", {3}),
        ("süden", {4}),
        ("su\u0308den", {4}),
        ("red.*", {1}),
    ],
)
def test_a_text_is_looked_for_in_whole_words_whatever_the_case(text: str, rows: set[int]) -> None:
    assert rows_where(read_filter({"text": text})) == rows


def test_ids_are_keys_of_products_or_hashes_of_images() -> None:
    assert rows_where(read_filter({"ids": ["1", "dd", "nobody", "O'Neil"]})) == {0, 3, 5}
    assert rows_where(read_filter({"not": {"ids": ["1"]}})) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("year=2012.0", {1}),
        ("year<2010.5", {0, 4}),
        ("year in 2010,2012.5", {0}),
        ("flag=true", {0, 3, 5}),
        ("flag!=yes", {1, 4}),
        ("day>=2020-01-02", {1, 3}),
        ("taken<2021-01-01T00:00:00", {0}),
        ("product_key=4", {3}),
        ("width>2147483648", set()),
        ("score>=0.3", {1, 4, 5}),
        ("size>=10", {1, 3, 5}),
        ("size>+9.0", {1, 3, 5}),
        ("size<11.5", {0, 1}),
        ("size=10", set()),  # a text beside a text
        ("size<=x", {0, 1, 3, 4, 5}),
        ("code>9007199254740992", {0}),
        ("fit in 9,XL", {0, 3}),
        ("fit>=X", {3}),
    ],
)
def test_texts_become_values_of_the_columns_types(text: str, rows: set[int]) -> None:
    assert rows_where(read_condition(text)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year=many", "year is a whole number, and 'many' is none"),
        ("year=99999999999999999999", "year is a whole number"),
        ("score=nan", "score is a number"),
        ("score<1e999", "score is a number"),
        ("flag=maybe", "flag is true or false"),
        ("flag<true", "has no order"),
        ("day=tomorrow", "day is a date"),
        ("taken=noon", "taken is a time"),
        ("year contains 2", "is no text"),
        ("fit>=10", "fit is a text, and 'XL' is no number to compare with 10"),
        ("gender<2", "gender is a text, and 'Women' is no number"),
        ("gendre=Women", "no column gendre"),
    ],
)
def test_what_a_column_cannot_be_compared_with_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        fitted(read_condition(text), TABLE, NAME)


def test_a_number_beside_texts_is_one_however_it_is_written() -> None:
    ways = ["10", 10, 10.0, " +10.0 "]
    found = {canonical(fitted(read_filter({"column": "size", "op": "<", "value": way}), TABLE, NAME)) for way in ways}
    assert found == {read_filter({"column": "size", "op": "<", "value": 10})}
    assert rows_where(read_filter({"not": {"column": "size", "op": "<", "value": 10}})) == {1, 3, 5}


@pytest.mark.parametrize(("name", "meant"), [("gendre", "gender"), ("Product_Key", "product_key"), ("yaer", "year")])
def test_a_column_that_is_nearly_named_is_offered(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        fitted(read_condition(f"{name}=1"), TABLE, NAME)
    assert f"Did you mean {meant}" in caught.value.way_out


def test_a_catalogue_without_names_has_no_text_to_look_in() -> None:
    with pytest.raises(UsageError, match="no display name"):
        fitted(read_filter({"text": "shoes"}), TABLE, None)
    with pytest.raises(UsageError, match="has no word"):
        fitted(read_filter({"text": "--"}), TABLE, NAME)


def test_depth_and_size_are_bounded_before_anything_is_made_of_them() -> None:
    deep: dict[str, Any] = {"text": "x"}
    for _ in range(100_000):
        deep = {"not": deep}
    with pytest.raises(UsageError, match=f"deeper than {MOST_LEVELS} levels"):
        read_filter(deep)
    with pytest.raises(UsageError, match=f"more than {MOST_CONDITIONS} conditions"):
        read_filter({"or": [{"text": "x"}] * (MOST_CONDITIONS + 1)})
    allowed: dict[str, Any] = {"text": "x"}
    for _ in range(MOST_LEVELS - 1):
        allowed = {"and": [allowed]}
    read_filter(allowed)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"and": []},
        {"and": {"text": "x"}},
        {"text": "x", "more": 1},
        {"text": ""},
        {"column": "a b", "op": "=", "value": 1},
        {"column": "a", "op": "like", "value": "x"},
        {"column": "a", "op": ["="], "value": "x"},
        {"column": "a", "op": "=", "value": {"x": 1}},
        {"column": "a", "op": "=", "value": float("inf")},
        {"column": "a", "op": "in", "value": []},
        {"column": "a", "op": "is null", "value": 1},
        {"ids": [1]},
        {"not": {"not": 3}},
    ],
)
def test_what_is_no_filter_is_refused_by_the_model_and_by_its_schema(document: Any) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_filter(document)
    if document != {"column": "a", "op": "=", "value": float("inf")}:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, filter_json_schema())


@given(document=DOCUMENTS)
@settings(deadline=None)
def test_what_the_model_takes_its_schema_takes(document: dict[str, Any]) -> None:
    jsonschema.validate(document, filter_json_schema())


def test_the_columns_of_a_filter_are_told() -> None:
    wanted = read_filter({"or": [{"text": "x"}, {"not": {"ids": ["1"]}}, {"column": "year", "op": "is null"}]})
    assert columns_of(wanted, NAME) == {"name", "product_key", "sha256", "year"}
