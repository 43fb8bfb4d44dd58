"""The tables of a snapshot, put together from the listing, the parts and the catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.books import check_images, check_outputs, check_rows
from lookbook.tasks.datasets.catalogue import Catalogue
from lookbook.tasks.datasets.image_tables import image_states, image_table, just_drawn, output_table
from lookbook.tasks.datasets.links import link
from lookbook.tasks.datasets.plan import Known, Plan
from lookbook.tasks.datasets.product_table import catalogue_names, product_table
from lookbook.tasks.datasets.rejects import Reject
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.tables.schemas import REJECTS_SCHEMA


@dataclass(frozen=True)
class Snapshot:
    """The tables of a snapshot, and the counts of the run that made them."""

    images: pa.Table
    outputs: pa.Table
    products: pa.Table
    image_links: pa.Table
    rejects: pa.Table
    image_counts: dict[str, int]
    row_counts: dict[str, int]
    orphan_images: int
    drawn: dict[str, int]

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables by name."""
        return {
            "images": self.images,
            "outputs": self.outputs,
            "products": self.products,
            "image_links": self.image_links,
            "rejects": self.rejects,
        }


def build_snapshot(
    found: Sequence[SourceFile],
    beyond: Sequence[str],
    catalogue: Catalogue,
    plan: Plan,
    new_parts: Sequence[pa.Table],
    known: Known,
    recipe: Recipe,
) -> Snapshot:
    """Join what was found with what became of it.

    Args:
        found: the image files of the source, as listed.
        beyond: keys of image files that the run's limit leaves out.
        catalogue: its catalogue.
        plan: which published rows and earlier parts hold as they are.
        new_parts: the parts of this run's batches.
        known: the published snapshot and earlier parts, as the plan was given them.
        recipe: the run's recipe.

    Raises:
        LookbookError: the books don't balance; the message says which keys are off.
    """
    reused = [known.parts.take(plan.from_parts)] if known.parts is not None and plan.from_parts else []
    results = pa.concat_tables([*reused, *new_parts]) if reused or new_parts else None
    states = image_states(results, plan, known)
    check_images([image.key for image in found], states.column("key").to_pylist())
    every_part = new_parts if known.parts is None else [known.parts, *new_parts]
    outputs = output_table(just_drawn(every_part), states, known, recipe)
    check_outputs(states, outputs, recipe)
    linked, product_of = link(catalogue_names(catalogue.rows), [*states.column("key").to_pylist(), *beyond])
    images = image_table(states, outputs, product_of, next(iter(recipe.outputs)))
    products = product_table(catalogue.rows, linked, images)
    row_counts = _row_counts(catalogue, products)
    check_rows(row_counts)
    return Snapshot(
        images=images,
        outputs=outputs,
        products=products,
        image_links=catalogue.links,
        rejects=_rejects(images, catalogue.rejects),
        image_counts=_image_counts(found, images, outputs, known),
        row_counts=row_counts,
        orphan_images=sum(images.column("orphan").to_pylist()),
        drawn=_drawn(new_parts, recipe),
    )


def _rejects(images: pa.Table, of_catalogue: Sequence[Reject]) -> pa.Table:
    """Everything that was refused: image files, and what the catalogue could not take."""
    refused = images.filter(pc.equal(images.column("outcome"), "rejected"))
    of_images = [
        Reject("image", row["key"], row["rule"], row["error_message"], row["original_key"] or "")
        for row in refused.to_pylist()
    ]
    rows = {
        reject.reject_id: {
            "reject_id": reject.reject_id,
            "kind": reject.kind,
            "locator": reject.locator,
            "rule": reject.rule,
            "message": reject.message,
            "raw": reject.raw,
        }
        for reject in [*of_images, *of_catalogue]
    }
    return pa.Table.from_pylist(list(rows.values()), schema=REJECTS_SCHEMA)


def _image_counts(found: Sequence[SourceFile], images: pa.Table, outputs: pa.Table, known: Known) -> dict[str, int]:
    """How many images were found, and how each ended: ``unchanged`` is what was published, with the same outputs."""
    touched = {sha256 for sha256, _ in _drawings(outputs) - _drawings(known.outputs)}
    before: dict[str, str] = {}
    if known.images is not None:
        kept = known.images.filter(pc.not_equal(known.images.column("outcome"), "rejected"))
        before = dict(zip(kept.column("key").to_pylist(), kept.column("sha256").to_pylist(), strict=True))
    rows = zip(*(images.column(name).to_pylist() for name in ("key", "outcome", "sha256")), strict=True)
    counts = Counter(
        "unchanged" if outcome == "loaded" and before.get(key) == sha256 and sha256 not in touched else outcome
        for key, outcome, sha256 in rows
    )
    return {"found": len(found)} | {name: counts[name] for name in ("loaded", "unchanged", "duplicate", "rejected")}


def _drawings(outputs: pa.Table | None) -> set[tuple[str, str]]:
    """Return the pairs of content and output definition in an outputs table."""
    if outputs is None:
        return set()
    return set(zip(outputs.column("sha256").to_pylist(), outputs.column("output_digest").to_pylist(), strict=True))


def _row_counts(catalogue: Catalogue, products: pa.Table) -> dict[str, int]:
    counts = Counter(products.column("outcome").to_pylist())
    rejected = sum(reject.kind == "row" for reject in catalogue.rejects)
    outcomes = {name: counts[name] for name in ("matched", "missing_image", "duplicate")}
    return {"found": catalogue.rows_found} | outcomes | {"rejected": rejected}


def _drawn(new_parts: Sequence[pa.Table], recipe: Recipe) -> dict[str, int]:
    """Return how many files of each output this run drew."""
    counts: Counter[str] = Counter()
    for part in new_parts:
        for outputs in part.column("drawn").to_pylist():
            counts.update(drawn["output"] for drawn in outputs or ())
    return {name: counts[name] for name in recipe.outputs}
