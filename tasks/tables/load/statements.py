"""The SQL by which a batch gets into a table of a database: its merges are dlt's.

dlt's load packages are not used: their files are committed one by one and apart from its state. Its destinations say
how types are called, and its merge job says how rows get from a landing table into the table; both run within the one
transaction that also writes the rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.warehouse import FEEDS_SCHEMA
from lookbook.tasks.tables.engine import quoted, text
from lookbook.tasks.tables.load.column_types import (
    BINARY,
    BOOL,
    DATE,
    DATETIME,
    FLOAT,
    INSTANT,
    INTEGER,
    JSON,
    TEXT,
    TIME,
)
from lookbook.tasks.tables.load.job import LOAD_ID, LoadJob
from lookbook.tasks.tables.load.prepare import ROW_HASH, VALID_FROM, VALID_TO

if TYPE_CHECKING:
    from dlt.destinations.sql_client import SqlClientBase

#: Which batches a table holds, in the transaction that wrote them: a load looks here before it looks for its rows.
LOADS = "_loads"
LOADS_COLUMNS = {"table_name": TEXT, "load_id": TEXT, "rows": INTEGER, "loaded_at": INSTANT}
#: What the table lacks for its history.
HISTORY = {ROW_HASH: TEXT, VALID_FROM: INSTANT, VALID_TO: INSTANT}

_HISTORY_HINTS: dict[str, dict[str, Any]] = {
    ROW_HASH: {"x-row-version": True},
    VALID_FROM: {"x-valid-from": True},
    VALID_TO: {"x-valid-to": True, "x-active-record-timestamp": None},
}
_DLT_TYPES: dict[str, dict[str, Any]] = {
    TEXT: {"data_type": "text"},
    INTEGER: {"data_type": "bigint"},
    FLOAT: {"data_type": "double"},
    BOOL: {"data_type": "bool"},
    INSTANT: {"data_type": "timestamp"},
    DATETIME: {"data_type": "timestamp", "timezone": False},
    DATE: {"data_type": "date"},
    TIME: {"data_type": "time"},
    JSON: {"data_type": "json"},
    BINARY: {"data_type": "binary"},
}


def qualified(table: str, schema: str = FEEDS_SCHEMA) -> str:
    """Return a table of a schema of feeds, as SQL takes it."""
    return f"{quoted(schema)}.{quoted(table)}"


def destination_type(engine: str, type_: str) -> str:
    """Return a type of a column in the words of ``duckdb``, ``postgres`` or ``bigquery``."""
    mapper = _destination(engine).capabilities().get_type_mapper()
    return str(mapper.to_destination_type({"name": "column"} | _dlt_type(type_), {"name": "table"}))


def create_table(engine: str, table: str, columns: Mapping[str, str], schema: str = FEEDS_SCHEMA) -> str:
    """Return the statement that makes a table."""
    described = ", ".join(f"{quoted(name)} {destination_type(engine, type_)}" for name, type_ in columns.items())
    return f"CREATE TABLE {qualified(table, schema)} ({described})"


def table_columns(job: LoadJob) -> dict[str, str]:
    """Return the columns that a load needs in its table."""
    return dict(job.columns) | (HISTORY if job.settings.strategy == "scd2" else {})


def evolve_table(engine: str, job: LoadJob, standing: Mapping[str, str] | None) -> list[str]:
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
    return f"({column} = {text(load_id)} OR starts_with({column}, {text(load_id + '.')}))"


def listed_loads(job: LoadJob) -> str:
    """Return a SELECT that counts the loads that brought this batch into the table before."""
    return (
        f"SELECT count(*) FROM {qualified(LOADS, job.schema)} WHERE table_name = {text(job.table)} AND {_listed(job)}"  # noqa: S608
    )


def list_load(job: LoadJob, rows: int) -> list[str]:
    """Return the statements that note the load in place of all that it replaces."""
    everything = job.settings.write_disposition == "replace"
    old = f"table_name = {text(job.table)}" + ("" if everything else f" AND {_listed(job)}")
    columns = ", ".join(map(quoted, LOADS_COLUMNS))
    values = f"{text(job.table)}, {text(job.load_id)}, {rows}, CAST({text(job.loaded_at.isoformat())} AS TIMESTAMPTZ)"
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
        pairs = ", ".join(f"{text(name)}: {_hashable(name, job.columns[name])}" for name in own)
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


def merge_statements(engine: str, job: LoadJob, landing: str, strategy: str = "delete-insert") -> list[str]:
    """Dlt's statements that merge the rows of a landing table into the table.

    Args:
        engine: ``duckdb``, ``postgres`` or ``bigquery``.
        job: the load.
        landing: the schema of the landing table, which is called as the table.
        strategy: of dlt, for an upsert: ``delete-insert``, or ``upsert`` for the engine's MERGE.
    """
    from dlt.common.schema.utils import new_table  # noqa: PLC0415 - late: dlt takes its time
    from dlt.destinations.sql_jobs import SqlMergeFollowupJob  # noqa: PLC0415

    history = job.settings.strategy == "scd2"
    columns = [_hinted(job, name, type_) for name, type_ in table_columns(job).items()]
    hints = {
        "x-merge-strategy": "scd2" if history else strategy,
        "x-boundary-timestamp": job.loaded_at.isoformat(),
        "x-stage-data-deduplicated": True,
    }
    table: Any = new_table(job.table, write_disposition="merge", columns=columns) | hints  # type: ignore[arg-type]
    found = SqlMergeFollowupJob.generate_sql([table], _sql_client(engine, job.schema, landing))
    return [" ".join(statement.split()).rstrip(";") for statement in found]


def _hinted(job: LoadJob, name: str, type_: str) -> dict[str, Any]:
    """Return a column with what dlt is told of it."""
    column = {"name": name, "nullable": True} | _dlt_type(type_)
    if job.settings.strategy == "scd2":
        return column | _HISTORY_HINTS.get(name, {})
    return column | {"primary_key": name in _key(job), "hard_delete": name == job.settings.hard_delete}


def _key(job: LoadJob) -> tuple[str, ...]:
    """Return the key; without one, dlt would append."""
    assert job.settings.primary_key, "a merge needs a key"  # noqa: S101 - the spec's validation refuses it
    return job.settings.primary_key


def _dlt_type(type_: str) -> dict[str, Any]:
    if found := re.fullmatch(r"DECIMAL\((\d+), ?(\d+)\)", type_):
        return {"data_type": "decimal", "precision": int(found[1]), "scale": int(found[2])}
    return _DLT_TYPES[type_]


@lru_cache(maxsize=3)
def _destination(engine: str) -> Any:  # noqa: ANN401 - dlt's factories have no common type that says enough
    import dlt.destinations  # noqa: PLC0415 - late: dlt takes its time

    return getattr(dlt.destinations, engine)()


def _sql_client(engine: str, schema: str, landing: str) -> SqlClientBase[Any]:
    """Dlt's client of a database as far as it knows names: it is never connected, and knows no credentials."""
    capabilities = _destination(engine).capabilities()
    if engine == "duckdb":
        from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials  # noqa: PLC0415
        from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient  # noqa: PLC0415

        return DuckDbSqlClient(schema, landing, DuckDbCredentials(), capabilities)
    from dlt.destinations.impl.postgres.configuration import PostgresCredentials  # noqa: PLC0415
    from dlt.destinations.impl.postgres.sql_client import Psycopg2SqlClient  # noqa: PLC0415

    return Psycopg2SqlClient(schema, landing, PostgresCredentials(), capabilities)
