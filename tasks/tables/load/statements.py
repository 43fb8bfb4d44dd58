"""The SQL by which a batch gets into a table of a database, within the one transaction that also writes its rows.

Merges do what dlt's do: https://dlthub.com/docs/general-usage/merge-loading. A test holds the statements against dlt's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.sql_text import literal, quoted
from lookbook.blocks.sql_types import BOOL, INSTANT, INTEGER, JSON, TEXT, TYPES
from lookbook.blocks.warehouse import FEEDS_SCHEMA
from lookbook.tasks.tables.load.job import LOAD_ID, LoadJob
from lookbook.tasks.tables.load.prepare import ROW_HASH, VALID_FROM, VALID_TO

#: Which batches a table holds, in the transaction that wrote them: a load looks here before it looks for its rows.
LOADS = "_loads"
LOADS_COLUMNS = {"table_name": TEXT, "load_id": TEXT, "rows": INTEGER, "loaded_at": INSTANT}
#: What the table lacks for its history.
HISTORY = {ROW_HASH: TEXT, VALID_FROM: INSTANT, VALID_TO: INSTANT}

Engine: TypeAlias = Literal["duckdb", "postgres"]
#: Canonical types in PostgreSQL's words; DuckDB's are the canonical ones.
_POSTGRES = {type_.duckdb: type_.postgres for type_ in TYPES}


def qualified(table: str, schema: str = FEEDS_SCHEMA) -> str:
    """Return a table of a schema of pipelines, as SQL takes it."""
    return f"{quoted(schema)}.{quoted(table)}"


def destination_type(engine: Engine, type_: str) -> str:
    """Return a type of a column in the words of an engine."""
    if engine == "duckdb":
        return type_
    found = re.fullmatch(r"DECIMAL\((\d+), ?(\d+)\)", type_)
    return f"numeric({found[1]},{found[2]})" if found else _POSTGRES[type_]


def create_table(engine: Engine, table: str, columns: Mapping[str, str], schema: str = FEEDS_SCHEMA) -> str:
    """Return the statement that makes a table."""
    described = ", ".join(f"{quoted(name)} {destination_type(engine, type_)}" for name, type_ in columns.items())
    return f"CREATE TABLE {qualified(table, schema)} ({described})"


def table_columns(job: LoadJob) -> dict[str, str]:
    """Return the columns that a load needs in its table."""
    return dict(job.columns) | (HISTORY if job.settings.strategy == "scd2" else {})


def evolve_table(engine: Engine, job: LoadJob, standing: Mapping[str, str] | None) -> list[str]:
    """Return the statements after which the table has the columns of a job.

    Raises:
        LookbookError: it has one of them with another type: somebody else changed it since the rows were prepared.
    """
    wanted = table_columns(job)
    if standing is None:
        return [create_table(engine, job.table, wanted, job.schema)]
    statements = []
    for name, type_ in wanted.items():
        if name not in standing:
            described = f"{quoted(name)} {destination_type(engine, type_)}"
            statements.append(f"ALTER TABLE {qualified(job.table, job.schema)} ADD COLUMN {described}")
        elif standing[name] != type_:
            raise LookbookError(
                f"The column {name} of {job.table} is {standing[name]}; the rows have it as {type_}.",
                "Nothing was loaded. If somebody else changed the table meanwhile, run again.",
            )
    return statements


def same_batch(load_id: str, column: str = LOAD_ID) -> str:
    """Return a condition: a row is of a batch, or of a replay of its rejects (``batch.digest``)."""
    return f"({column} = {literal(load_id)} OR starts_with({column}, {literal(load_id + '.')}))"


def listed_loads(job: LoadJob) -> str:
    """Return a SELECT that counts the loads that brought this batch into the table before."""
    listed = f"table_name = {literal(job.table)} AND {_listed(job)}"
    return f"SELECT count(*) FROM {qualified(LOADS, job.schema)} WHERE {listed}"  # noqa: S608 - quoted


def list_load(job: LoadJob, rows: int) -> list[str]:
    """Return the statements that note the load in place of all that it replaces."""
    everything = job.settings.write_disposition == "replace"
    old = f"table_name = {literal(job.table)}" + ("" if everything else f" AND {_listed(job)}")
    columns = ", ".join(map(quoted, LOADS_COLUMNS))
    loaded_at = f"CAST({literal(job.loaded_at.isoformat())} AS TIMESTAMPTZ)"
    values = f"{literal(job.table)}, {literal(job.load_id)}, {rows}, {loaded_at}"
    return [
        f"DELETE FROM {qualified(LOADS, job.schema)} WHERE {old}",  # noqa: S608 - names and texts are quoted
        f"INSERT INTO {qualified(LOADS, job.schema)} ({columns}) VALUES ({values})",  # noqa: S608
    ]


def _listed(job: LoadJob) -> str:
    return same_batch(job.load_id, "load_id")


def delete_before(job: LoadJob, listed: int) -> list[str]:
    """Return the statements that remove what an append or a replace takes the place of."""
    if job.settings.write_disposition == "replace":
        return [f"DELETE FROM {qualified(job.table, job.schema)} WHERE true"]  # noqa: S608 - TRUNCATE would show older readers no rows
    return [f"DELETE FROM {qualified(job.table, job.schema)} WHERE {same_batch(job.load_id)}"] if listed else []  # noqa: S608


def landed_rows(job: LoadJob, source: str) -> str:
    """Return a SELECT of the rows that a merge lands: one a key, or with their hashes for their history.

    Args:
        job: the load.
        source: SQL for its rows that also has the columns ``filename`` and ``file_row_number``.
    """
    columns = ", ".join(map(quoted, job.columns))
    if job.settings.strategy == "scd2":
        # A column that was added holds nothing for rows that stayed as they were: nulls do not count.
        own = sorted(name for name in job.columns if name not in ("_load_id", "_loaded_at"))
        pairs = ", ".join(f"{literal(name)}: {_hashable(name, job.columns[name])}" for name in own)
        hashed = f"md5(CAST(json_merge_patch('{{}}', to_json({{{pairs}}})) AS VARCHAR))"
        return (
            f"SELECT {columns}, {hashed} AS {quoted(ROW_HASH)}, NULL::TIMESTAMPTZ AS {quoted(VALID_FROM)},"  # noqa: S608
            f" NULL::TIMESTAMPTZ AS {quoted(VALID_TO)} FROM {source}"
            f" QUALIFY row_number() OVER (PARTITION BY {quoted(ROW_HASH)} ORDER BY filename, file_row_number) = 1"
        )
    keys = ", ".join(map(quoted, _key(job)))
    order = [f"{quoted(name)} {way.upper()} NULLS LAST" for name, way in job.settings.dedup_sort.items()]
    order += ["filename DESC", "file_row_number DESC"]  # of equal ones, the row that came last
    return (
        f"SELECT {columns} FROM {source}"  # noqa: S608 - names are quoted
        f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {', '.join(order)}) = 1"
    )


def _hashable(name: str, type_: str) -> str:
    """Return a value for JSON's functions, which read numbers as doubles: what a double cannot hold is text."""
    return f"CAST({quoted(name)} AS VARCHAR)" if type_ == JSON or type_.startswith("DECIMAL") else quoted(name)


def merge_statements(job: LoadJob, landing: str, strategy: str = "delete-insert") -> list[str]:
    """Return the statements that merge the rows of a landing table into the table.

    Args:
        job: the load.
        landing: the schema of the landing table, which is called as the table.
        strategy: of an upsert: ``delete-insert``, or ``upsert`` for the engine's MERGE.
    """
    target, source = qualified(job.table, job.schema), qualified(job.table, landing)
    names = [quoted(name) for name in table_columns(job)]
    if job.settings.strategy == "scd2":
        return _history(job, target, source, names)
    same = " AND ".join(f"d.{quoted(name)} = s.{quoted(name)}" for name in _key(job))
    columns = ", ".join(names)
    if strategy == "upsert":
        gone = _is_gone(job, "s.")
        removed = f" WHEN MATCHED AND {gone} THEN DELETE" if gone else ""
        updated = ", ".join(f"{name} = s.{name}" for name in names)
        inserted = ", ".join(f"s.{name}" for name in names)
        return [
            f"MERGE INTO {target} d USING {source} s ON {same}{removed} WHEN MATCHED THEN UPDATE SET {updated}"  # noqa: S608
            f" WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({inserted})"
        ]
    gone = _is_gone(job)
    return [
        f"DELETE FROM {target} AS d WHERE EXISTS (SELECT 1 FROM {source} AS s WHERE {same})",  # noqa: S608 - quoted
        f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {source}"  # noqa: S608
        + (f" WHERE ({gone}) IS NOT TRUE" if gone else ""),
    ]


def _history(job: LoadJob, target: str, source: str, names: list[str]) -> list[str]:
    """Return the statements that end the versions which are gone, and begin those that are new."""
    now, hashed, end = literal(job.loaded_at.isoformat(" ", "microseconds")), quoted(ROW_HASH), quoted(VALID_TO)
    values = {quoted(VALID_FROM): now, end: "NULL"}
    chosen = ", ".join(values.get(name, name) for name in names)
    return [
        f"UPDATE {target} SET {end} = {now}"  # noqa: S608 - names and texts are quoted
        f" WHERE {hashed} NOT IN (SELECT {hashed} FROM {source}) AND {end} IS NULL",
        f"INSERT INTO {target} ({', '.join(names)}) SELECT {chosen} FROM {source}"  # noqa: S608
        f" WHERE {hashed} NOT IN (SELECT {hashed} FROM {target} WHERE {end} IS NULL)",
    ]


def _is_gone(job: LoadJob, of: str = "") -> str:
    """Return the condition under which a row says that its key is gone: true, or of other types any value; or ""."""
    name = job.settings.hard_delete
    if name is None or name not in job.columns:
        return ""
    return f"{of}{quoted(name)} = TRUE" if job.columns[name] == BOOL else f"{of}{quoted(name)} IS NOT NULL"


def _key(job: LoadJob) -> tuple[str, ...]:
    """Return the key that a merge goes by."""
    assert job.settings.primary_key, "a merge needs a key"  # noqa: S101 - the spec's validation refuses it
    return job.settings.primary_key
