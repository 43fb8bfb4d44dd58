"""The files of a table as one relation of DuckDB, with the columns and types that the manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import quoted, text
from lookbook.tasks.tables.lake_manifest import DataFile, TableManifest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The column of `relation` that says which file a row stands in, where it is asked for.
FILE = "__lookbook_file"


def relation(manifest: TableManifest, paths: Mapping[str, Path], *, with_file: bool = False) -> str:
    """Return a SELECT over files of a table.

    What stands in the names of folders is not read from there: the manifest knows each file's partition, with the
    value's type, and a folder ``a=b`` above the lake is none of ours.

    Args:
        manifest: of the snapshot that lists the files.
        paths: by the files' keys, where they can be read: all of the table's, or some.
        with_file: whether to add the column `FILE`, with the path.
    """
    groups: dict[int, list[DataFile]] = {}
    for file in manifest.files:
        if file.key in paths:
            groups.setdefault(file.layout, []).append(file)
    if not groups:
        columns = [f"CAST(NULL AS {type_}) AS {quoted(name)}" for name, type_ in manifest.columns.items()]
        columns += [f"'' AS {FILE}"] if with_file else []
        return f"SELECT {', '.join(columns)} WHERE false"
    return " UNION ALL ".join(
        _of_layout(manifest, layout, files, paths, with_file) for layout, files in sorted(groups.items())
    )


def _of_layout(
    manifest: TableManifest, layout: int, files: Sequence[DataFile], paths: Mapping[str, Path], with_file: bool
) -> str:
    own = manifest.layouts[layout]
    columns = []
    for name, type_ in manifest.columns.items():
        value = f"f.{quoted(name)}" if name in own else "NULL"
        if name in manifest.partition_by:
            value = f"p.p{manifest.partition_by.index(name)}"
        columns.append(f"CAST({value} AS {type_}) AS {quoted(name)}")
    columns += [f"f.{FILE}"] if with_file else []
    partitioned = bool(manifest.partition_by)
    named = f", filename = '{FILE}'" if with_file or partitioned else ""
    source = f"read_parquet([{', '.join(text(str(paths[f.key])) for f in files)}], hive_partitioning = false{named})"
    if partitioned:
        values = ", ".join(f"({', '.join(map(_literal, (str(paths[f.key]), *f.partition)))})" for f in files)
        names = ", ".join(f"p{position}" for position in range(len(manifest.partition_by)))
        source = f"{source} AS f JOIN (VALUES {values}) AS p(file, {names}) ON p.file = f.{FILE}"
    else:
        source += " AS f"
    return f"SELECT {', '.join(columns)} FROM {source}"  # noqa: S608 - identifiers, texts and types are ours


def _literal(value: str | None) -> str:
    return "NULL::VARCHAR" if value is None else text(value)


def checked_types(connection: DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Return columns with their types as DuckDB writes them: what is no type never comes near a statement.

    Raises:
        LookbookError: a type is none of DuckDB's.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    types = {}
    for name, type_ in columns.items():
        try:
            types[name] = str(connection.dtype(type_))
        except duckdb.Error as error:
            raise LookbookError(f"lake.{table}: column {name} has the type {type_}, which DuckDB has not.") from error
    return types
