"""What commands print of feeds' runs, for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from lookbook.deployments.output import print_rows, printable

TASKS = ["task", "kind", "outcome", "rows_in", "rows_out", "rejected", "seconds"]
TABLES = ["place", "table", "loaded", "rejected", "superseded", "rows"]


def print_feed(summary: Mapping[str, Any]) -> None:
    """Print the summary of a run: its tasks, and the tables that were loaded."""
    title = f"{summary['pipeline']}  {summary['date']}  ({summary['status']})"
    Console(file=sys.stdout).print(Text(title, style="bold"), soft_wrap=True)
    if summary["why"]:
        sys.stdout.write(f"{printable(summary['why'])}\n")
    print_rows(TASKS, ([row[column] for column in TASKS] for row in summary["tasks"]))
    for row in summary["tasks"]:
        if row["note"]:
            sys.stdout.write(f"{row['task']}: {printable(row['note'])}\n")
    if summary["tables"]:
        sys.stdout.write("\n")
        print_rows(TABLES, ([row.get(column) for column in TABLES] for row in summary["tables"]))
    if any(row["rejected"] for row in summary["tasks"]):
        sys.stdout.write(f'"lookbook pipeline rejects {summary["pipeline"]}" shows what was rejected.\n')


def print_backfill(name: str, done: Mapping[str, Any]) -> None:
    """Print the dates of a backfill."""
    rows = ([run["date"], run["status"], _loaded(run)] for run in done["runs"])
    print_rows(["date", "status", "loaded"], rows, f"{name}: nothing is left to do.")
    if done["done_before"]:
        sys.stdout.write(f"{done['done_before']} of {done['dates']} dates were done before.\n")


def print_replay(done: Sequence[Mapping[str, Any]]) -> None:
    """Print what became of rejects."""
    columns = ["place", "table", "taken_up", "loaded", "rejected"]
    print_rows(columns, ([row[column] for column in columns] for row in done), "No rejects.")


def _loaded(run: Mapping[str, Any]) -> int:
    return sum(table.get("loaded") or 0 for table in run["tables"])
