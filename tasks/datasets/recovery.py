"""What an earlier run left in the lake: batches that are done but stand in no snapshot yet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.names import batches_folder
from lookbook.tasks.datasets.plan import recipe_digest
from lookbook.tasks.images.parquet import from_parquet
from lookbook.tasks.images.recipe import Recipe

#: Objects that are removed at the same time: a store that answers late is kept busy.
REMOVING_THREADS = 16


def finished_parts(lake: Lake, dataset: str, recipe: Recipe, published: pa.Table | None) -> pa.Table | None:
    """Return the rows of all valid parts of this dataset that were made with this recipe; None where there are none.

    A part that can't be read, or was made with another recipe, is no part: its images are done anew. Of two
    rows for one key and fingerprint either will do.
    """
    contents = set(published.column("sha256").to_pylist()) if published is not None else set()
    tables = []
    for info in lake.list(batches_folder(dataset)):
        if info.key.endswith("/part.parquet"):
            table = _read(lake, info.key, recipe)
            if table is not None:
                tables.append(_that_hold(table, contents))
    return pa.concat_tables(tables) if tables else None


def clear_batches(lake: Lake, dataset: str) -> None:
    """Remove the batches of a dataset once a snapshot holds their results; parts go before manifests."""
    keys = [info.key for info in lake.list(batches_folder(dataset))]
    with ThreadPoolExecutor(REMOVING_THREADS, thread_name_prefix="clearing") as pool:
        for manifests in (False, True):
            list(pool.map(lake.remove, [key for key in keys if ("/manifest" in key) == manifests]))


def _read(lake: Lake, key: str, recipe: Recipe) -> pa.Table | None:
    try:
        table, metadata = from_parquet(lake.get(key))
    except (pa.ArrowException, OSError):
        return None
    made_with = metadata.get("recipe_digest", "")
    return table if made_with == recipe_digest(recipe) else None


def _that_hold(table: pa.Table, contents: set[str]) -> pa.Table:
    """Return rows that say "as published" hold only while that content is published."""
    rows = zip(table.column("status").to_pylist(), table.column("sha256").to_pylist(), strict=True)
    return table.filter(pa.array([status != "same" or sha256 in contents for status, sha256 in rows], pa.bool_()))
