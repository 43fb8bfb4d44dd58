"""Rows as they are staged become rows that fit their table, or rejects; in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import engine, make_view, memory_for, quoted, text
from lookbook.tasks.tables.load.contract import Shape, raw_row, shape_rows
from lookbook.tasks.tables.load.incoming import ROWS, incoming_columns
from lookbook.tasks.tables.load.job import LOAD_ID, LOADED_AT, TAG_COLUMNS
from lookbook.tasks.tables.load.naming import column_names
from lookbook.tasks.tables.spec.loading import LoadSettings
from lookbook.tasks.tables.staging import INPUT, LINE, REJECT_SCHEMA

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Megabytes that the engine may hold, and more for each column; it is one of two in this process.
MEMORY = 256
#: Columns of a load, at the most: the time of a load grows with them, whatever the rows.
MOST_COLUMNS = 2000
#: An accepted file begins anew when it has about so many bytes.
FILE_BYTES = 64 * 1024 * 1024
#: What scd2 adds to a table.
ROW_HASH, VALID_FROM, VALID_TO = "_row_hash", "valid_from", "valid_to"


@dataclass(frozen=True)
class Batch:
    """What is to be prepared, and how every row of it is tagged; texts of `delimited` columns may get other types."""

    files: Sequence[Path]
    settings: LoadSettings
    load_id: str
    loaded_at: datetime
    delimited: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """Rows that fit their table, and those that do not.

    Attributes:
        columns: of the accepted files, with types in DuckDB's words; tags are the last ones.
        files: the accepted rows; for a merge in the order in which they came.
        rows: in them.
        rejects: a Parquet file of `REJECT_SCHEMA`; None: there are none.
        discarded: values that the contract drops, by column.
        replaced: values in which the place writes U+FFFD for NUL, by column.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Path] = ()
    rows: int = 0
    rejects: Path | None = None
    rejected: int = 0
    discarded: Mapping[str, int] = field(default_factory=dict)
    replaced: Mapping[str, int] = field(default_factory=dict)


def prepare(batch: Batch, standing: Mapping[str, str] | None, scratch: Path) -> Prepared:
    """Make rows fit their table.

    Args:
        batch: the rows, with the settings' names as the table has them.
        standing: the table's columns as it stands, with their types; None: there is no table.
        scratch: a folder of this machine that stays until the load is done.

    Raises:
        LookbookError: there are too many columns, the contract freezes what does not fit, columns collide, or the spec
            contradicts the table.
    """
    files = [path for path in batch.files if pq.ParquetFile(path).metadata.num_rows]
    if not files:
        return Prepared(columns=_columns_of_no_rows(batch.settings, standing))
    columns = {name for path in files for name in pq.read_schema(path).names if name not in (INPUT, LINE)}
    if len(columns) > MOST_COLUMNS:
        raise LookbookError(
            f"{batch.settings.table}: the rows have {len(columns)} columns, and a load takes {MOST_COLUMNS}.",
            "Select fewer in a sql task between extract and load, or turn columns into rows by UNPIVOT.",
        )
    with engine(scratch, files, memory_for(MEMORY, len(columns))) as (connection, folder):
        seen = make_view(connection, ROWS, files)
        own = {column: name for column, name in seen.items() if column not in (INPUT, LINE)}
        named = column_names(own, taken=_taken(batch.settings))
        delimited = {own[column]: sign for column, sign in batch.delimited.items() if column in own}
        incoming = incoming_columns(connection, {own[column]: name for column, name in named.items()}, delimited)
        shape = shape_rows(connection, incoming, batch.settings, standing)
        rows = _write_accepted(connection, shape, batch, folder / "accepted")
        accepted = _moved(folder / "accepted", scratch) if rows else []
        rejected = _write_rejects(connection, shape, own, scratch / "rejects.parquet") if shape.rules else 0
    return Prepared(
        columns=shape.types | TAG_COLUMNS,
        files=accepted,
        rows=rows,
        rejects=scratch / "rejects.parquet" if rejected else None,
        rejected=rejected,
        discarded=shape.discarded,
    )


def _taken(settings: LoadSettings) -> list[str]:
    history = [ROW_HASH, VALID_FROM, VALID_TO] if settings.strategy == "scd2" else []
    return [*TAG_COLUMNS, *history]


def _columns_of_no_rows(settings: LoadSettings, standing: Mapping[str, str] | None) -> dict[str, str]:
    """Return the columns that a table needs where no row says any: those declared, and those that it has."""
    known = {name: type_ for name, type_ in (standing or {}).items() if name not in _taken(settings)}
    declared = {name: spec.sql_type for name, spec in settings.fields.items()}
    return known | declared | TAG_COLUMNS


def _write_accepted(connection: DuckDBPyConnection, shape: Shape, batch: Batch, folder: Path) -> int:
    """Write the rows that no rule sets aside, and say how many they are."""
    tags = {LOAD_ID: text(batch.load_id), LOADED_AT: f"TIMESTAMPTZ {text(batch.loaded_at.isoformat())}"}
    selected = ", ".join(f"{value} AS {quoted(name)}" for name, value in (shape.columns | tags).items())
    kept = f" WHERE NOT ({_any_rule(shape)})" if shape.rules else ""
    target, files = text(str(folder)), f", FILE_SIZE_BYTES {FILE_BYTES}, FILENAME_PATTERN 'rows_{{i}}'"
    if batch.settings.write_disposition == "merge":
        # Of rows with one key the last wins: into several files threads write as they come, into one in order.
        folder.mkdir()
        target, files = text(str(folder / "rows_0.parquet")), ""
    written = connection.execute(
        f"COPY (SELECT {selected} FROM {ROWS}{kept}) TO {target} (FORMAT parquet, COMPRESSION snappy{files})"  # noqa: S608 - names are quoted
    ).fetchone()
    return int(written[0]) if written else 0


def _moved(folder: Path, scratch: Path) -> list[Path]:
    """Take files out of the engine's folder, under names in their order."""
    files = sorted(folder.iterdir(), key=lambda path: int(re.sub(r"\D", "", path.stem)))
    return [path.rename(scratch / f"{number:05}.parquet") for number, path in enumerate(files)]


def _write_rejects(connection: DuckDBPyConnection, shape: Shape, columns: Mapping[str, str], path: Path) -> int:
    """Write the rows that a rule sets aside, and say how many they are."""
    present = {name for name, *_ in connection.execute(f"DESCRIBE {ROWS}").fetchall()}
    place = ", ".join(f"{quoted(name) if name in present else 'NULL'} AS {quoted(name)}" for name in (INPUT, LINE))
    rules = " ".join(f"WHEN {rule.condition} THEN {text(rule.name)}" for rule in shape.rules)
    messages = " ".join(f"WHEN {rule.condition} THEN {rule.message}" for rule in shape.rules)
    found = connection.sql(
        f"SELECT CASE {rules} END AS rule, CASE {messages} END AS message, {raw_row(columns)} AS raw, {place}"  # noqa: S608 - names are quoted
        f" FROM {ROWS} WHERE {_any_rule(shape)}"
    )
    rows = 0
    assert found is not None  # noqa: S101 - a SELECT gives rows
    with pq.ParquetWriter(path, REJECT_SCHEMA, compression="zstd") as writer:
        for chunk in found.to_arrow_reader(10_000):
            writer.write_batch(chunk.cast(REJECT_SCHEMA))
            rows += chunk.num_rows
    return rows


def _any_rule(shape: Shape) -> str:
    return " OR ".join(rule.condition for rule in shape.rules)


def balance(staged: int, prepared: Prepared, table: str) -> None:
    """Raises LookbookError unless every staged row is accepted or rejected."""
    if staged != prepared.rows + prepared.rejected:
        raise LookbookError(
            f"{table}: of {staged} rows, {prepared.rows} fit and {prepared.rejected} do not: the books do not balance.",
            "Nothing was loaded. This is a fault of Lookbook: please report it.",
        )
