"""A snapshot in memory: its rows as Arrow tables, and what is found in them by key, by content, in order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest, read_table
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA
from lookbook.tasks.exports.rows import Rows, read_rows

Places = NDArray[np.int64]
Kept = TypeVar("Kept")

#: Bytes of orders, masks, codes and pages of a snapshot that are kept: those not asked for the longest go first.
MOST_KEPT_BYTES = 128 * 2**20
#: What is no array and no text counts for so many.
SOME_BYTES = 8192


class LoadedSnapshot:
    """The tables of a snapshot. They never change, so that any number of threads reads them.

    Attributes:
        manifest: of it.
        rows: see `lookbook.tasks.exports.rows.Rows`.
        outputs: a row for each content and output, in their order.
    """

    def __init__(self, lake: Lake, manifest: Manifest) -> None:
        """Read it.

        Raises:
            DamagedSnapshotError: a table is missing or damaged.
        """
        self.manifest, self._lake = manifest, lake
        rows = read_rows(lake, manifest)
        self.rows = Rows(rows.table.combine_chunks(), rows.catalogue, rows.display_name, rows.label)
        self.outputs: pa.Table = read_table(lake, manifest, "outputs").combine_chunks()
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._kept_bytes = 0
        self._keeping = threading.Lock()

    @property
    def table(self) -> pa.Table:
        """The rows."""
        return self.rows.table

    @property
    def nbytes(self) -> int:
        """Bytes that the tables hold."""
        return int(self.table.nbytes + self.outputs.nbytes)

    def kept(self, key: tuple[Any, ...], make: Callable[[], Kept]) -> Kept:
        """Return what was made under this key, or else is made now and kept for a while."""
        with self._keeping:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: Kept = self._kept[key]
                return found
        made = make()
        with self._keeping:
            if key not in self._kept:
                self._kept[key] = made
                self._kept_bytes += _bytes_of(made)
            while self._kept_bytes > MOST_KEPT_BYTES:
                self._kept_bytes -= _bytes_of(self._kept.popitem(last=False)[1])
        return made

    def places_of_product(self, product_key: str) -> Places:
        """Return the rows of a product: its catalogue rows first, then its further images."""
        keys = single(self.table["product_key"])
        valid = len(keys) - keys.null_count
        first, last = (bisect(keys, product_key, valid, right=right) for right in (False, True))
        return np.arange(first, last)

    def places_of_content(self, sha256: str) -> Places:
        """Return the rows that show a content."""
        order, values = self._by_content
        first, last = (bisect(values, sha256, len(values), right=right) for right in (False, True))
        return np.sort(order[first:last])

    def output_of(self, sha256: str, output: str) -> dict[str, Any] | None:
        """Return the row of the outputs table of a content and an output."""
        return next((row for row in self.outputs_of(sha256) if row["output"] == output), None)

    def outputs_of(self, sha256: str) -> list[dict[str, Any]]:
        """Return all outputs of a content."""
        values = single(self.outputs["sha256"])
        first, last = (bisect(values, sha256, len(values), right=right) for right in (False, True))
        found: list[dict[str, Any]] = self.outputs.slice(first, last - first).to_pylist()
        return found

    @cached_property
    def _by_content(self) -> tuple[Places, pa.Array]:
        """The rows that have a content, in its order."""
        column = self.table["sha256"]
        order = np.asarray(pc.sort_indices(column).to_numpy(), np.int64)[: len(column) - column.null_count]
        return order, single(column.take(pa.array(order)))

    @cached_property
    def exif(self) -> dict[str, str]:
        """The EXIF fields of all images that have some, as JSON, by the images' keys: read when first asked for."""
        others = [name for name in IMAGES_SCHEMA.names if name not in {"key", "exif"}]
        images = read_table(self._lake, self.manifest, "images", others)
        some = images.filter(pc.is_valid(images["exif"]))
        return dict(zip(some["key"].to_pylist(), some["exif"].to_pylist(), strict=True))

    @cached_property
    def rejects(self) -> pa.Table:
        """The rejects, read when first asked for."""
        return read_table(self._lake, self.manifest, "rejects").combine_chunks()


def _bytes_of(value: Any) -> int:  # noqa: ANN401 - whatever is kept
    parts = value if isinstance(value, tuple) else (value,)
    return SOME_BYTES + sum(len(part) if isinstance(part, bytes) else getattr(part, "nbytes", 0) for part in parts)


def single(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; not copied where it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def bisect(values: pa.Array, wanted: str, length: int, *, right: bool) -> int:
    """Return where a text stands, or would, in a sorted array: compared as UTF-8, as Arrow sorts."""
    low, high, given = 0, length, wanted.encode()
    while low < high:
        middle = (low + high) // 2
        value = values[middle].as_py().encode()
        if value < given or (right and value == given):
            low = middle + 1
        else:
            high = middle
    return low
