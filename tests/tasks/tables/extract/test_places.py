"""Where files lie, and which of them a path names."""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.tables.extract.file_sources import compiled, find_files, local, matching
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs

TREE = ["a.csv", "b.csv", "a.json", "x/a.csv", "x/y/a.csv", "x/y/b1.csv", ".h/a.csv", "x/.a.csv", "z[1].csv"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.mark.parametrize(
    "pattern",
    [
        "*.csv",
        "*/*.csv",
        "**/*.csv",
        "**",
        "x/**",
        "x/**/a.csv",
        "?.csv",
        "[ab].csv",
        "[!a].csv",
        "z[[]1].csv",
        "x/*/b[0-9].csv",
    ],
)
def test_patterns_mean_what_they_mean_to_python(tree: Path, pattern: str) -> None:
    found = glob.glob(pattern, root_dir=tree, recursive=True)  # noqa: PTH207 - whose meaning is asked for
    expected = {name for name in found if (tree / name).is_file()}
    assert expected
    assert {name for name, _ in matching(tree, pattern)} == expected


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("*?[]ab./!-^\\"), min_size=1, max_size=8))
def test_no_pattern_is_without_an_answer(pattern: str) -> None:
    with suppress(LookbookError):  # of brackets that make no sense
        compiled(pattern).fullmatch("a/b")


def test_addresses_are_those_of_the_spec_and_not_of_the_machine(tree: Path, tmp_path: Path) -> None:
    lake = FolderLake(root=tmp_path)
    assert [found.address for found in find_files(lake, tree, "x/**/*.csv")] == ["x/a.csv", "x/y/a.csv", "x/y/b1.csv"]
    assert [found.address for found in find_files(lake, tree / "x", "../a.csv")] == ["../a.csv"]
    assert [found.address for found in find_files(lake, tmp_path, f"{tree}/?.csv")] == [
        f"{tree}/a.csv",
        f"{tree}/b.csv",
    ]
    assert find_files(lake, tree, "none*.csv") == find_files(lake, tree, "none.csv") == []


def test_files_of_the_inbox(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBOOK_HOME", str(tmp_path))
    (tmp_path / "inbox").symlink_to(tree)
    lake = FolderLake(root=tmp_path / "lake")
    assert [found.address for found in find_files(lake, tree, "inbox://*.json")] == ["inbox://a.json"]
    assert [found.address for found in find_files(lake, tree, "inbox://x/a.csv")] == ["inbox://x/a.csv"]
    for way_out in ("inbox://../secret.csv", "inbox:///etc/passwd"):
        with pytest.raises(LookbookError, match="inbox"):
            find_files(lake, tree, way_out)


def test_objects_of_a_folder_and_of_a_bucket(tmp_path: Path) -> None:
    with serving_gcs() as server:
        server.store.buckets["feeds-bucket"] = {}
        bucket = GcsLake(bucket="feeds-bucket", prefix="p", credentials=AnonymousGcpCredentials(endpoint=server.url))
        for lake in (FolderLake(root=tmp_path / "lake"), bucket):
            for key in ("feeds/a.csv", "feeds/deep/b.csv", "other/c.csv"):
                lake.replace(key, key.encode())
            (found,) = find_files(lake, tmp_path, "lake://feeds/*.csv")
            assert (found.address, found.name) == ("lake://feeds/a.csv", "a.csv")
            assert len(find_files(lake, tmp_path, "lake://feeds/**/*.csv")) == 2
            assert [one.key for one in find_files(lake, tmp_path, "lake://other/c.csv")] == ["other/c.csv"]
            with local(found, lake, tmp_path) as path:
                assert path.read_bytes() == b"feeds/a.csv"
            lake.replace("feeds/a.csv", b"feeds/a.csv")
            (again,) = find_files(lake, tmp_path, "lake://feeds/*.csv")
            assert again.fingerprint != found.fingerprint
    assert not list(tmp_path.glob("object-*"))


@pytest.mark.parametrize("path", ["lake://*.csv", "lake:///etc/*", "s3://bucket/x.csv", "https://host/x.csv"])
def test_paths_of_other_kinds_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(LookbookError, match=path.partition(":")[0]):
        find_files(FolderLake(root=tmp_path), tmp_path, path)


def test_a_name_that_is_no_utf8_has_an_address(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.csv")).write_text("a\n")
    (found,) = find_files(FolderLake(root=tmp_path), tmp_path, "*.csv")
    assert found.address == "caf\\xe9.csv"


def test_links_to_folders_are_not_followed_and_other_things_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.csv").write_text("a\n")
    assert [name for name, _ in matching(tmp_path, "**/*.csv")] == ["a.csv"]


def test_no_link_leads_out_of_the_inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBOOK_HOME", str(tmp_path))
    lake, inbox, other = FolderLake(root=tmp_path / "lake"), tmp_path / "inbox", tmp_path / "inbox-2"
    for folder in (inbox / "own", other):
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("a\n1\n")
    (inbox / "inner.csv").symlink_to("own/a.csv")
    found = find_files(lake, tmp_path, "inbox://*.csv")
    assert [(file.address, file.name, file.path) for file in found] == [
        ("inbox://inner.csv", "inner.csv", inbox.resolve() / "own/a.csv")
    ]
    (inbox / "out.csv").symlink_to(other / "a.csv")
    (inbox / "folder").symlink_to(other)
    for path in ("inbox://out.csv", "inbox://*.csv", "inbox://folder/a.csv", "inbox://folder/*.csv"):
        with pytest.raises(LookbookError, match="leads out of the inbox by a link"):
            find_files(lake, tmp_path, path)
    (inbox / "out.csv").unlink()
    assert [file.address for file in find_files(lake, tmp_path, "inbox://**/*.csv")] == [
        "inbox://inner.csv",
        "inbox://own/a.csv",
    ]
