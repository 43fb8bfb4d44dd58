"""A snapshot's files reach the warehouse, whatever it and the lake are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.follow import catch_up, load, snapshot_load
from lookbook.tasks.datasets.manifest import TABLES, require_published
from lookbook.tasks.datasets.schemas import load_models
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.runs.catalogue import registered
from lookbook.tasks.runs.lease import lease, living_owners
from tests.support.bigquery_objects import objects_at
from tests.support.bigquery_server import BigQueryServer
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs
from tests.support.pipeline import photo, request, row, run, write_collection
from tests.support.warehouses import PROJECT, bigquery_warehouse


@pytest.fixture(autouse=True)
def few_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests are quick."""
    for name in ("lookbook.tasks.datasets.follow.load_models", "lookbook.tasks.datasets.verify.load_models"):
        monkeypatch.setattr(name, lambda: load_models()[:2])


@pytest.fixture
def lake() -> Iterator[GcsLake]:
    """A lake in a bucket."""
    with serving_gcs("bucket") as server:
        yield GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=server.url))


@pytest.fixture
def bigquery(lake: GcsLake) -> Iterator[BigQueryServer]:
    """BigQuery, which finds the bucket's objects."""
    server = BigQueryServer(PROJECT, fetch=objects_at(str(lake.credentials.endpoint)))
    yield server
    server.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "source", {f"images/{n}.jpg": photo(n) for n in (1, 2, 3)}, [row(1), row(4)])


def test_duckdb_gets_copies_of_what_lies_in_a_bucket(workspace: Workspace, lake: GcsLake, source: Path) -> None:
    place = replace(workspace, lake=lake)
    run(request(place, source))
    assert place.warehouse.query("SELECT count(*) AS n FROM warehouse.images").to_pylist() == [{"n": 3}]
    assert verify(place, "things").differences == []
    with snapshot_load(place, require_published(lake, "things").manifest) as job:
        assert sorted(job.tables) == sorted(TABLES)
        assert all(Path(path).is_relative_to(workspace.scratch) for path in chain(*job.tables.values()))
    assert list(workspace.scratch.glob("load-*")) == []


def test_copies_make_the_folder_for_scratch_that_a_saved_workspace_only_names(
    workspace: Workspace, lake: GcsLake, source: Path, tmp_path: Path
) -> None:
    run(request(replace(workspace, lake=lake), source))
    manifest = require_published(lake, "things").manifest
    fresh = replace(workspace, lake=lake, scratch=tmp_path / "fresh" / "scratch")
    with snapshot_load(fresh, manifest) as job:
        assert all(Path(path).is_relative_to(fresh.scratch) for path in chain(*job.tables.values()))
    blocked = tmp_path / "file"
    blocked.touch()
    with (
        pytest.raises(LookbookError, match=r"scratch, .*file.* cannot be used"),
        snapshot_load(replace(fresh, scratch=blocked / "scratch"), manifest),
    ):
        pass


class KilledError(BaseException):
    """Ends a run as a kill does: nothing of it catches this."""


def test_a_load_that_was_killed_before_the_books_told_of_it_is_done_again(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KilledError

    for name in ("register_snapshot", "note_load"):
        with monkeypatch.context() as patch:
            patch.setattr(follow, name, killed)
            write_collection(source, {f"images/{name}.jpg": photo(len(name))})
            with pytest.raises(KilledError):
                run(request(workspace, source))
        assert catch_up(workspace, "things") == ["warehouse"]
        current = require_published(workspace.lake, "things").manifest.snapshot_id
        entries = {entry.name: entry for entry in registered(workspace.registry)}
        assert current in str(entries["lake.things.images"].inputs)
        assert catch_up(workspace, "things") == []


def test_loads_of_all_datasets_wait_for_each_other(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(request(workspace, source))
    held: list[set[str]] = []

    def look(*_: object) -> None:
        held.append(set(living_owners(workspace.registry)))

    monkeypatch.setattr(type(workspace.warehouse), "load_snapshot", look)
    manifest = require_published(workspace.lake, "things").manifest
    with lease(workspace.registry, "dataset/things"):
        load(workspace, manifest)
    assert held == [{"dataset/things", "warehouse"}]
    with ExitStack() as other:
        other.enter_context(lease(workspace.registry, "warehouse"))
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: other.close())
        monkeypatch.setattr("lookbook.tasks.runs.lease.time", clock)
        load(workspace, manifest)
    assert held[1:] == [{"warehouse"}]


def test_bigquery_loads_from_the_bucket_without_a_copy(
    workspace: Workspace, lake: GcsLake, bigquery: BigQueryServer, source: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "nowhere"
    place = replace(workspace, lake=lake, warehouse=bigquery_warehouse(bigquery))
    shutil.rmtree(Path(workspace.lake.uri("x")).parent)
    run(request(place, source))
    assert bigquery.calls["jobs.upload"] == 0
    place = replace(place, scratch=scratch)
    assert verify(place, "things").differences == []
    assert catch_up(place, "things") == []
    bigquery.run("DELETE FROM staging.current_snapshot WHERE TRUE")
    assert catch_up(place, "things") == ["warehouse"]
    assert verify(place, "things").differences == []
    assert list(scratch.iterdir()) == []


def test_bigquery_gets_the_files_of_a_folder_uploaded(
    workspace: Workspace, bigquery: BigQueryServer, source: Path
) -> None:
    place = replace(workspace, warehouse=bigquery_warehouse(bigquery))
    run(request(place, source))
    assert bigquery.calls["jobs.upload"] == len(TABLES)
    assert verify(place, "things").differences == []
