"""A snapshot's tables, books and texts without what is to be forgotten; what stays keeps its outcomes."""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from lookbook.tasks.datasets.catalogue_types import SourceReject
from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.forgotten import (
    RowImages,
    is_link_of,
    linked_products,
    names_of,
    names_one,
    reject_of,
    without_names,
)
from lookbook.tasks.datasets.links import RULES, key_order, normal_path
from lookbook.tasks.datasets.near_duplicates import find_near_duplicates
from lookbook.tasks.datasets.snapshot import reject_table
from lookbook.tasks.images.tombstones import FORGOTTEN, Kind, Tombstones

#: Of so many images each name is looked for in a text.
MOST_NAMES = 200
#: What stands in old records of runs where a name stood.
GONE = "(forgotten)"


class Targets(BaseModel):
    """What is to go: the content of the note.

    Attributes:
        run_id: of the run that was asked last.
        products, images: their keys.
        contents: SHA-256 of images that no image that stays has.
        files: SHA-256 of outputs that were drawn of these alone.
        rejects: kind and locator of what was refused and is none of these, as ``row:styles.csv:7``.
        kept: of what was asked for and stays: its kind, name, and why.
    """

    format_version: int = 1
    run_id: str
    asked_at: datetime
    products: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    rejects: frozenset[str] = frozenset()
    kept: frozenset[tuple[Kind, str, str]] = frozenset()

    @cached_property
    def names(self) -> frozenset[str]:
        """Return the images' file names."""
        return frozenset(posixpath.basename(normal_path(key)) for key in self.images)

    def hold(self, kind: Kind, value: str) -> bool:
        """Return whether a value is among those that go."""
        held = {"product": self.products, "image": self.images, "content": self.contents, "name": self.names}
        return value in held.get(kind, self.rejects)

    def is_reject(self, kind: str, locator: str, raw: str) -> bool:
        """Return whether a reject goes."""
        return f"{kind}:{locator}" in self.rejects or names_one(
            kind, locator, raw, self.products.__contains__, self.images.__contains__
        )

    def with_earlier(self, other: Targets | None) -> Targets:
        """Return these and what an earlier run was to forget, as one."""
        if other is None:
            return self
        names = ("products", "images", "contents", "files", "rejects", "kept")
        return self.model_copy(update={name: getattr(self, name) | getattr(other, name) for name in names})

    @property
    def is_empty(self) -> bool:
        """Return whether nothing goes."""
        return not (self.products or self.images or self.rejects)

    def marks(self) -> Iterator[tuple[Kind, str]]:
        """Yield what the tombstones are to know."""
        kinds: tuple[tuple[Kind, Collection[str]], ...] = (
            ("product", self.products),
            ("image", self.images),
            ("name", self.names),
            ("content", self.contents),
            ("reject", self.rejects),
        )
        for kind, values in kinds:
            yield from ((kind, value) for value in values)


def keys_of(images: pa.Table) -> tuple[list[str], dict[str, str]]:
    """Return the keys of images, and the content of each; one that was refused is no copy of another."""
    rows = images.select(["key", "sha256", "outcome"]).to_pylist()
    alike = {row["key"]: row["sha256"] for row in rows if row["sha256"] and row["outcome"] != "rejected"}
    return [row["key"] for row in rows], {row["key"]: alike.get(row["key"], row["key"]) for row in rows}


def stripped(
    tables: Mapping[str, pa.Table], targets: Targets, stones: Tombstones, *, suffixed: bool
) -> dict[str, pa.Table] | None:
    """Return the tables of a snapshot without what goes; None where they hold nothing of it.

    What stays keeps its outcomes, but where these speak of what goes: the next of equal images becomes the original,
    groups of near duplicates are found anew, a row takes its next image or has none.

    Args:
        tables: of `lookbook.tasks.datasets.manifest.TABLES`.
        targets: what goes.
        stones: name it, in the rejects.
        suffixed: as for `linked_products`.
    """
    images, products, rejects = tables["images"], tables["products"], tables["rejects"]
    gone, sold = _among(images["key"], targets.images), _among(products["product_key"], targets.products)
    outputs = tables["outputs"].filter(pc.invert(_among(tables["outputs"]["sha256"], targets.contents)))
    refused = [targets.is_reject(*row.values()) for row in rejects.select(["kind", "locator", "raw"]).to_pylist()]
    links = tables["image_links"]
    linked = [is_link_of(name, targets.hold) for name in links["filename"].to_pylist()]
    named = _among(images["product_key"], targets.products)
    if not (any(refused) or any(linked) or any(pc.any(each).as_py() for each in (gone, sold, named))):
        return None
    matches, _ = linked_products(names_of(products), *keys_of(images), suffixed=suffixed)
    listed = [reject_of(stones, "image", key) for key in images.filter(gone)["key"].to_pylist()]
    listed += [reject_of(stones, "product", key) for key in pc.unique(products.filter(sold)["product_key"]).to_pylist()]
    dropped = rejects.filter(pa.array(refused, pa.bool_())).to_pylist()
    names = [f"{row['kind']}:{row['locator']}" for row in dropped if row["kind"] not in {"image", FORGOTTEN}]
    listed += [reject_of(stones, "reject", name) for name in names]
    kept = rejects.filter(pa.array([not each for each in refused], pa.bool_()))
    return {
        "images": _without_images(images, gone, _first_products(products, matches, targets), targets),
        "outputs": outputs,
        "products": _without_products(products, images, matches, sold, targets),
        "image_links": links.filter(pa.array([not each for each in linked], pa.bool_())),
        "rejects": _listing(kept, listed),
    }


def _among(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(column, pa.array(sorted(values), pa.string()))


def _listing(rejects: pa.Table, listed: Sequence[SourceReject]) -> pa.Table:
    there = set(rejects["reject_id"].to_pylist())
    new = reject_table([each for each in listed if each.reject_id not in there])
    return pa.concat_tables([rejects, new.cast(rejects.schema)])


def _first_products(products: pa.Table, matches: Sequence[RowImages], targets: Targets) -> dict[str, str]:
    """Return for each image the first product that stays and has it."""
    first: dict[str, str] = {}
    for product, match in zip(products["product_key"].to_pylist(), matches, strict=True):
        if product not in targets.products and not match.ambiguous:
            for key in match.keys:
                first.setdefault(key, product)
    return first


def _without_images(images: pa.Table, gone: pa.ChunkedArray, first: Mapping[str, str], targets: Targets) -> pa.Table:
    rest = images.filter(pc.invert(gone))
    named = _among(rest["product_key"], targets.products)
    keys = rest.filter(named)["key"].to_pylist()
    rest = _put(rest, "product_key", named, [first.get(key) for key in keys])
    rest = _put(rest, "orphan", named, [key not in first for key in keys])
    return _regrouped(rest, images.filter(gone))


def _regrouped(rest: pa.Table, dropped: pa.Table) -> pa.Table:
    """Find copies and near duplicates anew in the groups that lost an image."""
    touched = pc.unique(_groups(dropped.filter(pc.not_equal(dropped["outcome"], "rejected"))))
    mask = pc.and_(pc.is_in(_groups(rest), touched), pc.not_equal(rest["outcome"], "rejected"))
    some = rest.filter(mask)
    if not some.num_rows:
        return rest
    rows = some.select(["key", "sha256", "product_key"]).to_pylist()
    product_of = {row["key"]: row["product_key"] for row in rows if row["product_key"] is not None}
    first: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (row["key"] not in product_of, *key_order(row["key"]))):
        first.setdefault(row["sha256"] or row["key"], row["key"])
    originals = [first[row["sha256"] or row["key"]] for row in rows]
    pairs = [(row["key"], original) for row, original in zip(rows, originals, strict=True)]
    rest = _put(rest, "outcome", mask, ["loaded" if key == original else "duplicate" for key, original in pairs])
    rest = _put(rest, "duplicate_of", mask, [None if key == original else original for key, original in pairs])
    if {"phash", "signature"} <= set(some.column_names):  # earlier versions looked for none
        for name, values in _duplicate_columns(some, originals, product_of).items():
            rest = _put(rest, name, mask, values)
    return rest


def _duplicate_columns(
    images: pa.Table, originals: Sequence[str], product_of: Mapping[str, str]
) -> dict[str, Sequence[Any]]:
    """Return which of some images are copies or near duplicates of others, column by column."""
    desk = Desk(Path(tempfile.gettempdir()))
    perceived = images.select(["key", "phash", "signature"]).filter(_among(images["key"], originals))
    desk.make("perceived", perceived.schema)
    desk.add("perceived", perceived)
    desk.put("linked", list(product_of.items()), key=pa.string(), product_key=pa.string())
    find_near_duplicates(desk)
    near = {key: (canonical, score) for key, canonical, score in desk.rows("SELECT key, canonical, score FROM near")}
    copies = Counter(originals)
    centres = [near[key][0] if key in near else key for key in originals]
    return {
        "is_exact_duplicates_issue": [copies[key] > 1 for key in originals],
        "is_near_duplicates_issue": [key in near for key in originals],
        "near_duplicates_score": [near[key][1] if key in near else 1.0 for key in originals],
        "near_duplicate_of": [None if key == other else other for key, other in zip(originals, centres, strict=True)],
    }


def _groups(images: pa.Table) -> pa.ChunkedArray:
    names = [name for name in ("near_duplicate_of", "duplicate_of") if name in images.column_names]
    return pc.coalesce(*(images[name] for name in names), images["key"])


def _put(table: pa.Table, name: str, mask: pa.ChunkedArray, values: Sequence[Any]) -> pa.Table:
    """Return a table with other values in the rows of a mask, if it has the column."""
    if name not in table.column_names or not values:
        return table
    field = table.schema.field(name)
    column = table[name].combine_chunks()
    made = pc.replace_with_mask(column, mask.combine_chunks(), pa.array(values, field.type))
    return table.set_column(table.schema.get_field_index(name), field, made)


def _without_products(
    products: pa.Table, images: pa.Table, matches: Sequence[RowImages], sold: pa.ChunkedArray, targets: Targets
) -> pa.Table:
    good = images.filter(pc.not_equal(images["outcome"], "rejected"))
    content = dict(zip(good["key"].to_pylist(), good["sha256"].to_pylist(), strict=True))
    columns = ("image_key", "file_name", "outcome", "missing_reason", "sha256", "matched_by", "candidates")
    names = [name for name in columns if name in products.column_names]
    changed: dict[int, dict[str, Any]] = {}
    held = products.select(names)
    for row, match in enumerate(matches):
        image = products["image_key"][row].as_py()
        lost = targets.images.intersection([*match.keys, *([image] if image else [])])
        told = products["candidates"][row].as_py() if "candidates" in names else None
        lost |= _candidates_in(told) & targets.images
        if not lost or sold[row].as_py():
            continue
        values = held.slice(row, 1).to_pylist()[0]
        cell = values.get("file_name")
        values["file_name"] = without_names(cell, lost) if cell else cell
        left = [key for key in match.keys if key not in lost and key in content]
        values["candidates"] = ", ".join(sorted(_candidates_in(told) - lost)) or None if match.ambiguous else None
        if image in lost:
            values["image_key"] = left[0] if left else None
            values["sha256"] = content[left[0]] if left else None
            values["missing_reason"] = None if left else "no_image"
            if not left:
                values |= {"outcome": "missing_image", "matched_by": None}
        elif values.get("missing_reason") not in {None, "no_image", "beyond_limit"}:
            values["missing_reason"] = None if image else "no_image"  # it may name files of the cell
        changed[row] = values
    mask = pa.chunked_array([pa.array([row in changed for row in range(products.num_rows)], pa.bool_())])
    for name in names:
        products = _put(products, name, mask, [changed[row][name] for row in sorted(changed)])
    return products.filter(pc.invert(sold))


def _candidates_in(told: str | None) -> set[str]:
    """Return the files that are named as those that fit equally well; others may be counted there."""
    return set(re.sub(r" and [0-9]+ more$", "", told).split(", ")) if told else set()


def summary_without(
    summary: Mapping[str, Any], before: Mapping[str, pa.Table], after: Mapping[str, pa.Table], targets: Targets
) -> dict[str, Any]:
    """Return the summary of a snapshot whose books count what went as forgotten, and name nothing of it."""
    told: dict[str, Any] = scrubbed(dict(summary), targets)
    row_outcomes = ("matched", "missing_image", "ambiguous_image", "duplicate")
    counted = _less(told.get("images", {}), before["images"], after["images"], ("duplicate", "rejected"))
    loaded = _number(before["images"], "loaded") - _number(after["images"], "loaded")
    for name in sorted(("loaded", "unchanged"), key=lambda name: -counted.get(name, 0)):
        taken = min(loaded, counted.get(name, 0))
        loaded -= taken
        counted |= {name: counted[name] - taken} if name in counted else {}
    rows = _less(told.get("rows", {}), before["products"], after["products"], row_outcomes)
    refused = [pc.sum(pc.equal(each["rejects"]["kind"], "row")).as_py() or 0 for each in (before, after)]
    if refused[0] - refused[1]:
        rows |= {"rejected": rows.get("rejected", 0) - refused[0] + refused[1]}
        rows[FORGOTTEN] = rows.get(FORGOTTEN, 0) + refused[0] - refused[1]
    told |= {"images": counted, "rows": rows}
    if "orphan_images" in told:
        told["orphan_images"] = pc.sum(after["images"]["orphan"]).as_py() or 0
    if "matched_by" in told and "matched_by" in after["products"].column_names:
        told["matched_by"] = _rules(after["products"])
    return told


def _rules(products: pa.Table) -> dict[str, int]:
    """Return by which rule the rows found their images, the surest first."""
    matched = products.filter(pc.equal(products["outcome"], "matched"))
    counts = {each["values"]: each["counts"] for each in pc.value_counts(matched["matched_by"]).to_pylist()}
    return {rule: counts[rule] for rule in RULES if rule in counts}


def _less(counts: Mapping[str, int], before: pa.Table, after: pa.Table, outcomes: Sequence[str]) -> dict[str, int]:
    """Return counts by outcome without the rows that went, which are counted as forgotten."""
    told = dict(counts)
    for name in outcomes:
        if name in told:
            told[name] -= _number(before, name) - _number(after, name)
    gone = len(before) - len(after)
    return told | ({FORGOTTEN: told.get(FORGOTTEN, 0) + gone} if gone else {})


def _number(table: pa.Table, outcome: str) -> int:
    return int(pc.sum(pc.equal(table["outcome"], outcome)).as_py() or 0)


def scrubbed(value: Any, targets: Targets, *, rows: bool = True) -> Any:  # noqa: ANN401 - any value of JSON
    """Return a value of JSON without the names of what goes: texts say `GONE` in their place.

    Args:
        value: any.
        targets: what goes.
        rows: rows of tables in it that have such a name are left out.
    """
    if isinstance(value, Mapping):
        return {key: scrubbed(each, targets, rows=rows) for key, each in value.items()}
    if isinstance(value, list):
        kept = (each for each in value if not (rows and _is_row_of(each, targets)))
        return [scrubbed(each, targets, rows=rows) for each in kept]
    return _scrubbed_text(value, targets) if isinstance(value, str) else value


def _is_row_of(value: object, targets: Targets) -> bool:
    """Return whether a value is a row that a check returned, with a key of what goes in it."""
    if not isinstance(value, Mapping) or not all(isinstance(each, str | int | float | None) for each in value.values()):
        return False
    return any(_is_named(str(each), targets) for each in value.values() if each is not None)


def _is_named(text: str, targets: Targets) -> bool:
    return text in targets.images or text in targets.products or text in targets.contents


_WORDS = re.compile(r"[^\s'\",;()\[\]{}|]+")


def _scrubbed_text(text: str, targets: Targets) -> str:
    if _is_named(text, targets):
        return GONE
    for key in targets.images if len(targets.images) <= MOST_NAMES else ():
        text = text.replace(key, GONE)
    return _WORDS.sub(lambda found: GONE if _is_named(found[0].rstrip(":."), targets) else found[0], text)
