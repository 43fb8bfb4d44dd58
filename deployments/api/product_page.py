"""One product: its catalogue rows, its images and all that is known of them, and what became of it so far."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookbook.deployments.api.loaded import LoadedSnapshot, Places
from lookbook.deployments.api.problems import Problem
from lookbook.deployments.api.shown import ORIGINAL, ImageLinks, dataset_path, product_rows
from lookbook.deployments.api.snapshots import Snapshots
from lookbook.tasks.exports.rows import OF_IMAGE, OF_PRODUCT

#: Near duplicates of one image, and images and catalogue rows of one product, that are told.
MOST_ALIKE = 50
MOST_ROWS = 200
#: Snapshots that its history goes back.
LONGEST_HISTORY = 20


def product_detail(snapshots: Snapshots, loaded: LoadedSnapshot, product_key: str) -> dict[str, Any]:
    """Return all that is known of a product.

    Raises:
        Problem: there is no such product.
    """
    places = loaded.places_of_product(product_key)[:MOST_ROWS]
    if not len(places):
        raise Problem(404, "no-product", "This snapshot has no such product.", "See the dataset's products.")
    rows = loaded.table.take(pa.array(places)).to_pylist()
    of_product = [*OF_PRODUCT, *loaded.rows.catalogue]
    return {
        "snapshot": loaded.manifest.snapshot_id,
        "product_key": product_key,
        "rows": [{name: row[name] for name in of_product} for row in rows if not row["further"]],
        "images": [_image(loaded, row) for row in rows if row["image_key"] is not None],
        "history": history(snapshots, loaded, product_key),
    }


def _image(loaded: LoadedSnapshot, row: dict[str, Any]) -> dict[str, Any]:
    manifest, sha256 = loaded.manifest, row["sha256"]
    left = {*OF_PRODUCT, *OF_IMAGE, "further", *loaded.rows.catalogue}
    links = ImageLinks(manifest).of(sha256, row["image_outcome"])
    exif = loaded.exif.get(row["image_key"])
    return {
        "image_key": row["image_key"],
        "sha256": sha256,
        "outcome": row["image_outcome"],
        "catalogue_row": not row["further"],
        "measures": {name: value for name, value in row.items() if name not in left},
        "exif": json.loads(exif) if exif else None,
        "original": links.get(ORIGINAL),
        "outputs": [
            {
                "output": drawn["output"],
                "width": drawn["width"],
                "height": drawn["height"],
                "bytes": drawn["bytes"],
                "sha256": drawn["output_sha256"],
                "href": f"{dataset_path(manifest.dataset, 'images', sha256, drawn['output'])}"
                f"?v={drawn['output_digest'][:16]}",
            }
            for drawn in (loaded.outputs_of(sha256) if links else [])
        ],
        "near_duplicates": _alike(loaded, row),
    }


def _alike(loaded: LoadedSnapshot, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the other images of its group."""
    if not row["is_near_duplicates_issue"] and not row["is_exact_duplicates_issue"]:
        return []
    table = loaded.table
    canonical = row["near_duplicate_of"] or row["duplicate_of"] or row["image_key"]
    groups = loaded.kept(
        ("groups",), lambda: pc.coalesce(*(table[n] for n in ("near_duplicate_of", "duplicate_of", "image_key")))
    )
    same = np.asarray(pc.fill_null(pc.equal(groups, canonical), False).to_numpy(zero_copy_only=False), np.bool_)
    others = np.asarray(
        pc.fill_null(pc.not_equal(table["image_key"], row["image_key"]), False).to_numpy(zero_copy_only=False), np.bool_
    )
    found: Places = np.flatnonzero(same & others)[:MOST_ALIKE]
    return product_rows(loaded, found, ["image_key", "near_duplicates_score", "width", "height"])


def history(snapshots: Snapshots, loaded: LoadedSnapshot, product_key: str) -> list[dict[str, Any]]:
    """Return what became of a product in this snapshot and in those before it, newest first."""
    chain = snapshots.chain(loaded.manifest.dataset)
    start = next((at for at, each in enumerate(chain) if each.snapshot_id == loaded.manifest.snapshot_id), 0)
    told = []
    for manifest in chain[start : start + LONGEST_HISTORY]:
        past = snapshots.past(manifest).of_product(product_key)
        told.append({"snapshot": manifest.snapshot_id, "created_at": manifest.created_at} | past)
    for each, before in zip(told, [*told[1:], None], strict=True):
        compared = ("outcome", "reason", "sha256")
        each["changed"] = before is None or any(each[name] != before[name] for name in compared)
    return told
