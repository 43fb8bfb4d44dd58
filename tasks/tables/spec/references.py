"""What a spec names outside itself: files beside it, SQL, functions, placeholders. Nothing of it is run or imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path as FilePath

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.spec.files import read_config
from lookbook.tasks.tables.spec.functions import check_function
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.problems import Finder, Problem, SpecError, did_you_mean
from lookbook.tasks.tables.spec.sources import FileSource, HttpSource, ObjectsSource
from lookbook.tasks.tables.spec.sql_text import check_task_sql
from lookbook.tasks.tables.spec.tasks import ExtractTask, GraphTask, LoadTask, ModelsTask, PythonTask, SqlTask, Task
from lookbook.tasks.tables.spec.templates import DATE_PARTS, placeholders
from lookbook.tasks.tables.spec.yaml_text import Path

#: Says what is wrong with a text: line, column, message.
Check = Callable[[str], Iterator[tuple[int, int, str]]]


def check_references(pipeline: Pipeline, folder: FilePath, finder: Finder) -> Iterator[Problem]:
    """Yield all that is wrong with what a pipeline names.

    Args:
        pipeline: as its file says it.
        folder: of the file.
        finder: knows where in the file each part stands.
    """
    if pipeline.config is not None:
        yield from _config(pipeline.config, folder, finder)
    if pipeline.on is not None and pipeline.on.arrival is not None:
        yield from _placeholders(pipeline, pipeline.on.arrival, ("on", "arrival"), finder)
    for name, task in pipeline.tasks.items():
        yield from _task(pipeline, name, task, folder, finder)


def _task(pipeline: Pipeline, name: str, task: Task, folder: FilePath, finder: Finder) -> Iterator[Problem]:
    path: Path = ("tasks", name)
    match task:
        case ExtractTask():
            yield from _source(pipeline, task, path, finder)
        case SqlTask():
            check = partial(check_task_sql, after=pipeline.rows_before(name), values=("logical_date", *pipeline.params))
            yield from _sql(task.sql, folder, (*path, "sql"), finder, check)
        case PythonTask():
            fault = check_function(folder, task.python, pipeline.rows_before(name))
            yield from ([finder.at((*path, "python"), fault)] if fault else [])
        case ModelsTask():
            from lookbook.tasks.tables.star.checking import check_models  # noqa: PLC0415 - few specs have models

            yield from (finder.told(path, line) for line in check_models(folder, task, pipeline))
        case GraphTask():
            from lookbook.tasks.tables.graph.checking import check_graph  # noqa: PLC0415 - few specs have graphs

            yield from (finder.told(path, line) for line in check_graph(task))
        case LoadTask():
            yield from _split(pipeline, name, task, path, finder)


def _config(name: str, folder: FilePath, finder: Finder) -> Iterator[Problem]:
    if not (folder / name).is_file():
        yield finder.at(("config",), f"there is no file {name} beside the spec")
        return
    try:
        read_config(folder / name)
    except SpecError as error:
        yield from error.problems


def _source(pipeline: Pipeline, task: ExtractTask, path: Path, finder: Finder) -> Iterator[Problem]:
    match task.source:
        case FileSource() | ObjectsSource():
            yield from _placeholders(pipeline, task.source.path, (*path, "source", "path"), finder)
        case HttpSource():
            yield from _placeholders(pipeline, task.source.url, (*path, "source", "url"), finder)


def _placeholders(pipeline: Pipeline, text: str, path: Path, finder: Finder) -> Iterator[Problem]:
    known = [*DATE_PARTS, *pipeline.params]
    try:
        names = placeholders(text)
    except LookbookError as error:
        yield finder.at(path, error.problem)
        return
    for name in names:
        if name not in known:
            nearest = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            yield finder.at(path, f"nothing is known of {{{name}}}{nearest}")


def _sql(name: str, folder: FilePath, path: Path, finder: Finder, check: Check) -> Iterator[Problem]:
    file = folder / name
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        yield finder.at(path, f"there is no file {name} beside the spec")
        return
    except (OSError, UnicodeDecodeError) as error:
        yield finder.at(path, f"{name} cannot be read: {error}")
        return
    for line, column, message in check(text):
        yield Problem(name, line, column, ".".join(map(str, path)), message)


def _split(pipeline: Pipeline, name: str, task: LoadTask, path: Path, finder: Finder) -> Iterator[Problem]:
    if "{event}" not in task.table:
        return
    before = [pipeline.tasks[each] for each in pipeline.upstream(name)]
    if not any(isinstance(each, PythonTask) or (isinstance(each, ExtractTask) and each.split_by) for each in before):
        yield finder.at((*path, "table"), "{event} stands for what rows were split by, and no extract has split_by")
