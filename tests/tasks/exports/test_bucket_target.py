"""Copies to a bucket, by Google's own client on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.exports.copy import LAKE_FOLDERS, BucketTarget, copy_dataset, open_target
from lookbook.tasks.exports.places import export_to_lake
from lookbook.tasks.images.jobs import FOLDER
from tests.support.exports import prepared
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import GcsServer, serving_gcs
from tests.support.loopback import Fault


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with serving_gcs("bucket") as server:
        yield server


def target(server: GcsServer) -> BucketTarget:
    return BucketTarget("bucket", "copies/things", AnonymousGcpCredentials(endpoint=server.url), 16)


def stored(server: GcsServer) -> dict[str, bytes]:
    return {name: found.data for name, found in server.store.buckets["bucket"].items()}


def test_a_folder_and_a_bucket_get_the_same_files(small_dataset: FolderLake, server: GcsServer, tmp_path: Path) -> None:
    copy_dataset(small_dataset, "things", ["grey", "originals"], str(tmp_path / "out"))
    done = copy_dataset(small_dataset, "things", ["grey", "originals"], "", target=target(server))
    found = {p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert stored(server) == {f"copies/things/{name}": path.read_bytes() for name, path in found.items()}
    assert done["to"] == "gs://bucket/copies/things"


def test_one_listing_tells_what_is_there(small_dataset: FolderLake, server: GcsServer) -> None:
    first = copy_dataset(small_dataset, "things", ["grey"], "", target=target(server))
    files = first["folders"]["grey"]["files"] + first["tables"]["files"]
    assert dict(server.calls) == {"objects.list": 1, "objects.insert": files}
    server.calls.clear()
    again = copy_dataset(small_dataset, "things", ["grey"], "", target=target(server))
    assert (again["folders"]["grey"]["sent"], again["tables"]["sent"]) == (0, 0)
    assert dict(server.calls) == {"objects.list": 1}


def test_what_somebody_else_put_there_is_written_over(small_dataset: FolderLake, server: GcsServer) -> None:
    copy_dataset(small_dataset, "things", ["grey"], "", target=target(server))
    good = stored(server)
    bucket = AnonymousGcpCredentials(endpoint=server.url).get_cloud_storage_client().bucket("bucket")
    name = next(name for name in good if "/grey/" in name)
    bucket.blob(name).upload_from_string(bytes(len(good[name])))
    assert copy_dataset(small_dataset, "things", ["grey"], "", target=target(server))["folders"]["grey"]["sent"] == 1
    assert stored(server) == good


def test_the_manifest_of_another_snapshot_is_removed_first(small_dataset: FolderLake, server: GcsServer) -> None:
    place = target(server)
    place.write("manifest.json", b"of an older snapshot", "checksum")
    server.inject(Fault("objects.insert", status=403))
    with pytest.raises(LookbookError, match="gs://bucket"):
        copy_dataset(small_dataset, "things", ["grey"], "", target=target(server))
    assert stored(server) == {}


def test_faults_of_the_store_are_borne(small_dataset: FolderLake, server: GcsServer) -> None:
    server.inject(Fault("objects.insert", status=503, count=2))
    server.inject(Fault("objects.insert", cut=True, count=2))
    copy_dataset(small_dataset, "things", ["grey"], "", target=target(server))
    assert server.fired["objects.insert"] == 4
    assert len([name for name in stored(server) if "/grey/" in name]) == 4


def test_a_lake_in_a_bucket_lends_its_credentials(server: GcsServer) -> None:
    lake = GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=server.url))
    place = open_target("gs://bucket/copies", lake, 4)
    place.write("a.txt", b"a", "checksum")
    assert "copies/a.txt" in stored(server)
    with pytest.raises(LookbookError, match="belongs to the lake"):
        open_target("gs://bucket/lake/", lake, 4)
    with pytest.raises(LookbookError, match="does not exist"):
        open_target("gs://nothing-there/copies", lake, 4)


@pytest.mark.parametrize(
    ("prefix", "to", "refused"),
    [
        ("lake", "gs://bucket/lake", True),
        ("lake", "gs://bucket/lake/datasets/x", True),
        ("lake", "gs://bucket/lakes", False),
        ("lake", "gs://bucket/originals", False),
        ("", "gs://bucket", True),
        ("", "gs://bucket/originals", True),
        ("", "gs://bucket/datasets/things", True),
        ("", "gs://bucket/copies/originals", False),
    ],
)
def test_no_folder_of_a_lake_in_a_bucket_is_a_target(server: GcsServer, prefix: str, to: str, refused: bool) -> None:
    lake = GcsLake(bucket="bucket", prefix=prefix, credentials=AnonymousGcpCredentials(endpoint=server.url))
    if refused:
        with pytest.raises(UsageError, match="belongs to the lake"):
            open_target(to, lake, 4)
    else:
        assert open_target(to, lake, 4).uri == to


def test_the_folders_of_a_lake_are_those_that_runs_write(small_dataset: FolderLake) -> None:
    export_to_lake(small_dataset, prepared(small_dataset))
    written = {path.name for path in small_dataset.root.iterdir() if path.is_dir() and path.name != ".tmp"}
    assert {*written, FOLDER} == set(LAKE_FOLDERS), "what runs work in goes with them"


def test_a_machine_without_google_credentials_is_told_so(
    small_dataset: FolderLake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(LookbookError, match="no Google credentials"):
        copy_dataset(small_dataset, "things", ["grey"], "gs://bucket/copies")
