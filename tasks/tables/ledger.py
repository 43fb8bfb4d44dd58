"""The ledger of pipelines: which date was run and how that ended, and what each extract knows since its last commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg
from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.registry import Registry, unfenced
from lookbook.tasks.runs.lease import Owner, this_process

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection
#: Writes more within the transaction of a commit.
Write = Callable[[Connection], Awaitable[object]]


@dataclass(frozen=True)
class RunEntry:
    """A run of one date, as a key of the ledger.

    Attributes:
        pipeline: its name.
        logical_date: with a zone.
        params: digest of the parameters that differ from the spec's, by `params_digest`.
        run_id: of Prefect's flow run.
        generation: how many runs of this date have ended before.
    """

    pipeline: str
    logical_date: datetime
    params: str
    run_id: str
    generation: int = 0


def params_digest(params: Mapping[str, JsonValue]) -> str:
    """Return a short name for parameters; empty for none."""
    if not params:
        return ""
    text = json.dumps(dict(params), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def start_run(registry: Registry, pipeline: str, logical_date: datetime, params: str, run_id: str) -> RunEntry:
    """Note that a run of a date begins. The caller holds the lease of the pipeline.

    One that was killed, or that Prefect starts again, goes on in its generation, and finds what it has staged; any
    other begins a new one.
    """
    owner = str(this_process())

    async def work(connection: Connection) -> int:
        row = await connection.fetchrow(
            "SELECT status, run_id, owner, generation FROM feed_runs"
            " WHERE pipeline = $1 AND logical_date = $2 AND params = $3 FOR UPDATE",
            pipeline,
            logical_date,
            params,
        )
        generation = _next_generation(row, run_id) if row else 0
        await connection.execute(
            "INSERT INTO feed_runs (pipeline, logical_date, params, run_id, owner, status, generation)"
            " VALUES ($1, $2, $3, $4, $5, 'running', $6) ON CONFLICT (pipeline, logical_date, params) DO UPDATE SET"
            " run_id = excluded.run_id, owner = excluded.owner, status = 'running', generation = excluded.generation,"
            " started_at = now(), ended_at = NULL, error = NULL,"
            " summary = CASE WHEN feed_runs.status IN ('completed', 'skipped') THEN NULL ELSE feed_runs.summary END",
            *(pipeline, logical_date, params, run_id, owner, generation),
        )
        return generation

    return RunEntry(pipeline, logical_date, params, run_id, registry.run(work))


def _next_generation(row: asyncpg.Record, run_id: str) -> int:
    lost = row["status"] == "running" and (row["run_id"] == run_id or Owner.parse(row["owner"]).is_dead())
    return int(row["generation"]) + (0 if lost else 1)


def commit_run(
    registry: Registry,
    entry: RunEntry,
    status: Literal["completed", "skipped"],
    summary: Mapping[str, Any],
    states: Mapping[str, Mapping[str, Any]],
    writes: tuple[Write, ...] = (),
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Note in one transaction how a run ended, and what its extracts know now.

    Args:
        registry: where the ledger is kept.
        entry: of the run.
        status: whether something was done.
        summary: what JSON can say of the run.
        states: of each extract by the name of its task.
        writes: what else belongs to it, as the inputs that were taken.
        known: the states that the run began from, by `read_states`.

    Raises:
        LookbookError: another run has begun this date meanwhile, or moved a state; nothing is written.
    """

    async def work(connection: Connection) -> None:
        done = await connection.fetchval(
            "UPDATE feed_runs SET status = $5, ended_at = now(), summary = $6::jsonb, error = NULL"
            " WHERE pipeline = $1 AND logical_date = $2 AND params = $3 AND run_id = $4 AND status = 'running'"
            " RETURNING generation",
            *(entry.pipeline, entry.logical_date, entry.params, entry.run_id, status, _json(summary)),
        )
        if done is None:
            raise LookbookError(
                f"{entry.pipeline}: another run of {entry.logical_date.isoformat()} has begun meanwhile, or this one "
                "was ended.",
                "Run it again: a batch that is loaded twice changes nothing.",
            )
        for task, state in states.items():
            before = (known or {}).get(task)
            moved = await connection.fetchval(
                "INSERT INTO feed_states AS known (pipeline, task, state) VALUES ($1, $2, $3::jsonb)"
                " ON CONFLICT (pipeline, task) DO UPDATE SET state = excluded.state, committed_at = now()"
                " WHERE known.state = $4::jsonb RETURNING true",
                *(entry.pipeline, task, _json(state), None if before is None else _json(before)),
            )
            if moved is None:
                raise LookbookError(
                    f"{entry.pipeline}: another run has moved what {task} knows since this one began.",
                    "Run it again: it goes on from there.",
                )
        for write in writes:
            await write(connection)

    registry.run(work)


def fail_run(registry: Registry, run_id: str, error: str) -> None:
    """Note that the dates that a run was at work on have failed; those that have ended keep what they said."""
    with unfenced():
        registry.execute(
            "UPDATE feed_runs SET status = 'failed', ended_at = now(), error = $2"
            " WHERE run_id = $1 AND status = 'running'",
            run_id,
            error.replace("\x00", "\ufffd"),
        )


def note_progress(registry: Registry, entry: RunEntry, summary: Mapping[str, Any]) -> None:
    """Keep what a run has done so far, for the one that goes on if it is killed."""
    registry.execute(
        "UPDATE feed_runs SET summary = $5::jsonb"
        " WHERE pipeline = $1 AND logical_date = $2 AND params = $3 AND run_id = $4",
        *(entry.pipeline, entry.logical_date, entry.params, entry.run_id, _json(summary)),
    )


def read_run(registry: Registry, pipeline: str, logical_date: datetime, params: str) -> dict[str, Any] | None:
    """Return what the ledger says of a date; None where it was never run."""
    row = registry.fetchrow(
        "SELECT * FROM feed_runs WHERE pipeline = $1 AND logical_date = $2 AND params = $3",
        *(pipeline, logical_date, params),
    )
    return _plain(row) if row else None


def read_states(registry: Registry, pipeline: str) -> dict[str, dict[str, Any]]:
    """Return what each extract of a pipeline knew at its last committed load, by the name of its task."""
    rows = registry.fetch("SELECT task, state FROM feed_states WHERE pipeline = $1", pipeline)
    return {row["task"]: json.loads(row["state"]) for row in rows}


def done_dates(registry: Registry, pipeline: str, params: str = "") -> set[datetime]:
    """Return the dates that were completed, or skipped because there was nothing to do."""
    rows = registry.fetch(
        "SELECT logical_date FROM feed_runs WHERE pipeline = $1 AND params = $2 AND status IN ('completed', 'skipped')",
        *(pipeline, params),
    )
    return {row["logical_date"] for row in rows}


def date_of_run(registry: Registry, run_id: str) -> datetime | None:
    """Return the date that a run was at work on when it was ended; None where it began none."""
    found: datetime | None = registry.fetchval(
        "SELECT logical_date FROM feed_runs WHERE run_id = $1 ORDER BY started_at DESC LIMIT 1", run_id
    )
    return found


def last_runs(registry: Registry) -> dict[str, dict[str, Any]]:
    """Return the latest run of each pipeline; one whose process died without a word is shown as killed."""
    rows = registry.fetch("SELECT DISTINCT ON (pipeline) * FROM feed_runs ORDER BY pipeline, started_at DESC")
    return {row["pipeline"]: _plain(row) for row in rows}


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    killed = row["status"] == "running" and Owner.parse(row["owner"]).is_dead()
    status = "killed" if killed else row["status"]
    return dict(row) | {"summary": json.loads(row["summary"]) if row["summary"] else None, "status": status}


def _json(value: Mapping[str, Any]) -> str:
    """JSON that PostgreSQL takes: its texts hold no NUL."""
    return json.dumps(_clean(value), default=str)


def _clean(value: Any) -> Any:  # noqa: ANN401 - anything that JSON can say
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, Mapping):
        return {_clean(key): _clean(part) for key, part in value.items()}
    return [_clean(part) for part in value] if isinstance(value, list | tuple) else value
