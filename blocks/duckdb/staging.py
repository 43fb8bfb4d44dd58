"""Staging tables in DuckDB: made and widened to take a snapshot, filled from it, and compared with its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lookbook.blocks.registry import held_counters, raised
from lookbook.blocks.sql_text import literal, parquet_files, quoted
from lookbook.blocks.warehouse import (
    MOST_ROWS,
    STAGING_KEYS,
    STANDING_COLUMNS,
    TAGS,
    SnapshotLoad,
    StarModel,
    free_names,
    row_fault,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Every function works on an open connection. A snapshot and the models made of it are first laid out as temporary
# relations under their bare names (`lay_out`), then written to staging, or compared with it.

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
_FLOATS = ("FLOAT", "DOUBLE")


def columns_of(connection: DuckDBPyConnection, relation: str) -> dict[str, str]:
    """Return names and types of the columns of a relation (an SQL expression that can stand behind FROM)."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()  # noqa: S608 - quoted by callers
    return {name: "VARCHAR" if type_ == '"NULL"' else type_ for name, type_, *_ in described}


def staging_columns(connection: DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return names and types of each staging table's columns, without the tags.

    To ask for all costs what it costs to ask for one: DuckDB goes through its whole catalogue.
    """
    found = connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns()"
        " WHERE schema_name = 'staging' ORDER BY table_name, column_index"
    ).fetchall()
    tables: dict[str, dict[str, str]] = {}
    for table, name, type_ in found:
        own = tables.setdefault(table, {})
        if name.lower() not in TAGS:
            own[name] = type_
    return tables


def file_columns(connection: DuckDBPyConnection, table: str, files: Sequence[str]) -> dict[str, str]:
    """Return names and types of the columns that staging needs for files: their own, and the constant ones."""
    own = columns_of(connection, parquet_files(files[:1]))  # all have the same
    own = dict(zip(free_names(list(own), TAGS), own.values(), strict=True))
    present = {name.lower() for name in own}
    standing = STANDING_COLUMNS.get(table, {})
    return own | {name: type_ for name, type_ in standing.items() if name.lower() not in present}


def ensure_table(
    connection: DuckDBPyConnection, table: str, found: dict[str, str] | None, wanted: dict[str, str]
) -> None:
    """Make a staging table, or add and widen columns of the one `found`, so that it takes the `wanted` columns."""
    target = f"staging.{quoted(table)}"
    if found is None:
        columns = ", ".join(f"{quoted(name)} {type_}" for name, type_ in (TAGS | wanted).items())
        connection.execute(f"CREATE TABLE {target} ({columns})")
        return
    present = {name.lower(): (name, type_) for name, type_ in found.items()}
    for name, type_ in wanted.items():
        if name.lower() not in present:
            connection.execute(f"ALTER TABLE {target} ADD COLUMN {quoted(name)} {type_}")
            continue
        column, before = present[name.lower()]
        after = wider(before, type_)
        if after != before:
            using = _converted(quoted(column), before, after)
            connection.execute(f"ALTER TABLE {target} ALTER COLUMN {quoted(column)} TYPE {after} USING {using}")


def wider(one: str, other: str) -> str:
    """Return the type that holds values of both: BIGINT for integers, DOUBLE for numbers, else VARCHAR."""
    if one == other:
        return one
    if one in _INTEGERS and other in _INTEGERS:
        return "BIGINT"
    if {one, other} <= {*_INTEGERS, *_FLOATS}:
        return "DOUBLE"
    return "VARCHAR"


def lay_out(connection: DuckDBPyConnection, load: SnapshotLoad, models: list[StarModel]) -> None:
    """Make a temporary view of each table of a snapshot, shaped like its staging table, and a table of each model."""
    there = staging_columns(connection)
    for table, files in load.tables.items():
        standing = there.get(table, {})
        present = {name.lower() for name in standing}
        missing = file_columns(connection, table, files)  # where the warehouse is of an earlier version
        shape = standing | {name: type_ for name, type_ in missing.items() if name.lower() not in present}
        own = columns_of(connection, parquet_files(files[:1]))
        names = free_names(list(own), TAGS)
        sources = {free.lower(): name for free, name in zip(names, own, strict=True)}
        columns = [f"{literal(load.dataset)} AS dataset"]
        for name, type_ in shape.items():
            source = sources.get(name.lower())
            value = _converted(quoted(source), own[source], type_) if source else f"CAST(NULL AS {type_})"
            columns.append(f"{value} AS {quoted(name)}")
        select = f"SELECT {', '.join(columns)} FROM {parquet_files(files)}"  # noqa: S608 - identifiers and literals are quoted
        connection.execute(f"CREATE TEMP VIEW {quoted(table)} AS {select}")
    for model in models:
        connection.execute(f"CREATE TEMP TABLE {quoted(model.name)} AS {model.sql}")


def replace_rows(connection: DuckDBPyConnection, table: str, load: SnapshotLoad) -> None:
    """Put the rows of a laid-out relation in place of all rows of the dataset."""
    columns = ", ".join(quoted(name) for name in laid_out_columns(connection, table))
    target = f"staging.{quoted(table)}"
    connection.execute(f"DELETE FROM {target} WHERE dataset = ?", [load.dataset])  # noqa: S608 - quoted
    connection.execute(
        f"INSERT INTO {target} (dataset, snapshot_id, _load_id, _loaded_at, {columns})"  # noqa: S608 - quoted
        f" SELECT ?, ?, ?, ?, {columns} FROM temp.main.{quoted(table)}",
        [*_tags(load)],
    )


def replace_view(connection: DuckDBPyConnection, table: str, own: Iterable[str]) -> None:
    """Make the view through which readers see the current snapshots' rows of a staging table with these columns."""
    columns = ["dataset", *own, "snapshot_id", "_load_id", "_loaded_at"]
    shown = ", ".join(f"t.{quoted(name)}" for name in columns)
    connection.execute(
        f"CREATE OR REPLACE VIEW warehouse.{quoted(table)} AS SELECT {shown} FROM staging.{quoted(table)} AS t"  # noqa: S608 - quoted
        " JOIN staging.current_snapshot AS c ON t.dataset = c.dataset AND t.snapshot_id = c.snapshot_id"
    )


def flip(connection: DuckDBPyConnection, load: SnapshotLoad) -> None:
    """Make a snapshot the current one of its dataset."""
    connection.execute("DELETE FROM staging.current_snapshot WHERE dataset = ?", [load.dataset])
    connection.execute("INSERT INTO staging.current_snapshot VALUES (?, ?, ?, ?)", _tags(load))


def remove_dataset(connection: DuckDBPyConnection, dataset: str) -> None:
    """Remove the rows of a dataset from all staging tables."""
    found = connection.execute(
        "SELECT DISTINCT table_name FROM duckdb_columns() WHERE schema_name = 'staging' AND column_name = 'dataset'"
    ).fetchall()
    for (table,) in found:
        connection.execute(f"DELETE FROM staging.{quoted(table)} WHERE dataset = ?", [dataset])  # noqa: S608 - quoted


def raise_fences(connection: DuckDBPyConnection) -> None:
    """Keep the counters of the leases held here, by the transaction they stand for; see `lookbook.blocks.registry`.

    Raises:
        LeaseLostError: another run has taken one of them, and committed: this one must not.
    """
    held = held_counters()
    if not held:
        return
    connection.execute("CREATE SCHEMA IF NOT EXISTS staging")
    connection.execute("CREATE TABLE IF NOT EXISTS staging.fences (name VARCHAR, counter BIGINT)")
    raised(dict(connection.execute("SELECT name, counter FROM staging.fences").fetchall()))
    connection.execute("DELETE FROM staging.fences WHERE list_contains(?, name)", [[*held]])
    connection.execute("INSERT INTO staging.fences SELECT unnest(?), unnest(?)", [[*held], [*held.values()]])


def laid_out_columns(connection: DuckDBPyConnection, table: str) -> dict[str, str]:
    """Return names and types of a laid-out relation's columns, without the tags."""
    columns = columns_of(connection, f"temp.main.{quoted(table)}")
    return {name: type_ for name, type_ in columns.items() if name.lower() not in TAGS}


def _tags(load: SnapshotLoad) -> list[object]:
    return [load.dataset, load.snapshot_id, load.load_id, datetime.now(UTC).replace(tzinfo=None)]


def _converted(value: str, before: str, after: str) -> str:
    """`value` in another type. As text, 2012.0 is 2012: so an integer that became a float first reads the same."""
    if before == after:
        return value
    if before in _FLOATS and after == "VARCHAR":
        return f"regexp_replace(CAST({value} AS VARCHAR), '\\.0$', '')"
    return f"CAST({value} AS {after})"


def find_differences(connection: DuckDBPyConnection, load: SnapshotLoad, models: list[StarModel]) -> list[str]:
    """See `Warehouse.differences`. Both sides are recomputed from the files, so one fault gives one line.

    A warehouse at another snapshot gets one line for that alone.
    """
    lines = _current_snapshot(connection, load)
    if lines:
        return lines
    lay_out(connection, load, models)
    there = staging_columns(connection)
    for table, files in load.tables.items():
        columns = list(file_columns(connection, table, files))
        lines += _table(connection, load, f"staging.{table}", there.get(table), columns, STAGING_KEYS[table])
    for model in models:
        columns = list(laid_out_columns(connection, model.name))
        lines += _table(connection, load, f"warehouse.{model.name}", there.get(model.name), columns, model.key)
    return lines + _views(connection, [*load.tables, *(model.name for model in models)])


def _current_snapshot(connection: DuckDBPyConnection, load: SnapshotLoad) -> list[str]:
    found = connection.execute(
        "SELECT snapshot_id FROM staging.current_snapshot WHERE dataset = ? ORDER BY 1", [load.dataset]
    ).fetchall()
    ids = [snapshot_id for (snapshot_id,) in found]
    if ids == [load.snapshot_id]:
        return []
    if not ids:
        return [f"warehouse: no snapshot of {load.dataset} is loaded"]
    return [f"warehouse: {load.dataset} is at snapshot {', '.join(ids)} instead of {load.snapshot_id}"]


def _table(
    connection: DuckDBPyConnection,
    load: SnapshotLoad,
    label: str,
    present: dict[str, str] | None,
    columns: list[str],
    key: tuple[str, ...],
) -> list[str]:
    table = label.partition(".")[2]
    if present is None:
        return [f"warehouse: {label}: the table is missing"]
    names = {name.lower() for name in present}
    absent = [name for name in columns if name.lower() not in names]
    if absent:
        return [f"warehouse: {label}: column {name} is missing" for name in absent]
    return [f"warehouse: {label}: {what}" for what in _rows(connection, load, table, columns, key)]


def _rows(
    connection: DuckDBPyConnection, load: SnapshotLoad, table: str, columns: list[str], key: tuple[str, ...]
) -> list[str]:
    """Return what is wrong with single rows: each is compared whole, and as often as it stands there."""
    values = ", ".join(quoted(name) for name in columns)
    name = "concat_ws(':', " + ", ".join(f"coalesce(CAST({quoted(c)} AS VARCHAR), 'null')" for c in key) + ")"
    found = connection.execute(
        f"""
        WITH
            expected AS (SELECT {literal(load.snapshot_id)} AS snapshot_id, {values} FROM temp.main.{quoted(table)}),
            found AS (SELECT snapshot_id, {values} FROM staging.{quoted(table)} WHERE dataset = ?),
            lost AS (SELECT DISTINCT {name} AS name FROM (FROM expected EXCEPT ALL FROM found)),
            surplus AS (SELECT DISTINCT {name} AS name FROM (FROM found EXCEPT ALL FROM expected))
        SELECT coalesce(l.name, s.name) AS name, l.name IS NOT NULL, s.name IS NOT NULL, count(*) OVER ()
        FROM lost AS l FULL JOIN surplus AS s ON l.name = s.name
        ORDER BY name LIMIT {MOST_ROWS}
        """,  # noqa: S608 - identifiers and literals are quoted
        [load.dataset],
    ).fetchall()
    lines = [f"row {name} {row_fault(lost, surplus)}" for name, lost, surplus, _ in found]
    if found and found[0][3] > len(found):
        lines.append(f"… and {found[0][3] - len(found)} more")
    return lines


def _views(connection: DuckDBPyConnection, tables: list[str]) -> list[str]:
    found = connection.execute("SELECT view_name FROM duckdb_views() WHERE schema_name = 'warehouse'").fetchall()
    present = {name for (name,) in found}
    return [f"warehouse: warehouse.{table}: the view is missing" for table in tables if table not in present]
