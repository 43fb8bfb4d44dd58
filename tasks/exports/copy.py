"""Copying a snapshot to a folder or a bucket, in files that people know by their names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import TABLES, Manifest, read_table, require_published
from lookbook.tasks.exports.file_names import ImageRow, NamedImage, balanced, names_by_hash, names_by_id
from lookbook.tasks.exports.recipes import ORIGINALS
from lookbook.tasks.exports.targets import Target, open_target
from lookbook.tasks.images.parquet import to_parquet
from lookbook.tasks.runs import progress

Layout = Literal["id", "hash"]
THREADS = 16
#: Files that are handed to the threads at a time.
SLICE = 4096
#: The table of the copied files, and what the snapshot's own tables are called; the others keep their names.
FILES = "files.parquet"
MANIFEST = "manifest.json"
TABLE_NAMES = {"products": "styles"}

FILES_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),  # below the copy's folder
        pa.field("output", pa.string()),
        pa.field("product_key", pa.string()),  # null for orphans, and where files are named by hash
        pa.field("image_key", pa.string()),
        pa.field("sha256", pa.string()),  # the original's
        pa.field("file_sha256", pa.string()),
        pa.field("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class CopiedFile:
    """One file of a copy: its name, and how to get its bytes."""

    name: str
    size: int
    sha256: str
    read: Callable[[], bytes]


def copy_dataset(
    lake: Lake, dataset: str, outputs: Sequence[str], to: str, layout: Layout = "id", target: Target | None = None
) -> dict[str, Any]:
    """Copy the current snapshot of a dataset. What stands there with the same size and checksum is not sent again.

    First the images, a folder for each output, then the tables, ``manifest.json`` last: where it names a snapshot, all
    of that is there. Nothing is removed but the manifest of another snapshot, before the first file is written.

    Args:
        lake: where the snapshot is.
        dataset: its name.
        outputs: names of outputs, or ``originals``.
        to: a folder, or ``gs://bucket/folder``.
        layout: how images are named: by their products' ids, or by their contents' hashes.
        target: in place of the one that `to` names.

    Returns:
        Counts for each folder, and for the tables: ``files``, how many of them were ``sent``, and their ``bytes``.

    Raises:
        UsageError: an output or the target can't be meant.
        LookbookError: there is no such dataset, the lake lacks an object or has other bytes for it, or the target
            can't be written.
    """
    manifest = require_published(lake, dataset).manifest
    check_outputs(manifest, outputs)
    target = target or open_target(to, lake, THREADS)
    images = read_table(lake, manifest, "images")
    good = images.filter(pc.not_equal(images.column("outcome"), "rejected"))
    named = _named(good, read_table(lake, manifest, "products"), layout)
    objects = {output: _objects(lake, manifest, good, output) for output in dict.fromkeys(outputs)}
    progress.announce(len(named) * len(objects) + len(TABLES) + len((FILES, MANIFEST)))
    last = _in_memory(MANIFEST, lake.get(f"{manifest.folder}/manifest.json"))
    if not target.holds(last.name, last.size, last.sha256):
        target.remove(last.name)  # half of this copy would stand under it
    counts: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for output, contents in objects.items():
        listed = [_row(output, each, contents[each.image.sha256], layout) for each in named]
        keys = [contents[each.image.sha256]["object_key"] for each in named]
        files = (_file(lake, row, key) for row, key in zip(listed, keys, strict=True))
        counts[output] = _send(target, files)
        rows += listed
    tables = _send(target, _tables(lake, manifest, rows))
    tables = _add(tables, _send(target, [last]))
    target.settle()
    return {
        "dataset": dataset,
        "snapshot": manifest.snapshot_id,
        "to": target.uri,
        "folders": counts,
        "tables": tables,
        "rejected": images.num_rows - good.num_rows,
    }


def check_outputs(manifest: Manifest, outputs: Sequence[str]) -> None:
    """See that a snapshot has these outputs.

    Raises:
        UsageError: it lacks one, or none is named.
    """
    known = [*manifest.recipe.outputs, ORIGINALS]
    for output in outputs:
        if output not in known:
            raise UsageError(
                f"--output {output}: {manifest.dataset} has no such output.", f"It has {', '.join(known)}."
            )
    if not outputs:
        raise UsageError("No output is named.", f"Give --output once or several times: {', '.join(known)}.")


def _named(images: pa.Table, products: pa.Table, layout: Layout) -> list[NamedImage]:
    rows = _image_rows(images, "key", main=False)
    if layout == "hash":
        return names_by_hash(rows)
    matched = products.filter(pc.equal(products.column("outcome"), "matched"))
    # One image may be that of several products: the images table names the first of them only.
    rows += _image_rows(matched, "image_key", main=True)
    named = names_by_id(rows)
    if not balanced(named, rows):
        raise LookbookError("The books of the copy do not balance: an image has no file name.", "Please report it.")
    return named


def _image_rows(table: pa.Table, key: str, *, main: bool) -> list[ImageRow]:
    keys, contents, products = (table.column(name).to_pylist() for name in (key, "sha256", "product_key"))
    return [ImageRow(*values, main) for values in zip(keys, contents, products, strict=True)]


def _objects(lake: Lake, manifest: Manifest, images: pa.Table, output: str) -> dict[str, dict[str, Any]]:
    """By the original's hash: the ``object_key``, ``bytes`` and ``file_sha256`` of what is copied of it."""
    if output not in manifest.recipe.outputs:
        columns = images.select(["sha256", "original_key", "bytes"]).to_pylist()
        return {
            row["sha256"]: {
                "object_key": row["original_key"],
                "bytes": row["bytes"],
                "file_sha256": row["sha256"],
            }
            for row in columns
        }
    table = read_table(lake, manifest, "outputs")
    table = table.filter(pc.equal(table.column("output"), output))
    return {row["sha256"]: row | {"file_sha256": row["output_sha256"]} for row in table.to_pylist()}


def _row(output: str, named: NamedImage, content: dict[str, Any], layout: Layout) -> dict[str, Any]:
    extension = content["object_key"].rpartition(".")[2]
    return {
        "file": f"{output}/{named.name}.{extension}",
        "output": output,
        "product_key": named.image.product_key if layout == "id" else None,
        "image_key": named.image.key,
        "sha256": named.image.sha256,
        "file_sha256": content["file_sha256"],
        "bytes": content["bytes"],
    }


def _file(lake: Lake, row: dict[str, Any], key: str) -> CopiedFile:
    return CopiedFile(row["file"], row["bytes"], row["file_sha256"], lambda: lake.get(key))


def _tables(lake: Lake, manifest: Manifest, rows: list[dict[str, Any]]) -> Iterator[CopiedFile]:
    data = to_parquet(pa.Table.from_pylist(rows, schema=FILES_SCHEMA))
    yield _in_memory(FILES, data)
    listed = {file.name: file for file in manifest.files}
    for table in TABLES:
        file = listed[f"{table}.parquet"]
        key = f"{manifest.folder}/{file.name}"
        name = f"{TABLE_NAMES.get(table, table)}.parquet"
        yield CopiedFile(name, file.size, file.sha256, lambda key=key: lake.get(key))  # type: ignore[misc]


def _in_memory(name: str, data: bytes) -> CopiedFile:
    return CopiedFile(name, len(data), hashlib.sha256(data).hexdigest(), lambda: data)


def _send(target: Target, files: Iterable[CopiedFile]) -> dict[str, int]:
    """Send what does not stand there; counts of all files, of those sent, and bytes of these."""
    counts = {"files": 0, "sent": 0, "bytes": 0}
    rest = iter(files)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="copy") as pool:
        try:
            while slice_ := list(islice(rest, SLICE)):
                for file, sent in zip(slice_, pool.map(lambda file: _send_one(target, file), slice_), strict=True):
                    counts = _add(counts, {"files": 1, "sent": int(sent), "bytes": file.size if sent else 0})
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return counts


def _send_one(target: Target, file: CopiedFile) -> bool:
    sent = not target.holds(file.name, file.size, file.sha256)
    if sent:
        data = file.read()
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise LookbookError(
                f"{file.name}: the lake has other bytes for it than its snapshot says.",
                'Run "lookbook verify NAME --repair", then copy again: what is copied already stays.',
            )
        target.write(file.name, data, file.sha256)
    progress.advance(1)
    return sent


def _add(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one[name] + other[name] for name in one}
