"""The products table of a snapshot: the catalogue's rows, each with its outcome and its image."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tasks.datasets.links import CatalogueName


def catalogue_names(rows: pa.Table) -> list[CatalogueName]:
    """How each catalogue row names its image."""
    columns = (rows.column(name).to_pylist() for name in ("product_key", "file", "file_name"))
    return [CatalogueName(*values) for values in zip(*columns, strict=True)]


def product_table(rows: pa.Table, linked: Sequence[list[str]], images: pa.Table) -> pa.Table:
    """The catalogue's rows, each with its outcome and its image."""
    image_of = {row["key"]: row for row in images.select(["key", "outcome", "rule", "sha256"]).to_pylist()}
    outcomes, reasons, keys, contents = [], [], [], []
    for outcome, candidates in zip(rows.column("outcome").to_pylist(), linked, strict=True):
        good = next((key for key in candidates if image_of[key]["outcome"] != "rejected"), None)
        refused = image_of[candidates[0]]["rule"] if candidates and good is None else None
        reason = None if good else f"image_rejected:{refused}" if refused else "no_image"
        outcomes.append(outcome or ("matched" if good else "missing_image"))
        reasons.append(None if outcome == "duplicate" else reason)
        keys.append(good)
        contents.append(image_of[good]["sha256"] if good else None)
    leading = {
        "file": rows.column("file"),
        "line": rows.column("line"),
        "product_key": rows.column("product_key"),
        "outcome": pa.array(outcomes, pa.string()),
        "missing_reason": pa.array(reasons, pa.string()),
        "repaired": rows.column("repaired"),
        "image_key": pa.array(keys, pa.string()),
        "sha256": pa.array(contents, pa.string()),
    }
    values = {name: rows.column(name) for name in rows.column_names if name not in leading and name != "file_name"}
    return pa.table(leading | values)
