"""CSV and TSV: what Python's csv module reads is read alike, and what is no record is kept with its line."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.extract import csv_files, text
from lookbook.tasks.tables.extract.csv_files import read_csv
from lookbook.tasks.tables.extract.pieces import InputReject, UnreadableError
from lookbook.tasks.tables.spec.tasks import Delimited

AS_IT_STANDS = Delimited(nulls=())


def read(data: bytes, settings: Delimited = AS_IT_STANDS) -> tuple[list[dict[str, Any]], list[InputReject]]:
    rows: list[dict[str, Any]] = []
    rejects: list[InputReject] = []
    for piece in read_csv(io.BytesIO(data), "f.csv", settings):
        rows += piece.rows.to_pylist() if piece.rows is not None else []
        rejects += piece.rejects
    return rows, rejects


def values(rows: list[dict[str, Any]]) -> list[list[str]]:
    return [[value for name, value in row.items() if not name.startswith("_")] for row in rows]


def lines(rows: list[dict[str, Any]]) -> list[int]:
    return [row["_line"] for row in rows]


def physical_lines(records: list[list[str]]) -> list[int]:
    """The line that each record starts on, the header being on the first."""
    starts, line = [], 2
    for record in records:
        starts.append(line)
        line += 1 + sum(field.count("\n") for field in record)
    return starts


FIELDS = st.text(st.sampled_from("ab1 ,;\"\n\t|é漢'\\"), max_size=6)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, list[list[str]]]:
    width = draw(st.integers(2, 4))
    record = st.lists(FIELDS, min_size=width, max_size=width)
    return width, draw(st.lists(record, max_size=12))


@settings(max_examples=300, deadline=None)
@given(
    table=tables(),
    delimiter=st.sampled_from(",;\t|"),
    ending=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    block=st.sampled_from([7, 64, 4096]),
    last=st.booleans(),
)
def test_what_python_writes_is_read_with_the_line_of_each_record(
    table: tuple[int, list[list[str]]], delimiter: str, ending: str, quoting: Any, block: int, last: bool
) -> None:
    width, records = table
    target = io.StringIO()
    writer = csv.writer(target, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow([f"c{number}" for number in range(width)])
    writer.writerows(records)
    written = target.getvalue() if last or not records else target.getvalue().removesuffix(ending)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", block)
        rows, rejects = read(written.encode(), Delimited(nulls=(), delimiter=delimiter))
    assert rejects == []
    assert values(rows) == records
    assert lines(rows) == physical_lines(records)
    assert {row["_input"] for row in rows} <= {"f.csv"}


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(
        st.binary(max_size=12) | st.sampled_from([b'"', b"\n", b",", b"a,b\n", b'"x\ny",1\n', b"\r"]), max_size=20
    ),
    block=st.sampled_from([8, 4096]),
)
def test_no_line_is_lost_whatever_the_bytes(parts: list[bytes], block: int) -> None:
    """Every line of the file is that of a row, of a reject, within a quoted field, or blank."""
    data = b"a,b\n" + b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", block)
        rows, rejects = read(data)
    found = sorted([*lines(rows), *(reject.line or 0 for reject in rejects)])
    assert len(found) == len(set(found))
    covered = {1}
    for row in rows:
        inner = sum(value.count("\n") for value in values([row])[0])
        covered |= set(range(row["_line"], row["_line"] + inner + 1))
    for reject in rejects:
        covered |= set(range(reject.line or 0, (reject.line or 0) + reject.raw.count("\n") + 1))
    physical = data.split(b"\n")
    assert {number for number, line in enumerate(physical, 1) if line.rstrip(b"\r")} - covered == set()


def test_values_stay_as_they_stand() -> None:
    rows, rejects = read(b"sku,price\n007, 1.50 \nTRUE,1e3\n")
    assert (values(rows), rejects) == ([["007", " 1.50 "], ["TRUE", "1e3"]], [])


def test_texts_that_stand_for_a_missing_value() -> None:
    rows, _ = read(b'a,b\n,""\nNA,0\n', Delimited(nulls=("", "NA")))
    assert values(rows) == [[None, None], [None, "0"]]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"1,2,3", "ragged_row"),
        (b"1", "ragged_row"),
        (b'"1,2', "broken_quotes"),
        (b'"a" b,2', "broken_quotes"),
        (b'1,"x"y"', "broken_quotes"),
        (b"caf\xe9,2", "bad_encoding"),
        (b'"caf\xe9",2', "bad_encoding"),
    ],
)
def test_a_line_that_is_no_record_is_a_reject_and_the_lines_around_it_are_read(line: bytes, rule: str) -> None:
    rows, (reject,) = read(b'a,b\nx,"y\ny"\n' + line + b"\nu,v\n")
    assert values(rows) == [["x", "y\ny"], ["u", "v"]]
    assert (reject.rule, reject.line, reject.input) == (rule, 4, "f.csv")
    assert reject.raw == line.decode("utf-8", "backslashreplace")


def test_a_quote_within_a_field_is_text() -> None:
    rows, rejects = read(b'name,size\n24" screen,big\nO"Neil,"1""2"\n')
    assert (values(rows), rejects) == ([['24" screen', "big"], ['O"Neil', '1"2']], [])


def test_names_that_are_empty_or_there_twice_get_a_number() -> None:
    rows, _ = read(b"a,,a,a_2,_line\n1,2,3,4,5\n")
    assert list(rows[0]) == ["a", "column_2", "a_3", "a_2", "_line_2", "_input", "_line"]


def test_without_a_header_columns_are_numbered() -> None:
    rows, _ = read(b"\n1;2\n3;4\n", Delimited(header=False))
    assert rows[0] == {"column_1": "1", "column_2": "2", "_input": "f.csv", "_line": 2}
    assert len(rows) == 2


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b"a,b\n", b"a,b", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_rows(data: bytes) -> None:
    assert read(data) == ([], [])


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        ("é,b\n1,ü\n".encode("utf-8-sig"), Delimited()),
        ("é,b\n1,ü\n".encode("utf-16"), Delimited()),
        ("é,b\n1,ü\n".encode("utf-32"), Delimited()),
        ("é,b\n1,ü\n".encode("cp1252"), Delimited(encoding="cp1252")),
        ("é,b\r1,ü".encode(), Delimited()),
    ],
    ids=["BOM", "UTF-16", "UTF-32", "cp1252", "carriage returns"],
)
def test_encodings_and_line_ends(data: bytes, settings: Delimited) -> None:
    rows, rejects = read(data, settings)
    assert rejects == []
    assert rows == [{"é": "1", "b": "ü", "_input": "f.csv", "_line": 2}]


def test_bytes_that_another_encoding_has_no_character_for() -> None:
    rows, (reject,) = read(b"a,b\n\x81,1\nx,2\n", Delimited(encoding="cp1252"))
    assert values(rows) == [["x", "2"]]
    assert (reject.rule, reject.raw, reject.line) == ("bad_encoding", "\\x81,1", 2)


def test_half_a_character_of_utf16_is_a_reject() -> None:
    data = "a,b\nx,".encode("utf-16") + b"\x00\xd8" + "\ny,2\n".encode("utf-16-le")
    rows, (reject,) = read(data)
    assert (values(rows), reject.rule, reject.line) == ([["y", "2"]], "bad_encoding", 2)


def test_mojibake_stays_as_it_is() -> None:
    rows, _ = read("a,b\nZÃ¼rich,1\n".encode())
    assert values(rows) == [["ZÃ¼rich", "1"]]


@pytest.mark.parametrize("name", ["rot13", "no-such", "base64"])
def test_an_encoding_that_is_none_is_named(name: str) -> None:
    with pytest.raises(LookbookError, match=name):
        read(b"a,b\n1,2\n", Delimited(encoding=name))


@pytest.mark.parametrize("delimiter", ["\n", '"', "§"])
def test_a_delimiter_that_is_none_is_named(delimiter: str) -> None:
    with pytest.raises(LookbookError, match="delimiter"):
        read(b"a,b\n1,2\n", Delimited(delimiter=delimiter))


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (b"a;b\n1,5;2,5\n3,5;4,5\n", ["a", "b"]),
        (b"a\tb, c\n1\t2\n", ["a", "b, c"]),
        (b"a|b|c\n1|2|3\n", ["a", "b", "c"]),
        (b'a,"b;c;d;e"\n1,2\n', ["a", "b;c;d;e"]),
        (b"only\n1\n", ["only"]),
    ],
)
def test_the_first_lines_show_the_delimiter(head: bytes, names: list[str]) -> None:
    rows, _ = read(head)
    assert [name for name in rows[0] if not name.startswith("_")] == names


def test_a_header_that_cannot_be_read_is_no_header() -> None:
    with pytest.raises(UnreadableError, match="quotes"):
        read(b'"a,b\n1,2\n')
    with pytest.raises(UnreadableError, match="encoding"):
        read(b"\xff,b\n1,2\n")


def test_a_line_without_end_is_a_reject_and_what_follows_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "MAX_RECORD", 1000)
    monkeypatch.setattr(text, "BLOCK", 100)
    rows, (reject,) = read(b"a,b\n1,2\n" + b"x" * 5000 + b"\n3,4\n")
    assert (values(rows), lines(rows)) == ([["1", "2"], ["3", "4"]], [2, 4])
    assert (reject.rule, reject.line) == ("too_long", 3)
    assert set(reject.raw) == {"x"}


def test_a_quote_that_is_never_closed_costs_its_line_only() -> None:
    data = b"a,b\n" + b'1,"open\n' + b"".join(b"%d,x\n" % number for number in range(5000))
    rows, (reject,) = read(data)
    assert (len(rows), reject.rule, reject.line, reject.raw) == (5000, "broken_quotes", 2, '1,"open')
