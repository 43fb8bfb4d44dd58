"""The rows of a load job as statements of DuckDB, with the columns of a table in the lake."""

from __future__ import annotations

from dataclasses import dataclass

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import quoted, text
from lookbook.tasks.tables.lake_manifest import TableManifest
from lookbook.tasks.tables.load.job import TAG_COLUMNS, LoadJob


@dataclass(frozen=True)
class JobRows:
    """Statements for a job's rows.

    Attributes:
        table: with the columns that it has once they are loaded.
    """

    job: LoadJob
    table: TableManifest

    def key(self) -> tuple[str, ...]:
        """Return the columns that name a row.

        Raises:
            LookbookError: the job has not all of them.
        """
        keys = tuple(self.job.settings.primary_key)
        lacking = [name for name in keys if name not in self.job.columns]
        if lacking:
            raise LookbookError(
                f"lake.{self.job.table}: the rows to merge have no column {lacking[0]}, which primary_key names.",
                f"They have {', '.join(name for name in self.job.columns if name not in TAG_COLUMNS)}.",
            )
        return keys

    def winners(self) -> str:
        """Return one row a key: the first by dedup_sort, and of those that are equal the one that came last.

        Only its key and its place are kept: what is joined and sorted is narrow, however wide the rows are.
        """
        sort = [f"{quoted(name)} {way.upper()} NULLS LAST" for name, way in self.job.settings.dedup_sort.items()]
        order = ", ".join([*sort, "__file_number DESC", "__row_number DESC"])
        keys = ", ".join(map(quoted, self.key()))
        return (
            f"SELECT {keys}, __file_number, __row_number FROM ({self.select(numbered=True)})"  # noqa: S608 - made by us
            f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
        )

    def deleted(self) -> str:
        """Return a condition: the row only says that the row of its key is to go."""
        column = self.job.settings.hard_delete
        if column is None or column not in self.job.columns:
            return "false"
        is_truth = self.table.columns[column] == "BOOLEAN"
        return f"coalesce({quoted(column)}, false)" if is_truth else f"({quoted(column)} IS NOT NULL)"

    def select(self, *, numbered: bool = False) -> str:
        """Return the job's rows with the columns of the table, numbered as they came if that is asked for."""
        columns = [
            f"CAST({quoted(name) if name in self.job.columns else 'NULL'} AS {type_}) AS {quoted(name)}"
            for name, type_ in self.table.columns.items()
        ]
        files = f"[{', '.join(text(str(path)) for path in self.job.files)}]"
        if numbered:
            columns += [f"list_position({files}, __file) AS __file_number", "file_row_number AS __row_number"]
        if not self.job.files:
            nulls = ", ".join(f"CAST(NULL AS {t}) AS {quoted(n)}" for n, t in self.table.columns.items())
            return f"SELECT {nulls} WHERE false"
        options = ", filename = '__file', file_row_number = true" if numbered else ""
        return f"SELECT {', '.join(columns)} FROM read_parquet({files}, hive_partitioning = false{options})"  # noqa: S608 - made by us
