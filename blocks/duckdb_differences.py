"""How a DuckDB warehouse differs from a snapshot's files, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookbook.blocks.duckdb_staging import file_columns, laid_out_columns, lay_out, literal, quoted, staging_columns
from lookbook.blocks.warehouse import MOST_ROWS, STAGING_KEYS, Model, SnapshotLoad, row_fault

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def find_differences(connection: DuckDBPyConnection, load: SnapshotLoad, models: list[Model]) -> list[str]:
    """See `Warehouse.differences`. Both sides are recomputed from the files, so one fault gives one line.

    A warehouse at another snapshot gets one line for that alone.
    """
    lines = _current_snapshot(connection, load)
    if lines:
        return lines
    lay_out(connection, load, models)
    for table, uri in load.tables.items():
        columns = list(file_columns(connection, table, uri))
        lines += _table(connection, load, f"staging.{table}", columns, STAGING_KEYS[table])
    for model in models:
        columns = list(laid_out_columns(connection, model.name))
        lines += _table(connection, load, f"warehouse.{model.name}", columns, model.key)
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
    connection: DuckDBPyConnection, load: SnapshotLoad, label: str, columns: list[str], key: tuple[str, ...]
) -> list[str]:
    table = label.partition(".")[2]
    present = staging_columns(connection, table)
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
