"""The runs in the registry: when, what, how it ended."""

from __future__ import annotations

import json
from typing import Any

import asyncpg

from lookbook.blocks.registry import Registry, unfenced
from lookbook.tasks.runs.lease import Owner, this_process


def start_run(registry: Registry, run_id: str, dataset: str, source: str) -> None:
    """Note that a run began; runs whose process died without a word are noted as killed."""
    owner = str(this_process())

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        open_runs = await connection.fetch("SELECT run_id, owner FROM runs WHERE status = 'running'")
        dead = [row["run_id"] for row in open_runs if Owner.parse(row["owner"]).is_dead()]
        await connection.execute(
            "UPDATE runs SET status = 'killed', error = 'its process ended without a word'"
            " WHERE run_id = ANY($1::text[])",
            dead,
        )
        await connection.execute(
            "INSERT INTO runs (run_id, dataset, source, status, owner) VALUES ($1, $2, $3, 'running', $4)"
            # A run that Prefect retries keeps its id.
            " ON CONFLICT (run_id) DO UPDATE SET status = 'running', started_at = now(), ended_at = NULL,"
            " error = NULL, owner = excluded.owner",
            run_id,
            dataset,
            source,
            owner,
        )

    registry.run(work)


def end_run(registry: Registry, run_id: str, summary: dict[str, Any] | None, error: str | None) -> None:
    """Note how a run ended: with a summary, or with an error."""
    with unfenced():
        registry.execute(
            "UPDATE runs SET status = $2, ended_at = now(), snapshot_id = $3, published = $4,"
            " summary = $5::jsonb, error = $6 WHERE run_id = $1",
            run_id,
            "failed" if error is not None else "completed",
            (summary or {}).get("snapshot"),
            bool((summary or {}).get("published")),
            json.dumps(summary) if summary else None,
            error.replace("\x00", "\ufffd") if error else None,
        )


def end_lost_run(registry: Registry, run_id: str, error: str) -> None:
    """Note how a run ended that can't do so any more itself; one that did keeps what it said."""
    registry.execute(
        "UPDATE runs SET status = 'failed', ended_at = now(), error = $2 WHERE run_id = $1 AND status = 'running'",
        run_id,
        error,
    )


def finished_summaries(registry: Registry, dataset: str | None, most: int) -> list[dict[str, Any]]:
    """Return the summaries of the newest completed runs of a dataset, or of all, newest first."""
    rows = registry.fetch(
        "SELECT summary FROM runs WHERE ($1::text IS NULL OR dataset = $1) AND status = 'completed'"
        " AND summary IS NOT NULL ORDER BY started_at DESC LIMIT $2",
        dataset,
        most,
    )
    return [json.loads(row["summary"]) for row in rows]


def list_runs(registry: Registry, dataset: str | None) -> list[dict[str, Any]]:
    """Return the runs of a dataset, or of all, newest first."""
    rows = registry.fetch(
        "SELECT run_id, dataset, source, status, started_at, ended_at, snapshot_id, published, summary, error"
        " FROM runs WHERE $1::text IS NULL OR dataset = $1 ORDER BY started_at DESC",
        dataset,
    )
    return [
        dict(row)
        | {
            "started_at": row["started_at"].isoformat(timespec="seconds"),
            "ended_at": row["ended_at"].isoformat(timespec="seconds") if row["ended_at"] else None,
            "summary": json.loads(row["summary"]) if row["summary"] else None,
        }
        for row in rows
    ]
