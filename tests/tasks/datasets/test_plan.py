"""The plan: every image in exactly one place, batches within their bounds, names of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.tasks.datasets.plan import (
    MOST_KNOWN,
    Known,
    batch_digest,
    list_files,
    make_plan,
    recipe_digest,
    take_up_known,
    take_up_part,
    todo_batches,
)
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, OUTPUTS_SCHEMA
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.items import PART_SCHEMA, Item, KnownContent, Locator
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from tests.support.desks import shared_desk

RECIPE = Recipe(outputs={"thumb": OutputDefinition(image_size=16), "grey": OutputDefinition(colour_mode="grey")})
STRICTER = RECIPE.model_copy(update={"min_image_size": 30})


def file(number: int, size: int = 100, fingerprint: str = "", **values: Any) -> SourceFile:
    key = f"images/{number}.jpg"
    mark = fingerprint or f"mtime:{number}:{size}"
    return SourceFile(key, size, mark, Locator("file", b"/photos/" + key.encode(), size=size), **values)


@dataclass(frozen=True)
class Stock:
    """What is known before a run.

    Attributes:
        images: published ones; those of `lacking` keys lack their last output, those of `rejected` keys were refused.
        parts: images of parts that no snapshot took up.
    """

    images: Sequence[SourceFile] = ()
    parts: Sequence[SourceFile] = ()
    lacking: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Keys that hold as they were published, and by parts; and the batches of all others."""

    published: set[str]
    parts: set[str]
    batches: list[list[Item]]

    @property
    def todo(self) -> dict[str, Item]:
        return {item.key: item for batch in self.batches for item in batch}


def plan_of(
    images: Sequence[SourceFile],
    stock: Stock | None = None,
    recipe: Recipe = RECIPE,
    batch_size: int = 100,
    batch_bytes: int = 10**9,
) -> Plan:
    """Plan with what was made by `RECIPE`."""
    desk, stock = shared_desk(), stock or Stock()
    rows = [
        {"key": f.key, "fingerprint": f.fingerprint, "sha256": f"sha-{f.key}", "bytes": f.size}
        | {"outcome": "rejected" if f.key in stock.rejected else "loaded"}
        for f in stock.images
    ]
    outputs = [
        {"sha256": f"sha-{f.key}", "output": name, "output_digest": output.digest()}
        for f in stock.images
        if f.key not in stock.rejected
        for name, output in list(RECIPE.outputs.items())[: -1 if f.key in stock.lacking else None]
    ]
    paths = [desk.folder / f"{name}.parquet" for name in ("known-images", "known-outputs")]
    for path, table, schema in zip(paths, (rows, outputs), (IMAGES_SCHEMA, OUTPUTS_SCHEMA), strict=True):
        pq.write_table(pa.Table.from_pylist(table, schema=schema), path)
    known = Known(paths[:1], paths[1:], RECIPE.rules_digest())
    list_files(desk, ((each, True) for each in images), None)
    take_up_known(desk, known)
    take_up_part(desk, _parts(stock.parts))
    make_plan(desk, known, recipe)
    held, taken = ({key for (key,) in desk.rows(f"SELECT key FROM {name}")} for name in ("held", "taken"))
    return Plan(held, taken, list(todo_batches(desk, known, recipe, batch_size, batch_bytes)))


def _parts(files: Sequence[SourceFile]) -> pa.Table:
    rows = [
        {"key": f.key, "fingerprint": f.fingerprint, "status": "ok", "rule": "", "error_message": ""}
        | {"sha256": f"sha-{f.key}", "bytes": f.size, "drawn": []}
        for f in files
    ]
    return pa.Table.from_pylist(rows, schema=PART_SCHEMA)


# Few sizes, so that many images are of one size; and some far beyond the bytes of a batch.
SIZES = st.lists(st.integers(0, 12) | st.sampled_from([1000]), max_size=60)


@settings(deadline=None, max_examples=30)
@given(sizes=SIZES, data=st.data())
def test_every_image_ends_in_exactly_one_place(sizes: list[int], data: st.DataObject) -> None:
    images = [file(number, size) for number, size in enumerate(sizes)]
    some = st.lists(st.sampled_from(images), unique_by=lambda f: f.key) if images else st.just([])
    held, changed = data.draw(some), {f.key for f in data.draw(some)}
    done = data.draw(some)
    before = [replace(f, fingerprint="old") if f.key in changed else f for f in held]
    bounds = data.draw(st.integers(1, 10)), data.draw(st.integers(1, 50))
    plan = plan_of(images, Stock(before, done), RECIPE, *bounds)
    ended = [*(item.key for batch in plan.batches for item in batch), *plan.published, *plan.parts]
    assert Counter(ended) == Counter(f.key for f in images)
    as_it_was = {f.key for f in held} - changed
    assert plan.published == as_it_was
    assert plan.parts == {f.key for f in done} - as_it_was


@settings(deadline=None, max_examples=30)
@given(sizes=SIZES, batch_size=st.integers(1, 8), batch_bytes=st.integers(1, 40))
def test_batches_keep_their_bounds(sizes: list[int], batch_size: int, batch_bytes: int) -> None:
    images = [file(number, size) for number, size in enumerate(sizes)]
    plan = plan_of(images, None, RECIPE, batch_size, batch_bytes)
    for batch in plan.batches:
        held = [item.locator.size for item in batch]
        assert 1 <= len(held) <= 2 * batch_size
        assert sum(held) <= 2 * batch_bytes or len(held) == 1
        # What is beyond the plain bounds is there only to be with images of its size.
        for place in range(1, len(held)):
            if place >= batch_size or sum(held[: place + 1]) > batch_bytes:
                assert held[place] == held[place - 1]


@settings(deadline=None, max_examples=30)
@given(sizes=SIZES, batch_size=st.integers(1, 8), batch_bytes=st.integers(1, 40))
def test_images_of_one_size_stay_together_up_to_twice_a_batch(
    sizes: list[int], batch_size: int, batch_bytes: int
) -> None:
    images = [file(number, size) for number, size in enumerate(sizes)]
    plan = plan_of(images, None, RECIPE, batch_size, batch_bytes)
    batches_of: dict[int, set[int]] = {}
    for number, batch in enumerate(plan.batches):
        for item in batch:
            batches_of.setdefault(item.locator.size, set()).add(number)
    for size, count in Counter(sizes).items():
        if count <= batch_size and size * count <= batch_bytes:
            assert len(batches_of[size]) == 1, f"{count} images of {size} bytes"
    for before, after in zip(plan.batches, plan.batches[1:], strict=False):
        if before[-1].locator.size == after[0].locator.size:
            full = sum(item.locator.size for item in before) + after[0].locator.size
            assert len(before) == 2 * batch_size or full > 2 * batch_bytes, "cut within a size too early"


@settings(deadline=None, max_examples=30)
@given(sizes=SIZES)
def test_few_images_are_one_batch(sizes: list[int]) -> None:
    plan = plan_of([file(n, s) for n, s in enumerate(sizes)], None, RECIPE, 60, 60_000)
    assert len(plan.batches) == bool(sizes)


@settings(deadline=None, max_examples=30)
@given(sizes=SIZES, seed=st.randoms(use_true_random=False))
def test_the_order_of_listing_does_not_matter(sizes: list[int], seed: Any) -> None:
    images = [file(number, size) for number, size in enumerate(sizes)]
    shuffled = seed.sample(images, len(images))
    assert plan_of(images, None, RECIPE, 5, 30) == plan_of(shuffled, None, RECIPE, 5, 30)


def test_an_image_as_it_was_published_needs_nothing() -> None:
    images = [file(1), file(2)]
    whole = Plan({"images/1.jpg", "images/2.jpg"}, set(), [])
    assert plan_of(images, Stock(images)) == whole
    assert plan_of(images, Stock(images, rejected=("images/2.jpg",))) == whole, "it stays refused"


def test_an_image_that_lacks_an_output_is_done_again_knowing_what_stands() -> None:
    images = [file(1, 100), file(2, 200)]
    plan = plan_of(images, Stock(images, lacking=("images/2.jpg",)))
    assert plan.published == {"images/1.jpg"}
    assert plan.todo["images/2.jpg"].known == (KnownContent("sha-images/2.jpg", ("thumb",)),)
    assert plan.todo["images/2.jpg"].measure_again is False


def test_an_image_of_a_known_size_may_be_a_known_content() -> None:
    before = [file(1, 100), file(2, 200), file(3, 100)]
    plan = plan_of([file(7, 100), file(8, 300)], Stock(before, rejected=("images/3.jpg",)))
    assert plan.todo["images/7.jpg"].known == (KnownContent("sha-images/1.jpg", ("grey", "thumb")),)
    assert plan.todo["images/8.jpg"].known == ()


def test_other_rules_judge_every_image_again_without_drawing_what_stands() -> None:
    images = [file(1), file(2)]
    items = plan_of(images, Stock(images, rejected=("images/2.jpg",)), STRICTER).todo
    assert set(items) == {"images/1.jpg", "images/2.jpg"}
    assert items["images/1.jpg"].measure_again
    assert items["images/1.jpg"].known[0].outputs == ("grey", "thumb")


def test_no_more_known_contents_are_handed_over_than_agreed() -> None:
    before = [file(number) for number in range(MOST_KNOWN + 5)]
    assert len(plan_of([file(99)], Stock(before)).todo["images/99.jpg"].known) == MOST_KNOWN


def test_a_part_holds_only_for_the_very_file_that_it_speaks_of() -> None:
    plan = plan_of([file(1), file(2, fingerprint="changed"), file(3)], Stock(parts=[file(1), file(2)]))
    assert plan.parts == {"images/1.jpg"}
    assert set(plan.todo) == {"images/2.jpg", "images/3.jpg"}


def test_what_was_published_comes_before_a_part() -> None:
    images = [file(1)]
    assert plan_of(images, Stock(images, images)) == Plan({"images/1.jpg"}, set(), [])


def test_a_refused_file_is_handed_on_as_refused() -> None:
    refused = file(1, refused=("outside_source", "a link to /etc"))
    assert plan_of([refused]).todo["images/1.jpg"].refused == ("outside_source", "a link to /etc")


ITEM = Item("a.jpg", "mtime:1", Locator("zip", b"/x.zip", "a.jpg", 5, 7), (KnownContent("s1", ("thumb",)),))
SECOND = Item("b.jpg", "mtime:1", Locator("file", b"/b.jpg", size=3))


def test_the_same_work_has_the_same_name() -> None:
    again = Item("a.jpg", "mtime:1", Locator("zip", b"/x.zip", "a.jpg", 5, 7), (KnownContent("s1", ("thumb",)),))
    turned = Recipe(outputs=dict(reversed(RECIPE.outputs.items())))
    assert batch_digest([ITEM, SECOND], RECIPE) == batch_digest([again, SECOND], turned)


@pytest.mark.parametrize(
    "changed",
    [
        replace(ITEM, key="c.jpg"),
        replace(ITEM, fingerprint="mtime:2"),
        replace(ITEM, locator=replace(ITEM.locator, store="file")),
        replace(ITEM, locator=replace(ITEM.locator, path=b"/\xff.zip")),
        replace(ITEM, locator=replace(ITEM.locator, member="A.jpg")),
        replace(ITEM, locator=replace(ITEM.locator, offset=6)),
        replace(ITEM, locator=replace(ITEM.locator, size=8)),
        replace(ITEM, known=()),
        replace(ITEM, known=(KnownContent("s1", ()),)),
        replace(ITEM, measure_again=True),
        replace(ITEM, refused=("rule", "message")),
    ],
)
def test_other_work_has_another_name(changed: Item) -> None:
    assert batch_digest([changed, SECOND], RECIPE) != batch_digest([ITEM, SECOND], RECIPE)


def test_a_batch_is_named_after_all_its_items_and_its_recipe() -> None:
    names = [
        batch_digest([ITEM, SECOND], RECIPE),
        batch_digest([ITEM], RECIPE),
        batch_digest([SECOND], RECIPE),
        batch_digest([], RECIPE),
        batch_digest([ITEM, SECOND], STRICTER),
        batch_digest([ITEM, SECOND], Recipe(outputs={"thumb": RECIPE.outputs["thumb"]})),
    ]
    assert len(set(names)) == len(names)


def test_a_recipes_digest_changes_with_rules_outputs_and_their_names() -> None:
    renamed = Recipe(outputs={"small": RECIPE.outputs["thumb"], "grey": RECIPE.outputs["grey"]})
    finer = Recipe(outputs={**RECIPE.outputs, "grey": OutputDefinition(colour_mode="grey", encode_quality=95)})
    digests = [recipe_digest(recipe) for recipe in (RECIPE, STRICTER, renamed, finer)]
    assert len(set(digests)) == 4
