"""Building the models of a task: all of them aside, tested, and only then in place of the former tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lookbook.blocks import sql_text
from lookbook.blocks.errors import UsageError
from lookbook.tasks.runs.lease import warehouse_lease
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.spec.tasks import ModelsTask
from lookbook.tasks.tables.star.checking import read_models


@dataclass(frozen=True)
class ModelResult:
    """A table of schema feeds that was made.

    Attributes:
        name: without the schema.
        columns: with their types in DuckDB's words.
        inputs: the tables that it is made of, through other models as well: ``feeds.trips``.
    """

    name: str
    columns: Mapping[str, str]
    rows: int
    inputs: tuple[str, ...]


def build(context: Context, name: str) -> list[ModelResult]:
    """Make the models of the task `name`, and test them. A second time changes nothing.

    Loads of the warehouse wait for each other: who writes holds its lease.

    Returns:
        The tables, each after those that it is made of.

    Raises:
        UsageError: the spec's models have problems, as `check_models` tells them.
        ModelTestsFailedError: a test does not hold: all tables stand as they were.
        LookbookError: a SELECT fails, or the warehouse cannot be written; the same holds.
    """
    task = context.pipeline.tasks[name]
    if not isinstance(task, ModelsTask):
        raise UsageError(f"{context.pipeline.name}: tasks.{name} has no models.")
    read = read_models(context.folder, task, context.pipeline)
    if read.problems:
        raise UsageError(
            "\n".join(f"{context.pipeline.name}: tasks.{name}.{problem}" for problem in read.problems),
            "Mend the spec or its SQL files; then run again.",
        )
    with warehouse_lease(context.workspace.registry):
        built = context.workspace.warehouse.build_feed_models(read.models)
    return [ModelResult(one.name, one.columns, one.rows, _inputs(one.name, read.reads)) for one in built]


def _inputs(name: str, reads: Mapping[str, set[str]]) -> tuple[str, ...]:
    named = {table for model in sql_text.needed([name], reads) for table in reads[model]}
    return tuple(sorted(named - reads.keys()))
