"""The tables of a snapshot, put together from the listing, the parts and the catalogue; their issues and digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.tasks.datasets.books import check_counts, check_images, check_outputs
from lookbook.tasks.datasets.catalogue import Catalogue
from lookbook.tasks.datasets.catalogue_types import OWN_FIELDS, SourceReject
from lookbook.tasks.datasets.desk import Desk, as_table, side_by_side
from lookbook.tasks.datasets.differences import Tables, batches_of, schema_of
from lookbook.tasks.datasets.forgotten import PassedOver
from lookbook.tasks.datasets.inventory import Inventory
from lookbook.tasks.datasets.links import NAMED, RULES, link
from lookbook.tasks.datasets.near_duplicates import find_near_duplicates
from lookbook.tasks.datasets.plan import LOCATED, recipe_digest, source_files, take_up_part
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, OUTPUTS_SCHEMA, PRODUCTS_SCHEMA, REJECTS_SCHEMA
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


@dataclass(frozen=True)
class UsualSize:
    """Sizes that are usual among all images of a snapshot: the size of an image is sqrt(width * height).

    They lie within `IQR_FACTOR` interquartile ranges of the quartiles. These are whole pixels: else each new image
    would change the scores of all others by a hair, and all would be written again. Where the quartiles are one
    and the same size, less than half of it and more than one and a half is odd. (There CleanVision calls every other
    size odd, be it by one pixel.)

    Attributes:
        middle: of the usual sizes.
        unit: their range, or that one size.
    """

    middle: float
    unit: float

    @classmethod
    def of(cls, sizes: NDArray[np.float64]) -> UsualSize | None:
        """Return what is usual among some sizes; None of none."""
        if not len(sizes):
            return None
        first, third = np.percentile(sizes, [25, 75])
        if first != third:
            first, third = np.round((first, third))
        span = (1 + 2 * IQR_FACTOR) * (third - first)
        middle = (first + third) / 2
        return cls(middle, span if span > 0 else middle)


def issue_columns(images: pa.Table, recipe: Recipe, usual: UsualSize | None) -> dict[str, pa.Array]:
    """Return the columns ``odd_size_score`` and ``is_<issue>_issue`` of each of `ISSUES`; null without a score.

    Args:
        images: the scores of `lookbook.tasks.images.measure.SCORES`, ``original_width``, ``original_height`` and
            ``decode_warnings``; null for an image that was rejected.
        recipe: says whether damage is an issue.
        usual: among all images of the snapshot.
    """
    columns = {_flag(name): pc.less(images[f"{name}_score"], least) for name, least in THRESHOLDS.items()}
    score, odd = odd_sizes(images["original_width"], images["original_height"], usual)
    warned = pc.greater(images["decode_warnings"], 0)
    damaged = pa.nulls(len(images), pa.bool_()) if recipe.damaged == "keep" else warned
    return columns | {"odd_size_score": score, _flag("odd_size"): odd, _flag("damaged"): damaged}


def odd_sizes(width: pa.ChunkedArray, height: pa.ChunkedArray, usual: UsualSize | None) -> tuple[pa.Array, pa.Array]:
    """Return how usual each size is, from 0 to 1, and whether it is odd; null where the size is.

    The score is one minus the distance from the middle of the usual sizes, in widths of their range (0.5 at its ends).
    """
    if usual is None:
        return pa.nulls(len(width), pa.float64()), pa.nulls(len(width), pa.bool_())
    size = np.sqrt(_floats(width) * _floats(height))
    score = 1 - np.clip(np.abs(size - usual.middle) / usual.unit, 0, 1)
    missing = np.isnan(size)
    return pa.array(score, mask=missing), pa.array(score < ODD_SIZE, mask=missing)


def _flag(issue: str) -> str:
    return f"is_{issue}_issue"


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return the values, NaN for null."""
    values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    return values


#: Columns of the images' table that do not come from the row that describes an image's content.
FACTS = frozenset(
    [
        *("key", "fingerprint", "outcome", "duplicate_of", "rule", "sha256", "width", "height", "orphan"),
        *("product_key", "is_exact_duplicates_issue", "is_near_duplicates_issue"),
        *("near_duplicates_score", "near_duplicate_of"),
    ]
)


@dataclass(frozen=True)
class SnapshotTables:
    """The tables of a snapshot, as Parquet files by name, and the counts of the run that made them."""

    files: Mapping[str, Sequence[Path]]
    image_counts: dict[str, int]
    row_counts: dict[str, int]
    orphan_images: int
    drawn: dict[str, int]


def build_snapshot(
    inventory: Inventory,
    new_parts: Iterable[pa.Table],
    recipe: Recipe,
    note_copies: Callable[[Sequence[tuple[str, str]]], PassedOver] | None = None,
) -> SnapshotTables:
    """Join what was found with what became of it. The files lie in the desk's folder.

    Args:
        inventory: of the run.
        new_parts: the parts of this run's batches.
        recipe: the run's recipe.
        note_copies: is given the keys and fingerprints of images whose content batches found to be forgotten, and
            returns what is passed over with them; None: they are not noted.

    Raises:
        LookbookError: the books don't balance; the message says which keys are off.
    """
    desk, catalogue, passed = inventory.desk, inventory.catalogue, inventory.passed_over
    before = desk.value("SELECT count(*) FROM drawings")
    _note_states(desk, new_parts)
    check_images(desk)
    copies = desk.rows("SELECT key, fingerprint FROM states WHERE status = ?", FORGOTTEN)
    if note_copies is not None:
        passed = note_copies(copies)
    passed = replace(passed, images=passed.images + len(copies))
    desk.run("DELETE FROM states WHERE status = ?", FORGOTTEN)
    _note_outputs(desk, recipe)
    check_outputs(desk)
    _note_contents(desk)
    rows = [inventory.rows]
    _note_rows(desk, rows)
    link(desk, suffixed=recipe.suffixed_images)
    _note_facts(desk, recipe)
    _note_products(desk)
    row_counts = _row_counts(desk, catalogue) | _counted(passed.rows)
    check_counts("catalogue rows", row_counts)
    refused = [*_refused(desk), *catalogue.rejects, *inventory.ignored, *passed.listed]
    made: dict[str, tuple[pa.Schema, Iterable[pa.Table]]] = {
        "images": (IMAGES_SCHEMA, _image_rows(desk, recipe)),
        "outputs": (OUTPUTS_SCHEMA, desk.stream("FROM outputs ORDER BY sha256, output")),
        "products": (_product_schema(schema_of(rows)), _product_rows(desk, rows)),
        "image_links": (catalogue.links.schema, [catalogue.links]),
        "rejects": (REJECTS_SCHEMA, [reject_table(refused)]),
    }
    drawn = dict(desk.rows("SELECT output, count(*) FROM drawings WHERE rowid >= ? GROUP BY output", before))
    return SnapshotTables(
        files={name: [desk.save(name, schema, tables)] for name, (schema, tables) in made.items()},
        image_counts=_image_counts(desk, passed),
        row_counts=row_counts,
        orphan_images=desk.value("SELECT count(*) FROM facts WHERE product_key IS NULL"),
        drawn={name: drawn.get(name, 0) for name in recipe.outputs},
    )


def _note_rows(desk: Desk, rows: Sequence[Path]) -> None:
    """Make the table ``rows``: of each catalogue row its number ``n`` and its own columns."""
    desk.make("rows", pa.schema([*OWN_FIELDS, pa.field("n", pa.int64())]))
    count = 0
    for batch in batches_of(rows, [field.name for field in OWN_FIELDS]):
        numbered = pa.Table.from_batches([batch]).append_column("n", pa.array(range(count, count + len(batch))))
        count += len(batch)
        desk.add("rows", numbered)


def _note_states(desk: Desk, new_parts: Iterable[pa.Table]) -> None:
    """Make the table ``states``: what is known of each image now, and which row describes its content.

    That is a row of ``described``, which holds those of parts, by its number, or one of ``published``, by its key.
    """
    desk.run("CREATE OR REPLACE TABLE described AS SELECT parts.* FROM parts JOIN taken ON parts.rowid = taken.row")
    for part in new_parts:
        take_up_part(desk, part, "described")
    desk.run(
        "CREATE OR REPLACE TABLE states AS SELECT key, fingerprint, rule, sha256,"
        " CASE WHEN outcome = 'rejected' THEN 'rejected' ELSE 'ok' END AS status, key AS published,"
        " NULL::BIGINT AS part FROM published SEMI JOIN held USING (key)"
    )
    desk.run(
        "INSERT INTO states SELECT key, fingerprint, rule, sha256, status, NULL, rowid FROM described"
        " WHERE status <> 'same'"
    )
    # An image of published content has that one's row, under its own key and fingerprint.
    desk.run(
        "INSERT INTO states SELECT described.key, described.fingerprint, p.rule, p.sha256, 'ok', p.key, NULL"
        " FROM described JOIN (SELECT sha256, arg_max(rule, key) AS rule, max(key) AS key FROM published"
        " WHERE outcome <> 'rejected' GROUP BY sha256) p USING (sha256) WHERE status = 'same'"
    )


def _described(columns: str, more: str = "") -> str:
    """Return SQL for images with the rows that describe them: ``s`` of ``states`` and ``d``."""
    return (
        f"SELECT {columns} FROM states s {more} JOIN published d ON d.key = s.published"  # noqa: S608 - names of ours
        f" UNION ALL SELECT {columns} FROM states s {more} JOIN described d ON d.rowid = s.part"
    )


def _note_outputs(desk: Desk, recipe: Recipe) -> None:
    """Make the table ``outputs``: a row a content and output of this recipe, that stood already or was just drawn."""
    desk.run("CREATE OR REPLACE TABLE definitions (output VARCHAR, output_digest VARCHAR)")
    for name, output in recipe.outputs.items():
        desk.run("INSERT INTO definitions VALUES (?, ?)", name, output.digest())
    columns = [name for name in OUTPUTS_SCHEMA.names if name not in {"sha256", "output", "output_digest"}]
    kept = ", ".join(f"{name}: {name}" for name in columns)
    desk.run(
        "CREATE OR REPLACE TABLE outputs AS SELECT sha256, output, output_digest,"  # noqa: S608 - names of ours
        f" {', '.join(f'first.{name}' for name in columns)} FROM (SELECT sha256, output_digest,"
        f"  arg_min({{{kept}}}, {{is_new: is_new, output: output, row: row}}) AS first FROM"
        "   (SELECT *, false AS is_new, 0 AS row FROM published_outputs UNION ALL BY NAME"
        "    SELECT *, true AS is_new, rowid AS row FROM drawings)"
        "  SEMI JOIN (SELECT sha256 FROM states WHERE status = 'ok') USING (sha256)"
        "  SEMI JOIN definitions USING (output_digest) GROUP BY sha256, output_digest)"
        " JOIN definitions USING (output_digest)"
    )


def _note_contents(desk: Desk) -> None:
    """Make the table ``content_of``: by key what the bytes are; one that was refused is no copy of another."""
    desk.run(
        "CREATE OR REPLACE TABLE content_of AS SELECT key,"
        " CASE WHEN status = 'ok' AND sha256 <> '' THEN sha256 ELSE key END AS content FROM states"
    )
    found = list(_contents_beyond(desk))
    if found:
        keys, contents = zip(*found, strict=True)
        desk.add("content_of", pa.table({"key": list(keys), "content": list(contents)}))


def _contents_beyond(desk: Desk) -> Iterator[tuple[str, str]]:
    """Yield the contents of files beyond the limit that are called as one within it, to tell copies from others.

    One is read only where sizes are equal, and no checksums of a listing say more.
    """
    alike = (
        "SELECT beyond.key, list({mark: images.fingerprint, content: content}) FILTER (images.size = beyond.size)"
        " AS alike FROM beyond JOIN images USING (name) JOIN content_of ON content_of.key = images.key"
        " GROUP BY beyond.key"
    )
    for rows in desk.stream(f"SELECT {LOCATED}, alike FROM beyond JOIN ({alike}) USING (key)"):  # noqa: S608
        for file, known in zip(source_files(rows), rows.column("alike").to_pylist(), strict=True):
            yield file.key, _content(file, known or [])


def _content(file: SourceFile, alike: list[dict[str, str]]) -> str:
    """Return what a file holds, as one of those that may be its copies or by its own key."""
    marks = {each["mark"]: each["content"] for each in alike}
    if all(mark.startswith("crc32:") for mark in (file.fingerprint, *marks)):
        return marks.get(file.fingerprint, file.key)
    with suppress(OSError, UnreadableMemberError):
        return hashlib.sha256(read_bytes(file.locator)).hexdigest() if alike else file.key
    return file.key


def _note_facts(desk: Desk, recipe: Recipe) -> None:
    """Make the table ``facts``: what the images' table says of each image beside the row that describes it."""
    desk.run(
        "CREATE OR REPLACE TABLE originals AS SELECT sha256, count(*) AS copies,"
        " min({unnamed: linked.key IS NULL, depth: depth(states.key), key: states.key}).key AS original"
        " FROM states LEFT JOIN linked USING (key) WHERE status = 'ok' GROUP BY sha256"
    )
    first = "JOIN originals ON original = s.key"
    desk.run(f"CREATE OR REPLACE VIEW perceived AS {_described('s.key, d.phash, d.signature', first)}")
    find_near_duplicates(desk)
    desk.run(
        "CREATE OR REPLACE TABLE facts AS SELECT s.key, s.fingerprint, s.published, s.part, s.rule, s.sha256,"
        " CASE WHEN status = 'rejected' THEN 'rejected' WHEN original = s.key THEN 'loaded' ELSE 'duplicate' END"
        " AS outcome, nullif(original, s.key) AS duplicate_of, width, height, linked.product_key IS NULL AS orphan,"
        " linked.product_key, coalesce(copies > 1, false) AS is_exact_duplicates_issue,"
        " near.key IS NOT NULL AS is_near_duplicates_issue,"
        " CASE WHEN status = 'ok' THEN coalesce(near.score, 1.0) END AS near_duplicates_score,"
        " nullif(near.canonical, original) AS near_duplicate_of"
        " FROM states s LEFT JOIN originals ON status = 'ok' AND originals.sha256 = s.sha256"
        " LEFT JOIN (SELECT sha256, width, height FROM outputs WHERE output = ?) main ON main.sha256 = s.sha256"
        " LEFT JOIN linked ON linked.key = s.key LEFT JOIN near ON near.key = original",
        next(iter(recipe.outputs)),
    )


def _image_rows(desk: Desk, recipe: Recipe) -> Iterator[pa.Table]:
    """Yield the ``images`` table, sorted by key: outcomes, copies linked to the first of their content."""
    edges = _described("d.original_width AS width, d.original_height AS height")
    valid = "width IS NOT NULL AND height IS NOT NULL"
    sizes = desk.table(f"SELECT sqrt(width::DOUBLE * height) AS size FROM ({edges}) WHERE {valid}")  # noqa: S608
    usual = UsualSize.of(sizes.column("size").to_numpy())
    own = [name for name in IMAGES_SCHEMA.names if name in FACTS]
    # One after the other: two that are sorted, or a join of all columns, would not fit into the desk's memory.
    schema = pa.schema([IMAGES_SCHEMA.field(name) for name in own])
    facts = desk.save("facts", schema, desk.stream(f"SELECT {', '.join(own)} FROM facts ORDER BY key"))  # noqa: S608
    other = ["key", *(field.name for field in ASSET_FIELDS), "error_message", "bytes"]
    columns = ", ".join(f"d.{name}" if name != "key" else "s.key" for name in other)
    described = desk.stream(f"FROM ({_described(columns)}) ORDER BY key")
    for rows, more in side_by_side(described, map(as_table, batches_of([facts], own))):
        known = {name: table.column(name) for table in (rows, more) for name in table.column_names}
        known |= issue_columns(rows, recipe, usual)
        yield pa.table([known[name] for name in IMAGES_SCHEMA.names], IMAGES_SCHEMA.names)


def _note_products(desk: Desk) -> None:
    """Make the table ``found_products``: of each catalogue row its outcome, its image, and how that was found."""
    desk.run(
        "CREATE OR REPLACE TABLE own AS SELECT n, arg_min(key, place) FILTER (outcome <> 'rejected') AS own,"
        " list(key) AS here, arg_min(rule, place) AS rule FROM row_images JOIN facts USING (key) GROUP BY n"
    )
    # The first row stands for the product, whichever of its rows names the image; further images are the others'.
    desk.run(
        "CREATE OR REPLACE TABLE goods AS SELECT n, good.key AS image_key, good.sha256 FROM rows"
        " JOIN (SELECT product_key, arg_min(own, n) AS key FROM own JOIN rows USING (n) WHERE own IS NOT NULL"
        "  GROUP BY product_key) USING (product_key) JOIN facts good USING (key)"
        " LEFT JOIN own USING (n) WHERE rows.outcome <> 'duplicate' OR coalesce(list_contains(here, key), false)"
    )
    partly = [
        f"CASE WHEN len({names}) > 0 THEN '{why}:' || array_to_string({names}[1:{NAMED}], ', ') END"
        for names, why in (("absent", "no_image"), ("torn", "several_files"))
    ]
    desk.run(
        "CREATE OR REPLACE TABLE found_products AS SELECT n, CASE WHEN rows.outcome <> '' THEN"  # noqa: S608 - our names
        " rows.outcome WHEN image_key IS NOT NULL THEN 'matched' WHEN ambiguous THEN 'ambiguous_image'"
        " ELSE 'missing_image' END AS outcome, CASE WHEN rows.outcome = 'duplicate' THEN NULL"
        f" WHEN image_key IS NOT NULL THEN nullif(concat_ws('; ', {', '.join(partly)}), '')"
        " WHEN ambiguous THEN 'several_files' WHEN own.n IS NOT NULL THEN 'image_rejected:' || own.rule"
        " WHEN EXISTS (SELECT 1 FROM row_images WHERE row_images.n = rows.n) THEN 'beyond_limit' ELSE 'no_image' END"
        " AS missing_reason, image_key, sha256, candidates, CASE WHEN NOT ambiguous THEN matches.rule END AS rule"
        " FROM rows JOIN matches USING (n) LEFT JOIN own USING (n) LEFT JOIN goods USING (n)"
    )


#: Columns of the products' table that are found out; the others are those of the catalogue's rows.
_FOUND = ("outcome", "missing_reason", "image_key", "sha256", "matched_by", "candidates")


def _product_schema(rows: pa.Schema) -> pa.Schema:
    """Return the columns of the products' table, for a catalogue with these."""
    own = [rows.field(name) if name in rows.names else PRODUCTS_SCHEMA.field(name) for name in PRODUCTS_SCHEMA.names]
    return pa.schema([*own, *(field for field in rows if field.name not in PRODUCTS_SCHEMA.names)])


def _product_rows(desk: Desk, rows: Sequence[Path]) -> Iterator[pa.Table]:
    """Yield the catalogue's rows, each with its outcome, its image, and how that was found."""
    given, names = schema_of(rows).names, _product_schema(schema_of(rows)).names
    found = desk.stream(
        "SELECT outcome, missing_reason, image_key, sha256, ?[rule + 1] AS matched_by, candidates"
        " FROM found_products ORDER BY n",
        list(RULES),
    )
    for batch, part in side_by_side(map(as_table, batches_of(rows, given)), found):
        yield pa.table([(part if name in _FOUND else batch).column(name) for name in names], names)


def _refused(desk: Desk) -> list[SourceReject]:
    """Return the images that were refused, in the order of their keys."""
    columns = "s.key, s.rule, d.error_message, d.original_key, s.status"
    return image_rejects(desk.table(f"FROM ({_described(columns)}) WHERE status = 'rejected' ORDER BY key"))


def _image_counts(desk: Desk, passed: PassedOver) -> dict[str, int]:
    """Count the images found, and how each ended: ``unchanged`` is what was published, with the same outputs."""
    counts = dict(
        desk.rows(
            "SELECT CASE WHEN facts.outcome = 'loaded' AND p.sha256 = facts.sha256 AND touched.sha256 IS NULL"
            " THEN 'unchanged' ELSE facts.outcome END AS ended, count(*) FROM facts"
            " LEFT JOIN (SELECT key, sha256 FROM published WHERE outcome <> 'rejected') p USING (key)"
            " LEFT JOIN (SELECT DISTINCT sha256 FROM outputs ANTI JOIN published_outputs USING (sha256, output_digest))"
            "  touched ON touched.sha256 = facts.sha256 GROUP BY ended"
        )
    )
    told = {name: counts.get(name, 0) for name in ("loaded", "unchanged", "duplicate", "rejected")}
    return {"found": sum(counts.values()) + passed.images} | told | _counted(passed.images)


def _counted(forgotten: int) -> dict[str, int]:
    """Return how many were forgotten, where any was: datasets that forgot nothing do not speak of it."""
    return {FORGOTTEN: forgotten} if forgotten else {}


def _row_counts(desk: Desk, catalogue: Catalogue) -> dict[str, int]:
    counts = dict(desk.rows("SELECT outcome, count(*) FROM found_products GROUP BY outcome"))
    rejected = sum(reject.kind == "row" for reject in catalogue.rejects)
    outcomes = {name: counts.get(name, 0) for name in ("matched", "missing_image", "ambiguous_image", "duplicate")}
    return {"found": catalogue.rows_found} | outcomes | {"rejected": rejected}


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


IMAGE_COLUMNS = ["key", "outcome", "duplicate_of", "rule", "sha256", "product_key"]
OUTPUT_COLUMNS = ["sha256", "output", "output_digest", "width", "height"]
REJECT_COLUMNS = ["kind", "locator", "rule", "raw"]
#: Kinds of rejects that say nothing of the dataset.
UNCOUNTED = ("ignored", "forgotten")


def logical_digest(tables: Tables, recipe: Recipe, desk: Desk) -> str:
    """Return SHA-256 over the sorted keys, contents, outcomes and catalogue values; no times, ids or file bytes.

    Nor over the ignored files: a note or a system's litter that comes and goes makes no other dataset; nor does what
    was forgotten.

    Args:
        tables: of a snapshot.
        recipe: that made it.
        desk: for what is sorted.
    """
    # The first output gives the images their width and height.
    made = hashlib.sha256(f"{next(iter(recipe.outputs))};{recipe_digest(recipe)}".encode())
    for name, columns in (
        ("images", IMAGE_COLUMNS),
        ("outputs", OUTPUT_COLUMNS),
        ("products", None),
        ("image_links", None),
        ("rejects", REJECT_COLUMNS),
    ):
        chosen = columns or schema_of(tables[name]).names
        made.update(json.dumps(chosen).encode())
        desk.make("lines", pa.schema([("line", pa.binary())]))
        for batch in batches_of(tables[name], chosen):
            desk.add("lines", pa.table({"line": pa.array(_lines(batch), pa.binary())}))
        for lines in desk.stream("SELECT line FROM lines ORDER BY line"):
            made.update(b"".join(lines.column("line").to_pylist()))
    desk.run("DROP TABLE lines")
    return made.hexdigest()


def _lines(rows: pa.RecordBatch) -> Iterator[bytes]:
    for row in rows.to_pylist():
        if row.get("kind") not in UNCOUNTED:
            yield json.dumps(list(row.values()), default=str).encode() + b"\n"
