"""The columns of a stage: the same in all its files, as long as no value asks for more."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import unified
from lookbook.tasks.tables.extract.arrays import text_of
from lookbook.tasks.tables.staging import INPUT, LINE

#: A table of more columns is none: most likely values stand where names should.
MAX_COLUMNS = 5000
_LAST = (INPUT, LINE)


def check_width(what: str, names: Collection[str]) -> None:
    """See that a table has no more columns than one may have.

    Raises:
        LookbookError: it has.
    """
    if len(names) > MAX_COLUMNS:
        raise LookbookError(
            f"{what}: more than {MAX_COLUMNS} columns, {list(names)[-1][:80]!r} among them.",
            "Values stand where names should: bring the rows into another form by a Python function.",
        )


class Shape:
    """Columns and their types so far; types only get wider.

    Args:
        what: has them, for messages.
        types: columns that are known before.
    """

    def __init__(self, what: str, types: Mapping[str, pa.DataType] | None = None) -> None:
        self._what = what
        self._types = dict(types or {})

    def fit(self, table: pa.Table) -> pa.Table:
        """Return the table with all columns so far, its own included; those that it lacks are null.

        Raises:
            LookbookError: that are too many.
        """
        own = [name for name in table.column_names if name not in _LAST]
        wider = unified([pa.schema(list(self._types.items())), table.select(own).schema])
        check_width(self._what, list(wider))
        self._types = {name: kind or pa.string() for name, kind in wider.items()}
        columns = {name: self._column(table, name) for name in self._types}
        last = {name: table.column(name) for name in _LAST if name in table.column_names}
        return pa.table(columns | last)

    def _column(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        wanted = self._types[name]
        if name not in table.column_names:
            return pa.chunked_array([pa.nulls(table.num_rows, wanted)])
        column = table.column(name)
        if column.type.equals(wanted):
            return column
        if not pa.types.is_string(wanted):
            try:
                return column.cast(wanted)
            except pa.ArrowInvalid:  # an integer that no float is equal to
                self._types[name] = pa.string()
        return pa.chunked_array([pa.array([text_of(value) for value in column.to_pylist()], pa.string())])
