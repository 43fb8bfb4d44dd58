"""Python functions over staged rows, or in place of a source: found, called, and what they return."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import json
import re
import sys
import traceback
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.context import Context, Staged, groups_of, stage_batch, tables_of
from lookbook.tasks.tables.engine import local_files, unified_files
from lookbook.tasks.tables.extract import extract_plan
from lookbook.tasks.tables.extract.arrow_files import plain
from lookbook.tasks.tables.extract.pieces import ColumnTypes, Notes, Piece, group_of, located, to_array
from lookbook.tasks.tables.extract.stage_rows import StagingPlan, stage_pieces, staged_before
from lookbook.tasks.tables.spec.tasks import ExtractTask, PythonTask, SqlTask
from lookbook.tasks.tables.staging import INPUT, LINE, Stage, delimited_columns, delimited_result

if TYPE_CHECKING:
    import pandas as pd

Function: TypeAlias = Callable[..., Any]


class _Fresh(SourceFileLoader):
    """Compiles the file as it stands: compiled copies are known by whole seconds, and would outlive a change."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


@contextmanager
def found(folder: Path, path: str) -> Iterator[Function]:
    """Yield the function ``module:function``, while the block runs.

    A module beside the spec, ``a/b.py`` for ``a.b``, has a private name: two specs may have modules of one name, and
    each run gets the file as it stands. It may import modules of its own folder as ``from . import helpers``.

    Args:
        folder: of the spec.
        path: of the function.

    Raises:
        LookbookError: there is no such module or function, or importing it fails.
    """
    module_name, _, name = path.partition(":")
    file = folder / (module_name.replace(".", "/") + ".py")
    package = f"_lookbook_spec_{uuid.uuid4().hex}"
    try:
        with faults(path, folder, "importing it"):
            module = _beside(package, folder, module_name, file) if file.is_file() else _installed(path, module_name)
        function = getattr(module, name, None)
        if not callable(function):
            raise LookbookError(f"{path}: the module has no function {name}.", "Correct its name.")
        yield function
    finally:
        for loaded in [one for one in sys.modules if one == package or one.startswith(f"{package}.")]:
            del sys.modules[loaded]


def _beside(package: str, folder: Path, module_name: str, file: Path) -> types.ModuleType:
    """Return the module of a file beside the spec, in a package of its own whose folders are those of the spec."""
    parts = module_name.split(".")
    for depth in range(len(parts)):
        parent = types.ModuleType(".".join([package, *parts[:depth]]))
        parent.__path__ = [str(folder.joinpath(*parts[:depth]))]
        sys.modules[parent.__name__] = parent
    name = f"{package}.{module_name}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_Fresh(name, str(file)))
    assert spec is not None  # noqa: S101 - it has a loader
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _installed(path: str, module_name: str) -> types.ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise LookbookError(
            f"{path}: there is no module {module_name}, neither beside the spec nor installed.",
            f"Write {module_name.replace('.', '/')}.py beside the spec.",
        ) from None


def arguments(path: str, function: Function, given: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call.

    Args:
        path: of the function.
        function: it.
        given: results of tasks, by their names: the function has to take all of them.
        offered: what it gets if it has parameters of these names.

    Raises:
        LookbookError: it does not take one that is given, or wants one that is not.
    """
    parameters = inspect.signature(function).parameters
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    known = {**offered, **given}
    passed = {name: known[name] for name in known if name in parameters or (takes_all and name in given)}
    unknown = [name for name in given if name not in passed]
    if unknown:
        raise LookbookError(
            f"{path} has no parameter {unknown[0]}, which is the name of a task in after.",
            "Name its parameters after the tasks whose results it takes.",
        )
    positional = (inspect.Parameter.POSITIONAL_ONLY,)
    named = [one for one in parameters.values() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    wanted = [
        one.name for one in named if (one.default is one.empty and one.name not in passed) or one.kind in positional
    ]
    if wanted:
        raise LookbookError(
            f"{path} has a parameter {wanted[0]} that nothing is given for.",
            f"There are {', '.join(known)}, each by its name.",
        )
    return passed


@contextmanager
def faults(path: str, folder: Path, doing: str = "it") -> Iterator[None]:
    """Errors of a function as ours: which, and where, without the values that its message may hold.

    Raises:
        LookbookError: as the function raised it, or in place of another error.
    """
    try:
        yield
    except LookbookError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a function of others raises
        frames = traceback.extract_tb(error.__traceback__)
        raise LookbookError(
            f"{path}: {doing} raised {type(error).__name__} {_where(frames, error, folder)}.", _SEE
        ) from None


def _where(frames: traceback.StackSummary, error: Exception, folder: Path) -> str:
    """Return the last place in a file of the spec's folder, and the last one at all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"in {_short(error.filename, folder)} line {error.lineno}"
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    places = [*own[-1:], *(frames[-1:] if not own or frames[-1] is not own[-1] else [])]
    said = [f"in {_short(frame.filename, folder)} line {frame.lineno} ({frame.name})" for frame in places]
    return ", ".join(said)


def _short(filename: str, folder: Path) -> str:
    path = Path(filename)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


_SEE = "Correct the function. What it said is not shown, as it may hold data: call it by hand to see it."


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
    shape = ColumnTypes(stage.folder, {name: kind for name, kind in kinds.items() if name not in (INPUT, LINE)})
    last = {name: kinds[name] for name in (INPUT, LINE) if name in kinds}
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                table = shape.fit(pa.Table.from_batches([batch]))
                for name, kind in last.items():
                    if name not in table.column_names:
                        table = table.append_column(name, pa.nulls(table.num_rows, kind))
                yield table


#: Calls into a function are done within this: its errors become ours.
Guard: TypeAlias = Callable[[], AbstractContextManager[None]]
#: Bytes of a small value, as JSON.
MAX_VALUE = 2**20
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


def run_python(context: Context, name: str, inputs: Mapping[str, Any]) -> Staged | JsonValue:
    """Call the function of a task; once for each group, where rows were split.

    Arguments are given by name: the results of the tasks in `after`, and `params`, `config` and `logical_date` if the
    function has such parameters. It is not called where none of its tables has a row.

    Args:
        context: of the run.
        name: of the task.
        inputs: results by the names of their tasks. Those of loads, models and graphs are for order only.

    Returns:
        What the function returns: tables are staged, a small value passes as it is; that of each group by its name.

    Raises:
        LookbookError: there is no such function, it fails, or it returns what cannot be passed on.
    """
    task = context.pipeline.tasks[name]
    if not isinstance(task, PythonTask):
        raise LookbookError(f"tasks.{name} has no python.", "Name a task that has.")
    plan = _plan(context, name, task)
    before = staged_before(context, name, plan)
    if before is not None:
        return before
    with found(context.folder, task.python) as function:
        calls = _Calls(context, task.python, function, _passed(context, inputs))
        if not calls.return_rows():
            return calls.values()
        notes = Notes(inputs=calls.lineage() if task.after else [f"python://{task.python}"])
        return stage_pieces(context, name, plan, calls.pieces(places=not task.after), notes)


def _plan(context: Context, name: str, task: PythonTask) -> StagingPlan:
    if task.after:
        return StagingPlan("transformed", stage_batch(context, name))
    return extract_plan(context, name, skip_unchanged=task.skip_unchanged)


def _passed(context: Context, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results that functions take: rows and small values."""
    kinds = (ExtractTask, SqlTask, PythonTask)
    return {name: result for name, result in inputs.items() if isinstance(context.pipeline.tasks[name], kinds)}


#: Columns of what a function gets: those of delimited text, and those with texts of a source that has types.
Origin: TypeAlias = tuple[dict[str, str], set[str]]


class _Calls:
    """The calls of a function, one for each group."""

    def __init__(self, context: Context, path: str, function: Function, inputs: Mapping[str, Any]) -> None:
        self._context, self._path, self._function, self._inputs = context, path, function, inputs
        self._guard: Callable[[], AbstractContextManager[None]] = partial(faults, path, context.folder)
        self._groups = groups_of(context, inputs)
        self._first: list[Any] = []

    def lineage(self) -> list[str]:
        """Return what the rows of all its tables come from."""
        staged = [result for result in self._inputs.values() if isinstance(result, Staged)]
        named = [one for result in staged for stage in result.groups.values() for one in stage.inputs]
        return list(dict.fromkeys(named))

    def return_rows(self) -> bool:
        """Return whether the function returns rows, as its first call tells; one that is not called does not."""
        called = [group for group in self._groups if self._has_rows(group)]
        self._first = [self._call(called[0])] if called else []
        return not called or self._is_rows(self._first[0])

    def values(self) -> JsonValue:
        """Return the small value that it returns: of several groups by their names."""
        called = [group for group in self._groups if self._has_rows(group)]
        results = [self._first[0], *map(self._call, called[1:])]
        values = [small_value(self._path, result) for result in results]
        return values[0] if self._groups == [""] else dict(zip(called, values, strict=True))

    def pieces(self, *, places: bool) -> Iterator[Piece]:
        """Yield the rows that it returns."""
        for group in self._groups:
            if not self._has_rows(group):
                continue
            result = self._first.pop() if self._first else self._call(group)
            if not self._is_rows(result):
                raise LookbookError(
                    f"{self._path} returns a table for one group, and a {type(result).__name__} for {group}.",
                    "Return the same for all.",
                )
            origin = self._origin(group)
            for name, part in self._parts(group, result):
                yield from self._located(name, part, origin, places=places)

    def _origin(self, group: str) -> Origin:
        lake, copies = self._context.workspace.lake, self._context.workspace.scratch / "copies"
        stages = [stage for stage in tables_of(self._inputs, group).values() if stage is not None]
        return delimited_columns((stage, local_files(lake, stage, copies)) for stage in stages)

    def _located(self, group: str, part: Any, origin: Origin, *, places: bool) -> Iterator[Piece]:  # noqa: ANN401
        done = 0
        for table in tables(self._path, part, self._guard):
            rows = with_places(table, f"python://{self._path}", done) if places else table
            done += table.num_rows
            yield Piece(rows, group=group, delimited=delimited_result(rows.column_names, *origin))

    def _parts(self, group: str, result: Any) -> list[tuple[str, Any]]:  # noqa: ANN401
        """Return the tables of a result by their groups."""
        tables_by_name = groups_in(self._path, result)
        if not tables_by_name:
            return [(group, result)]
        if group:
            raise LookbookError(f"{self._path} splits rows that are split already.", "Return one table.")
        names = [group_name(self._path, name) for name in tables_by_name]
        if len(set(names)) < len(names):
            raise LookbookError(f"{self._path} returns two tables that get one name.", "Give them other names.")
        return list(zip(names, tables_by_name.values(), strict=True))

    def _is_rows(self, result: Any) -> bool:  # noqa: ANN401
        return is_table(result) or isinstance(result, Iterator) or bool(groups_in(self._path, result))

    def _has_rows(self, group: str) -> bool:
        """Return whether there is something to call it for."""
        stages = tables_of(self._inputs, group).values()
        return not stages or any(stage is not None and stage.files for stage in stages)

    def _call(self, group: str) -> Any:  # noqa: ANN401 - whatever it returns
        context, stages = self._context, tables_of(self._inputs, group)
        offered = {
            "params": dict(context.params),
            "config": copy.deepcopy(context.config),
            "logical_date": context.logical_date,
        }
        passed = arguments(self._path, self._function, self._inputs, offered)
        for name in stages:
            passed[name] = given(context, stages[name], form_of(self._path, self._function, name))
        with self._guard():
            return self._function(**passed)
