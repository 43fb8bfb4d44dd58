"""What the tasks of a pipeline know of the run that they are part of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.spec.pipeline import Pipeline
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
