"""One stream of mixed rows as a table for each value of a column."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.tables.extract.arrays import text_of
from lookbook.tasks.tables.extract.names import column_named, group_of
from lookbook.tasks.tables.extract.pieces import Piece, Reject, raw_of, shortened
from lookbook.tasks.tables.staging import INPUT, LINE


def split(piece: Piece, by: str) -> tuple[dict[str, pa.Table], list[Reject]]:
    """Return the rows by the table that their value names; columns without any value there are left out.

    Values that make the same name share a table. Rows without a value, or with one that makes no name of a table,
    become rejects.
    """
    rows, rejects = piece.rows, list(piece.rejects)
    groups: dict[str, list[pa.Table]] = {}
    if rows is None or not rows.num_rows:
        return {}, rejects
    name = column_named(rows.column_names, by)
    column = rows.column(name).combine_chunks() if name else pa.nulls(rows.num_rows)
    for value in pc.unique(column):
        part = rows.filter(pc.equal(column, value) if value.is_valid else column.is_null())
        group = group_of(str(text_of(value.as_py()))) if value.is_valid else None
        if group is None:
            rejects += _rejects(part, by, known=value.is_valid)
        else:
            groups.setdefault(group, []).append(part)
    return {group: _without_empty(pa.concat_tables(parts)) for group, parts in groups.items()}, rejects


def _without_empty(rows: pa.Table) -> pa.Table:
    """Return the rows without columns that are there for other groups only."""
    kept = [
        name
        for name, column in zip(rows.column_names, rows.columns, strict=True)
        if column.null_count < rows.num_rows or name in (INPUT, LINE)
    ]
    return rows.select(kept)


def _rejects(rows: pa.Table, by: str, *, known: bool) -> list[Reject]:
    rule = "bad_group" if known else "no_group"
    why = f"its {by} makes no name of a table" if known else f"it has no {by}, by which rows are split"
    return [Reject(rule, why, shortened(raw_of(row)), str(row[INPUT]), row[LINE]) for row in rows.to_pylist()]
