"""Rows that a graph leaves out, and why: kept among the rejects of its pipeline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lookbook.blocks.registry import copy_rows
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.load.books import COLUMNS
from lookbook.tasks.tables.staging import INPUT, LINE

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

#: So many rows of a graph are kept; all are counted.
MOST_KEPT = 10_000


@dataclass(frozen=True)
class Row:
    """A row that is left out: of which table, by which rule, why, and what it says in the columns that are read."""

    table: str
    rule: str
    message: str
    said: Mapping[str, object]


@dataclass
class LeftOut:
    """The rows that a graph leaves out.

    Attributes:
        rows: the first `MOST_KEPT` of them.
        number: of all.
    """

    rows: list[Row] = field(default_factory=list)
    number: int = 0

    def add(self, table: str, rule: str, message: str, said: Mapping[str, object]) -> None:
        """Add a row."""
        self.number += 1
        if len(self.rows) < MOST_KEPT:
            self.rows.append(Row(table, rule, message, said))

    def write(self, context: Context, task: str, batch: str) -> None:
        """Put them in the place of those that the graph left out before.

        Args:
            context: the run.
            task: of the graph.
            batch: names the graph that was made.
        """
        records = [_record(context.pipeline.name, task, batch, place, row) for place, row in enumerate(self.rows)]

        async def work(connection: Connection) -> None:
            await connection.execute(
                "DELETE FROM feed_rejects WHERE pipeline = $1 AND task = $2", context.pipeline.name, task
            )
            await copy_rows(connection, "feed_rejects", COLUMNS, records)

        context.workspace.registry.run(work)


def _record(pipeline: str, task: str, batch: str, place: int, row: Row) -> tuple[object, ...]:
    source, line = row.said.get(INPUT), row.said.get(LINE)
    raw = json.dumps(
        {name: value for name, value in row.said.items() if name not in (INPUT, LINE)}, default=str, ensure_ascii=False
    )
    name = hashlib.sha256(f"{batch}|{place}|{row.rule}|{raw}".encode()).hexdigest()[:20]
    return (f"r-{name}", pipeline, task, "lake", row.table, batch, row.rule, row.message, raw, source, line)
