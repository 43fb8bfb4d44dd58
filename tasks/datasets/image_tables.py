"""The images and outputs tables of a snapshot: what is known of each image, and what was drawn of it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.duplicate_columns import duplicate_columns
from lookbook.tasks.datasets.issues import issue_columns
from lookbook.tasks.datasets.links import canonical_order
from lookbook.tasks.datasets.plan import Known, Plan
from lookbook.tasks.images.items import ASSET_FIELDS
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.tables.schemas import IMAGES_SCHEMA, OUTPUTS_SCHEMA

#: What a part and a published table both say of an image.
COMMON = [
    "key",
    "fingerprint",
    "rule",
    "error_message",
    "sha256",
    "bytes",
    *(field.name for field in ASSET_FIELDS),
]


def image_states(results: pa.Table | None, plan: Plan, known: Known) -> pa.Table:
    """Return what is known of each image now: one row a key, the columns of `COMMON` and ``status``."""
    tables = []
    published = known.images
    if published is not None and plan.from_published:
        tables.append(_with_status(published.take(plan.from_published)))
    if results is not None:
        same = pc.equal(results.column("status"), "same")
        tables.append(results.filter(pc.invert(same)).select([*COMMON, "status"]))
        if published is not None and pc.any(same).as_py():
            tables.append(_still_the_same(results.filter(same), published))
    schema = pa.schema([IMAGES_SCHEMA.field(name) for name in COMMON] + [pa.field("status", pa.string())])
    return pa.concat_tables([table.cast(schema) for table in tables]) if tables else schema.empty_table()


def _with_status(published: pa.Table) -> pa.Table:
    rejected = pc.equal(published.column("outcome"), "rejected")
    return published.select(COMMON).append_column("status", pc.if_else(rejected, "rejected", "ok"))


def _still_the_same(same: pa.Table, published: pa.Table) -> pa.Table:
    """Published rows for images whose content is a published one, under their own keys and fingerprints."""
    row_of = {sha256: row for row, sha256 in enumerate(published.column("sha256").to_pylist())}
    rows = published.take([row_of[sha256] for sha256 in same.column("sha256").to_pylist()]).select(COMMON)
    for name in ("key", "fingerprint"):
        rows = rows.set_column(rows.schema.get_field_index(name), name, same.column(name))
    return rows.append_column("status", pa.array(["ok"] * len(rows)))


def output_table(drawn: pa.Table, states: pa.Table, known: Known, recipe: Recipe) -> pa.Table:
    """Return one row a content and output of this recipe: those that stood already, and those just drawn.

    Args:
        drawn: what parts say was drawn, of this run and of earlier ones, as `just_drawn` gives it.
        states: what is known of each image now.
        known: the published snapshot.
        recipe: the run's recipe.
    """
    live = pc.unique(states.filter(pc.equal(states.column("status"), "ok")).column("sha256"))
    standing = known.outputs.cast(OUTPUTS_SCHEMA) if known.outputs is not None else OUTPUTS_SCHEMA.empty_table()
    every = pa.concat_tables([standing, drawn])
    every = every.filter(pc.is_in(every.column("sha256"), value_set=live))
    tables = []
    for name, output in recipe.outputs.items():
        rows = every.filter(pc.equal(every.column("output_digest"), output.digest()))
        rows = rows.take(_first_rows(rows.column("sha256").to_pylist()))
        names = pa.array([name] * len(rows), pa.string())
        tables.append(rows.set_column(rows.schema.get_field_index("output"), OUTPUTS_SCHEMA.field("output"), names))
    return pa.concat_tables(tables).sort_by([("sha256", "ascending"), ("output", "ascending")])


def _first_rows(values: list[str]) -> pa.Array:
    """Return the rows in which each value stands first."""
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        first.setdefault(value, row)
    return pa.array(first.values(), pa.int64())


def just_drawn(parts: Sequence[pa.Table]) -> pa.Table:
    """Return what the parts say was drawn, as rows of the outputs table."""
    rows = [
        {"sha256": sha256, "output_sha256": drawn["sha256"]} | {k: v for k, v in drawn.items() if k != "sha256"}
        for part in parts
        for sha256, outputs in zip(part.column("sha256").to_pylist(), part.column("drawn").to_pylist(), strict=True)
        for drawn in outputs or ()
    ]
    return pa.Table.from_pylist(rows, schema=OUTPUTS_SCHEMA)


def image_table(states: pa.Table, outputs: pa.Table, product_of: dict[str, str], main_output: str) -> pa.Table:
    """Return the ``images`` table, sorted by key: outcomes, copies linked to the first of their content."""
    states = states.sort_by("key")
    keys = states.column("key").to_pylist()
    first = _first_of_content(states, product_of)
    rows = zip(keys, states.column("status").to_pylist(), states.column("sha256").to_pylist(), strict=True)
    originals = [None if status == "rejected" else first[sha256] for _, status, sha256 in rows]
    outcomes = [
        "rejected" if original is None else "loaded" if original == key else "duplicate"
        for key, original in zip(keys, originals, strict=True)
    ]
    copies = [o if outcome == "duplicate" else None for o, outcome in zip(originals, outcomes, strict=True)]
    main = outputs.filter(pc.equal(outputs.column("output"), main_output))
    edges = dict(
        zip(
            main.column("sha256").to_pylist(),
            zip(main.column("width").to_pylist(), main.column("height").to_pylist(), strict=True),
            strict=True,
        )
    )
    sizes = [edges.get(sha256, (None, None)) for sha256 in states.column("sha256").to_pylist()]
    products = [product_of.get(key) for key in keys]
    derived = {
        "outcome": outcomes,
        "duplicate_of": copies,
        "width": [size[0] for size in sizes],
        "height": [size[1] for size in sizes],
        "orphan": [product is None for product in products],
        "product_key": products,
    } | duplicate_columns(states, originals, product_of)
    known = {name: states.column(name) for name in states.column_names} | issue_columns(states)
    columns = [
        pa.array(derived[field.name], field.type) if field.name in derived else known[field.name]
        for field in IMAGES_SCHEMA
    ]
    return pa.table(columns, schema=IMAGES_SCHEMA)


def _first_of_content(states: pa.Table, product_of: dict[str, str]) -> dict[str, str]:
    """By content: the key that counts as the original among its copies, one that a catalogue row names if any."""
    first: dict[str, str] = {}
    good = states.filter(pc.equal(states.column("status"), "ok"))
    pairs = zip(good.column("key").to_pylist(), good.column("sha256").to_pylist(), strict=True)
    for key, sha256 in sorted(pairs, key=lambda pair: canonical_order(pair[0], product_of)):
        first.setdefault(sha256, key)
    return first
