"""Exports and predictions in batches: whoever does them, in whichever order and however often, gives the same bytes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.exports import build as building
from lookbook.tasks.exports import predictions
from lookbook.tasks.exports.export import build
from lookbook.tasks.exports.finished import find_finished, place_of, require_finished
from lookbook.tasks.exports.places import export_to_folder, export_to_lake
from lookbook.tasks.exports.predictions import load_model, predict, read_predictions
from lookbook.tasks.exports.request import read_request
from lookbook.tasks.images import jobs
from lookbook.tasks.images.parquet import to_parquet
from tests.support.exports import SPLIT, digests, place_in, prepared
from tests.support.onnx_models import write_model

ASKED: dict[str, Any] = {"recipe": "square-24", "format": "webdataset", "shard_size": 4, "split": SPLIT}
#: Another process: all that it is told is where the lake is, and which batches to do.
WORKER = """
import sys
from pathlib import Path
from lookbook.blocks.lake import FolderLake
from lookbook.flows.process_batch import do_batch
for batch in sys.argv[2:]:
    print(do_batch(FolderLake(root=Path(sys.argv[1])), batch), flush=True)
"""
Done = Callable[[str], object]


def worker(lake: FolderLake, batches: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(lake.root), *batches], stdout=subprocess.PIPE)


def test_a_batch_takes_whole_parts_and_no_more_files_than_it_may(sample_lake: FolderLake, tmp_path: Path) -> None:
    seen: list[tuple[int, list[int]]] = []

    def do(batches: Sequence[str], done: Done) -> None:
        for batch in batches:
            rows, told = jobs.read_batch(sample_lake, batch)
            seen.append((rows.num_rows, [part["number"] for part in json.loads(told["parts"])]))
        jobs.do_here(sample_lake, building.do_batch)(batches, done)

    books = build(sample_lake, prepared(sample_lake, **ASKED), place_in(tmp_path), do=do, batch_size=10)
    assert sum(rows for rows, _ in seen) == books["exported"]
    assert all(rows <= 10 for rows, _ in seen)
    parts = [number for _, numbers in seen for number in numbers]
    assert parts == list(range(len(parts)))
    assert len(parts) > len(seen) > 3


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 80), order=st.randoms(use_true_random=False), again=st.booleans())
def test_the_bytes_depend_on_no_batch_size_order_or_repetition(
    sample_lake: FolderLake, tmp_path_factory: pytest.TempPathFactory, size: int, order: random.Random, again: bool
) -> None:
    def do(batches: Sequence[str], done: Done) -> None:
        shuffled = order.sample(batches, len(batches))
        for batch in shuffled:
            first = building.do_batch(sample_lake, batch)
            if again:
                sample_lake.remove(f"{batch}/part.parquet")  # its process died right before it said so
                second = building.do_batch(sample_lake, batch)
                assert (second["made"], second["there"]) == (0, first["made"])
            done(batch)

    whole, out = (tmp_path_factory.mktemp(name) for name in ("whole", "out"))
    wanted = prepared(sample_lake, **ASKED)
    build(sample_lake, wanted, place_in(whole))
    build(sample_lake, wanted, place_in(out), do=do, batch_size=size)
    assert digests(out) == digests(whole)


def test_other_processes_give_the_same_bytes_and_one_that_is_killed_costs_only_its_part(
    sample_lake: FolderLake, tmp_path: Path
) -> None:
    asked = ASKED | {"copies": 3, "recipe": "train-24"}
    whole = export_to_folder(sample_lake, prepared(sample_lake, **asked), tmp_path / "whole")
    place = place_of(sample_lake, whole.id)
    counts: list[dict[str, int]] = []

    def do(batches: Sequence[str], done: Done) -> None:
        halves = (batches[: len(batches) // 2], batches[len(batches) // 2 :])
        killed = worker(sample_lake, halves[0])
        deadline = time.monotonic() + 120
        while not (parts := list(sample_lake.list(f"{place.folder}parts"))):
            assert time.monotonic() < deadline, "no part was ever done"
            assert killed.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        killed.kill()
        killed.communicate()
        assert find_finished(sample_lake, whole.id) is None, "nobody reads what is half done"
        workers = [worker(sample_lake, half) for half in halves]
        said = [each.communicate()[0].decode().splitlines() for each in workers]
        assert [each.returncode for each in workers] == [0, 0]
        counts.extend(eval(line) for lines in said for line in lines)  # noqa: S307 - our own
        assert sum(count["there"] for count in counts) >= min(len(parts), 1)
        for batch in batches:
            done(batch)

    exported = export_to_lake(sample_lake, prepared(sample_lake, **asked), tmp_path / "scratch", do, 24)
    assert exported.books["made"] + exported.books["there"] == exported.books["exported"]
    assert exported.books["there"] >= 1
    assert not exported.answered
    found = require_finished(sample_lake, whole.id)
    assert found.is_whole()
    brought = export_to_folder(
        sample_lake, prepared(sample_lake, **asked), tmp_path / "brought", by_way_of=tmp_path / "scratch"
    )
    assert brought.books["exported"] == exported.books["exported"]
    assert digests(tmp_path / "brought") == digests(tmp_path / "whole")
    assert list(sample_lake.list("work")) == []


def test_a_fault_of_a_batch_leaves_no_export_and_what_is_done_is_not_done_again(
    sample_lake: FolderLake, tmp_path: Path
) -> None:
    wanted = prepared(sample_lake, **ASKED, seed=7)

    def fail(batches: Sequence[str], done: Done) -> None:
        building.do_batch(sample_lake, batches[0])
        done(batches[0])
        raise OutOfReachError("The store is away.", "")

    with pytest.raises(OutOfReachError, match="The store is away"):
        export_to_lake(sample_lake, wanted, tmp_path / "s", fail, 4)
    assert find_finished(sample_lake, wanted.id) is None
    with pytest.raises(OutOfReachError, match="The store is away"):
        export_to_folder(sample_lake, wanted, tmp_path / "out", fail, 4)
    assert not (tmp_path / "out").exists()
    exported = export_to_lake(sample_lake, wanted, tmp_path / "s", batch_size=50)
    assert exported.books["there"] == 4


def test_a_batch_writes_into_no_folder_that_its_process_did_not_ask_for(
    small_dataset: FolderLake, tmp_path: Path
) -> None:
    def elsewhere(batches: Sequence[str], done: Done) -> None:  # noqa: ARG001
        for batch in batches:
            rows, told = jobs.read_batch(small_dataset, batch)
            place = json.loads(told["place"]) | {"own": "0" * 32}
            given = told | {"place": json.dumps(place)}
            small_dataset.replace(f"{batch}/manifest.parquet", to_parquet(rows, given))
            building.do_batch(small_dataset, batch)

    with pytest.raises(LookbookError, match="goes into a folder of the process that asked for it"):
        export_to_folder(small_dataset, prepared(small_dataset), tmp_path / "out", elsewhere)
    assert not list(tmp_path.glob(".out*/files/**/*.jpg"))


def test_predictions_by_other_processes_are_those_of_this_one(
    small_dataset: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "CHUNK", 1)
    model = load_model(write_model(tmp_path))
    asked = read_request({"dataset": "things"})

    def stored() -> tuple[list[str], pa.Table]:
        folder = predictions.folder_of("things", model.digest)
        names = sorted(info.key for info in small_dataset.list(folder))
        return names, read_predictions(small_dataset, "things", model.digest)

    def do(batches: Sequence[str], done: Done) -> None:
        assert len(batches) == 4
        process = worker(small_dataset, batches)
        process.communicate()
        assert process.returncode == 0
        for batch in reversed(batches):
            done(batch)

    predict(small_dataset, asked, model)
    here = stored()
    for name in here[0]:
        small_dataset.remove(name)
    predict(small_dataset, asked, model, do)
    assert stored() == here


def test_a_worker_with_other_versions_says_so_and_predicts_nothing(
    small_dataset: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(write_model(tmp_path))

    def do(batches: Sequence[str], done: Done) -> None:  # noqa: ARG001
        with monkeypatch.context() as patch:
            patch.setattr(predictions, "_loaded", {})
            patch.setattr(predictions, "PREDICTING_VERSION", 99)
            predictions.do_batch(small_dataset, batches[0])

    with pytest.raises(LookbookError, match="this worker has another version"):
        predict(small_dataset, read_request({"dataset": "things"}), model, do)
    assert len(read_predictions(small_dataset, "things", model.digest)) == 0
