"""Runs of a pipeline's tasks without its flow: contexts made of what a spec would say, and what is staged as rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.extract import commit_inputs, extract, stage_rows, taken_inputs
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.staging import INPUT, LINE, Stage

DATE = datetime(2026, 3, 1, 14, tzinfo=UTC)


def context_of(
    workspace: Workspace, folder: Path, tasks: Mapping[str, Any], states: Mapping[str, Any] | None = None, **more: Any
) -> Context:
    """A run of the pipeline ``p`` with these tasks, as its YAML would say them."""
    pipeline = Pipeline.model_validate({"name": "p", "tasks": tasks, "params": dict(more.get("params", {}))})
    told: dict[str, Any] = {"logical_date": DATE, "states": states or {}} | more
    return Context(workspace, pipeline, folder, **told)


def load_task(after: str = "extract", **more: Any) -> dict[str, Any]:
    """A task that loads, for what its settings say to an extract."""
    return {"after": [after], "table": "t", **more}


def rows_of(workspace: Workspace, stage: Stage) -> list[dict[str, Any]]:
    """All rows of a stage."""
    lake = workspace.lake
    tables = [pq.read_table(lake.local_copy(file.key, workspace.scratch)) for file in stage.files]
    return [row for table in tables for row in table.to_pylist()]


def values_of(workspace: Workspace, staged: Staged, group: str = "") -> list[dict[str, Any]]:
    """The rows of a group without where they come from, and without what is missing."""
    rows = rows_of(workspace, staged.groups[group])
    return [{k: v for k, v in row.items() if v is not None and k not in (INPUT, LINE)} for row in rows]


def rejects_of(workspace: Workspace, staged: Staged) -> list[dict[str, Any]]:
    """All rejects of an extract."""
    key = staged.groups[""].rejects
    rows = pq.read_table(workspace.lake.local_copy(key, workspace.scratch)).to_pylist() if key else []
    assert len(rows) == staged.groups[""].rejected
    return rows


def kill_extract(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extract that is killed when all its rows are written, and before it is a stage."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage_rows._Writing, "_state", killed)
        with pytest.raises(KeyboardInterrupt):
            extract(context, "extract")


def run_and_commit(context: Context, name: str = "extract") -> tuple[Staged, dict[str, Any]]:
    """Extract, and do what a flow does when all loads are committed; the states for the next run."""
    staged = extract(context, name)
    taken = taken_inputs(context.workspace.lake, staged)

    async def commit(connection: Any) -> None:
        await commit_inputs(connection, context.pipeline.name, name, taken)

    context.workspace.registry.run(commit)
    return staged, {name: dict(staged.groups[""].state)}
