"""Python functions over staged rows, or in place of a source."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeAlias

from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.batches import stage_batch
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.engine import local_files
from lookbook.tasks.tables.extract import extract_plan
from lookbook.tasks.tables.extract.pieces import Notes, Piece
from lookbook.tasks.tables.extract.stage_rows import Plan, stage_pieces, staged_before
from lookbook.tasks.tables.spec.tasks import ExtractTask, PythonTask, SqlTask
from lookbook.tasks.tables.staging import delimited_columns, delimited_result
from lookbook.tasks.tables.transform.functions import Function, arguments, faults, found
from lookbook.tasks.tables.transform.given import form_of, given
from lookbook.tasks.tables.transform.groups import groups_of, tables_of
from lookbook.tasks.tables.transform.returned import group_name, groups_in, is_table, small_value, tables, with_places


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


def _plan(context: Context, name: str, task: PythonTask) -> Plan:
    if task.after:
        return Plan("transformed", stage_batch(context, name))
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
