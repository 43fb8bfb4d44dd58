"""One task of a pipeline, done by the part that knows its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.tables.context import Context
from tasks.tables.spec.tasks import ExtractTask, GraphTask, LoadTask, ModelsTask, PythonTask, SqlTask


def run_step(context: Context, name: str, inputs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - results of all kinds
    """Do the task `name`.

    Args:
        context: of the run.
        name: of the task.
        inputs: the results of the tasks in its `after`, by their names.
    """
    match context.pipeline.tasks[name]:
        case ExtractTask():
            from tasks.tables.extract import extract  # noqa: PLC0415 - each run needs only some of the parts

            return extract(context, name)
        case SqlTask():
            from tasks.tables.transform import run_sql  # noqa: PLC0415

            return run_sql(context, name, inputs)
        case PythonTask():
            from tasks.tables.transform import run_python  # noqa: PLC0415

            return run_python(context, name, inputs)
        case LoadTask():
            from tasks.tables.load import load  # noqa: PLC0415

            return load(context, name, inputs)
        case ModelsTask():
            from tasks.tables.star import build as build_models  # noqa: PLC0415

            return build_models(context, name)
        case GraphTask():
            from tasks.tables.graph import build as build_graph  # noqa: PLC0415

            return build_graph(context, name, inputs)
