"""What the tasks of a run share: the run, its batches, and the staged tables that each task is given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.tasks import ExtractTask, Incremental, LoadTask, ObjectsSource, PythonTask, SqlTask
from lookbook.tasks.tables.spec.values import Strict
from lookbook.tasks.tables.staging import Stage


@dataclass(frozen=True)
class Context:
    """One run of a pipeline, for one logical date.

    Attributes:
        workspace: where things live.
        pipeline: its spec.
        folder: absolute path of the spec's folder, to which its files are relative.
        logical_date: the time that the run is about, in the schedule's time zone; templates and SQL know it.
        params: of the spec, with what this run gives in place of them.
        config: what the spec's config file holds; None where it names none.
        states: what each extract (by its task's name) knew at its last committed load.
        run_id: of Prefect's flow run.
        generation: how many runs of this date have ended: a run that goes on where a killed one stopped has the same
            one, and takes up what that staged; any other extracts anew.
    """

    workspace: Workspace
    pipeline: Pipeline
    folder: Path
    logical_date: datetime
    params: Mapping[str, JsonValue] = field(default_factory=dict)
    config: JsonValue = None
    states: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    run_id: str = ""
    generation: int = 0


@dataclass(frozen=True)
class Staged:
    """What a task hands to those after it.

    Attributes:
        groups: stages by the value that rows were split by, as a table's name; under ``""`` where they were not.
        unchanged: it is the same as at the last committed load, and nothing needs to follow.
    """

    groups: Mapping[str, Stage]
    unchanged: bool = False


#: Of 64 hexadecimal digits, as many as keep batches apart.
LENGTH = 24


def load_id(context: Context, load: str) -> str:
    """Return the name of what the load task `load` writes in this run: the same for the same batch, in every run.

    It holds nothing of how the rows are made: a run with a mended SQL file replaces what the former one appended.
    """
    tokens = {name: extract_token(context, name) for name in context.pipeline.extracts(load)}
    return _digest({"pipeline": context.pipeline.name, "load": load, "extracts": tokens})


def stage_batch(context: Context, task: str) -> str:
    """Return the name of what `task` stages in this run; another where it, or a task upstream, is changed."""
    pipeline = context.pipeline
    names = sorted({task, *pipeline.upstream(task)})
    extracts = sorted({name for name in names if not pipeline.tasks[name].after})
    return _digest(
        {
            "tokens": {name: extract_token(context, name) for name in extracts},
            "definitions": {name: _definition(context, name) for name in names},
            "incremental": {name: _incremental(context, name) for name in extracts},
            "config": context.config,
            "params": dict(context.params),
            # A run that failed is done anew, and so is every other date: only who resumes a killed run takes its stage.
            "date": context.logical_date.isoformat(),
            "generation": context.generation,
        }
    )


def extract_token(context: Context, extract: str) -> Any:  # noqa: ANN401 - anything that JSON can say
    """Return what tells the batches of an extract apart.

    That is the state that it starts from, where it takes what is new since then; else the date and the parameters.
    """
    if is_stateful(context, extract):
        return {"after": context.states.get(extract, {})}
    return {"date": context.logical_date.isoformat(), "params": dict(context.params)}


def is_stateful(context: Context, extract: str) -> bool:
    """Return whether an extract takes only what is new since the last committed load."""
    task = context.pipeline.tasks[extract]
    taken_once = isinstance(task, ExtractTask) and isinstance(task.source, ObjectsSource)
    return taken_once or incremental_of(context, extract) is not None


def incremental_of(context: Context, extract: str) -> Incremental | None:
    """Return what the loads that take from an extract say of what is new.

    Raises:
        LookbookError: two of them say different things.
    """
    pipeline = context.pipeline
    found: dict[str, Incremental | None] = {
        name: task.incremental
        for name, task in pipeline.tasks.items()
        if isinstance(task, LoadTask) and extract in pipeline.extracts(name)
    }
    said = list(found.values())
    if any(one != said[0] for one in said):
        raise LookbookError(
            f"{pipeline.name}: the loads {', '.join(found)} take from {extract} and name different incrementals.",
            "Give them the same one, or an extract each.",
        )
    return said[0] if said else None


def _incremental(context: Context, extract: str) -> Any:  # noqa: ANN401 - anything that JSON can say
    said = incremental_of(context, extract)
    return None if said is None else Strict.model_dump(said, mode="json")


def _definition(context: Context, name: str) -> Any:  # noqa: ANN401 - anything that JSON can say
    """Return a task as the spec says it, with the digest of the file that it names."""
    task = context.pipeline.tasks[name]
    said: dict[str, Any] = Strict.model_dump(task, mode="json", exclude={"retries", "retry_delay", "timeout"})
    path = None
    if isinstance(task, SqlTask):
        path = context.folder / task.sql
    elif isinstance(task, PythonTask):
        path = context.folder / (task.python.partition(":")[0].replace(".", "/") + ".py")
    if path is not None and path.is_file():
        said["file"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return said


def _digest(content: Any) -> str:  # noqa: ANN401 - anything that JSON can say
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def groups_of(context: Context, inputs: Mapping[str, Any]) -> list[str]:
    """Return the groups that a transform is done for: ``""`` alone where nothing was split."""
    found = {name: result for name, result in inputs.items() if isinstance(result, Staged)}
    split = [name for name, staged in found.items() if _is_split(context, name, staged)]
    return sorted({group for name in split for group in found[name].groups if group}) if split else [""]


def tables_of(inputs: Mapping[str, Any], group: str) -> dict[str, Stage | None]:
    """Return the stage of each input for a group: its own, that of all where it was not split, or None for no rows."""
    tables: dict[str, Stage | None] = {}
    for name, result in inputs.items():
        if isinstance(result, Staged):
            split = any(result.groups) or any(stage.groups for stage in result.groups.values())
            tables[name] = result.groups.get(group if split else "")
    return tables


def _is_split(context: Context, name: str, staged: Staged) -> bool:
    """Return whether rows were split, also if there were none to split."""
    pipeline = context.pipeline
    extracts = [pipeline.tasks[one] for one in (name, *pipeline.upstream(name))]
    return any(staged.groups) or any(isinstance(one, ExtractTask) and one.split_by is not None for one in extracts)
