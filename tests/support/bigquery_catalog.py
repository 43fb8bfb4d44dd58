"""What stands in the BigQuery stand-in: datasets, tables and views, kept in a DuckDB in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from tests.support.bigquery_types import Field, duckdb_type, rest_fields


class Refused(Exception):  # noqa: N818 - what BigQuery calls an error result
    """An error as BigQuery words it: HTTP status, reason, message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    @property
    def result(self) -> dict[str, str]:
        """The `errorResult` of a job."""
        return {"reason": self.reason, "message": self.message}


@dataclass
class Table:
    """What REST tells about a table beyond its columns; `query` and `columns`, as last seen, where it is a view."""

    properties: dict[str, Any] = field(default_factory=dict)
    query: str | None = None
    columns: list[Field] = field(default_factory=list)
    created: int = field(default_factory=lambda: int(time.time() * 1000))


def quoted(*names: str) -> str:
    """A DuckDB identifier of these parts."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


class Catalog:
    """Datasets and tables of one project in one location."""

    def __init__(self, project: str, location: str) -> None:
        self.project, self.location = project, location
        self.datasets: dict[str, dict[str, Any]] = {}
        self.tables: dict[tuple[str, str], Table] = {}
        self.duckdb = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        self.duckdb.execute("SET TimeZone = 'UTC'")
        self.duckdb.execute("SET threads = 1")

    def rows(self, sql: str) -> pa.Table:
        """What a SELECT of DuckDB's gives."""
        return self.duckdb.sql(sql).to_arrow_table()

    def clone(self) -> Catalog:
        """A catalog with the same content, that can be changed on its own."""
        other = Catalog(self.project, self.location)
        for name, properties in self.datasets.items():
            other.create_dataset(name, dict(properties))
        for (dataset, name), table in self.tables.items():
            if table.query is None:
                other.fill(dataset, name, self.rows(f"SELECT * FROM {quoted(dataset, name)}"), dict(table.properties))
        views = {key: table for key, table in self.tables.items() if table.query is not None}
        other.tables |= {key: Table(dict(table.properties), table.query) for key, table in views.items()}
        other.refresh_views()
        return other

    def dataset(self, name: str) -> dict[str, Any]:
        """A dataset's resource; refused where there is none."""
        if name not in self.datasets:
            where = f" was not found in location {self.location}"
            raise Refused(404, "notFound", f"Not found: Dataset {self.project}:{name}{where}")
        return self.datasets[name]

    def table(self, dataset: str, name: str) -> Table:
        """A table or view; refused where there is none, or no more."""
        self.dataset(dataset)
        self._expire()
        if (dataset, name) not in self.tables:
            where = f" was not found in location {self.location}"
            raise Refused(404, "notFound", f"Not found: Table {self.project}:{dataset}.{name}{where}")
        return self.tables[dataset, name]

    def has(self, dataset: str, name: str) -> bool:
        """Whether a table or view stands there."""
        self._expire()
        return (dataset, name) in self.tables

    def create_dataset(self, name: str, properties: dict[str, Any]) -> None:
        """Make a dataset; refused where one stands, or when it is to lie elsewhere."""
        if name in self.datasets:
            raise Refused(409, "duplicate", f"Already Exists: Dataset {self.project}:{name}")
        self.duckdb.execute(f"CREATE SCHEMA {quoted(name)}")
        self.datasets[name] = {"location": self.location} | properties

    def drop_dataset(self, name: str, *, contents: bool) -> None:
        """Drop a dataset; refused while it holds tables, unless those may go, too."""
        self.dataset(name)
        inside = [key for key in self.tables if key[0] == name]
        if inside and not contents:
            raise Refused(400, "resourceInUse", f"Dataset {self.project}:{name} is still in use")
        self.duckdb.execute(f"DROP SCHEMA {quoted(name)} CASCADE")
        self.tables = {key: table for key, table in self.tables.items() if key not in inside}
        del self.datasets[name]

    def create_table(self, dataset: str, name: str, fields: list[Field], properties: dict[str, Any]) -> None:
        """Make an empty table with these columns."""
        self.dataset(dataset)
        if self.has(dataset, name):
            raise Refused(409, "duplicate", f"Already Exists: Table {self.project}:{dataset}.{name}")
        columns = ", ".join(f"{quoted(one['name'])} {duckdb_type(one)}" for one in fields)
        # DuckDB has no table without columns, BigQuery has: a first load gives it some.
        self.duckdb.execute(f"CREATE TABLE {quoted(dataset, name)} ({columns or '__none BIGINT'})")
        self.tables[dataset, name] = Table(dict(properties))

    def fill(self, dataset: str, name: str, rows: pa.Table, properties: dict[str, Any]) -> None:
        """Put a table with these rows in place of what stands there; what REST told about that stays."""
        before = self.tables.get((dataset, name))
        self.duckdb.register("__rows", rows)
        self.duckdb.execute(f"CREATE OR REPLACE TABLE {quoted(dataset, name)} AS SELECT * FROM __rows")
        self.duckdb.unregister("__rows")
        kept = before.properties if before else {}
        self.tables[dataset, name] = Table(kept | properties)

    def drop(self, dataset: str, name: str) -> None:
        """Drop a table or view."""
        kind = "VIEW" if self.table(dataset, name).query is not None else "TABLE"
        self.duckdb.execute(f"DROP {kind} IF EXISTS {quoted(dataset, name)}")
        del self.tables[dataset, name]

    def fields(self, dataset: str, name: str) -> list[Field]:
        """The columns of a table or view."""
        table = self.table(dataset, name)
        if table.query is not None:
            return table.columns
        return [field for field in self.columns(f"SELECT * FROM {quoted(dataset, name)}") if field["name"] != "__none"]

    def columns(self, select: str) -> list[Field]:
        """The columns that a SELECT of DuckDB's gives. To Arrow, JSON is text."""
        found = self.rows(f"SELECT * FROM ({select}) LIMIT 0")
        kinds = [row["column_type"] for row in self.rows(f"DESCRIBE {select}").to_pylist()]
        fields = zip(rest_fields(found.schema), kinds, strict=True)
        return [field | ({"type": "JSON"} if kind == "JSON" else {}) for field, kind in fields]

    def count(self, dataset: str, name: str) -> int:
        """How many rows a table has."""
        return self.rows(f"SELECT count(*) AS rows FROM {quoted(dataset, name)}").to_pylist()[0]["rows"]  # type: ignore[no-any-return]

    def refresh_views(self) -> None:
        """BigQuery reads a view's text at each query; DuckDB keeps the types that it had."""
        for (dataset, name), table in self.tables.items():
            if table.query is not None:
                try:
                    self.duckdb.execute(f"CREATE OR REPLACE VIEW {quoted(dataset, name)} AS {table.query}")
                    table.columns = rest_fields(self.rows(f"SELECT * FROM {quoted(dataset, name)} LIMIT 0").schema)
                except duckdb.Error:
                    continue  # what it reads is gone: whoever asks for it is told

    def _expire(self) -> None:
        now = time.time() * 1000
        for (dataset, name), table in list(self.tables.items()):
            if int(table.properties.get("expirationTime") or 0) > 0 and int(table.properties["expirationTime"]) < now:
                self.duckdb.execute(f"DROP TABLE IF EXISTS {quoted(dataset, name)}")
                del self.tables[dataset, name]
