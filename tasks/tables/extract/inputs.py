"""Files that were taken once: what the registry knows of them, and what a run adds to that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import Registry
from lookbook.tasks.tables.context import Staged
from lookbook.tasks.tables.extract.pieces import TakenInput

#: Inputs that one statement asks or writes.
CHUNK = 10_000
#: The file of a stage that lists what it has taken.
TAKEN = "taken.json"


def known_fingerprints(registry: Registry, pipeline: str, task: str, inputs: Sequence[str]) -> dict[str, str]:
    """Return the fingerprints under which inputs were taken; those that never were are not in it."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
        known: dict[str, str] = {}
        for start in range(0, len(inputs), CHUNK):
            hashes = [_hash(one) for one in inputs[start : start + CHUNK]]
            rows = await connection.fetch(
                "SELECT input, fingerprint FROM feed_inputs"
                " WHERE pipeline = $1 AND task = $2 AND md5(input) = ANY($3::text[])",
                pipeline,
                task,
                hashes,
            )
            known.update((row["input"], row["fingerprint"]) for row in rows)
        return known

    return registry.run(work) if inputs else {}


def taken_inputs(lake: Lake, staged: Staged) -> list[TakenInput]:
    """Return the files that a staged extract has taken: to be committed together with the load of its rows."""
    stage = staged.groups.get("")
    if stage is None:
        return []
    try:
        rows = json.loads(lake.get(f"{stage.folder}/{TAKEN}"))
    except ObjectNotFoundError:
        return []
    return [
        TakenInput(name, fingerprint, datetime.fromisoformat(modified) if modified else None)
        for name, fingerprint, modified in rows
    ]


def write_taken(lake: Lake, folder: str, taken: Sequence[TakenInput]) -> None:
    """Keep the list beside a stage."""
    rows = [(one.input, one.fingerprint, one.modified.isoformat() if one.modified else None) for one in taken]
    lake.replace(f"{folder}/{TAKEN}", json.dumps(rows).encode())


async def commit_inputs(
    connection: asyncpg.Connection[asyncpg.Record], pipeline: str, task: str, inputs: Sequence[TakenInput]
) -> None:
    """Remember inputs as taken, in the caller's transaction: that of the extract's new state."""
    for start in range(0, len(inputs), CHUNK):
        chunk = inputs[start : start + CHUNK]
        await connection.execute(
            "INSERT INTO feed_inputs (pipeline, task, input, fingerprint, modified_at)"
            " SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::timestamptz[])"
            " ON CONFLICT (pipeline, task, md5(input)) DO UPDATE SET fingerprint = excluded.fingerprint,"
            " modified_at = excluded.modified_at, taken_at = now()",
            pipeline,
            task,
            [one.input for one in chunk],
            [one.fingerprint for one in chunk],
            [one.modified for one in chunk],
        )


def running_digest(before: str, taken: Sequence[TakenInput]) -> str:
    """Return a digest of everything that was ever taken: of what it was before, and what is new."""
    digest = hashlib.sha256(before.encode())
    for line in sorted(f"{one.input}\0{one.fingerprint}\n" for one in taken):
        digest.update(line.encode())
    return digest.hexdigest()


def _hash(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
