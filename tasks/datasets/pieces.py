"""The pieces of a dataset's tables: snapshots share those that are equal, and none is written twice.

Where a piece begins is found out from the keys of rows alone, not from their number or their values: a row that is
added, changed or removed makes one or two other pieces, wherever it stands. Each piece has a name that is never used
again, and is known by the SHA-256 in the manifests that list it. So who removes what no manifest lists never meets a
piece that a later run has written; one that is named by its content would be written again under the same name.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from lookbook.blocks.lake import Lake, ObjectInfo, read_object, snapshots_folder
from lookbook.tasks.datasets.differences import Tables, batches_of, schema_of
from lookbook.tasks.datasets.manifest import (
    Manifest,
    SnapshotFile,
    is_piece,
    piece_name,
    rewriting_folder,
    tables_folder,
)
from lookbook.tasks.images.parquet import to_parquet

#: By the values of which column pieces begin (not a line's number, which rows inserted before it change); and the least
#: rows of a piece but a table's last, half of the usual and a quarter of the most. A row of the images takes half a
#: kilobyte, others take a tenth: so a piece takes some 2 MB, or less.
PIECES = {
    "images": ("key", 2048),
    "outputs": ("sha256", 4096),
    "products": ("product_key", 4096),
    "image_links": ("filename", 4096),
    "rejects": ("reject_id", 4096),
}


def cut(tables: Iterable[pa.Table], key: str, least: int) -> Iterator[pa.Table]:
    """Yield a table in pieces; one that is small is one piece.

    Args:
        tables: its rows in their order, so many at once as it may be.
        key: the column whose values say where a piece begins.
        least: rows of a piece, as in `PIECES`.
    """
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        begins, start = np.flatnonzero(_hashes(table.column(key)) % least == 0), 0
        while True:
            found = begins[np.searchsorted(begins, start + max(least - rows, 0)) :][:1]
            place = min(start + 4 * least - rows, *found.tolist(), len(table) + 4 * least)
            if place >= len(table):
                break
            yield pa.concat_tables([*held, table.slice(start, place - start)])
            held, rows, start = [], 0, place
        held.append(table.slice(start))
        rows += len(table) - start
    if held:
        yield pa.concat_tables(held)


def _hashes(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    import pandas as pd  # noqa: PLC0415 - late: importing the tasks is to be quick

    values = pc.cast(column, pa.string()).to_numpy(zero_copy_only=False)
    return pd.util.hash_array(values, categorize=False)


def write_tables(
    lake: Lake, manifest: Manifest, tables: Tables, before: Manifest | None, *, is_read: bool = True
) -> list[SnapshotFile]:
    """Write the tables of a snapshot, but for the pieces that another one has and that stand.

    Args:
        lake: where to.
        manifest: of the snapshot: names the dataset.
        tables: each in the order of its rows, which is that of the others' where pieces are to be equal.
        before: another snapshot of the dataset that readers find; None: there is none.
        is_read: its tables were read in this run, and are what it lists; else its pieces are replaced by equal ones.

    Returns:
        What the manifest is to list.
    """
    there = {info.key: info.size for info in lake.list(tables_folder(manifest.dataset))} if before and is_read else {}
    standing = {
        (table, file.sha256): file
        for table, files in (before.tables if before else {}).items()
        for file in files
        if is_piece(file)
    }
    written = []
    for name, table in tables.items():
        for data, rows in _encoded(name, table):
            sha256 = hashlib.sha256(data).hexdigest()
            file = standing.get((name, sha256))
            if file is None:
                file = SnapshotFile(name=piece_name(name, uuid.uuid4().hex), size=len(data), sha256=sha256, rows=rows)
                lake.put(manifest.key(file), data)
            elif there.get(manifest.key(file)) != file.size:
                lake.replace(manifest.key(file), data)
            written.append(file)
    return written


def _encoded(name: str, table: Sequence[Path] | pa.Table) -> Iterator[tuple[bytes, int]]:
    """Yield the pieces of a table as Parquet, with their rows: equal rows give equal bytes, however they lay before."""
    schema = schema_of(table).remove_metadata()
    key, least = PIECES[name]
    read = (pa.Table.from_batches([batch]).cast(schema) for batch in batches_of(table, schema.names))
    for piece in cut(chain([schema.empty_table()], read), key, least):
        yield to_parquet(piece.combine_chunks()), len(piece)


def unlisted_pieces(lake: Lake, dataset: str, without: Collection[str] = ()) -> list[ObjectInfo]:
    """Return the pieces that no manifest of a dataset lists: of a snapshot, a candidate, or one that is made anew.

    Args:
        lake: where they lie.
        dataset: its name.
        without: ids of snapshots that are taken to be gone.

    Returns:
        None of them where a manifest cannot be read: what it lists is not known.
    """
    standing = list(lake.list(tables_folder(dataset)))  # first: what is written from now on is not among them
    listed = set[str]()
    for folder in (snapshots_folder(dataset), rewriting_folder(dataset)) if standing else ():
        for snapshot_id in lake.folders(folder):
            text = read_object(lake, f"{folder}/{snapshot_id}/manifest.json")
            if text is None or (snapshot_id in without and folder == snapshots_folder(dataset)):
                continue
            try:
                manifest = Manifest.model_validate_json(text)
            except ValidationError:
                return []
            listed.update(manifest.key(file) for file in manifest.files)
    return [info for info in standing if info.key not in listed]
