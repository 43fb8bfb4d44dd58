"""Contexts and results of tasks for tests of what stands behind them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.staging import StageWriter


def context(workspace: Workspace, folder: Path, tasks: dict[str, Any], name: str = "rides") -> Context:
    """A run of a pipeline with these tasks, as its YAML would say them."""
    pipeline = Pipeline.model_validate({"name": name, "tasks": tasks})
    return Context(workspace, pipeline, folder, datetime(2024, 1, 2, tzinfo=UTC))


def staged(workspace: Workspace, task: str, *tables: pa.Table) -> Staged:
    """What a task hands on: a file for each table."""
    with StageWriter(workspace.lake, f"raw/test/{task}", workspace.scratch) as writer:
        for table in tables:
            writer.write(table)
            writer._finish_file()
        return Staged({"": writer.close()})
