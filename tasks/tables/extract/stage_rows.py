"""From pieces of rows to a stage in the lake: filtered, split, counted, with the state for the next run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import pyarrow as pa

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import Registry
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.extract.cursor import Cursor
from lookbook.tasks.tables.extract.pieces import (
    ColumnTypes,
    InputReject,
    Notes,
    Piece,
    TakenInput,
    rejects_table,
    split,
)
from lookbook.tasks.tables.staging import Stage, StageWriter, read_stage, stage_folder, without

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


#: Rows and bytes that are written at a time; bytes that all groups together hold back.
ROWS, BYTES, ALL_BYTES = 50_000, 16 * 2**20, 64 * 2**20
#: A stream of more tables is none: most likely the column to split by is a wrong one.
MAX_GROUPS = 500
#: So many rejects, and characters of them, are kept; with more, something is wrong with how the input is read.
MAX_REJECTS, MAX_REJECTED = 1_000_000, 256 * 2**20
#: Inputs that a stage names.
MAX_INPUTS = 1000


@dataclass(frozen=True)
class StagingPlan:
    """How the rows of a task are staged.

    Attributes:
        kind: ``raw`` or ``transformed``.
        batch: names the batch.
        skip_unchanged: whether the content is compared with that of the last commit.
        takes_new: it brings only what is new since then.
        split_by: a column.
        cursor: tells which rows are new.
    """

    kind: str
    batch: str
    skip_unchanged: bool = False
    takes_new: bool = False
    split_by: str | None = None
    cursor: Cursor | None = None


def staged_before(context: Context, name: str, plan: StagingPlan) -> Staged | None:
    """Return what the task staged before in this batch; None where it did not, or was killed."""
    lake = context.workspace.lake
    root = read_stage(lake, stage_folder(plan.kind, context.pipeline.name, name, plan.batch))
    if root is None:
        return None
    groups = {group: read_stage(lake, f"{root.folder}/{group}") for group in root.groups}
    if None in groups.values():
        return None
    return _staged(context, name, plan, {"": root} | {group: stage for group, stage in groups.items() if stage})


def stage_pieces(context: Context, name: str, plan: StagingPlan, pieces: Iterator[Piece], notes: Notes) -> Staged:
    """Write the rows of a task.

    Raises:
        LookbookError: too many rows cannot be read, or rows are of too many groups or columns.
    """
    folder = stage_folder(plan.kind, context.pipeline.name, name, plan.batch)
    with ExitStack() as stack:
        writing = _Writing(context, name, plan, folder, stack)
        for piece in pieces:
            writing.take(piece)
        return _staged(context, name, plan, writing.close(notes))


def _staged(context: Context, name: str, plan: StagingPlan, groups: Mapping[str, Stage]) -> Staged:
    return Staged(groups, unchanged=plan.skip_unchanged and _is_unchanged(context, name, plan, groups))


def _is_unchanged(context: Context, name: str, plan: StagingPlan, groups: Mapping[str, Stage]) -> bool:
    before = context.states.get(name, {})
    now = groups[""].state
    same = now.get("digest") is not None and now.get("digest") == before.get("digest")
    if not plan.takes_new:
        return same
    nothing = not any(stage.rows or stage.rejected for stage in groups.values())
    took_files = (now.get("files") or "") != (before.get("files") or "")
    again = plan.cursor is not None and plan.cursor.incremental.lag is not None and same
    return (nothing or again) and not took_files


class _Writing:
    """The stages of a task while they are written."""

    def __init__(self, context: Context, name: str, plan: StagingPlan, folder: str, stack: ExitStack) -> None:
        self._context, self._name, self._plan, self._folder, self._stack = context, name, plan, folder, stack
        self._groups: dict[str, _Group] = {}
        self._rejected = self._rejected_characters = self._rejects_digest = 0
        self._group("")

    def take(self, piece: Piece) -> None:
        """Write a piece."""
        if self._plan.cursor is not None:
            piece = self._plan.cursor.take(piece)
        parts: Mapping[str, pa.Table | None]
        if self._plan.split_by is None:
            parts, rejects = {piece.group: piece.rows}, list(piece.rejects)
        else:
            parts, rejects = split(piece, self._plan.split_by)
        self._reject(rejects)
        for name, rows in parts.items():
            if rows is not None and rows.num_rows:
                self._group(name).add(rows, piece.delimited)
        if len(self._groups) > 1 and sum(group.held for group in self._groups.values()) > ALL_BYTES:
            for group in self._groups.values():
                group.flush()

    def close(self, notes: Notes) -> dict[str, Stage]:
        """Finish the stages, that of no group as the last one: it is the commit mark of all."""
        lake, inputs = self._context.workspace.lake, _some(notes.inputs)
        stages = {name: group.close({}, inputs, ()) for name, group in sorted(self._groups.items()) if name}
        if notes.taken is not None:  # also an empty list: a killed run may have left another one
            write_taken(lake, self._folder, notes.taken)
        root = self._groups[""]
        root.flush()
        state = self._state(notes, stages, root)
        return {"": root.close(state, inputs, tuple(stages))} | stages

    def _state(self, notes: Notes, stages: Mapping[str, Stage], root: _Group) -> dict[str, Any]:
        if notes.unchanged:
            return dict(self._context.states.get(self._name, {}))
        state = dict(notes.state)
        if self._plan.cursor is not None:
            state |= self._plan.cursor.state()
        if self._plan.skip_unchanged:
            parts = [f"{name}:{stage.digest}" for name, stage in stages.items()]
            text = "\n".join([str(root.writer.digest()), *parts, f"{self._rejects_digest:x}"])
            state["digest"] = hashlib.sha256(text.encode()).hexdigest()
        return state

    def _group(self, name: str) -> _Group:
        if name not in self._groups:
            if len(self._groups) > MAX_GROUPS:
                raise LookbookError(
                    f"{self._name} gives more than {MAX_GROUPS} tables (split_by {self._plan.split_by}).",
                    "Split by a column with few values.",
                )
            folder = f"{self._folder}/{name}" if name else self._folder
            workspace = self._context.workspace
            writer = StageWriter(workspace.lake, folder, workspace.scratch, digest=self._plan.skip_unchanged)
            self._groups[name] = _Group(self._stack.enter_context(writer), ColumnTypes(self._name))
        return self._groups[name]

    def _reject(self, rejects: list[InputReject]) -> None:
        if not rejects:
            return
        self._rejected += len(rejects)
        self._rejected_characters += sum(len(reject.raw) for reject in rejects)
        if self._rejected > MAX_REJECTS or self._rejected_characters > MAX_REJECTED:
            last = rejects[-1]
            raise LookbookError(
                f"{self._name}: {self._rejected} rows or more cannot be read, such as {last.input} line {last.line}: "
                f"{last.rule}, {last.message}.",
                "See that format, encoding and delimiter of the source are right.",
            )
        if self._plan.skip_unchanged:
            self._rejects_digest = (self._rejects_digest + sum(map(_digest, rejects))) % (1 << 128)
        self._groups[""].writer.reject(rejects_table(rejects))


class _Group:
    """The rows of one group, written when they are enough."""

    def __init__(self, writer: StageWriter, shape: ColumnTypes) -> None:
        self.writer, self._shape = writer, shape
        self._tables: list[pa.Table] = []
        self._delimited: dict[str, str] = {}
        self._typed: set[str] = set()
        self.held, self._rows = 0, 0

    def add(self, rows: pa.Table, delimited: Mapping[str, str]) -> None:
        """Take rows, of which some columns stood in delimited files with a decimal sign."""
        texts = {field.name for field in rows.schema if pa.types.is_string(field.type)}
        for name, sign in delimited.items():
            if name in rows.column_names and self._delimited.setdefault(name, sign) != sign:
                self._typed.add(name)
        self._typed |= texts - set(delimited)
        self._tables.append(rows)
        self._rows += rows.num_rows
        self.held += rows.nbytes
        if self._rows >= ROWS or self.held >= BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        fitting: list[pa.Table] = []
        for table in map(self._shape.fit, self._tables):
            if fitting and not fitting[0].schema.equals(table.schema):
                self.writer.write(pa.concat_tables(fitting))
                fitting = []
            fitting.append(table)
        if fitting:
            self.writer.write(pa.concat_tables(fitting).combine_chunks())
        self._tables, self.held, self._rows = [], 0, 0

    def close(self, state: Mapping[str, Any], inputs: tuple[str, ...], groups: tuple[str, ...]) -> Stage:
        """Finish the stage."""
        self.flush()
        return self.writer.close(state, inputs, groups, without(self._delimited, self._typed))


def _digest(reject: InputReject) -> int:
    return int.from_bytes(hashlib.sha256(f"{reject.rule}\0{reject.raw}".encode()).digest()[:16], "big")


def _some(inputs: list[str]) -> tuple[str, ...]:
    more = len(inputs) - MAX_INPUTS
    return (*inputs[:MAX_INPUTS], f"and {more} more") if more > 0 else tuple(inputs)
