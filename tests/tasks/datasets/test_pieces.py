"""Tables in pieces that snapshots share: what is written, what stands, and what is removed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LeaseLostError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets import pieces
from lookbook.tasks.datasets.differences import Tables
from lookbook.tasks.datasets.manifest import (
    Manifest,
    file_faults,
    is_whole,
    list_snapshots,
    local_table,
    read_published,
    read_table,
    tables_folder,
)
from lookbook.tasks.datasets.pieces import cut, write_tables
from lookbook.tasks.datasets.publish import commit, loose_pieces, sweep_unfinished, write_file, writing
from lookbook.tasks.images.recipe import Recipe
from tests.support.leases import holding
from tests.support.sets import sampled

Rows = Mapping[str, int]


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(root=tmp_path / "lake")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of some ten rows."""
    monkeypatch.setitem(pieces.PIECES, "images", ("key", 8))


def images(rows: Rows) -> pa.Table:
    return pa.table({"key": sorted(rows), "bytes": [rows[key] for key in sorted(rows)], "note": [None] * len(rows)})


def begun(lake: FolderLake, number: int) -> Manifest:
    """The manifest of a snapshot of which nothing is written yet."""
    before = read_published(lake, "things")
    return Manifest(
        dataset="things", snapshot_id=f"s-{number:03}", created_at=datetime(2026, 11, 21, tzinfo=UTC), source="/photos",
        digest="d" * 64, previous=before.manifest.snapshot_id if before else None, recipe=Recipe(), rules_digest="r",
        output_digests={}, versions={}, summary={}, files=[],
    )  # fmt: skip


def publish(
    lake: FolderLake, number: int, tables: Tables, written: Callable[[], object] = lambda: None, **how: Any
) -> Manifest:
    manifest, before = begun(lake, number), read_published(lake, "things")
    with writing(lake, manifest):
        manifest.files = write_tables(lake, manifest, tables, before.manifest if before else None, **how)
        manifest.files.append(write_file(lake, manifest.folder, "report.html", b"<body>"))
        written()
        commit(lake, manifest, before)
    return manifest


def keys(lake: FolderLake) -> set[str]:
    return {info.key for info in lake.list("datasets") if not info.key.endswith(".lock")}


def new_pieces(lake: FolderLake, work: Callable[[], object]) -> int:
    before = keys(lake)
    work()
    return sum("/tables/" in key for key in keys(lake) - before)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", sampled(range(20), fast=[0, 1]))
def test_whatever_changes_tables_are_read_back_whole_and_a_row_costs_a_few_pieces(lake: FolderLake, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - of a test
    rows = {f"{chance.randrange(10**6):06}.jpg": 0 for _ in range(chance.choice([0, 1, 5, 900]))}
    publish(lake, 0, {"images": images(rows)})
    expected = [images(rows)]
    for number in range(1, 12):
        changed = chance.choice([0, 1, 1, 2, 5])
        for _ in range(changed):
            if rows and chance.random() < 0.6:
                key = chance.choice(sorted(rows))
                rows[key] += 1
                if chance.random() < 0.5:
                    del rows[key]
            else:
                rows[f"{chance.randrange(10**6):06}.jpg"] = 0
        assert new_pieces(lake, lambda at=number: publish(lake, at, {"images": images(rows)})) <= 4 * changed  # type: ignore[misc]
        expected.append(images(rows))
    for manifest, table in zip(reversed(list_snapshots(lake, "things")), expected, strict=True):
        assert read_table(lake, manifest, "images") == table
        assert pq.read_table(local_table(lake, manifest, "images", lake.root)) == table
        assert manifest.rows == {"images": len(table)}
        assert file_faults(lake, manifest) == []


@pytest.mark.parametrize("place", [0, 77_777, 199_999])
def test_one_new_row_of_two_hundred_thousand_is_one_new_piece_or_two(place: int) -> None:
    names = [f"images/{number:07}.jpg" for number in range(200_000)]
    before = list(cut([pa.table({"key": names})], "key", 4096))
    after = list(cut([pa.table({"key": [*names[:place], f"{names[place]}.png", *names[place:]]})], "key", 4096))
    told = [{tuple(each["key"].to_pylist()) for each in side} for side in (before, after)]
    assert len(told[1] - told[0]) <= 2
    assert 20 <= len(before) <= 30, "of some 8,000 rows each"
    assert all(4096 <= len(each) <= 4 * 4096 for each in before[:-1])


@pytest.mark.usefixtures("small")
def test_equal_rows_are_equal_pieces_however_they_lay_before(lake: FolderLake, tmp_path: Path) -> None:
    table = images({f"{number}.jpg": number for number in range(500)})
    in_files = [tmp_path / f"{at}.parquet" for at in (0, 130, 131)]
    for path, (start, rows) in zip(in_files, ((0, 130), (130, 1), (131, None)), strict=True):
        pq.write_table(table.slice(start, rows), path, row_group_size=37, compression="none")
    in_chunks = pa.concat_tables([table.slice(at, 3) for at in range(0, 500, 3)])
    made = [publish(lake, number, {"images": each}).files for number, each in enumerate((table, in_files, in_chunks))]
    assert len(made[0]) > 10
    assert made[1][:-1] == made[2][:-1] == made[0][:-1]


@pytest.mark.parametrize("rows", [0, 1, 2000])
def test_a_small_table_is_one_piece_and_an_empty_one_has_its_columns(lake: FolderLake, rows: int) -> None:
    table = images({f"{number}.jpg": number for number in range(rows)})
    manifest = publish(lake, 0, {"images": table})
    assert [file.rows for file in manifest.tables["images"]] == [rows]
    assert read_table(lake, manifest, "images") == table


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("damage", "is_read"), [("missing", True), ("cut off", True), ("changed", False)])
def test_a_piece_that_is_not_what_the_manifest_lists_is_written_again(
    lake: FolderLake, damage: str, is_read: bool
) -> None:
    table = images({f"{number}.jpg": number for number in range(200)})
    first = publish(lake, 0, {"images": table})
    key = first.keys("images")[2]
    data = lake.get(key)
    lake.remove(key)
    if damage != "missing":
        lake.put(key, data[:-1] if damage == "cut off" else bytes([*data[:-1], data[-1] ^ 1]))
    second = publish(lake, 1, {"images": table}, is_read=is_read)
    assert file_faults(lake, second) == file_faults(lake, first) == []
    assert second.keys("images") == first.keys("images")


class Killed(BaseException):
    """In the place of SIGKILL."""


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("step", sampled(range(1, 40), fast=[1, 2, 4, 9]))
def test_killed_anywhere_in_its_writing_a_run_strands_nothing_and_takes_nothing(
    lake: FolderLake, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    rows = {f"{number}.jpg": number for number in range(200)}
    publish(lake, 0, {"images": images(rows)})
    before, done = keys(lake), 0

    def dying(method: Any) -> Any:
        def step_by_step(self: FolderLake, *given: Any) -> Any:
            nonlocal done
            done += 1
            if done >= step:
                raise Killed
            return method(self, *given)

        return step_by_step

    rows |= {f"{number}.png": number for number in range(0, 200, 10)}
    with monkeypatch.context() as patch:
        for name in ("put", "swap", "remove"):
            patch.setattr(FolderLake, name, dying(getattr(FolderLake, name)))
        try:
            publish(lake, 1, {"images": images(rows)})
        except Killed:
            pass
        else:
            assert done < step, "it ended before"
    published = read_published(lake, "things")
    assert published is not None
    is_new = published.manifest.snapshot_id == "s-001"
    with monkeypatch.context() as patch:  # who sweeps is killed as well
        done, step = 0, 3
        patch.setattr(FolderLake, "remove", dying(FolderLake.remove))
        with suppress(Killed):
            sweep_unfinished(lake, "things")
    sweep_unfinished(lake, "things")
    if not is_new:
        assert keys(lake) == before
    assert loose_pieces(lake, "things") == []
    assert read_table(lake, publish(lake, 2, {"images": images(rows)}), "images") == images(rows)


@pytest.mark.usefixtures("small")
def test_a_run_that_lost_its_lease_right_before_its_swap_publishes_nothing_that_was_swept(lake: FolderLake) -> None:
    rows = {f"{number}.jpg": number for number in range(200)}
    with holding(1, "dataset/things"):
        first = publish(lake, 0, {"images": images(rows)})

    def overtaken() -> None:
        with holding(2, "dataset/things"):
            assert sweep_unfinished(lake, "things") == ["s-001"]

    with holding(1, "dataset/things"), pytest.raises(LeaseLostError):
        publish(lake, 1, {"images": images(rows | {"new.jpg": 1})}, overtaken)
    assert is_whole(lake, first)
    with holding(3, "dataset/things"):
        sweep_unfinished(lake, "things")
    assert {key for key in keys(lake) if "/tables/" in key} == set(first.keys("images"))


@pytest.mark.usefixtures("small")
def test_who_stands_still_while_it_removes_takes_nothing_from_a_run_that_writes_the_same_again(
    lake: FolderLake,
) -> None:
    rows = {f"{number}.jpg": number for number in range(200)}
    publish(lake, 0, {"images": images(rows)})
    rows["new.jpg"] = 1

    def killed() -> None:
        raise Killed

    with pytest.raises(Killed):
        publish(lake, 1, {"images": images(rows)}, killed)
    found = loose_pieces(lake, "things")
    assert found
    later = publish(lake, 2, {"images": images(rows)})
    for info in found:  # it goes on
        lake.remove(info.key)
    assert file_faults(lake, later) == []


@pytest.mark.usefixtures("small")
def test_where_a_manifest_cannot_be_read_no_piece_goes(lake: FolderLake) -> None:
    first = publish(lake, 0, {"images": images({f"{number}.jpg": number for number in range(200)})})
    publish(lake, 1, {"images": images({"a.jpg": 1})})
    lake.replace(f"{first.folder}/manifest.json", b"{")
    assert loose_pieces(lake, "things") == []
    lake.remove(f"{first.folder}/manifest.json")
    assert {info.key for info in loose_pieces(lake, "things")} == set(first.keys("images"))


def test_a_manifest_names_its_pieces_from_the_folder_of_the_dataset_on(lake: FolderLake) -> None:
    manifest = publish(lake, 0, {"images": images({"a.jpg": 1})})
    (file, _) = json.loads(lake.get(f"{manifest.folder}/manifest.json"))["files"]
    assert f"datasets/things/{file['name']}" in keys(lake)
    assert file["name"].startswith("tables/images/")
    assert manifest.keys("images")[0].startswith(f"{tables_folder('things')}/images/")
