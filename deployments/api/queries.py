"""What is asked of a snapshot's products: filters, an order, counts by value; answered from memory."""

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
from lookbook.deployments.api.cursors import query_digest
from lookbook.deployments.api.loaded import LoadedSnapshot, single
from lookbook.tasks.exports.filter_columns import check_column, fitted, matches
from lookbook.tasks.exports.filters import Filter, all_of, as_document, canonical, read_filter

Mask = NDArray[np.bool_]
#: Rows of a snapshot; there are fewer than 2**31.
Places = NDArray[np.int32]

#: Columns of one order, and values that a facet tells.
MOST_SORTED = 4
MOST_VALUES = 200


@dataclass(frozen=True)
class Query:
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
        """What tells it from others."""
        whole = all_of([*([self.base] if self.base else []), *self.by_column.values()])
        return query_digest(as_document(canonical(whole)) if whole else None, self.sort)


def make_query(
    loaded: LoadedSnapshot, base: Filter | None, values: Mapping[str, Sequence[str]], sort: str | None
) -> Query:
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
    return Query(fitted(base, table, name) if base else None, conditions, _read_sort(sort, table.schema))


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


def find(loaded: LoadedSnapshot, query: Query) -> Places:
    """Return the rows that a query finds, in its order."""

    def make() -> Places:
        chosen = _chosen(loaded, query)
        order = _order(loaded, query.sort)
        if chosen is None:
            return order
        return np.flatnonzero(chosen).astype(np.int32) if not query.sort else order[chosen[order]]

    return loaded.kept(("found", query.digest), make)


def count_values(loaded: LoadedSnapshot, query: Query, column: str) -> dict[str, Any]:
    """Return how many rows have each value of a column, by number; without the query's own condition on that column.

    Raises:
        UsageError: there is no such column, or its values are no names of groups.
    """
    check_column(column, loaded.table.schema, "facets")
    if not is_facet(loaded.table.schema.field(column).type):
        raise UsageError(f"facets: {column} is a measure: its values are too many.", "Filter it by < and >.")
    without = Query(query.base, {name: each for name, each in query.by_column.items() if name != column}, ())

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


def _order(loaded: LoadedSnapshot, sort: tuple[tuple[str, bool], ...]) -> Places:
    def make() -> Places:
        if not sort:
            return np.arange(loaded.table.num_rows, dtype=np.int32)
        keys = [(name, "descending" if descends else "ascending") for name, descends in sort]
        # Arrow sorts stably: equals stay in the order of the rows.
        return np.asarray(pc.sort_indices(loaded.table.select([name for name, _ in sort]), keys).to_numpy(), np.int32)

    return loaded.kept(("order", sort), make)


def _chosen(loaded: LoadedSnapshot, query: Query) -> Mask | None:
    """Return which rows a query finds; None for all."""
    masks = [_mask(loaded, each) for each in ([query.base] if query.base else []) + list(query.by_column.values())]
    return None if not masks else np.logical_and.reduce(masks)


def _mask(loaded: LoadedSnapshot, wanted: Filter) -> Mask:
    def make() -> Mask:
        found = matches(wanted, loaded.table, loaded.rows.display_name)
        return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_)

    return loaded.kept(("mask", json.dumps(as_document(canonical(wanted)), sort_keys=True)), make)
