"""What the UI shows of a feed's run: its tasks and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

#: Columns of the two tables.
TASKS = ("task", "kind", "outcome", "rows_in", "rows_out", "rejected", "seconds")


def describe(summary: Mapping[str, Any]) -> None:
    """Make the artifacts of a run."""
    key = f"pipeline-{summary['pipeline']}".replace("_", "-")
    create_markdown_artifact(markdown(summary), key=f"{key}-report", description="The run in short")
    create_table_artifact(list(summary["tasks"]), key=f"{key}-tasks", description="Rows of each task")
    if summary["tables"]:
        create_table_artifact(list(summary["tables"]), key=f"{key}-tables", description="Tables that were loaded")


def markdown(summary: Mapping[str, Any]) -> str:
    """Return a run in short."""
    lines = [f"# {summary['pipeline']}, {summary['date']}", "", summary["why"] or "All tasks are done.", ""]
    lines += _table(TASKS, summary["tasks"])
    if summary["tables"]:
        lines += ["", *_table(tuple(summary["tables"][0]), summary["tables"])]
    return "\n".join(lines)


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return head + [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows]


def _cell(value: Any) -> str:  # noqa: ANN401 - any value of a summary
    text = "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
