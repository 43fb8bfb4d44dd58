"""One task of a pipeline, done by the part that knows its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.tasks import ExtractTask, GraphTask, LoadTask, ModelsTask, PythonTask, SqlTask


def run_step(context: Context, name: str, inputs: Mapping[str, Any], results: Mapping[str, Any]) -> Any:  # noqa: ANN401 - results of all kinds
    """Do the task `name`.

    Args:
        context: of the run.
        name: of the task.
        inputs: the results of the tasks in its `after`, by their names.
        results: those of all tasks upstream.
    """
    match task := context.pipeline.tasks[name]:
        case ExtractTask():
            from lookbook.tasks.tables.extract import extract  # noqa: PLC0415 - each run needs only some of the parts

            return extract(context, name)
        case SqlTask():
            from lookbook.tasks.tables.transform import run_sql  # noqa: PLC0415

            return run_sql(context, name, inputs)
        case PythonTask():
            from lookbook.tasks.tables.transform import run_python  # noqa: PLC0415

            return run_python(context, name, inputs)
        case LoadTask():
            from lookbook.tasks.tables.load import load  # noqa: PLC0415

            own = _own_extracts(context.pipeline, name, results)
            return load(context, name, _rows(context.pipeline, name, inputs, split="{event}" in task.table), own)
        case ModelsTask():
            from lookbook.tasks.tables.star import build as build_models  # noqa: PLC0415

            return build_models(context, name)
        case GraphTask():
            from lookbook.tasks.tables.graph import build as build_graph  # noqa: PLC0415

            return build_graph(context, name, inputs)


def _rows(pipeline: Pipeline, name: str, inputs: Mapping[str, Any], *, split: bool) -> list[Staged]:
    """Return the tables that a load takes.

    Raises:
        LookbookError: a function returned none.
    """
    found = []
    for before in pipeline.rows_before(name):
        if not isinstance(inputs[before], Staged):
            raise LookbookError(
                f"{pipeline.name}: tasks.{name} takes rows from {before}, which returned no table.",
                "A function returns a DataFrame or an Arrow table, or is not named in the after of a load.",
            )
        found.append(_of_groups(inputs[before], split=split))
    return found


def _of_groups(staged: Staged, *, split: bool) -> Staged:
    """Rows that were split lie in their groups: the stage of the whole has none, and names no table."""
    groups = {name: stage for name, stage in staged.groups.items() if name or (stage.rows and not stage.groups)}
    return Staged(groups, staged.unchanged) if split or groups else staged


def _own_extracts(pipeline: Pipeline, load: str, results: Mapping[str, Any]) -> list[Staged]:
    """The results of extracts whose unreadable rows stand in the books of this load: the first that takes from them."""
    loads = [name for name in pipeline.in_order() if isinstance(pipeline.tasks[name], LoadTask)]
    found = []
    for extract in pipeline.extracts(load):
        first = next(name for name in loads if extract in pipeline.extracts(name))
        if first == load and isinstance(results[extract], Staged):
            found.append(results[extract])
    return found
