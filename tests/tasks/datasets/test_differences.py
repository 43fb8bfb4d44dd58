"""What differs between two snapshots, against the same told by dictionaries; and what is asked of it."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.books import UnbalancedBooksError
from lookbook.tasks.datasets.differences import (
    CHANGES,
    Differences,
    Tables,
    changes_between,
    choose_snapshots,
    compare_snapshots,
    differing_making,
)
from lookbook.tasks.datasets.manifest import DamagedSnapshotError, require_published
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, OUTPUTS_SCHEMA, PRODUCTS_SCHEMA, REJECTS_SCHEMA
from lookbook.tasks.images.recipe import OutputDefinition
from tests.support.pipeline import SMALL, request, run, two_snapshots

Row = dict[str, Any]
#: What is expected: of each key and number how it changed, and in which columns.
Expected = dict[tuple[str, int], tuple[str, frozenset[str]]]

KEYS, CONTENTS, RULES = st.sampled_from("abcdefgh"), st.sampled_from("123456"), st.sampled_from(["", "dark", "torn"])
IMAGES = st.dictionaries(
    KEYS,
    st.fixed_dictionaries(
        {"sha256": CONTENTS | st.just(""), "outcome": st.sampled_from(["loaded", "duplicate", "rejected"])}
        | {"rule": RULES, "product_key": st.none() | st.sampled_from("xy"), "fingerprint": st.sampled_from("pq")}
        | {"brightness": st.none() | st.sampled_from([0.5, float("nan")])}
    ),
    max_size=8,
)
OUTPUTS = st.dictionaries(CONTENTS, st.frozensets(st.sampled_from("de"), min_size=1))
PRODUCTS = st.lists(
    st.fixed_dictionaries(
        {"product_key": st.sampled_from("abc"), "outcome": st.sampled_from(["matched", "duplicate"])}
        | {"image_key": st.none() | KEYS, "Size": st.none() | st.sampled_from("12"), "size": st.sampled_from("ML")}
    ),
    max_size=6,
)


def tables(
    images: Mapping[str, Row], outputs: Mapping[str, frozenset[str]], products: list[Row]
) -> dict[str, pa.Table]:
    """Tables of a snapshot; lines are given in the order of the products."""
    drawn = [
        {"sha256": sha256, "output": "thumb", "output_digest": digest}
        for sha256, digests in outputs.items()
        for digest in sorted(digests)
    ]
    rows = [each | {"file": "styles.csv", "line": line} for line, each in enumerate(products)]
    catalogue = pa.schema([*PRODUCTS_SCHEMA, pa.field("Size", pa.string()), pa.field("size", pa.string())])
    return {
        "images": pa.Table.from_pylist([{"key": key} | each for key, each in images.items()], IMAGES_SCHEMA),
        "outputs": pa.Table.from_pylist(drawn, OUTPUTS_SCHEMA),
        "products": pa.Table.from_pylist(rows, catalogue),
    }


def expected_images(
    before: Mapping[str, Row], after: Mapping[str, Row], drawn: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> Expected:
    """Tell the images' differences by dictionaries."""
    gone: dict[str, list[str]] = defaultdict(list)
    come: dict[str, list[str]] = defaultdict(list)
    for places, one, other in ((gone, before, after), (come, after, before)):
        for key in one.keys() - other.keys():
            places[one[key]["sha256"]].append(key)
    moved = {
        keys[0]: come[sha256][0] for sha256, keys in gone.items() if sha256 and len(keys) == 1 == len(come[sha256])
    }
    old = {moved.get(key, key): each for key, each in before.items()}
    found: Expected = {(key, 0): ("added", frozenset()) for key in after.keys() - old.keys()}
    found |= {(key, 0): ("removed", frozenset()) for key in old.keys() - after.keys()}
    for key in old.keys() & after.keys():
        was, now = old[key], after[key]
        names = {name for name in ("sha256", "outcome", "rule", "product_key") if was[name] != now[name]}
        if was["sha256"] == now["sha256"] and (was["outcome"] == "rejected") == (now["outcome"] == "rejected"):
            names |= {"brightness"} - ({"brightness"} if str(was["brightness"]) == str(now["brightness"]) else set())
            names |= {"outputs"} if drawn[0].get(was["sha256"]) != drawn[1].get(now["sha256"]) else set()
        names |= {"key"} if key in moved.values() else set()
        if names:
            found[key, 0] = ("changed", frozenset(names))
    return found


def expected_rows(before: list[Row], after: list[Row]) -> Expected:
    """Tell the catalogue rows' differences by dictionaries."""
    sides = []
    for rows in (before, after):
        count: Counter[str] = Counter()
        side = {}
        for each in sorted(rows, key=lambda each: each["outcome"] == "duplicate"):  # stable: in the order of the lines
            side[each["product_key"], count[each["product_key"]]] = each
            count[each["product_key"]] += 1
        sides.append(side)
    old, new = sides
    found: Expected = {key: ("added", frozenset()) for key in new.keys() - old.keys()}
    found |= {key: ("removed", frozenset()) for key in old.keys() - new.keys()}
    for key in old.keys() & new.keys():
        if names := frozenset(name for name in old[key] if old[key][name] != new[key][name]):
            found[key] = ("changed", names)
    return found


def told(found: Differences, of: str) -> list[tuple[str, str, frozenset[str]]]:
    return [(each["key"], each["kind"], frozenset(each["columns"])) for each in found.items((of,))]


@settings(max_examples=30)
@given(IMAGES, IMAGES, OUTPUTS, OUTPUTS, PRODUCTS, PRODUCTS)
def test_what_differs_is_what_dictionaries_tell_and_the_books_balance(
    old: dict[str, Row],
    new: dict[str, Row],
    was: dict[str, frozenset[str]],
    now: dict[str, frozenset[str]],
    rows: list[Row],
    later: list[Row],
) -> None:
    found = Differences(tables(old, was, rows), tables(new, now, later))
    for of, expected, before, after in (
        ("images", expected_images(old, new, (was, now)), old, new),
        ("rows", expected_rows(rows, later), rows, later),
    ):
        items = told(found, of)
        assert Counter(items) == Counter((key, kind, names) for (key, _), (kind, names) in expected.items())
        assert items == sorted(items, key=lambda each: (CHANGES.index(each[1]), each[0]))
        counts = found.counts[of]
        kinds = Counter(kind for kind, _ in expected.values())
        assert {kind: counts[kind] for kind in CHANGES} == {kind: kinds[kind] for kind in CHANGES}
        assert len(before) == counts["before"] == counts["unchanged"] + counts["changed"] + counts["removed"]
        assert len(after) == counts["after"] == counts["unchanged"] + counts["changed"] + counts["added"]
        columns = Counter(name for _, names in expected.values() for name in names)
        assert found.columns[of] == columns


def images(**rows: tuple[str | None, str]) -> dict[str, Row]:
    return {key: {"sha256": sha256, "outcome": outcome} for key, (sha256, outcome) in rows.items()}


def items(before: Tables, after: Tables) -> Iterator[Row]:
    return Differences(before, after).items()


def test_values_of_both_sides_are_told_with_the_reason() -> None:
    before = tables(images(a=("1", "loaded"), b=("2", "loaded"), c=("3", "loaded")), {"1": frozenset("d")}, [])
    after = tables(
        images(a=("1", "loaded"), b=("2", "rejected"), other=("3", "loaded")) | {"b": {"rule": "torn", "sha256": "2"}},
        {"1": frozenset("e")},
        [],
    )
    after["images"] = pa.Table.from_pylist(
        [row | ({"outcome": "rejected"} if row["key"] == "b" else {}) for row in after["images"].to_pylist()],
        IMAGES_SCHEMA,
    )
    redrawn, refused, moved = items(before, after)
    assert (redrawn["why"], redrawn["before"]["outputs"], redrawn["after"]["outputs"]) == (
        ["outputs"],
        {"thumb": "d"},
        {"thumb": "e"},
    )
    assert (refused["why"], refused["before"]["outcome"], refused["after"]["rule"]) == (["outcome"], "loaded", "torn")
    assert (moved["why"], moved["key"], moved["before"]["key"]) == (["moved"], "other", "c")


def test_one_content_under_several_new_names_is_not_called_moved() -> None:
    before, after = (
        tables(images(a=("1", "loaded")), {}, []),
        tables(images(b=("1", "loaded"), c=("1", "duplicate")), {}, []),
    )
    assert [(each["kind"], each["key"]) for each in items(before, after)] == [
        ("added", "b"),
        ("added", "c"),
        ("removed", "a"),
    ]


def test_a_column_that_came_went_or_has_another_type_is_told_where_its_values_differ() -> None:
    def catalogue(**columns: pa.Array) -> Tables:
        count = len(next(iter(columns.values())))
        known = {"product_key": [str(n) for n in range(count)], "file": ["a.csv"] * count, "line": list(range(count))}
        return {"products": pa.table(known | columns)}

    before = catalogue(year=pa.array([2012, 2013]), gone=pa.array(["x", None]))
    after = catalogue(year=pa.array(["2012", "later"]), new=pa.array([None, [1]], pa.list_(pa.int64())))
    first, second = items(before, after)
    assert (first["columns"], first["before"]["gone"], "gone" in first["after"]) == (["gone"], "x", False)
    assert set(second["columns"]) == {"year", "new"}
    assert (second["before"]["year"], second["after"]["year"], second["after"]["new"]) == (2013, "later", [1])


def test_pages_fit_together_and_one_kind_can_be_asked_for() -> None:
    before = tables(images(a=("1", "loaded"), b=("2", "loaded"), c=("3", "loaded")), {}, [])
    after = tables(images(a=("9", "loaded"), d=("4", "loaded"), e=("5", "loaded")), {}, [{"product_key": "p"}])
    found = Differences(before, after)
    whole = list(found.items())
    assert len(whole) == found.total() == 6
    for size in (1, 2, 4):
        pages = [list(found.items(start=start, limit=size)) for start in range(0, 6, size)]
        assert list(itertools.chain(*pages)) == whole
    assert [each["key"] for each in found.items(("images",), "removed")] == ["b", "c"]
    assert list(found.items(("rows",), "removed")) == []


def test_other_rejects_are_told_and_images_among_them_only_once() -> None:
    def refused(*rows: Row) -> Tables:
        return {"rejects": pa.Table.from_pylist(list(rows), REJECTS_SCHEMA)}

    image = {"reject_id": "1", "kind": "image", "locator": "a.jpg", "rule": "torn"}
    bad = {"reject_id": "2", "kind": "row", "locator": "styles.csv:3", "rule": "bad_id", "raw": "x"}
    (item,) = items(refused(bad), refused(image, bad | {"rule": "bad_year", "reject_id": "3"}))
    assert (item["of"], item["key"], item["columns"]) == ("rejects", "row styles.csv:3", ["rule"])


def test_a_key_that_a_table_has_twice_is_no_balance() -> None:
    twice = pa.Table.from_pylist([{"key": "a", "sha256": "1", "outcome": "loaded"}] * 2, IMAGES_SCHEMA)
    with pytest.raises(UnbalancedBooksError, match="do not balance: of images"):
        Differences({"images": twice}, {"images": twice})


def test_files_give_what_tables_in_memory_give_whatever_columns_are_called(tmp_path: Path) -> None:
    sides: list[dict[str, Any]] = []
    for name, value in (("a", 1), ("b", 2)):
        made = tables(images(a=(name, "loaded")), {"a": frozenset("d")}, [{"product_key": "p", "outcome": "matched"}])
        made["products"] = made["products"].append_column("FILE_ROW_NUMBER", pa.array([value]))
        sides.append(made)
    folder = tmp_path / "dataset=it's [1]"
    folder.mkdir()
    files: list[dict[str, list[Path]]] = []
    for at, side in enumerate(sides):
        files.append({name: [folder / f"{at}{name}{part}.parquet" for part in range(3)] for name in side})
        for name, table in side.items():
            for part, path in enumerate(files[at][name]):
                pq.write_table(table.slice(part, None if part == 2 else 1), path)
    assert list(items(*files)) == list(items(*sides))
    assert [each["columns"] for each in items(*files)] == [["sha256"], ["FILE_ROW_NUMBER"]]


def test_a_report_is_told_of_images_alone_and_the_first_names() -> None:
    before, after = tables(images(a=("1", "loaded")), {}, []), tables(images(b=("2", "loaded")), {}, [])
    del before["products"], after["products"]
    found = changes_between(before, after, "s1")
    assert (found.previous, found.counts) == ("s1", {"added": 1, "removed": 1, "changed": 0})
    assert found.first == {"added": ["b"], "removed": ["a"], "changed": []}
    assert changes_between(None, after, None).counts == {"added": 1, "removed": 0, "changed": 0}


@pytest.fixture
def two(workspace: Workspace, tmp_path: Path) -> Workspace:
    """See `two_snapshots`."""
    two_snapshots(workspace, tmp_path / "in")
    return workspace


def test_by_default_the_current_snapshot_is_compared_with_the_one_before_it(two: Workspace) -> None:
    current = require_published(two.lake, "things").manifest
    before, after = choose_snapshots(two.lake, "things", None, None)
    assert (before.snapshot_id, after.snapshot_id) == (current.previous, current.snapshot_id)
    assert choose_snapshots(two.lake, "things", before.snapshot_id, None)[1] == current
    assert choose_snapshots(two.lake, "things", current.snapshot_id, before.snapshot_id) == (after, before)
    found = compare_snapshots(two.lake, two.scratch, before, after)
    assert [(each["of"], each["key"], each["why"]) for each in found.items()] == [
        ("images", "1.jpg", ["content"]),
        ("rows", "1", ["image"]),
        ("rows", "2", ["values"]),
    ]
    assert not any(differing_making(before, after).values())
    del found
    assert not list(two.scratch.glob("diff-*")), "what it needed is gone with it"


def test_another_recipe_is_told_and_what_was_drawn_by_it(two: Workspace, tmp_path: Path) -> None:
    outputs = SMALL.outputs | {"thumb": OutputDefinition(image_size=20)}
    run(request(two, tmp_path / "in", recipe=SMALL.model_copy(update={"outputs": outputs, "max_seconds": 99})))
    before, after = choose_snapshots(two.lake, "things", None, None)
    made = differing_making(before, after)
    assert (set(made["outputs"]), made["recipe"]["max_seconds"][1]) == ({"thumb"}, 99)
    found = compare_snapshots(two.lake, two.scratch, before, after)
    assert found.why["images"] == {"outputs": 3}


def test_what_cannot_be_compared_is_said_with_the_way_out(two: Workspace) -> None:
    before, after = choose_snapshots(two.lake, "things", None, None)
    with pytest.raises(UsageError, match="no snapshot nobody") as unknown:
        choose_snapshots(two.lake, "things", "nobody", None)
    assert f"There is {after.snapshot_id}, {before.snapshot_id}: see" in unknown.value.way_out
    with pytest.raises(LookbookError, match="no such dataset"):
        choose_snapshots(two.lake, "nothing", None, None)
    with pytest.raises(LookbookError, match="no snapshot before"):
        choose_snapshots(two.lake, "things", None, before.snapshot_id)
    (key,) = before.keys("products")
    two.lake.replace(key, two.lake.get(key)[:-1])
    with pytest.raises(DamagedSnapshotError, match=f"{key} is damaged"):
        compare_snapshots(two.lake, two.scratch, before, after)
    two.lake.remove(key)
    with pytest.raises(DamagedSnapshotError, match=f"{key} is missing"):
        compare_snapshots(two.lake, two.scratch, before, after)
    assert not list(two.scratch.glob("diff-*"))
