"""What became of the products of a snapshot, in little memory: for histories, which look at many snapshots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.lake import Lake
from lookbook.deployments.api.loaded import bisect, single
from lookbook.tasks.datasets.manifest import Manifest, read_table

_COLUMNS = ("product_key", "outcome", "missing_reason", "sha256")


class Past:
    """The outcomes of a snapshot's catalogue rows, sorted by product."""

    def __init__(self, lake: Lake, manifest: Manifest) -> None:
        """Read them; raises as `read_table`."""
        products = read_table(lake, manifest, "products").select(list(_COLUMNS))
        order = pc.sort_indices(products["product_key"])
        self._table: pa.Table = products.take(order).combine_chunks()

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self._table.nbytes)

    def of_product(self, product_key: str) -> dict[str, Any]:
        """Return what became of a product: of several rows the first that was matched."""
        keys = single(self._table["product_key"])
        valid = len(keys) - keys.null_count
        first, last = (bisect(keys, product_key, valid, right=right) for right in (False, True))
        rows = self._table.take(pa.array(np.arange(first, last))).to_pylist()
        row = next((row for row in rows if row["outcome"] == "matched"), rows[0] if rows else None)
        if row is None:
            return {"outcome": None, "reason": None, "sha256": None}
        return {"outcome": row["outcome"], "reason": row["missing_reason"], "sha256": row["sha256"]}
