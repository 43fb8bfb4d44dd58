"""A snapshot's files reach the warehouse, whatever it and the lake are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.lake import FolderLake
from blocks.workspace import Workspace
from tasks.datasets.follow import catch_up, snapshot_load
from tasks.datasets.manifest import TABLES, require_published
from tasks.datasets.verify import verify
from tasks.tables.models import load_models
from tests.support.bigquery_server import BigQueryServer
from tests.support.pipeline import photo, request, row, run, write_collection
from tests.support.warehouses import PROJECT, bigquery_warehouse


class Bucket(FolderLake):
    """A folder that passes for a bucket."""

    _block_type_slug = "lookbook-test-bucket"

    def uri(self, key: str) -> str:
        return f"gs://bucket/{key}"

    def local_copy(self, key: str, folder: Path) -> Path:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.get(key))
        return path


@pytest.fixture
def server(workspace: Workspace) -> Iterator[BigQueryServer]:
    """BigQuery, beside the bucket that is the workspace's lake."""

    def fetch(uri: str) -> dict[str, bytes]:
        return {uri: workspace.lake.get(uri.removeprefix("gs://bucket/"))}

    server = BigQueryServer(PROJECT, fetch=fetch)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def few_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests are quick."""
    for name in ("tasks.datasets.follow.load_models", "tasks.datasets.verify.load_models"):
        monkeypatch.setattr(name, lambda: load_models()[:2])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "source", {f"images/{n}.jpg": photo(n) for n in (1, 2, 3)}, [row(1), row(4)])


def in_bucket(workspace: Workspace) -> Workspace:
    return workspace.model_copy(update={"lake": Bucket(root=workspace.lake.root)})


def test_duckdb_gets_copies_of_what_lies_in_a_bucket(workspace: Workspace, source: Path) -> None:
    place = in_bucket(workspace)
    run(request(place, source))
    assert place.warehouse.query("SELECT count(*) AS n FROM warehouse.images").to_pylist() == [{"n": 3}]
    assert verify(place, "things").differences == []
    assert list(workspace.scratch.glob("load-*")) == []


def test_copies_stand_only_as_long_as_they_are_needed(workspace: Workspace, source: Path) -> None:
    place = in_bucket(workspace)
    run(request(place, source))
    with snapshot_load(place, require_published(place.lake, "things").manifest) as load:
        assert sorted(load.tables) == sorted(TABLES)
        assert all(Path(path).is_relative_to(workspace.scratch) for path in load.tables.values())
    assert not any(Path(path).exists() for path in load.tables.values())


def test_bigquery_loads_from_the_bucket_and_uploads_from_a_folder(
    workspace: Workspace, server: BigQueryServer, source: Path
) -> None:
    """And what it shows of a real snapshot verifies against the lake, from either."""
    near = workspace.model_copy(update={"warehouse": bigquery_warehouse(server)})
    far = in_bucket(near)
    run(request(far, source))
    assert server.calls["jobs.upload"] == 0
    assert verify(far, "things").differences == []
    assert verify(near, "things").differences == []
    assert server.calls["jobs.upload"] == len(TABLES)
    assert catch_up(near, "things") == []
    server.run("DELETE FROM staging.current_snapshot WHERE TRUE")
    assert catch_up(near, "things") == ["warehouse"]
