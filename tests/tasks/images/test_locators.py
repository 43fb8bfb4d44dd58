"""Reading bytes where a locator says they are."""

from __future__ import annotations

import os
import random
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lookbook.tasks.images import locators
from lookbook.tasks.images.items import Locator
from lookbook.tasks.images.locators import OPEN_ARCHIVES, UnreadableMemberError, read_bytes


def _data(seed: int) -> bytes:
    return random.Random(seed).randbytes(20_000 + seed)  # noqa: S311 - the same data each time


def _zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return os.fsencode(path)


def test_file_with_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(path)).write_bytes(b"abc")
    assert read_bytes(Locator("file", path, size=3)) == b"abc"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_member_of_every_common_method(tmp_path: Path, method: int) -> None:
    path = _zip(tmp_path / "a.zip", {"x/1.jpg": _data(1), "x/2.jpg": _data(2)}, method)
    assert read_bytes(Locator("zip", path, "x/2.jpg", size=len(_data(2)))) == _data(2)


def test_two_zip_members_of_one_name_are_told_apart_by_offset(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jpg", b"second")
    offsets = [info.header_offset for info in archive.infolist()]
    path = os.fsencode(tmp_path / "a.zip")
    assert [read_bytes(Locator("zip", path, "a.jpg", offset)) for offset in offsets] == [b"first", b"second"]


def test_tar_member_in_place(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(_data(3))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.jpg", "a.jpg")
    with tarfile.open(tmp_path / "a.tar") as archive:
        offset = archive.getmember("a.jpg").offset_data
    locator = Locator("tar", os.fsencode(tmp_path / "a.tar"), offset=offset, size=len(_data(3)))
    assert read_bytes(locator) == _data(3)


@pytest.mark.parametrize("limit", ["OPEN_SMALL_ARCHIVES", "OPEN_MEMBERS"])
def test_many_threads_read_more_archives_than_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(locators, limit, OPEN_ARCHIVES)
    members = {f"{number}.jpg": _data(number) for number in range(20)}
    paths = [_zip(tmp_path / f"{number}.zip", members) for number in range(OPEN_ARCHIVES + 3)]
    wanted = [(path, name) for name in members for path in paths] * 3
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda it: read_bytes(Locator("zip", it[0], it[1])), wanted))
    assert found == [members[name] for _, name in wanted]
    assert len(locators._open_zips) == OPEN_ARCHIVES


def test_damaged_zip_member_is_a_reject_and_its_neighbour_is_not(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"1.jpg": _data(1), "2.jpg": _data(2)}, zipfile.ZIP_STORED)
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    whole[5000] ^= 1
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(UnreadableMemberError, match=r"1\.jpg") as caught:
        read_bytes(Locator("zip", path, "1.jpg", size=len(_data(1))))
    assert caught.value.rule == "damaged_member"
    assert read_bytes(Locator("zip", path, "2.jpg", size=len(_data(2)))) == _data(2)


def test_garbled_deflate_data_is_a_reject(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"1.txt": b"hello " * 5000})
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    whole[40:50] = b"\xff" * 10
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(UnreadableMemberError) as caught:
        read_bytes(Locator("zip", path, "1.txt"))
    assert caught.value.rule == "damaged_member"


def test_encrypted_zip_member_is_a_reject(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"1.jpg": b"secret"})
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    whole[whole.index(b"PK\x03\x04") + 6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(UnreadableMemberError) as caught:
        read_bytes(Locator("zip", path, "1.jpg"))
    assert caught.value.rule == "encrypted"


def test_what_vanished_is_a_fault_of_the_store(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"1.jpg": b"1"})
    read_bytes(Locator("zip", path, "1.jpg"))
    with pytest.raises(OSError, match="no such member"):
        read_bytes(Locator("zip", path, "2.jpg"))
    (tmp_path / "a.zip").unlink()
    for store in ("file", "zip", "tar"):
        with pytest.raises(FileNotFoundError):
            read_bytes(Locator(store, path, "1.jpg"))


def test_file_that_shrank_since_it_was_listed_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"abc")
    for store in ("file", "tar"):
        with pytest.raises(OSError, match="3 bytes where 4 were listed"):
            read_bytes(Locator(store, os.fsencode(tmp_path / "a.jpg"), size=4))


def test_archive_replaced_under_the_same_name_is_read_anew(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"1.jpg": b"old"})
    assert read_bytes(Locator("zip", path, "1.jpg")) == b"old"
    _zip(tmp_path / "a.zip", {"1.jpg": b"newer"})
    assert read_bytes(Locator("zip", path, "1.jpg")) == b"newer"
