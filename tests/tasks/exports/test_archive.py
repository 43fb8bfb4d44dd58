"""Archives as streams: as zipfile and unzip read them, in any ranges, beyond 32 bits."""

from __future__ import annotations

import io
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.lake import FolderLake
from lookbook.tasks.exports.finished import Archive, require_finished
from lookbook.tasks.exports.places import export_to_archive
from tests.support.exports import prepared

MEMBERS = [("things/a.jpg", b"abc"), ("things/leer/ünï.csv", b""), ("things/b.bin", bytes(range(256)) * 3)]


def archive_of(members: list[tuple[str, bytes]]) -> Archive:
    names, contents = [name for name, _ in members], [data for _, data in members]
    return Archive(names, [len(data) for data in contents], [zlib.crc32(data) for data in contents])


def whole(members: list[tuple[str, bytes]]) -> bytes:
    return b"".join(archive_of(members).chunks(lambda number: members[number][1]))


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.binary()), max_size=20))
@settings(deadline=None)
def test_zipfile_reads_it_and_its_size_is_known_before(members: list[tuple[str, bytes]]) -> None:
    data = whole(members)
    assert len(data) == archive_of(members).size
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        assert read.testzip() is None
        infos = read.infolist()
        assert [read.read(info) for info in infos] == [content for _, content in members]
        assert [info.orig_filename for info in infos] == [name for name, _ in members]


def test_unzip_finds_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(whole(MEMBERS))
    done = subprocess.run(["unzip", "-t", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@given(st.integers(0, 1300), st.integers(0, 1300))
@settings(deadline=None)
def test_any_range_is_that_of_the_whole(start: int, stop: int) -> None:
    data = whole(MEMBERS)
    found = b"".join(archive_of(MEMBERS).chunks(lambda number: MEMBERS[number][1], start, stop))
    assert found == data[start:stop]


def test_more_members_than_16_bits_count() -> None:
    members = [(f"{number:06}", b"") for number in range(70_000)]
    with zipfile.ZipFile(io.BytesIO(whole(members))) as read:
        assert len(read.infolist()) == 70_000


class RangeFile(io.RawIOBase):
    """An archive that is read by its ranges, as by HTTP: the contents of large members are never made."""

    def __init__(self, archive: Archive, small: dict[int, bytes]) -> None:
        self._archive = archive
        self._small = small
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._archive.size)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._archive.size if size < 0 else self._at + size
        data = b"".join(self._archive.chunks(lambda number: self._small[number], self._at, stop))
        self._at += len(data)
        return data


def test_members_and_offsets_beyond_32_bits() -> None:
    sizes = [5, 5 * 2**30, 3 * 2**30, 7, 9]
    small = {0: b"first", 3: b"seventh", 4: b"lastly. ."}
    crcs = [zlib.crc32(small.get(number, b"")) for number in range(5)]
    archive = Archive([f"member-{number}" for number in range(5)], sizes, crcs)
    file: Any = RangeFile(archive, small)
    with zipfile.ZipFile(file) as read:
        assert [info.file_size for info in read.infolist()] == sizes
        assert [read.read(f"member-{number}") for number in (0, 3, 4)] == list(small.values())


def test_an_export_is_streamed_with_its_files_in_one_folder(small_dataset: FolderLake) -> None:
    exported, finished = export_to_archive(small_dataset, prepared(small_dataset, recipe="square-8"))
    data = b"".join(finished.stream())
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        assert read.testzip() is None
        names = read.namelist()
        assert {name.partition("/")[0] for name in names} == {f"things-{exported.id[:8]}"}
        for name in names:
            assert read.read(name) == finished.read(name.partition("/")[2])
    again = require_finished(small_dataset, exported.id)
    assert b"".join(again.stream(100, 5000)) == data[100:5000]
    assert len(data) == again.archive.size


@pytest.mark.parametrize("members", [[], MEMBERS])
def test_equal_members_give_equal_bytes(members: list[tuple[str, bytes]]) -> None:
    assert whole(members) == whole(members)
