"""The plan: which images need work, in which batches, and which outcomes hold already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.items import Item, KnownContent
from lookbook.tasks.images.recipe import Recipe

#: Known contents of one size that are handed to a batch: more would make manifests of uncompressed formats huge.
MOST_KNOWN = 16


@dataclass(frozen=True)
class Known:
    """What is known of images before a run: the published snapshot, and parts that no snapshot took up yet.

    Attributes:
        images: the published ``images`` table, or None.
        outputs: the published ``outputs`` table, or None.
        rules_digest: the rules under which the published images were judged.
        parts: rows of valid parts made with the recipe of this run.
        again: rules whose rejects are judged again: what was found out of them does not count.
    """

    images: pa.Table | None = None
    outputs: pa.Table | None = None
    rules_digest: str = ""
    parts: pa.Table | None = None
    again: frozenset[str] = frozenset()


@dataclass
class Plan:
    """Batches to do; and the rows, by number, of published images and of earlier parts that hold as they are."""

    batches: list[list[Item]] = field(default_factory=list)
    from_published: list[int] = field(default_factory=list)
    from_parts: list[int] = field(default_factory=list)


def make_plan(images: Sequence[SourceFile], known: Known, recipe: Recipe, batch_size: int, batch_bytes: int) -> Plan:
    """Compare what the source holds with what is known; everything else goes into batches.

    Args:
        images: the image files of the source.
        known: what earlier runs found out.
        recipe: what is to be made of each image.
        batch_size: images in a batch; more only to keep images of one size, possible copies, together.
        batch_bytes: bytes of originals in a batch, likewise (one larger image is a batch of its own).
    """
    published = _PublishedIndex(known, recipe)
    parts = _index(known.parts, known.again)
    plan = Plan()
    todo: list[Item] = []
    for image in images:
        row = published.holds(image)
        if row is not None:
            plan.from_published.append(row)
        elif (row := parts.get((image.key, image.fingerprint))) is not None:
            plan.from_parts.append(row)
        else:
            todo.append(published.item(image))
    plan.batches = list(_batches(todo, batch_size, batch_bytes))
    return plan


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


class _PublishedIndex:
    """The published snapshot, looked up by key, and its contents by size."""

    def __init__(self, known: Known, recipe: Recipe) -> None:
        self.rows = _keys(known.images)
        self.again = known.again
        self.same_rules = known.rules_digest == recipe.rules_digest()
        self.names = set(recipe.outputs)
        self.columns: Mapping[str, list[Any]] = {
            name: known.images.column(name).to_pylist() if known.images is not None else []
            for name in ("fingerprint", "outcome", "rule", "sha256", "bytes")
        }
        self.drawn = _drawn_outputs(known.outputs, recipe)
        self.by_size = self._contents_by_size()

    def holds(self, image: SourceFile) -> int | None:
        """Return the row of an image that is as it was and lacks nothing, else None."""
        row = self.rows.get(image.key)
        if row is None or not self.same_rules or self.columns["fingerprint"][row] != image.fingerprint:
            return None
        if self.columns["outcome"][row] == "rejected":
            return row if self.columns["rule"][row] not in self.again else None
        return row if self.drawn.get(self.columns["sha256"][row], set()) == self.names else None

    def item(self, image: SourceFile) -> Item:
        """Return the work on an image, with the known contents that it may turn out to have."""
        known = self.by_size.get(image.locator.size, ())
        return Item(
            key=image.key,
            fingerprint=image.fingerprint,
            locator=image.locator,
            known=tuple(known)[:MOST_KNOWN],
            measure_again=bool(known) and not self.same_rules,
            refused=image.refused,
        )

    def _contents_by_size(self) -> dict[int, list[KnownContent]]:
        columns = (self.columns[name] for name in ("bytes", "sha256", "outcome"))
        sizes = {sha256: size for size, sha256, outcome in zip(*columns, strict=True) if outcome != "rejected"}
        by_size: dict[int, list[KnownContent]] = {}
        for sha256, size in sorted(sizes.items()):
            content = KnownContent(sha256, tuple(sorted(self.drawn.get(sha256, set()))))
            by_size.setdefault(size, []).append(content)
        return by_size


def _drawn_outputs(outputs: pa.Table | None, recipe: Recipe) -> dict[str, set[str]]:
    """By content: the names of this recipe's outputs that stand in the lake."""
    drawn: dict[str, set[str]] = {}
    if outputs is None:
        return drawn
    by_digest: dict[str, set[str]] = {}
    for name, output in recipe.outputs.items():
        by_digest.setdefault(output.digest(), set()).add(name)
    pairs = zip(outputs.column("sha256").to_pylist(), outputs.column("output_digest").to_pylist(), strict=True)
    for sha256, digest in pairs:
        drawn.setdefault(sha256, set()).update(by_digest.get(digest, ()))
    return drawn


def _keys(images: pa.Table | None) -> dict[str, int]:
    return {} if images is None else {key: row for row, key in enumerate(images.column("key").to_pylist())}


def _index(parts: pa.Table | None, again: frozenset[str]) -> dict[tuple[str, str], int]:
    """Return the rows of parts by key and fingerprint, but for rejects by the rules `again`."""
    if parts is None:
        return {}
    columns = (parts.column(name).to_pylist() for name in ("key", "fingerprint", "status", "rule"))
    return {
        (key, mark): row
        for row, (key, mark, status, rule) in enumerate(zip(*columns, strict=True))
        if status != "rejected" or rule not in again
    }


def _batches(items: list[Item], batch_size: int, batch_bytes: int) -> Iterator[list[Item]]:
    """Cut into batches by count and bytes.

    Ordered by size, and cut between sizes as far as that goes (up to double the size of a batch): copies of one
    image meet in one batch, where they are drawn once.
    """
    batch: list[Item] = []
    held = last = 0
    for item in sorted(items, key=lambda item: (item.locator.size, item.key)):
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
