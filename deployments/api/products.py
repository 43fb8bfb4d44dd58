"""The products of a snapshot: filters, an order, counts by value; one of them in full."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.blocks.errors import UsageError
from lookbook.deployments.api.problems import Problem, query_digest
from lookbook.deployments.api.shown import ORIGINAL, ImageLinks, dataset_path, product_rows
from lookbook.deployments.api.snapshots import LoadedSnapshot, Places, Snapshots, single
from lookbook.tasks.exports.filter_columns import check_column, fitted, matches
from lookbook.tasks.exports.filters import Filter, all_of, as_document, canonical, read_filter
from lookbook.tasks.exports.rows import OF_IMAGE, OF_PRODUCT

Mask = NDArray[np.bool_]
#: Rows of a snapshot; there are fewer than 2**31.
Matches = NDArray[np.int32]

#: Columns of one order, and values that a facet tells.
MOST_SORTED = 4
MOST_VALUES = 200


@dataclass(frozen=True)
class ProductQuery:
    """What is asked, with names found in the snapshot and values of its columns' types.

    Attributes:
        base: what has to hold in any case.
        by_column: further conditions, each on the column that a facet shows: its own counts are made without it.
        sort: columns, each with whether it descends.
    """

    base: Filter | None
    by_column: Mapping[str, Filter]
    sort: tuple[tuple[str, bool], ...]

    @property
    def digest(self) -> str:
        """Return a digest that tells it from other queries."""
        whole = all_of([*([self.base] if self.base else []), *self.by_column.values()])
        return query_digest(as_document(canonical(whole)) if whole else None, self.sort)


def make_query(
    loaded: LoadedSnapshot, base: Filter | None, values: Mapping[str, Sequence[str]], sort: str | None
) -> ProductQuery:
    """Return a query of what was asked.

    Args:
        loaded: the snapshot.
        base: a filter.
        values: for a column the values that it may have; an empty one means that it has none.
        sort: names of columns, with a minus before those that descend.

    Raises:
        UsageError: a column does not exist, or a value is none of its type.
    """
    table, name = loaded.table, loaded.rows.display_name
    conditions = {column: fitted(_one_of(column, wanted), table, name) for column, wanted in values.items()}
    return ProductQuery(fitted(base, table, name) if base else None, conditions, _read_sort(sort, table.schema))


def _one_of(column: str, values: Sequence[str]) -> Filter:
    some = [value for value in values if value]
    filters = [{"column": column, "op": "in", "value": some}] if some else []
    if len(some) < len(values):
        filters.append({"column": column, "op": "is null"})
    return read_filter(filters[0] if len(filters) == 1 else {"or": filters})


def _read_sort(sort: str | None, schema: pa.Schema) -> tuple[tuple[str, bool], ...]:
    found: dict[str, bool] = {}
    for part in (sort or "").split(","):
        name = part.strip().removeprefix("-")
        if name:
            check_column(name, schema, "sort")
            found.setdefault(name, part.strip().startswith("-"))
    if len(found) > MOST_SORTED:
        raise UsageError(f"sort: more than {MOST_SORTED} columns.", "Name fewer.")
    return tuple(found.items())


def find(loaded: LoadedSnapshot, query: ProductQuery) -> Matches:
    """Return the rows that a query finds, in its order."""

    def make() -> Matches:
        chosen = _chosen(loaded, query)
        order = _order(loaded, query.sort)
        if chosen is None:
            return order
        return np.flatnonzero(chosen).astype(np.int32) if not query.sort else order[chosen[order]]

    return loaded.kept(("found", query.digest), make)


def count_values(loaded: LoadedSnapshot, query: ProductQuery, column: str) -> dict[str, Any]:
    """Return how many rows have each value of a column, by number; without the query's own condition on that column.

    Raises:
        UsageError: there is no such column, or its values are no names of groups.
    """
    check_column(column, loaded.table.schema, "facets")
    if not is_facet(loaded.table.schema.field(column).type):
        raise UsageError(f"facets: {column} is a measure: its values are too many.", "Filter it by < and >.")
    without = ProductQuery(query.base, {name: each for name, each in query.by_column.items() if name != column}, ())

    def make() -> dict[str, Any]:
        codes, values = loaded.kept(("codes", column), lambda: _codes(loaded.table[column]))
        chosen = _chosen(loaded, without)
        counts = np.bincount(codes if chosen is None else codes[chosen], minlength=len(values))
        some = [place for place in np.argsort(-counts, kind="stable").tolist() if counts[place]]
        told = [{"value": values[place], "count": int(counts[place])} for place in some[:MOST_VALUES]]
        return {"values": told, "others": int(sum(counts[place] for place in some[MOST_VALUES:]))}

    return loaded.kept(("facet", without.digest, column), make)


def is_facet(kind: pa.DataType) -> bool:
    """Return whether values of a type make groups."""
    return bool(pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind))


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """For each row the place of its value among the distinct ones, which are sorted; a missing value comes last."""
    encoded = single(column).dictionary_encode(null_encoding="encode")
    values: list[Any] = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=lambda place: (values[place] is None, values[place]))
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values))
    return ranks[encoded.indices.to_numpy()], [values[place] for place in order]


def _order(loaded: LoadedSnapshot, sort: tuple[tuple[str, bool], ...]) -> Matches:
    def make() -> Matches:
        if not sort:
            return np.arange(loaded.table.num_rows, dtype=np.int32)
        keys = [(name, "descending" if descends else "ascending") for name, descends in sort]
        # Arrow sorts stably: equals stay in the order of the rows.
        return np.asarray(pc.sort_indices(loaded.table.select([name for name, _ in sort]), keys).to_numpy(), np.int32)

    return loaded.kept(("order", sort), make)


def _chosen(loaded: LoadedSnapshot, query: ProductQuery) -> Mask | None:
    """Return which rows a query finds; None for all."""
    masks = [_mask(loaded, each) for each in ([query.base] if query.base else []) + list(query.by_column.values())]
    return None if not masks else np.logical_and.reduce(masks)


def _mask(loaded: LoadedSnapshot, wanted: Filter) -> Mask:
    def make() -> Mask:
        found = matches(wanted, loaded.table, loaded.rows.display_name)
        return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_)

    return loaded.kept(("mask", json.dumps(as_document(canonical(wanted)), sort_keys=True)), make)


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
