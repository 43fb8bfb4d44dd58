"""The tables of the lake as views, for one statement: those that it names, as they stand now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lookbook.blocks.duckdb.queries import Views
from lookbook.blocks.duckdb.staging import literal, quoted
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest, read_published
from lookbook.tasks.tables.lake_files import THREADS
from lookbook.tasks.tables.lake_manifest import TableManifest, require_table
from lookbook.tasks.tables.lake_views import relation

#: What statements call the lake: lake.trips is a table, lake.fashion.products one of the dataset fashion.
LAKE = "lake"


@dataclass(frozen=True)
class LakeView:
    """A table of the lake under the name by which a statement asks for it.

    Attributes:
        schema: ``main``, or a dataset.
        source: what it is made from; equal as long as nothing was loaded.
        keys: of the files.
    """

    schema: str
    name: str
    source: TableManifest | Manifest
    keys: tuple[str, ...]

    def select(self, paths: Mapping[str, Path]) -> str:
        """Return the statement of the view."""
        if isinstance(self.source, TableManifest):
            return relation(self.source, paths)
        return f"SELECT * FROM read_parquet({literal(str(paths[self.keys[0]]))}, hive_partitioning = false)"  # noqa: S608 - quoted


def lake_views(lake: Lake, names: Iterable[Sequence[str]]) -> list[LakeView]:
    """Return what stands now under names such as (lake, trips) and (lake, fashion, products).

    Raises:
        LookbookError: there is nothing of that name.
    """
    found = {}
    for name in sorted(tuple(part.lower() for part in name) for name in names):
        view = _view(lake, name[1:])
        found[view.schema, view.name] = view
    return list(found.values())


def _view(lake: Lake, parts: tuple[str, ...]) -> LakeView:
    if len(parts) == 1:
        return _table(lake, parts[0])
    dataset, table = parts
    published = read_published(lake, dataset) if "/" not in dataset else None
    if published is None and dataset == "main":
        return _table(lake, table)
    tables = (
        [file.name.removesuffix(".parquet") for file in published.manifest.files if file.rows is not None]
        if (published)
        else []
    )
    if published is None or table not in tables:
        raise LookbookError(
            f"lake.{dataset}.{table}: "
            + (f"the dataset {dataset} has no such table." if published else f"there is no dataset {dataset}."),
            f"It has {', '.join(tables)}." if tables else '"lookbook tables" names what there is.',
        )
    return LakeView(dataset, table, published.manifest, (f"{published.manifest.folder}/{table}.parquet",))


def _table(lake: Lake, table: str) -> LakeView:
    manifest = require_table(lake, table)
    return LakeView("main", table, manifest, tuple(file.key for file in manifest.files))


@contextmanager
def as_views(lake: Lake, views: Sequence[LakeView], scratch: Path) -> Iterator[Views]:
    """Yield a DuckDB file with the views, for as long as the block runs; what lies in a bucket is copied to scratch.

    Raises:
        ObjectNotFoundError: a file is gone: two loads ended since the views were looked up.
        LookbookError: DuckDB cannot read a file, or the folder for scratch cannot be used.
    """
    with _folder(scratch) as name:
        folder = Path(name)
        keys = [key for view in views for key in view.keys]
        with ThreadPoolExecutor(THREADS) as pool:
            paths = dict(zip(keys, pool.map(lambda key: lake.local_copy(key, folder), keys), strict=True))
        file = folder / f"{LAKE}.duckdb"
        _make(file, views, paths)
        yield Views(LAKE, file, list(paths.values()))


def _folder(scratch: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=scratch, prefix="query-")
    except OSError as error:
        raise LookbookError(
            f"The folder for scratch, {scratch}, cannot be used: {error.strerror or error}.",
            "Name one in the workspace's block that this machine may write to, with space left.",
        ) from error


def _make(file: Path, views: Sequence[LakeView], paths: Mapping[str, Path]) -> None:
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    try:
        with duckdb.connect(str(file)) as connection:
            for view in views:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(view.schema)}")
                connection.execute(f"CREATE VIEW {quoted(view.schema)}.{quoted(view.name)} AS {view.select(paths)}")
    except duckdb.Error as error:
        named = ", ".join(f"{LAKE}.{view.name}" for view in views)
        raise LookbookError(f"{named} cannot be read: {str(error).strip()}") from error
