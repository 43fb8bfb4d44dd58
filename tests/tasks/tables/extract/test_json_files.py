"""JSON in all its ways: every record is a row or a reject, whatever stands between them."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.extract import json_files, text
from lookbook.tasks.tables.extract.json_files import read_json, read_json_lines
from lookbook.tasks.tables.extract.pieces import InputReject


def read(data: bytes | str, *, by_lines: bool = False, encoding: str = "utf-8") -> tuple[list[Any], list[InputReject]]:
    rows: list[dict[str, Any]] = []
    rejects: list[InputReject] = []
    source = io.BytesIO(data.encode() if isinstance(data, str) else data)
    for piece in (read_json_lines if by_lines else read_json)(source, "f.json", encoding):
        rows += piece.rows.to_pylist() if piece.rows is not None else []
        rejects += piece.rejects
    return rows, rejects


def values(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what every row has, and without nulls."""
    return [{k: v for k, v in row.items() if v is not None and k not in ("_input", "_line")} for row in rows]


SCALARS = (
    st.none()
    | st.integers(-(2**60), 2**60)
    | st.text(max_size=5)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
OBJECTS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c d"]), st.text(max_size=5), max_size=3), max_size=8)


@settings(max_examples=200, deadline=None)
@given(
    records=OBJECTS,
    between=st.sampled_from(["", "\n", " ", ",", "\r\n\n"]),
    indent=st.sampled_from([None, 2]),
    array=st.booleans(),
    block=st.sampled_from([3, 50, 4096]),
    ascii_only=st.booleans(),
)
def test_objects_come_back_whatever_stands_between_them(
    records: list[dict[str, str]], between: str, indent: int | None, array: bool, block: int, ascii_only: bool
) -> None:
    written = [json.dumps(record, indent=indent, ensure_ascii=ascii_only) for record in records]
    text_of_file = f"[{','.join(written)}]" if array else between.join(written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", block)
        rows, rejects = read(text_of_file)
    assert rejects == []
    assert values(rows) == records
    assert [row["_line"] for row in rows] == list(range(1, len(records) + 1))


@settings(max_examples=200, deadline=None)
@given(st.lists(SCALARS, min_size=1, max_size=6))
def test_values_keep_what_json_says_of_them(column: list[Any]) -> None:
    """A column of one type has it; one of several is text, as JSON writes each value."""
    rows, rejects = read("".join(json.dumps({"v": value}) for value in column))
    assert rejects == []
    kinds = {type(value) for value in column if value is not None}
    found = [row["v"] for row in rows]
    exact = all(abs(value) <= 2**53 for value in column if isinstance(value, int))
    if len(kinds) <= 1 or (kinds == {int, float} and exact):
        assert found == column
    else:
        assert found == [v if v is None or isinstance(v, str) else json.dumps(v) for v in column]


def test_nested_objects_are_flattened_and_lists_stay_json() -> None:
    rows, _ = read('{"id": 1, "post": {"id": 2, "author": {"name": "é"}, "no": {}}, "tags": ["a", {"b": 1}], "l": []}')
    assert values(rows) == [{"id": 1, "post__id": 2, "post__author__name": "é", "tags": '["a",{"b":1}]', "l": "[]"}]


def test_numbers_beyond_64_bits_become_text() -> None:
    rows, _ = read('{"n": 1}{"n": 99999999999999999999}')
    assert [row["n"] for row in rows] == ["1", "99999999999999999999"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False) | st.integers(), min_size=1, max_size=4))
def test_a_number_is_read_with_all_its_digits(column: list[Decimal | int]) -> None:
    """Whatever the type of its column: what is read, written in digits, is the number that stood there."""
    written = [str(value) for value in column]
    rows, _ = read("".join(f'{{"v": {value}, "l": [{value}]}}' for value in written))
    found = [row["v"] if isinstance(row["v"], Decimal) else Decimal(str(row["v"])) for row in rows]
    assert found == [Decimal(value) for value in written]
    assert [json.loads(row["l"], parse_float=Decimal)[0] for row in rows] == [Decimal(value) for value in written]


def test_no_number_is_infinite() -> None:
    rows, _ = read('{"v": 1e400}{"v": -1e400}{"v": 1.5}{"l": [1e400]}')
    assert values(rows) == [{"v": "1E+400"}, {"v": "-1E+400"}, {"v": "1.5"}, {"l": "[1E+400]"}]


def test_an_object_without_values_is_a_row() -> None:
    assert len(read("{}{}")[0]) == 2


def test_a_comma_behind_the_last_record_is_no_fault() -> None:
    rows, rejects = read('[{"a": 1}, {"a": 2},\n]\n')
    assert (values(rows), rejects) == ([{"a": 1}, {"a": 2}], [])


@pytest.mark.parametrize("data", ["", " \n ", "[]", "[\n]", "\ufeff"])
def test_nothing_has_no_rows(data: str) -> None:
    assert read(data) == ([], [])


@pytest.mark.parametrize(
    ("data", "rows", "rules", "raw"),
    [
        ('{"a":1}{"a":,}{"a":3}', [1, 3], ["bad_json"], '{"a":,}'),
        ('[{"a":1},\n{"a": nope},\n{"a":3}]', [1, 3], ["bad_json"], '{"a": nope}'),
        ('{"a":"x\n{"a":2}\n', [2], ["bad_json"], '{"a":"x'),
        ('[\n  {"a": 1},\n  {"a": "open,\n    "b": {\n  }},\n  {"a": 3}\n]', [1, 3], ["bad_json"], None),
        ('[1, {"a": 1}, [2], null]', [1], ["not_an_object"] * 3, "1"),
        ('{"a":1}"text"{"a":2}', [1, 2], ["not_an_object"], '"text"'),
        ('{"a": {"b": 1}, "a__b": 2}{"a": 3}', [3], ["ambiguous_names"], '{"a":{"b":1},"a__b":2}'),
        ('{"a":1}<html>{"a":2}', [1, 2], ["bad_json"], "<html>"),
        ('{"a":"\\ud83d"}{"a":2}', [2], ["bad_encoding"], '{"a":"\\ud83d"}'),
    ],
)
def test_what_is_no_record_is_a_reject_and_the_records_around_it_are_read(
    data: str, rows: list[int], rules: list[str], raw: str | None
) -> None:
    found, rejects = read(data)
    assert [row["a"] for row in values(found)] == rows
    assert [reject.rule for reject in rejects] == rules
    assert raw is None or rejects[0].raw == raw


@pytest.mark.parametrize("cut", range(1, 17))
def test_a_file_that_is_cut_off_says_so(cut: int) -> None:
    whole = '[{"a":1},{"a":2}]'
    rows, rejects = read(whole[:cut])
    assert [row["a"] for row in rows] == [1, 2][: whole[:cut].count("}")]
    assert rejects
    assert "ends within its array" in rejects[-1].message


def test_bytes_without_a_character_are_rejects() -> None:
    rows, (reject,) = read(b'{"a":"x"}{"a":"caf\xe9"}{"a":"y"}')
    assert values(rows) == [{"a": "x"}, {"a": "y"}]
    assert (reject.rule, reject.raw, reject.line) == ("bad_encoding", '{"a":"caf\\xe9"}', 2)


def test_other_encodings() -> None:
    assert values(read('{"a":"é"}'.encode("utf-16"))[0]) == [{"a": "é"}]
    assert values(read('{"a":"é"}'.encode("cp1252"), encoding="cp1252")[0]) == [{"a": "é"}]


@pytest.mark.parametrize("hostile", ["[" * 200_000, '{"a":' * 100_000, '{"a":[' * 50_000 + "1"])
def test_deep_nesting_is_a_reject(hostile: str) -> None:
    rows, rejects = read('{"a":1}' + hostile)
    assert values(rows) == [{"a": 1}]
    assert rejects[0].rule == "too_deep"


def test_an_integer_of_thousands_of_digits_is_a_reject() -> None:
    rows, (reject,) = read('{"a":' + "9" * 5000 + '}{"a":1}')
    assert (values(rows), reject.rule) == ([{"a": 1}], "bad_json")


def test_lines_of_json_lines_are_those_of_the_file() -> None:
    rows, rejects = read('{"a":1}\n\n {"a":2} \r\n{"a":3}{"a":4}\nnope\n[1]\n{"a":5}', by_lines=True)
    assert [(row["a"], row["_line"]) for row in rows] == [(1, 1), (2, 3), (5, 7)]
    assert [(reject.rule, reject.line) for reject in rejects] == [
        ("bad_json", 4),
        ("bad_json", 5),
        ("not_an_object", 6),
    ]


def test_a_line_of_json_lines_without_end_is_a_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MAX_RECORD", 100)
    monkeypatch.setattr(text, "BLOCK", 30)
    rows, (reject,) = read('{"a":1}\n{"a":"' + "x" * 1000 + '"}\n{"a":2}\n', by_lines=True)
    assert [(row["a"], row["_line"]) for row in rows] == [(1, 1), (2, 3)]
    assert (reject.rule, reject.line) == ("too_long", 2)


def test_a_record_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MAX_RECORD", 1000)
    monkeypatch.setattr(text, "BLOCK", 100)
    read_so_far = 0

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            nonlocal read_so_far
            read_so_far += size
            return b'{"a":"' + b"x" * size if read_so_far == size else b"x" * size if read_so_far < 50_000 else b""

    pieces = list(read_json(Endless(), "f.json", "utf-8"))
    rejects = [reject for piece in pieces for reject in piece.rejects]
    assert rejects
    assert max(len(reject.raw) for reject in rejects) < 5000


def test_many_different_names_make_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "CELLS", 4000)
    wide = [{f"{number}_{name}": 1 for name in range(10)} for number in range(200)]
    pieces = list(read_json(io.BytesIO(json.dumps(wide).encode()), "f.json", "utf-8"))
    assert max(piece.rows.num_rows * piece.rows.num_columns for piece in pieces if piece.rows) < 8000
    assert sum(piece.rows.num_rows for piece in pieces if piece.rows) == 200


def test_values_in_place_of_names_are_an_error() -> None:
    with pytest.raises(LookbookError, match="5000 columns"):
        read(json.dumps({str(number): number for number in range(5001)}))


def test_types_are_those_of_arrow() -> None:
    (piece,) = read_json(io.BytesIO(b'[{"i":1,"f":1.5,"b":true,"s":"x","n":null}]'), "f.json", "utf-8")
    assert piece.rows is not None
    assert piece.rows.schema.types[:5] == [pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.null()]
