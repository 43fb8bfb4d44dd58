"""What functions return: tables of several kinds, streams of them, groups of them, or small values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.extract.arrays import to_array
from lookbook.tasks.tables.extract.arrow_files import plain
from lookbook.tasks.tables.extract.names import group_of
from lookbook.tasks.tables.extract.pieces import located
from lookbook.tasks.tables.staging import INPUT, LINE

if TYPE_CHECKING:
    import pandas as pd

#: Calls into a function are done within this: its errors become ours.
Guard: TypeAlias = Callable[[], AbstractContextManager[None]]
#: Bytes of a small value, as JSON.
MAX_VALUE = 2**20
#: Rows that are staged at a time.
ROWS = 50_000
_FAULTS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError, ValueError)


def is_table(result: Any) -> bool:  # noqa: ANN401 - of functions of others
    """Return whether it is a DataFrame, or anything that Arrow takes as a table."""
    if isinstance(result, pa.Table | pa.RecordBatch):
        return True
    # A column alone is a stream of Arrow's as well.
    return hasattr(result, "__arrow_c_stream__") and (hasattr(result, "columns") or hasattr(result, "schema"))


def groups_in(path: str, result: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the tables of a result that is a mapping of tables, by their names; empty of any other.

    Raises:
        LookbookError: only some of its values are tables.
    """
    if is_table(result) or not isinstance(result, Mapping):
        return {}
    named = {str(name): value for name, value in result.items()}
    others = [name for name, value in named.items() if not is_table(value)]
    if others and len(others) < len(named):
        raise LookbookError(f"{path} returns tables, and among them {others[0]}, which is none.", "Return tables only.")
    return {} if others else named


def group_name(path: str, name: str) -> str:
    """Return the name of a group.

    Raises:
        LookbookError: it makes no name of a table.
    """
    group = group_of(name)
    if group is None:
        raise LookbookError(f"{path} returns a table under {name!r}, which makes no name.", "Take letters and digits.")
    return group


def tables(path: str, result: Any, guard: Guard) -> Iterator[pa.Table]:  # noqa: ANN401
    """Yield the tables of a result, one after the other if it is a stream of them.

    Raises:
        LookbookError: it is neither a table nor a stream of tables.
    """
    if is_table(result):
        yield from _slices(_table(path, result))
        return
    while True:
        with guard():
            item = next(result, _END)
        if item is _END:
            return
        if not is_table(item):
            raise LookbookError(
                f"{path} yields a {type(item).__name__}, which is no table.",
                "Yield DataFrames, Arrow tables or record batches.",
            )
        yield from _slices(_table(path, item))


def with_places(table: pa.Table, address: str, done: int) -> pa.Table:
    """Return the table with where each row comes from: as it says itself, else its number."""
    if INPUT in table.column_names or LINE in table.column_names:
        return table
    return located(table, address, pa.array(np.arange(done + 1, done + table.num_rows + 1), pa.int64()))


def small_value(path: str, result: Any) -> JsonValue:  # noqa: ANN401
    """Return a value that passes from task to task.

    Raises:
        LookbookError: JSON does not know it, or it is too large.
    """
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise LookbookError(
            f"{path} returns a {type(result).__name__}, which is neither a table nor a value of JSON.",
            "Return a DataFrame, an Arrow table, a generator of them, a dict of them, or a small value.",
        ) from None
    if len(text) > MAX_VALUE:
        raise LookbookError(
            f"{path} returns a value of {len(text)} bytes as JSON; {MAX_VALUE} may pass from task to task.",
            "Return a table.",
        )
    value: JsonValue = json.loads(text)
    return value


def _table(path: str, result: Any) -> pa.Table:  # noqa: ANN401
    import pandas as pd  # noqa: PLC0415 - slow

    table = _of_frame(result) if isinstance(result, pd.DataFrame) else pa.table(result)
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise LookbookError(f"{path} returns two columns {min(repeated)}.", "Give each a name of its own.")
    if not table.num_columns:
        return table
    return _places_typed(path, plain(table))


def _of_frame(found: pd.DataFrame) -> pa.Table:
    """Return the columns of a DataFrame, and the levels of its index that have names."""
    levels = list(found.index.names)
    if any(name is not None for name in levels):
        for level in reversed([number for number, name in enumerate(levels) if name is None]):
            found = found.droplevel(level)
        found = found.reset_index()
    names = [str(name) for name in found.columns]
    columns = [_of_series(found.iloc[:, number]) for number in range(len(names))]
    return pa.Table.from_arrays(columns, names=names)


def _of_series(series: pd.Series[Any]) -> pa.Array:
    import pandas as pd  # noqa: PLC0415 - slow

    if isinstance(series.dtype, pd.PeriodDtype | pd.IntervalDtype):
        series = series.astype("string")
    try:
        array = pa.Array.from_pandas(series)
    except _FAULTS:
        missing = series.isna()
        values = series.astype(object).where(~missing, None)
        array = to_array([None if gone else value for value, gone in zip(values, missing, strict=True)])
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _places_typed(path: str, table: pa.Table) -> pa.Table:
    """Return the columns that tell where a row comes from, in their types."""
    for name, kind in ((INPUT, pa.string()), (LINE, pa.int64())):
        if name in table.column_names:
            index = table.column_names.index(name)
            try:
                table = table.set_column(index, name, table.column(index).cast(kind))
            except _FAULTS:
                raise LookbookError(
                    f"{path} returns a column {name} that does not tell where rows come from.", "Leave it as it came."
                ) from None
    return table


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, ROWS):
        yield table.slice(start, ROWS)


_END = object()
