"""The plan: which images need work, in which batches, and which outcomes hold already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.links import short_name
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, OUTPUTS_SCHEMA
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.items import DRAWN_TYPE, PART_SCHEMA, Item, KnownContent, Locator
from lookbook.tasks.images.recipe import Recipe

#: Known contents of one size that are handed to a batch: more would make manifests of uncompressed formats huge.
MOST_KNOWN = 16

FILES_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("is_image", pa.bool_()),
        pa.field("name", pa.string()),  # of an image: what it has in common with all names that lead to it
        pa.field("store", pa.string()),
        pa.field("path", pa.binary()),
        pa.field("member", pa.string()),
        pa.field("start", pa.int64()),
        pa.field("size", pa.int64()),
        pa.field("refused_rule", pa.string()),
        pa.field("refused_message", pa.string()),
    ]
)
#: What a file of the source is made of again.
LOCATED = "key, fingerprint, store, path, member, start, size, refused_rule, refused_message"


def list_files(desk: Desk, files: Iterable[tuple[SourceFile, bool]], limit: int | None) -> None:
    """Make the table ``files``, and the views ``images`` and ``beyond`` of it.

    Args:
        desk: of the run.
        files: of the source, each with whether it is an image.
        limit: images that are taken, in the order of `lookbook.tasks.datasets.links.key_order`; the others are beyond
            it; None: all of them.
    """
    desk.make("files", FILES_SCHEMA)
    for columns in _columns(files):
        desk.add("files", pa.table(columns, FILES_SCHEMA))
    desk.run("CREATE OR REPLACE TABLE within (key VARCHAR)")
    if limit:
        desk.run(
            "INSERT INTO within SELECT key FROM files WHERE is_image ORDER BY depth(key), key LIMIT ?",
            limit,
        )
    for name, join in (("images", "SEMI" if limit else "ANTI"), ("beyond", "ANTI" if limit else "SEMI")):
        desk.run(f"CREATE OR REPLACE VIEW {name} AS FROM files {join} JOIN within USING (key) WHERE is_image")


def _columns(files: Iterable[tuple[SourceFile, bool]], most: int = 20_000) -> Iterator[list[list[object]]]:
    columns: list[list[object]] = [[] for _ in FILES_SCHEMA]
    for file, is_image in files:
        at, refused = file.locator, file.refused or (None, None)
        name = short_name(file.key) if is_image else None
        row = (file.key, file.fingerprint, is_image, name, at.store, at.path, at.member, at.offset, at.size, *refused)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        if len(columns[0]) >= most:
            yield columns
            columns = [[] for _ in FILES_SCHEMA]
    if columns[0]:
        yield columns


def listed_files(desk: Desk, where: str) -> Iterator[SourceFile]:
    """Yield files of the source in the order in which images are ranked; `where` is SQL of ours."""
    for rows in desk.stream(f"SELECT {LOCATED} FROM files WHERE {where} ORDER BY depth(key), key"):  # noqa: S608
        yield from source_files(rows)


def source_files(rows: pa.Table) -> Iterator[SourceFile]:
    """Yield the files in rows with the columns `LOCATED`."""
    values = (rows.column(name).to_pylist() for name in LOCATED.split(", "))
    for key, mark, store, path, member, start, size, rule, message in zip(*values, strict=True):
        yield SourceFile(key, size, mark, Locator(store, path, member, start, size), (rule, message) if rule else None)


@dataclass(frozen=True)
class Known:
    """What is known of images before a run, beside the parts that no snapshot took up yet (`take_up_part`).

    Attributes:
        images: the files of the published ``images`` table, or None.
        outputs: the published ``outputs`` table, likewise.
        rules_digest: the rules under which the published images were judged.
        again: rules whose rejects are judged again: what was found out of them does not count.
    """

    images: Sequence[Path] | None = None
    outputs: Sequence[Path] | None = None
    rules_digest: str = ""
    again: frozenset[str] = frozenset()


def take_up_known(desk: Desk, known: Known) -> None:
    """Make the views ``published`` and ``published_outputs``, and the empty tables ``parts`` and ``drawings``."""
    desk.view("published", known.images, IMAGES_SCHEMA)
    desk.view("published_outputs", known.outputs, OUTPUTS_SCHEMA)
    desk.make("parts", PART_SCHEMA.remove(PART_SCHEMA.get_field_index("drawn")))
    desk.make("drawings", OUTPUTS_SCHEMA)


def take_up_part(desk: Desk, part: pa.Table, table: str = "parts") -> None:
    """Add the rows of a part to a table, and what it drew to ``drawings``."""
    drawn = part.column("drawn").combine_chunks()
    rows = drawn.flatten()
    parents = part.column("sha256").take(pa.compute.list_parent_indices(drawn))
    named = [rows.field(field.name) for field in DRAWN_TYPE]
    names = ["output_sha256" if field.name == "sha256" else field.name for field in DRAWN_TYPE]
    desk.add(table, part.drop_columns(["drawn"]))
    if len(rows):
        desk.add("drawings", pa.table([parents, *named], ["sha256", *names]))


def make_plan(desk: Desk, known: Known, recipe: Recipe) -> None:
    """Compare what the source holds with what is known; everything else is to be done.

    It makes the tables ``held`` (keys of ``published`` that hold as they are), ``taken`` (rows of ``parts`` that do),
    ``todo`` (the files of all other images), and ``contents`` (known ones by size, of the sizes in ``todo``).
    """
    digests = sorted({output.digest() for output in recipe.outputs.values()})
    again = sorted(known.again)
    desk.run(
        "CREATE OR REPLACE TABLE drawn AS SELECT sha256, list(DISTINCT output_digest) AS digests"
        " FROM published_outputs WHERE list_contains(?, output_digest) GROUP BY sha256",
        digests,
    )
    desk.run(
        "CREATE OR REPLACE TABLE held AS SELECT published.key FROM published JOIN images USING (key, fingerprint)"
        " LEFT JOIN drawn ON drawn.sha256 = published.sha256"
        " WHERE ? AND CASE WHEN outcome = 'rejected' THEN NOT coalesce(list_contains(?, rule), false)"
        " ELSE coalesce(len(digests), 0) = ? END",
        *(known.rules_digest == recipe.rules_digest(), again, len(digests)),
    )
    desk.run(
        "CREATE OR REPLACE TABLE taken AS SELECT max(parts.rowid) AS row, key FROM parts"
        " JOIN images USING (key, fingerprint) ANTI JOIN held USING (key)"
        " WHERE status <> 'rejected' OR NOT list_contains(?, rule) GROUP BY key",
        again,
    )
    desk.run(
        "CREATE OR REPLACE TABLE todo AS FROM images ANTI JOIN held USING (key) ANTI JOIN taken USING (key)",
    )
    desk.run(
        "CREATE OR REPLACE TABLE contents AS"
        " SELECT size, list({sha: sha256, digests: digests} ORDER BY sha256)[1:?] AS known"
        " FROM (SELECT sha256, max(bytes) AS size FROM published WHERE outcome <> 'rejected' GROUP BY sha256)"
        " LEFT JOIN drawn USING (sha256) SEMI JOIN todo USING (size) GROUP BY size",
        MOST_KNOWN,
    )


def todo_batches(desk: Desk, known: Known, recipe: Recipe, batch_size: int, batch_bytes: int) -> Iterator[list[Item]]:
    """Yield the batches of what is to be done.

    Args:
        desk: with a plan.
        known: what earlier runs found out.
        recipe: what is to be made of each image.
        batch_size: images in a batch; more only to keep images of one size, possible copies, together.
        batch_bytes: bytes of originals in a batch, likewise (one larger image is a batch of its own).
    """
    return _batches(_todo(desk, known, recipe), batch_size, batch_bytes)


def _todo(desk: Desk, known: Known, recipe: Recipe) -> Iterator[Item]:
    """Yield the work on each image, with the known contents that it may turn out to have, by size and key."""
    same_rules = known.rules_digest == recipe.rules_digest()
    digests = {name: output.digest() for name, output in sorted(recipe.outputs.items())}
    sql = f"SELECT {LOCATED}, known FROM todo LEFT JOIN contents USING (size) ORDER BY size, key"  # noqa: S608
    for rows in desk.stream(sql):
        for file, held in zip(source_files(rows), rows.column("known").to_pylist(), strict=True):
            yield Item(
                key=file.key,
                fingerprint=file.fingerprint,
                locator=file.locator,
                known=tuple(
                    KnownContent(each["sha"], tuple(n for n, d in digests.items() if d in (each["digests"] or ())))
                    for each in held or ()
                ),
                measure_again=bool(held) and not same_rules,
                refused=file.refused,
            )


def batch_digest(items: Sequence[Item], recipe: Recipe) -> str:
    """Return a name for a batch: the same work has the same name, so that two runs of it meet."""
    made = hashlib.sha256(recipe_digest(recipe).encode())
    for item in items:
        made.update(repr(item).encode())
    return made.hexdigest()[:32]


def recipe_digest(recipe: Recipe) -> str:
    """Return a digest that changes when anything that the recipe makes or says of an image may change."""
    outputs = sorted(f"{name}={output.digest()}" for name, output in recipe.outputs.items())
    return ";".join([recipe.rules_digest(), *outputs])


def _batches(items: Iterable[Item], batch_size: int, batch_bytes: int) -> Iterator[list[Item]]:
    """Cut into batches by count and bytes.

    Ordered by size, and cut between sizes as far as that goes (up to double the size of a batch): copies of one
    image meet in one batch, where they are drawn once.
    """
    batch: list[Item] = []
    held = last = 0
    for item in items:
        size = item.locator.size
        full = len(batch) >= batch_size or held + size > batch_bytes
        far_over = len(batch) >= 2 * batch_size or held + size > 2 * batch_bytes
        if batch and (far_over or (full and size != last)):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size
        last = size
    if batch:
        yield batch
