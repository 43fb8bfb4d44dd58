"""The tables of a snapshot, put together from the listing, the parts and the catalogue; their issues and digest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.tasks.datasets.books import check_counts, check_images, check_outputs
from lookbook.tasks.datasets.catalogue import Catalogue
from lookbook.tasks.datasets.catalogue_types import SourceReject
from lookbook.tasks.datasets.forgotten import PassedOver, names_of
from lookbook.tasks.datasets.links import NAMED, Match, canonical_order, link, short_name
from lookbook.tasks.datasets.near_duplicates import duplicate_columns
from lookbook.tasks.datasets.plan import Known, Plan, recipe_digest
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, OUTPUTS_SCHEMA, REJECTS_SCHEMA
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.items import ASSET_FIELDS
from lookbook.tasks.images.locators import UnreadableMemberError, read_bytes
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.tombstones import FORGOTTEN

# Names, thresholds and formulas are those of CleanVision 0.3.7 (cleanlab); see docs/issues.md.

#: An image has an issue where its score is below this: CleanVision's defaults. Whether a size is odd depends on
#: the sizes of all images; see `odd_sizes`.
THRESHOLDS: dict[str, float] = {
    "dark": 0.32,
    "light": 0.05,
    "blurry": 0.29,
    "low_information": 0.3,
    "odd_aspect_ratio": 0.35,
    "grayscale": 0.5,
}

#: How many interquartile ranges beyond the quartiles a size may lie.
IQR_FACTOR = 3.0

#: A size is odd where its score is below this.
ODD_SIZE = 0.5

ISSUES = (*THRESHOLDS, "odd_size", "damaged")


def issue_columns(images: pa.Table, recipe: Recipe) -> dict[str, pa.Array]:
    """Return the columns ``odd_size_score`` and ``is_<issue>_issue`` of each of `ISSUES`; null without a score.

    Args:
        images: the scores of `lookbook.tasks.images.measure.SCORES`, ``original_width``, ``original_height`` and
            ``decode_warnings``; null for an image that was rejected.
        recipe: says whether damage is an issue.
    """
    columns = {_flag(name): pc.less(images[f"{name}_score"], least) for name, least in THRESHOLDS.items()}
    score, odd = odd_sizes(images["original_width"], images["original_height"])
    warned = pc.greater(images["decode_warnings"], 0)
    damaged = pa.nulls(len(images), pa.bool_()) if recipe.damaged == "keep" else warned
    return columns | {"odd_size_score": score, _flag("odd_size"): odd, _flag("damaged"): damaged}


def odd_sizes(width: pa.ChunkedArray, height: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Return how usual each size is among all, from 0 to 1, and whether it is odd; null where the size is.

    The size is sqrt(width * height). The usual ones lie within `IQR_FACTOR` interquartile ranges of the quartiles.
    The score is one minus the distance from the middle of that range, in widths of it (0.5 at its ends); where
    the quartiles are one and the same size, in that size: less than half of it and more than one and a half is
    odd. (There CleanVision calls every other size odd, be it by one pixel.)
    """
    known = pc.and_(pc.is_valid(width), pc.is_valid(height))
    size = np.sqrt(_floats(width) * _floats(height))
    if not pc.any(known).as_py():
        return pa.nulls(len(width), pa.float64()), pa.nulls(len(width), pa.bool_())
    first, third = np.nanpercentile(size, [25, 75])
    span = (1 + 2 * IQR_FACTOR) * (third - first)
    middle = (first + third) / 2
    unit = span if span > 0 else middle
    score = 1 - np.clip(np.abs(size - middle) / unit, 0, 1)
    missing = np.isnan(size)
    return pa.array(score, mask=missing), pa.array(score < ODD_SIZE, mask=missing)


def _flag(issue: str) -> str:
    return f"is_{issue}_issue"


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return the values, NaN for null."""
    values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _why_missing(match: Match, rules: Sequence[str]) -> str:
    """Return why a row has no image: several fit, there is none, the run's limit left it out, or a rule refused it."""
    if match.ambiguous:
        return "several_files"
    if rules:
        return f"image_rejected:{rules[0]}"
    return "beyond_limit" if match.keys else "no_image"


def _why_partly(match: Match) -> str | None:
    """Return which of several images that a row names are absent, and which of its names several files fit."""
    told = (("no_image", match.absent), ("several_files", list(match.torn)))
    return "; ".join(f"{why}:{', '.join(names[:NAMED])}" for why, names in told if names) or None


def product_table(rows: pa.Table, linked: Sequence[Match], images: pa.Table) -> pa.Table:
    """Return the catalogue's rows, each with its outcome, its image, and how that was found."""
    image_of = {row["key"]: row for row in images.select(["key", "outcome", "rule", "sha256"]).to_pylist()}
    outcomes, reasons, keys, contents = [], [], [], []
    products = rows.column("product_key").to_pylist()
    found = [() if match.ambiguous else [key for key in match.keys if key in image_of] for match in linked]
    own = [next((key for key in here if image_of[key]["outcome"] != "rejected"), None) for here in found]
    first: dict[str, str] = {}
    for product, key in zip(products, own, strict=True):
        if key is not None:
            first.setdefault(product, key)
    for product, outcome, match, here in zip(products, rows.column("outcome").to_pylist(), linked, found, strict=True):
        # The first row stands for the product, whichever of its rows names the image; further images are the others'.
        good = first.get(product) if outcome != "duplicate" or first.get(product) in here else None
        without = "ambiguous_image" if match.ambiguous else "missing_image"
        outcomes.append(outcome or ("matched" if good else without))
        reason = _why_partly(match) if good else _why_missing(match, [image_of[key]["rule"] for key in here])
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
        "file_name": rows.column("file_name"),
        "matched_by": pa.array([None if match.ambiguous else match.rule for match in linked], pa.string()),
        "candidates": pa.array([match.candidates for match in linked], pa.string()),
    }
    return pa.table(leading | {name: rows.column(name) for name in rows.column_names if name not in leading})


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
    """Return published rows for images of published content, under their own keys and fingerprints."""
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


def image_table(states: pa.Table, outputs: pa.Table, product_of: dict[str, str], recipe: Recipe) -> pa.Table:
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
    main = outputs.filter(pc.equal(outputs.column("output"), next(iter(recipe.outputs))))
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
    known = {name: states.column(name) for name in states.column_names} | issue_columns(states, recipe)
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


@dataclass(frozen=True)
class SnapshotTables:
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
    beyond: Sequence[SourceFile],
    catalogue: Catalogue,
    plan: Plan,
    new_parts: Sequence[pa.Table],
    known: Known,
    recipe: Recipe,
    ignored: Sequence[SourceReject] = (),
    passed_over: PassedOver | None = None,
) -> SnapshotTables:
    """Join what was found with what became of it.

    Args:
        found: the image files of the source, as listed.
        beyond: the image files that the run's limit leaves out.
        catalogue: its catalogue.
        plan: which published rows and earlier parts hold as they are.
        new_parts: the parts of this run's batches.
        known: the published snapshot and earlier parts, as the plan was given them.
        recipe: the run's recipe.
        ignored: the files of the source that are neither images nor of the catalogue.
        passed_over: what of it was forgotten, and is in none of these.

    Raises:
        LookbookError: the books don't balance; the message says which keys are off.
    """
    reused = [known.parts.take(plan.from_parts)] if known.parts is not None and plan.from_parts else []
    results = pa.concat_tables([*reused, *new_parts]) if reused or new_parts else None
    states = image_states(results, plan, known)
    check_images([image.key for image in found], states.column("key").to_pylist())
    every_part = new_parts if known.parts is None else [known.parts, *new_parts]
    passed, states = _without_copies(states, passed_over or PassedOver())
    outputs = output_table(just_drawn(every_part), states, known, recipe)
    check_outputs(states, outputs, recipe)
    listed = states.column("key").to_pylist()
    # One that was refused is no copy of another.
    contents = {
        key: sha256 if status == "ok" and sha256 else key
        for key, sha256, status in zip(
            listed, states.column("sha256").to_pylist(), states.column("status").to_pylist(), strict=True
        )
    }
    contents |= _contents_beyond(found, beyond, contents)
    keys = [*listed, *(file.key for file in beyond)]
    linked, product_of = link(names_of(catalogue.rows), keys, contents, suffixed=recipe.suffixed_images)
    images = image_table(states, outputs, product_of, recipe)
    products = product_table(catalogue.rows, linked, images)
    row_counts = _row_counts(catalogue, products) | _counted(passed.rows)
    check_counts("catalogue rows", row_counts)
    return SnapshotTables(
        images=images,
        outputs=outputs,
        products=products,
        image_links=catalogue.links,
        rejects=reject_table(
            [
                *image_rejects(images.filter(pc.equal(images.column("outcome"), "rejected"))),
                *catalogue.rejects,
                *ignored,
                *passed.listed,
            ]
        ),
        image_counts=_image_counts(passed, images, outputs, known),
        row_counts=row_counts,
        orphan_images=sum(images.column("orphan").to_pylist()),
        drawn=_drawn(new_parts, recipe),
    )


def _without_copies(states: pa.Table, passed: PassedOver) -> tuple[PassedOver, pa.Table]:
    """Leave out the images whose content batches found to be forgotten; they count among what is passed over."""
    forgotten = pc.equal(states.column("status"), FORGOTTEN)
    number = pc.sum(forgotten).as_py() or 0
    return replace(passed, images=passed.images + number), states.filter(pc.invert(forgotten))


def _contents_beyond(
    found: Sequence[SourceFile], beyond: Sequence[SourceFile], contents: Mapping[str, str]
) -> dict[str, str]:
    """Return the contents of files beyond the limit that are called as one within it, to tell copies from others.

    One is read only where sizes are equal, and no checksums of a listing say more.
    """
    called: dict[str, list[SourceFile]] = {}
    for file in found if beyond else ():
        called.setdefault(short_name(file.key), []).append(file)

    def content(file: SourceFile, namesakes: Sequence[SourceFile]) -> str:
        alike = [each for each in namesakes if each.size == file.size]
        if all(each.fingerprint.startswith("crc32:") for each in (file, *alike)):
            same = (each for each in alike if each.fingerprint == file.fingerprint)
            return next((contents[each.key] for each in same), file.key)
        with suppress(OSError, UnreadableMemberError):
            return hashlib.sha256(read_bytes(file.locator)).hexdigest() if alike else file.key
        return file.key

    return {file.key: content(file, called[name]) for file in beyond if (name := short_name(file.key)) in called}


def image_rejects(refused: pa.Table) -> list[SourceReject]:
    """Return the rejects that rows of images, or of parts, tell of: ``raw`` is the lake key of the bytes, if kept."""
    rows = refused.select(["key", "rule", "error_message", "original_key"]).to_pylist()
    return [
        SourceReject("image", row["key"], row["rule"], row["error_message"], row["original_key"] or "") for row in rows
    ]


def reject_table(rejects: Sequence[SourceReject]) -> pa.Table:
    """Return everything that was refused, each once, as a table of `REJECTS_SCHEMA`."""
    rows = {
        reject.reject_id: {
            "reject_id": reject.reject_id,
            "kind": reject.kind,
            "locator": reject.locator,
            "rule": reject.rule,
            "message": reject.message,
            "raw": reject.raw,
        }
        for reject in rejects
    }
    return pa.Table.from_pylist(list(rows.values()), schema=REJECTS_SCHEMA)


def _image_counts(passed: PassedOver, images: pa.Table, outputs: pa.Table, known: Known) -> dict[str, int]:
    """Count the images found, and how each ended: ``unchanged`` is what was published, with the same outputs."""
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
    told = {name: counts[name] for name in ("loaded", "unchanged", "duplicate", "rejected")}
    return {"found": len(images) + passed.images} | told | _counted(passed.images)


def _counted(forgotten: int) -> dict[str, int]:
    """Return how many were forgotten, where any was: datasets that forgot nothing do not speak of it."""
    return {FORGOTTEN: forgotten} if forgotten else {}


def _drawings(outputs: pa.Table | None) -> set[tuple[str, str]]:
    """Return the pairs of content and output definition in an outputs table."""
    if outputs is None:
        return set()
    return set(zip(outputs.column("sha256").to_pylist(), outputs.column("output_digest").to_pylist(), strict=True))


def _row_counts(catalogue: Catalogue, products: pa.Table) -> dict[str, int]:
    counts = Counter(products.column("outcome").to_pylist())
    rejected = sum(reject.kind == "row" for reject in catalogue.rejects)
    outcomes = {name: counts[name] for name in ("matched", "missing_image", "ambiguous_image", "duplicate")}
    return {"found": catalogue.rows_found} | outcomes | {"rejected": rejected}


def _drawn(new_parts: Sequence[pa.Table], recipe: Recipe) -> dict[str, int]:
    """Return how many files of each output this run drew."""
    counts: Counter[str] = Counter()
    for part in new_parts:
        for outputs in part.column("drawn").to_pylist():
            counts.update(drawn["output"] for drawn in outputs or ())
    return {name: counts[name] for name in recipe.outputs}


IMAGE_COLUMNS = ["key", "outcome", "duplicate_of", "rule", "sha256", "product_key"]
OUTPUT_COLUMNS = ["sha256", "output", "output_digest", "width", "height"]
REJECT_COLUMNS = ["kind", "locator", "rule", "raw"]
#: Kinds of rejects that say nothing of the dataset.
UNCOUNTED = pa.array(["ignored", "forgotten"], pa.string())


def logical_digest(snapshot: SnapshotTables, recipe: Recipe) -> str:
    """Return SHA-256 over the sorted keys, contents, outcomes and catalogue values; no times, ids or file bytes.

    Nor over the ignored files: a note or a system's litter that comes and goes makes no other dataset; nor does what
    was forgotten.
    """
    # The first output gives the images their width and height.
    made = hashlib.sha256(f"{next(iter(recipe.outputs))};{recipe_digest(recipe)}".encode())
    for table, columns in (
        (snapshot.images, IMAGE_COLUMNS),
        (snapshot.outputs, OUTPUT_COLUMNS),
        (snapshot.products, snapshot.products.column_names),
        (snapshot.image_links, snapshot.image_links.column_names),
        (snapshot.rejects.filter(pc.invert(pc.is_in(snapshot.rejects["kind"], UNCOUNTED))), REJECT_COLUMNS),
    ):
        made.update(json.dumps(columns).encode())
        for line in sorted(_lines(table.select(columns))):
            made.update(line)
    return made.hexdigest()


def _lines(table: pa.Table) -> Iterable[bytes]:
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield json.dumps(list(row.values()), default=str).encode() + b"\n"
