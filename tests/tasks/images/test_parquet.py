"""Manifests and parts come back from Parquet as they were."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.tasks.images.items import (
    ASSET_FIELDS,
    MANIFEST_SCHEMA,
    PART_SCHEMA,
    Drawn,
    Item,
    KnownContent,
    Locator,
    Outcome,
)
from lookbook.tasks.images.items import Store as StoreName
from lookbook.tasks.images.parquet import from_parquet, manifest_items, manifest_table, part_table, to_parquet

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.integers(0, 2**63 - 1)

LOCATORS = st.builds(
    Locator,
    store=st.sampled_from(get_args(StoreName)),
    path=st.binary(max_size=20),
    member=TEXTS,
    offset=NUMBERS,
    size=NUMBERS,
)
ITEMS = st.builds(
    Item,
    key=TEXTS,
    fingerprint=TEXTS,
    locator=LOCATORS,
    known=st.lists(st.builds(KnownContent, TEXTS, st.lists(TEXTS, max_size=3).map(tuple)), max_size=3).map(tuple),
    measure_again=st.booleans(),
    refused=st.none() | st.tuples(st.text("abc_", min_size=1), TEXTS),
)


@settings(deadline=None)
@given(st.lists(ITEMS, max_size=5))
def test_a_manifest_comes_back_item_by_item(items: list[Item]) -> None:
    table, _ = from_parquet(to_parquet(manifest_table(items)))
    assert table.schema == MANIFEST_SCHEMA
    assert manifest_items(table) == items


def test_a_path_that_is_no_utf8_comes_back_byte_by_byte() -> None:
    path = b"/photos/\xe9t\xe9 \xff\x80\x01\n.jpg"
    item = Item("x.jpg", "mtime:1", Locator("file", path, size=3))
    assert manifest_items(from_parquet(to_parquet(manifest_table([item])))[0])[0].locator.path == path


def test_equal_tables_and_metadata_give_equal_bytes() -> None:
    items = [Item("x.jpg", "mtime:1", Locator("file", b"/x", size=3))]
    first, again = (to_parquet(manifest_table(items), {"recipe": "{}", "dataset": "x"}) for _ in range(2))
    assert first == again


def test_metadata_come_back_and_leave_the_table_bare() -> None:
    metadata = {"recipe": '{"écran": "写真"}', "dataset": "things", "empty": ""}
    table, found = from_parquet(to_parquet(pa.table({"a": [1]}), metadata))
    assert found == metadata
    assert table.schema.metadata is None
    assert from_parquet(to_parquet(pa.table({"a": [1]})))[1] == {}


def test_a_part_has_a_row_for_each_outcome() -> None:
    values: dict[Any, Any] = {pa.string(): "écran", pa.int32(): 7, pa.float64(): 0.5, pa.bool_(): True}
    values[pa.binary()] = b"\x00\xff"
    values[pa.large_string()] = '{"Make": "écran"}'
    values[pa.timestamp("s")] = datetime(2012, 5, 1, 12, 30)  # noqa: DTZ001 - EXIF knows no time zone
    asset = {field.name: values[field.type] for field in ASSET_FIELDS}
    drawn = [Drawn(name, "d1", f"derived/d1/{name}", "s2", 2**40, 512, 384) for name in ("grey", "thumb")]
    outcomes = [
        Outcome("a.jpg", "mtime:1", "ok", sha256="s1", bytes=2**40, asset=asset, drawn=drawn),
        Outcome("b.jpg", "mtime:2", "rejected", "truncated", "cut off", "s3", 5, {"original_key": "rejected/s3.bin"}),
        Outcome("c.jpg", "mtime:3", "same", sha256="s1", bytes=9),
    ]
    table, _ = from_parquet(to_parquet(part_table(outcomes)))
    rows = table.cast(PART_SCHEMA).to_pylist()  # Parquet counts times in milliseconds at the least
    assert [(row["key"], row["status"], row["rule"], row["sha256"]) for row in rows] == [
        ("a.jpg", "ok", "", "s1"),
        ("b.jpg", "rejected", "truncated", "s3"),
        ("c.jpg", "same", "", "s1"),
    ]
    assert {name: rows[0][name] for name in asset} == asset
    assert rows[0]["drawn"] == [asdict(each) for each in drawn]
    assert rows[1]["original_key"] == "rejected/s3.bin"
    assert {rows[2][field.name] for field in ASSET_FIELDS} == {None}
    assert (rows[1]["drawn"], rows[2]["drawn"]) == ([], [])


def test_a_batch_without_images_has_an_empty_part() -> None:
    table, _ = from_parquet(to_parquet(part_table([])))
    assert (len(table), table.schema.names) == (0, PART_SCHEMA.names)
    assert table.cast(PART_SCHEMA).schema == PART_SCHEMA


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda _: b"", lambda data: data[:4], lambda _: b"x" * 99])
def test_what_is_no_whole_file_is_refused(damage: Any) -> None:
    data = to_parquet(pa.table({"a": list(range(1000))}))
    with pytest.raises(pa.ArrowInvalid):
        from_parquet(damage(data))
