"""What functions get: staged rows as a DataFrame, as an Arrow table, or batch by batch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.engine import local_files, unified_files
from lookbook.tasks.tables.extract.shape import Shape
from lookbook.tasks.tables.staging import INPUT, LINE, Stage

if TYPE_CHECKING:
    import pandas as pd

Form: TypeAlias = Literal["frame", "table", "batches"]

#: Rows of a batch that a function gets.
ROWS = 50_000
_FORMS: tuple[tuple[str, Form], ...] = (
    (r"(Iterator|Iterable|Generator)\[.*RecordBatch", "batches"),
    (r"DataFrame", "frame"),
    (r"(^|\.)Table$", "table"),
    (r"^$|(^|\.)Any$", "frame"),
)


def form_of(path: str, function: Callable[..., Any], parameter: str) -> Form:
    """Return how a parameter wants its table, by its annotation: without one as a DataFrame.

    Raises:
        LookbookError: the annotation says something else.
    """
    found = inspect.signature(function).parameters.get(parameter)
    hint = "" if found is None or found.annotation is found.empty else found.annotation
    text = hint if isinstance(hint, str) else inspect.formatannotation(hint)
    for pattern, form in _FORMS:
        if re.search(pattern, text.strip("'\"")):
            return form
    raise LookbookError(
        f"{path}: parameter {parameter} is annotated {text}, and gets a table.",
        "Annotate it pandas.DataFrame, pyarrow.Table or Iterator[pyarrow.RecordBatch], or not at all.",
    )


def given(context: Context, stage: Stage | None, form: Form) -> pd.DataFrame | pa.Table | Iterator[pa.RecordBatch]:
    """Return the rows of a stage in one of the forms; columns are the same in all batches."""
    tables = _tables(context, stage)
    if form == "batches":
        return (batch for table in tables for batch in table.combine_chunks().to_batches(ROWS))
    found = list(tables)
    table = pa.concat_tables(found) if found else pa.table({})
    return table if form == "table" else frame(table)


def frame(table: pa.Table) -> pd.DataFrame:
    """Return a DataFrame; whole numbers and truth values have types that know missing ones, and stay what they are."""
    import pandas as pd  # noqa: PLC0415 - slow

    nullable = {pa.bool_(): pd.BooleanDtype()} | {
        kind: pd.Int64Dtype()
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32())
    }
    found: pd.DataFrame = table.to_pandas(types_mapper=nullable.get)
    return found


def _tables(context: Context, stage: Stage | None) -> Iterator[pa.Table]:
    if stage is None or not stage.files:
        return
    workspace = context.workspace
    paths = local_files(workspace.lake, stage, workspace.scratch / "copies")
    kinds = {name: kind or pa.string() for name, kind in unified_files(paths).items()}
    shape = Shape(stage.folder, {name: kind for name, kind in kinds.items() if name not in (INPUT, LINE)})
    last = {name: kinds[name] for name in (INPUT, LINE) if name in kinds}
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                table = shape.fit(pa.Table.from_batches([batch]))
                for name, kind in last.items():
                    if name not in table.column_names:
                        table = table.append_column(name, pa.nulls(table.num_rows, kind))
                yield table
