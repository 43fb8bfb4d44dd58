"""The tables that a transform gets: those of each group, where rows were split further up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.spec.tasks import ExtractTask
from lookbook.tasks.tables.staging import Stage


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
