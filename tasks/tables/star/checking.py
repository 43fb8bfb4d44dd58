"""What is wrong with the models of a spec, told before anything runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from lookbook.blocks import sql_text
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.models import FeedModel, Reference, check_columns
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.tasks import LoadTask, ModelSpec, ModelsTask

_READS = "a model reads feeds.NAME, warehouse.NAME and models of its own task"


@dataclass(frozen=True)
class ReadModels:
    """The models of a task with their SELECTs, each after those that it reads; and what is wrong with them.

    Attributes:
        reads: for each model the tables that it names, as they stand in its SELECT.
    """

    models: list[FeedModel]
    reads: Mapping[str, set[str]]
    problems: list[str]


def check_models(folder: Path, task: ModelsTask, pipeline: Pipeline | None = None) -> list[str]:
    """Return what is wrong with the models of a task: files, SELECTs, names, cycles.

    Args:
        folder: of the spec.
        task: one of its tasks.
        pipeline: that it is part of; what its loads and other tasks make cannot be made again.

    Returns:
        A line for each problem; none if all is well.
    """
    return read_models(folder, task, pipeline).problems


def read_models(folder: Path, task: ModelsTask, pipeline: Pipeline | None = None) -> ReadModels:
    """Return the models of a task as the warehouse takes them; they can be built where there are no problems."""
    models: dict[str, FeedModel] = {}
    reads: dict[str, set[str]] = {}
    problems = _taken(task, pipeline) if pipeline is not None else []
    for name, spec in task.models.items():
        try:
            models[name] = _model(name, spec, folder)
            reads[name] = sql_text.names_read(models[name].sql)
        except (ValueError, LookbookError) as error:
            problems.append(
                f"models.{name}: {spec.sql}: {error.problem if isinstance(error, LookbookError) else error}"
            )
    for name, model in models.items():
        problems += [f"models.{name}: {what}" for what in _unreadable(model, reads.get(name, set()), task.models)]
    try:
        before = {name: sorted(reads.get(name, set()) & models.keys()) for name in models}
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        return ReadModels([], reads, [*problems, f"models: these read each other: {' → '.join(error.args[1])}"])
    return ReadModels([models[name] for name in order], reads, problems)


def _model(name: str, spec: ModelSpec, folder: Path) -> FeedModel:
    """Return a model with its SELECT.

    Raises:
        ValueError: its file cannot be read, or holds no SELECT.
        LookbookError: the SELECT lacks a column, as far as it spells them out.
    """
    try:
        sql = (folder / spec.sql).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError("the file is no UTF-8") from None
    tree = sql_text.read_select(sql)
    if twice := sql_text.duplicate_columns(tree):
        raise ValueError(f"two columns are called {twice[0]}")
    tests = spec.tests
    model = FeedModel(
        name=name,
        sql=sql,
        key=spec.key,
        surrogate_key=spec.surrogate_key,
        partition_by=spec.partition_by,
        unique=tests.unique,
        not_null=tests.not_null,
        accepted_values=tests.accepted_values,
        references=tuple(Reference(one.column, one.to, one.field) for one in tests.relationships),
    )
    spelt = tree.named_selects
    if spelt and all(column and column != "*" for column in spelt):
        check_columns(model, dict.fromkeys(spelt, ""))
    return model


def _unreadable(model: FeedModel, reads: Collection[str], models: Collection[str]) -> Iterator[str]:
    """Yield what a model names that it cannot read."""
    named = dict.fromkeys(reads, "it reads") | {one.to: "tests.relationships names" for one in model.references}
    for table, how in sorted(named.items()):
        schema, _, name = table.rpartition(".")
        if not schema and name not in models:
            yield f"{how} {name}, which is no model of this task; {_READS}"
        elif schema and schema not in sql_text.SCHEMAS:
            yield f"{how} {table}; {_READS}"
        elif schema == "feeds" and name in models:
            yield f"{how} {table}, which this task makes: write {name}, and it comes after that"


def _taken(task: ModelsTask, pipeline: Pipeline) -> list[str]:
    """Models whose names a load of the pipeline, or another of its tasks, uses for a table of pipelines."""
    problems = []
    for other, made in pipeline.tasks.items():
        for name in task.models:
            if isinstance(made, LoadTask) and made.target == "warehouse" and _loads(made.table, name):
                problems.append(f"models.{name}: tasks.{other} loads the table {name}; give the model another name")
            if isinstance(made, ModelsTask) and made != task and name in made.models:
                problems.append(f"models.{name}: tasks.{other} makes it, too; give one of both another name")
    return problems


def _loads(table: str, name: str) -> bool:
    """Return whether a load's table may be of this name; with {event} it stands for many."""
    pattern = re.escape(table).replace(re.escape("{event}"), "[a-z0-9_]+")
    return re.fullmatch(pattern, name) is not None
