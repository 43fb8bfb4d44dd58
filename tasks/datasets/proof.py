"""The proof of a deletion on request: every byte of a lake, and all values in its tables, are looked through."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import json
import re
import tarfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.lake import OBJECTS_AHEAD, READING_THREADS, Lake, read_object
from lookbook.blocks.sql_text import literal
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.forgetting import Receipt, forgetting_key, manifests_of, parts_of
from lookbook.tasks.datasets.gc import datasets_of
from lookbook.tasks.datasets.manifest import batches_folder, read_table
from lookbook.tasks.datasets.stripping import Targets
from lookbook.tasks.images.parquet import from_parquet

#: The folders of a lake: of objects that are small and many, and of those that are large and held in memory.
PICTURES = ("originals", "derived", "rejected", ".tmp")
TABLES = ("batches", "datasets", "exports", "raw", "tables", "transformed")
TABLE_THREADS = 2
#: Columns that name a product, an image, or something refused; in others the same text is a value like any.
NAMING = frozenset(
    [
        *("product_key", "image_key", "key", "locator", "canonical_key", "duplicate_of", "near_duplicate_of"),
        *("file_name", "filename"),
    ]
)
#: Columns of the warehouse that name something, each with its table and what it names.
WAREHOUSE = (
    ("images", "key", "images"),
    ("images", "product_key", "products"),
    ("images", "sha256", "contents"),
    ("outputs", "sha256", "contents"),
    ("products", "product_key", "products"),
    ("products", "image_key", "images"),
    ("rejects", "locator", "images"),
    ("fact_product", "product_key", "products"),
)
_HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_DATA = re.compile(rb"base64,([A-Za-z0-9+/=]+)")
_BETWEEN_TAGS = re.compile(r"[<>\n]|, ")
#: A file of the warehouse is read in pieces of so many bytes, which overlap by the length of a hash.
PIECE = 1 << 24


def needed_elsewhere(lake: Lake, dataset: str, targets: Targets) -> tuple[set[str], set[str]]:
    """Return the contents of what goes that other datasets have as well, and the bytes of outputs that they have.

    They have what a snapshot of them lists, or a part that their next run takes up.

    Raises:
        DamagedSnapshotError: a table of one is damaged.
    """
    contents, files = set[str](), set[str]()
    for other in datasets_of(lake):
        if other == dataset:
            continue
        for manifest in manifests_of(lake, other):
            contents |= _held(read_table(lake, manifest, "images")["sha256"], targets.contents)
            files |= _held(read_table(lake, manifest, "outputs")["output_sha256"], targets.files)
        for part in parts_of(lake, other):  # of a run that was killed: the next one takes them up
            contents |= _held(part["sha256"], targets.contents)
            files |= _held(pc.struct_field(pc.list_flatten(part["drawn"]), "sha256"), targets.files)
    return contents, files


def _held(column: pa.ChunkedArray, values: Collection[str]) -> set[str]:
    return {value for value in pc.unique(column).to_pylist() if value in values}


@dataclass(frozen=True)
class Search:
    """What is looked for, and where its names count.

    Attributes:
        targets: what is to be gone.
        contents: SHA-256 of images, and of outputs, that nothing else has.
        own: whether names count in an object, by its key: names of other datasets are theirs.
        files: names of files of images that stay: a page shows these, and one may be called as an image that went.
    """

    targets: Targets
    contents: frozenset[str]
    own: Callable[[str], bool]
    files: frozenset[str] = frozenset()

    def told(self, key: str, data: bytes) -> str | None:
        """Return what an object holds that is to be gone; None: nothing.

        Args:
            key: of the object.
            data: its bytes.
        """
        if hashlib.sha256(data).hexdigest() in self.contents:
            return "the bytes of an image"
        if key.startswith(("originals/", "derived/", "rejected/")):
            return "the name of an image" if key.rpartition("/")[2].partition(".")[0] in self.contents else None
        if data.startswith(b"PAR1"):
            with suppress(pa.ArrowException, OSError):
                return self._in_table(key, from_parquet(data)[0])
        return self._in_tar(data) if key.endswith(".tar") else self._in_text(key, data)

    def _in_text(self, key: str, data: bytes) -> str | None:
        if any(found.decode() in self.contents for found in _HASH.findall(data)):
            return "the hash of an image"
        if any(_digest_of(found) in self.contents for found in _DATA.findall(data)):
            return "a picture of an image"
        return "a name" if self.own(key) and self._is_named(key, data) else None

    def _in_table(self, key: str, table: pa.Table) -> str | None:
        own = self.own(key)
        for name, column in _columns(table):
            if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
                values = (value for value in column.to_pylist() if value)
                if any(hashlib.sha256(value).hexdigest() in self.contents for value in values):
                    return f"the bytes of an image in the column {name}"
                continue
            if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                continue
            texts = set(pc.unique(column).to_pylist()) - {None}
            if not texts.isdisjoint(self.contents):
                return f"the hash of an image in the column {name}"
            if own and not texts.isdisjoint(self.targets.images):
                return f"the name of an image in the column {name}"
            if own and name in NAMING and not texts.isdisjoint(self.targets.products):
                return f"the key of a product in the column {name}"
        return None

    def _in_tar(self, data: bytes) -> str | None:
        with suppress(tarfile.TarError, OSError), tarfile.open(fileobj=io.BytesIO(data)) as members:
            for member in members:
                file = members.extractfile(member)
                if file is not None and (found := self.told(member.name, file.read())):
                    return found
        return None

    def _is_named(self, key: str, data: bytes) -> bool:
        """Return whether a text that people or programs read names what is to be gone."""
        text = data.decode("utf-8", "replace")
        if key.endswith(".html"):
            texts = {html.unescape(each).strip() for each in _BETWEEN_TAGS.split(text)}
            names = {key for key in self.targets.images if "." in key or "/" in key}  # else it may be a word
            return not names.isdisjoint(texts - self.files)
        if key.endswith(".csv"):
            rows = csv.DictReader(io.StringIO(text))
            return any(self._names(name, value) for row in rows for name, value in row.items())
        if key.endswith(".json") or "/" in key:
            with suppress(ValueError, RecursionError):
                return any(self._names(name, value) for name, value in _values("", json.loads(text)))
        return False

    def _names(self, name: str | None, value: object) -> bool:
        if not isinstance(value, str):
            return False
        return value in self.targets.images or (name in NAMING and value in self.targets.products)


def _digest_of(encoded: bytes) -> str:
    try:
        return hashlib.sha256(base64.b64decode(encoded)).hexdigest()
    except ValueError:
        return ""


def _columns(table: pa.Table) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns of a table by name, those within structures and lists too."""
    waiting = [(name, chunk) for name in table.column_names for chunk in table[name].chunks]
    while waiting:
        name, column = waiting.pop()
        if pa.types.is_struct(column.type):
            waiting += [(field.name, column.field(field.name)) for field in column.type]
        elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            waiting.append((name, column.flatten()))
        elif pa.types.is_dictionary(column.type):
            waiting.append((name, column.dictionary))
        else:
            yield name, column


def _values(name: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any value of JSON
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _values(key, each)
    elif isinstance(value, list):
        for each in value:
            yield from _values(name, each)
    else:
        yield name, value


def search_all(
    workspace: Workspace, dataset: str, targets: Targets, exports: Collection[str], receipt: Receipt
) -> None:
    """Read every object of a lake, and ask the warehouse; the receipt says how much was read, and what was found.

    Names count where they are the dataset's: in its own objects, its batches and its exports. Hashes and bytes of its
    images count everywhere, unless another dataset has the same content.

    Args:
        workspace: where the dataset lived.
        dataset: its name.
        targets: what is to be gone.
        exports: ids of the exports that are the dataset's.
        receipt: is filled in.

    Raises:
        LookbookError: the lake or the warehouse cannot be read.
    """
    lake = workspace.lake
    kept, drawn = needed_elsewhere(lake, dataset, targets)
    receipt.elsewhere = kept
    own = (f"datasets/{dataset}/", f"{batches_folder(dataset)}/", *(f"exports/{each}/" for each in exports))
    contents = (targets.contents - kept) | (targets.files - drawn)
    tables = (read_table(lake, manifest, "images") for manifest in manifests_of(lake, dataset))
    files = {key.rpartition("/")[2] for table in tables for key in table["key"].to_pylist()}
    search = Search(targets, frozenset(contents), lambda key: key.startswith(own), frozenset(files))
    passed = forgetting_key(dataset)

    def looked(key: str) -> tuple[str, int, str | None]:
        data = read_object(lake, key)
        return key, len(data or b""), None if data is None else search.told(key, data)

    for tops, threads in ((PICTURES, READING_THREADS), (TABLES, TABLE_THREADS)):
        keys = (info.key for info in chain.from_iterable(map(lake.list, tops)) if info.key != passed)
        with ThreadPoolExecutor(threads, thread_name_prefix="proof") as pool:
            while some := list(islice(keys, OBJECTS_AHEAD)):
                for key, size, found in pool.map(looked, some):
                    receipt.objects += 1
                    receipt.scanned += size
                    if found:
                        receipt.found.append(f"{_without_name(key, targets)}: {found}")
    receipt.found += _in_warehouse(workspace, dataset, targets, contents)


def _without_name(key: str, targets: Targets) -> str:
    """Return where something was found: the key of an object, unless it is a name itself."""
    return key if not any(each in key for each in targets.images) else "an object"


def _in_warehouse(workspace: Workspace, dataset: str, targets: Targets, contents: Collection[str]) -> list[str]:
    """Return where the warehouse holds what is to be gone: in the rows of the dataset, and in its file."""
    warehouse, found = workspace.warehouse, []
    if dataset in warehouse.current_snapshots():
        there = warehouse.tables()
        for table, column, what in WAREHOUSE:
            name = f"{warehouse.readers_schema}.{table}"
            if name in there and column in there[name].columns:
                rows = warehouse.query(f"SELECT DISTINCT {column} FROM {name} WHERE dataset = {literal(dataset)}")  # noqa: S608 - ours
                if not getattr(targets, what).isdisjoint(rows[rows.column_names[0]].to_pylist()):
                    found.append(f"warehouse: {table}.{column}")
    if isinstance(warehouse, DuckDBWarehouse):
        if any(each in contents for each in _hashes_in(warehouse)):
            found.append("warehouse: its file holds the hash of an image")
        found += [f"warehouse: {name}" for name in warehouse.tables_holding(contents)]
    return found


def _hashes_in(warehouse: DuckDBWarehouse) -> Iterator[str]:
    """Yield all that looks like a SHA-256 in the bytes of a warehouse's files."""
    for path in (warehouse.path, warehouse.path.with_name(warehouse.path.name + ".wal")):
        if path.exists():
            with path.open("rb") as file:
                before = b""
                while piece := file.read(PIECE):
                    yield from (each.decode() for each in _HASH.findall(before + piece))
                    before = piece[-64:]
