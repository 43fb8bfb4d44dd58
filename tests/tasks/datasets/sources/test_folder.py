"""A folder as a source, and what SOURCE may be."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.local import FolderSource, TarSource, ZipSource
from lookbook.tasks.datasets.sources.nested import NestedSource
from lookbook.tasks.datasets.sources.opening import local_path, open_source
from lookbook.tasks.datasets.sources.sample import SampleSource
from lookbook.tasks.images.locators import read_bytes


def _write(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _by_key(source: FolderSource) -> dict[str, SourceFile]:
    files = list(source.files())
    found = {file.key: file for file in files}
    assert len(found) == len(files), "keys are unique"
    return found


def test_lists_every_file_below_with_where_its_bytes_are(tmp_path: Path) -> None:
    _write(tmp_path / "styles.csv", b"id\n1\n")
    _write(tmp_path / "images" / "deep" / "1.JPG", b"one")
    found = _by_key(FolderSource(tmp_path))
    assert set(found) == {"styles.csv", "images/deep/1.JPG"}
    image = found["images/deep/1.JPG"]
    assert (image.size, image.is_image, image.refused) == (3, True, None)
    assert read_bytes(image.locator) == b"one"


def test_fingerprint_changes_with_time_or_size(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jpg", b"one")
    os.utime(path, ns=(1, 5_000_000_001))
    assert _by_key(FolderSource(tmp_path))["a.jpg"].fingerprint == "mtime:5000000001:3"
    os.utime(path, ns=(1, 5_000_000_002))
    assert _by_key(FolderSource(tmp_path))["a.jpg"].fingerprint == "mtime:5000000002:3"


def test_names_that_are_not_utf8_survive_and_stay_unique(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for name, data in ((b"caf\xe9.jpg", b"bytes"), (b"caf\\xe9.jpg", b"text"), ("café.jpg".encode(), b"utf")):
        Path(os.fsdecode(root + b"/" + name)).write_bytes(data)
    found = _by_key(FolderSource(tmp_path))
    assert set(found) == {"caf\\xe9.jpg", "caf\\xe9#2.jpg", "café.jpg"}
    assert {read_bytes(file.locator) for file in found.values()} == {b"bytes", b"text", b"utf"}
    assert all(file.is_image for file in found.values())


def test_links_inside_are_read_outside_and_dangling_are_refused_folders_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    _write(root / "real" / "a.jpg", b"inside")
    _write(tmp_path / "photos-private" / "secret.jpg")  # Its path starts like the source's own.
    (root / "inside.jpg").symlink_to("real/a.jpg")
    (root / "outside.jpg").symlink_to(tmp_path / "photos-private" / "secret.jpg")
    (root / "dangling.jpg").symlink_to("nowhere.jpg")
    (root / "circle.jpg").symlink_to("circle.jpg")
    (root / "folder.jpg").symlink_to("real")
    (root / "up").symlink_to("..")
    found = _by_key(FolderSource(root))
    assert set(found) == {"real/a.jpg", "inside.jpg", "outside.jpg", "dangling.jpg", "circle.jpg"}
    assert read_bytes(found["inside.jpg"].locator) == b"inside"
    rules = {key: file.refused[0] for key, file in found.items() if file.refused}
    assert rules == {"outside.jpg": "outside_source", "dangling.jpg": "dangling_link", "circle.jpg": "dangling_link"}


def test_pipe_is_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    refused = _by_key(FolderSource(tmp_path))["pipe.jpg"].refused
    assert refused is not None
    assert refused[0] == "not_a_file"


def test_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    _write(tmp_path / "real" / "a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert set(_by_key(FolderSource(tmp_path / "link"))) == {"a.jpg"}


def test_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    # A path too long for the system cannot be listed, not even by root.
    back = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(25):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
        with pytest.raises(LookbookError, match=r"dddd cannot be read: File name too long"):
            list(FolderSource(tmp_path).files())
        for _ in range(25):
            os.chdir("..")
            Path("d" * 200).rmdir()
    finally:
        os.fchdir(back)
        os.close(back)


def test_forbidden_folder_is_named() -> None:
    # Root may read every folder, so that it becomes somebody else for a moment; tmp_path is closed to others.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "closed").mkdir(mode=0)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(LookbookError, match="closed cannot be read"):
                list(FolderSource(Path(folder)).files())
        finally:
            os.seteuid(me)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LookbookError, match="gone is not there"):
        list(FolderSource(tmp_path / "gone").files())


def test_workspace_inside_its_own_source_is_left_out(tmp_path: Path) -> None:
    _write(tmp_path / "a.jpg")
    _write(tmp_path / ".lookbook" / "lake" / "originals" / "b.jpg")
    source = open_source(str(tmp_path), tmp_path / ".lookbook" / "scratch")
    assert [file.key for file in source.files()] == ["a.jpg"]


def test_paths_file_addresses_and_relative_paths_name_the_same_folder(tmp_path: Path) -> None:
    _write(tmp_path / "my photos" / "a.jpg")
    scratch = tmp_path / "home" / "scratch"
    with contextlib.chdir(tmp_path):
        sources = [
            open_source(uri, scratch)
            for uri in (str(tmp_path / "my photos"), f"file://{tmp_path}/my%20photos", "my photos", "./my photos/")
        ]
    assert {source.uri for source in sources} == {str(tmp_path / "my photos")}
    assert all([file.key for file in source.files()] == ["a.jpg"] for source in sources)


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.zip", b"cut off", ZipSource),
        ("a.TAR.GZ", b"cut off", TarSource),
        ("a.tgz", b"", TarSource),
        ("a.tar", b"", TarSource),
        ("download", b"PK\x03\x04", ZipSource),
        ("download", b"\x1f\x8b\x08", TarSource),
        ("wrong.zip", b"\x1f\x8b\x08", TarSource),
    ],
)
def test_archives_are_known_by_first_bytes_or_name(tmp_path: Path, name: str, head: bytes, kind: type) -> None:
    _write(tmp_path / name, head)
    opened = open_source(str(tmp_path / name), tmp_path / "s")
    assert isinstance(opened, NestedSource)
    assert isinstance(opened.source, kind)


def test_sample_address(tmp_path: Path) -> None:
    assert isinstance(open_source("sample://20", tmp_path), SampleSource)


def test_the_inbox_is_a_folder_in_the_home_of_whoever_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for home in (tmp_path / "one", tmp_path / "other"):
        monkeypatch.setenv("LOOKBOOK_HOME", str(home))
        assert local_path("inbox://") == home / "inbox"
        with pytest.raises(UsageError, match="no such file or folder"):
            open_source("inbox://", home / "scratch")
        (home / "inbox").mkdir(parents=True)
        (home / "inbox" / f"{home.name}.jpg").write_bytes(b"x")
        assert [file.key for file in open_source("inbox://", home / "scratch").files()] == [f"{home.name}.jpg"]
    with pytest.raises(UsageError, match="inbox:// is not known"):
        open_source("inbox://somewhere", tmp_path)


@pytest.mark.parametrize("uri", ["", "missing", "ftp://host/x", "file://host/x", "photo.jpg", "a\0b", "x" * 5000])
def test_what_source_cannot_be_is_a_usage_error_that_says_what_it_takes(tmp_path: Path, uri: str) -> None:
    _write(tmp_path / "photo.jpg", b"\xff\xd8\xff")
    with contextlib.chdir(tmp_path), pytest.raises(UsageError, match="SOURCE") as caught:
        open_source(uri, tmp_path / "s")
    assert "folder" in caught.value.way_out


def test_a_source_lies_within_the_folders_that_are_named_also_behind_links(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "root-2"
    for folder in (root / "new", other):
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(b"x")
    with zipfile.ZipFile(other / "a.zip", "w") as archive:
        archive.writestr("1.jpg", b"x")
    (root / "out").symlink_to(other)
    (root / "a.zip").symlink_to(other / "a.zip")
    (root / "in").symlink_to("new")
    (tmp_path / "same").symlink_to(root)

    def keys(source: Path | str) -> list[str]:
        opened = open_source(str(source), tmp_path / "s", within=[str(tmp_path / "same"), str(tmp_path / "none")])
        return [file.key for file in opened.files()]

    assert keys(root / "new") == keys(root / "in") == keys(f"file://{root}/new") == ["1.jpg"]
    for source in (root / "out", root / "a.zip", other, root / "new/../../root-2", root / "out/1.jpg", "/", tmp_path):
        with pytest.raises(UsageError, match="lies in none of the folders that may be ingested"):
            keys(source)
