"""Rows of a snapshot as JSON: values, addresses of images, links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from fastapi import Response
from numpy.typing import NDArray

from lookbook.blocks.errors import UsageError
from lookbook.deployments.api.problems import encoded
from lookbook.deployments.api.snapshots import LoadedSnapshot
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.exports.recipes import ORIGINALS

ROOT = "/api/v1"
#: The output that stands for the untouched file.
ORIGINAL = "original"
#: What a page of products tells of each beside the catalogue's columns.
COMMON = ("row_outcome", "missing_reason", "image_outcome", "rule", "image_key", "width", "height", "format", "bytes")


def json_answer(document: object, status: int = 200, **headers: str) -> Response:
    """Return a document as it is: what makes it is tested against its model, and not checked again for each answer."""
    return Response(encoded(document), status, headers, "application/json")


def dataset_path(dataset: str, *parts: str) -> str:
    """Return the address of something of a dataset."""
    return "/".join([ROOT, "datasets", dataset, *(quote(part, safe="") for part in parts)])


def wanted_columns(loaded: LoadedSnapshot, columns: str | None) -> list[str]:
    """Return the columns that a list names; ``*`` is all.

    Raises:
        UsageError: there is no such column.
    """
    names = loaded.table.column_names
    if columns == "*":
        return list(names)
    if columns is None:
        return [name for name in (*COMMON, *loaded.rows.catalogue) if name in names]
    listed = list(dict.fromkeys(name.strip() for name in columns.split(",") if name.strip()))
    if unknown := [name for name in listed if name not in names]:
        raise UsageError(f"columns: there is no column {unknown[0][:100]}.", f"There are {', '.join(names)}.")
    return listed


def product_rows(
    loaded: LoadedSnapshot, places: NDArray[np.integer[Any]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Return rows as JSON, in the order of `places`."""
    names = list(dict.fromkeys(("product_key", "sha256", "image_outcome", *columns)))
    taken = loaded.table.select(names).take(pa.array(np.asarray(places, np.int64)))
    values = {name: taken[name].to_pylist() for name in names}
    told = list(zip(*(values[name] for name in columns), strict=True)) or [()] * taken.num_rows
    products, snapshot = dataset_path(loaded.manifest.dataset, "products", ""), loaded.manifest.snapshot_id
    links = ImageLinks(loaded.manifest)
    return [
        {
            "product_key": key,
            "sha256": sha256,
            "values": dict(zip(columns, row, strict=True)),
            "images": links.of(sha256, outcome),
            "href": f"{products}{quote(key, safe='')}?snapshot={snapshot}" if key else None,
        }
        for key, sha256, outcome, row in zip(
            values["product_key"], values["sha256"], values["image_outcome"], told, strict=True
        )
    ]


class ImageLinks:
    """The addresses of images' files. Those of outputs name what drew them, so that they never change."""

    def __init__(self, manifest: Manifest) -> None:
        self._base = dataset_path(manifest.dataset, "images", "")
        drawn = {name: f"/{name}?v={digest[:16]}" for name, digest in manifest.output_digests.items()}
        self._ends = {ORIGINAL: f"/{ORIGINAL}"} | drawn

    def of(self, sha256: str | None, outcome: str | None) -> dict[str, str]:
        """Return those of an image; none of one that was rejected."""
        if not sha256 or outcome in {None, "rejected"}:
            return {}
        base = self._base + sha256
        return {name: base + end for name, end in self._ends.items()}


def is_original(output: str) -> bool:
    """Return whether an output's name means the untouched file."""
    return output in {ORIGINAL, ORIGINALS}
