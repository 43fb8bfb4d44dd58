"""From one catalogue file to its typed rows, and the rows that are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.tasks.datasets.catalogue_delimited import (
    FILE_NAMES,
    ID_NAMES,
    DelimitedFile,
    find_column,
    mend_overflow,
    read_delimited,
)
from lookbook.tasks.datasets.catalogue_types import OWN_FIELDS, clean_names, infer_column, parse_integer, plain_column
from lookbook.tasks.datasets.rejects import Reject


@dataclass
class Sheet:
    """What one catalogue file holds.

    Attributes:
        table: the own columns and then the values; the product key is null where there is no id.
        rejects: of kind ``row`` for a record, of kind ``file`` for the whole.
        found: records read.
    """

    table: pa.Table = field(default_factory=lambda: pa.schema(OWN_FIELDS).empty_table())
    rejects: list[Reject] = field(default_factory=list)
    found: int = 0


def csv_sheet(key: str, data: bytes, *, is_styles: bool) -> Sheet | None:
    """Return the sheet of a CSV or TSV file; None if it is no catalogue, because no column names a product or an image.

    In a `styles.csv` (`is_styles`) id and year are whole numbers, the rest is text, and there have to be ids.
    """
    file = read_delimited(key, data, "row")
    if isinstance(file, Reject):
        return Sheet(rejects=[file]) if is_styles or file.rule != "empty_file" else None
    id_column, name_column = find_column(file.names, ID_NAMES), find_column(file.names, FILE_NAMES)
    if is_styles and id_column is None:
        return Sheet(rejects=[_without_ids(file)])
    if id_column is None and name_column is None:
        return None
    whole = {id_column, find_column(file.names, ("year",))} - {None} if is_styles else set()
    column = _overflow_column(file, {id_column, name_column}, whole, is_styles=is_styles)
    kept = []
    for record, values, repaired in mend_overflow(file, column, "row"):
        fault = _fault(values, file.names, id_column, name_column, whole)
        if fault is None:
            kept.append((record.line, repaired, values))
        else:
            file.reject("row", record, *fault)
    columns = [
        _column([values[place] for _, _, values in kept], place in whole, is_styles) for place in range(len(file.names))
    ]
    table = _table(key, [line for line, _, _ in kept], [done for _, done, _ in kept], file.names, columns)
    return Sheet(table, file.rejects, file.found)


def _overflow_column(
    file: DelimitedFile, keys: set[int | None], whole: set[int | None], *, is_styles: bool
) -> int | None:
    """Return the last column of text that is no key."""
    exact = [record.fields for record in file.records if len(record.fields) == len(file.names)]
    for place in reversed(range(len(file.names))):
        if place in keys or place in whole:
            continue
        if is_styles or pa.types.is_string(infer_column([values[place] for values in exact]).type):
            return place
    return None


def _fault(
    values: list[str], names: list[str], id_column: int | None, name_column: int | None, whole: set[int | None]
) -> tuple[str, str] | None:
    for place in sorted(place for place in whole if place is not None):
        if parse_integer(values[place]) is None and (values[place].strip() or place == id_column):
            rule = "bad_id" if place == id_column else "bad_year"
            return rule, f"{names[place].strip()} is {values[place]!r}, not a whole number"
    if id_column is not None and not values[id_column].strip():
        return "bad_id", "it has no id"
    if id_column is None and name_column is not None and not values[name_column].strip():
        return "no_file_name", "it names no file"
    return None


def _column(values: list[str], is_whole: bool, is_styles: bool) -> pa.Array:
    if is_whole:
        return pa.array([parse_integer(value) for value in values], pa.int64())
    if is_styles:
        return pa.array([value or None for value in values], pa.string())
    return infer_column(values)


def parquet_sheet(key: str, data: bytes) -> Sheet | None:
    """Return the sheet of a Parquet file; None if no column names a product or an image.

    Columns of raw bytes, such as embedded images, are left out.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = [field.name for field in file.schema_arrow if "binary" not in str(field.type)]
        place = find_column(names, ID_NAMES)
        place = find_column(names, FILE_NAMES) if place is None else place
        if place is None:
            return None
        table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        return Sheet(rejects=[Reject("file", key, "bad_parquet", f"it cannot be read as Parquet: {error}")])
    present = [value is not None and str(value).strip() != "" for value in table.column(place).to_pylist()]
    rejects = []
    for row, there in enumerate(present):
        if not there:
            raw = json.dumps(_row(table, row), default=str)
            rejects.append(Reject("row", f"{key}:{row + 1}", "bad_id", f"it has no {names[place]}", raw))
    columns = [plain_column(column) for column in table.filter(pa.array(present, pa.bool_())).columns]
    lines = [row + 1 for row, there in enumerate(present) if there]
    return Sheet(_table(key, lines, [False] * len(lines), names, columns), rejects, table.num_rows)


def _row(table: pa.Table, row: int) -> dict[str, object]:
    return {name: table.column(index)[row].as_py() for index, name in enumerate(table.column_names)}


def _table(
    key: str, lines: list[int], repaired: list[bool], names: Sequence[str], columns: Sequence[pa.Array]
) -> pa.Table:
    """Return the own columns, and the values of all columns but the one that names the file."""
    id_column, name_column = find_column(names, ID_NAMES), find_column(names, FILE_NAMES)
    count = len(lines)
    own = [
        pa.array([key] * count, pa.string()),
        pa.array(lines, pa.int64()),
        pa.nulls(count, pa.string()) if id_column is None else _keys(columns[id_column]),
        pa.array([""] * count, pa.string()),
        pa.array(repaired, pa.bool_()),
        pa.nulls(count, pa.string()) if name_column is None else columns[name_column].cast(pa.string()),
    ]
    values = [place for place in range(len(names)) if place != name_column]
    cleaned = clean_names([names[place] for place in values])
    return pa.table([*own, *[columns[place] for place in values]], [*[own.name for own in OWN_FIELDS], *cleaned])


def _keys(ids: pa.Array) -> pa.Array:
    whole = [int(value) if isinstance(value, float) and value.is_integer() else value for value in ids.to_pylist()]
    return pa.array([str(value).strip() for value in whole], pa.string())


def _without_ids(file: DelimitedFile) -> Reject:
    shown = file.delimiter.join(file.names)
    if any(parse_integer(name) is not None for name in file.names):
        return Reject("file", file.key, "no_header", "its first line is no header but a record", shown)
    return Reject("file", file.key, "no_id_column", "its header has no column id", shown)
