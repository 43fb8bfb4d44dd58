"""Zip and tar archives as sources: what is in them, and what must not come out of them."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.sources import local
from lookbook.tasks.datasets.sources.base import Source, SourceFile
from lookbook.tasks.datasets.sources.local import ArchiveBounds, TarSource, ZipSource, safe_key
from lookbook.tasks.images.locators import read_bytes

REAL = Path(__file__).parents[5] / "shared" / "data" / "fashion-small-1000.zip"
Members = Sequence[tuple[str, bytes]]
PHOTOS: Members = [("styles.csv", b"id\n1\n"), ("images/1.jpg", b"one" * 1000), ("images/2.jpg", b"two" * 700)]


def _zip(path: Path, members: Members = PHOTOS, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


def _tar(path: Path, members: Members = PHOTOS, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 77
            archive.addfile(info, io.BytesIO(data))
    return path


def _by_key(source: Source) -> dict[str, SourceFile]:
    files = list(source.files())
    found = {file.key: file for file in files}
    assert len(found) == len(files), "keys are unique"
    return found


def _rules(found: dict[str, SourceFile]) -> dict[str, str]:
    return {key: file.refused[0] for key, file in found.items() if file.refused}


def test_zip_members_are_read_in_place_with_their_checksum_as_fingerprint(tmp_path: Path) -> None:
    found = _by_key(ZipSource(_zip(tmp_path / "a.zip", [("images/", b""), *PHOTOS])))
    assert {key: read_bytes(file.locator) for key, file in found.items()} == dict(PHOTOS)
    for name, data in PHOTOS:
        assert found[name].fingerprint == f"crc32:{zlib.crc32(data):08x}:{len(data)}"
        assert found[name].size == len(data)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"], "nothing is extracted"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_members_are_read_in_place(tmp_path: Path, mode: str) -> None:
    path = _tar(tmp_path / "a.tar", mode=mode)
    found = _by_key(TarSource(path, tmp_path / "scratch"))
    assert {key: read_bytes(file.locator) for key, file in found.items()} == dict(PHOTOS)
    image = found["images/1.jpg"]
    assert image.fingerprint == f"tar:{path.stat().st_mtime_ns}:{image.locator.offset}:3000:77"
    assert (tmp_path / "scratch").exists() == (mode != "w")


def test_unpacked_tar_is_used_again_until_the_archive_changes(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar.gz", mode="w:gz")
    list(TarSource(path, tmp_path / "scratch").files())
    (first,) = (tmp_path / "scratch").iterdir()
    before = first.stat()
    list(TarSource(path, tmp_path / "scratch").files())
    assert first.stat() == before
    _tar(path, [("new.jpg", b"new")], "w:gz")
    assert set(_by_key(TarSource(path, tmp_path / "scratch"))) == {"new.jpg"}


def test_names_that_leave_the_folder_are_refused_under_a_safe_key(tmp_path: Path) -> None:
    evil = ["../up.jpg", "a/../../b.jpg", "/etc/abs.jpg", "C:/drive.jpg", "c:drive2.jpg", "//host/unc.jpg"]
    evil += ["a\\..\\..\\b2.jpg", "\\\\host\\unc2.jpg", "\\abs2.jpg"]
    members = [(name, b"evil") for name in evil] + [("etc/abs.jpg", b"good"), ("./dot/fine.jpg", b"good")]
    for source in (
        ZipSource(_zip(tmp_path / "a.zip", members)),
        TarSource(_tar(tmp_path / "a.tar", members), tmp_path),
    ):
        found = _by_key(source)
        assert list(_rules(found).values()) == ["unsafe_path"] * len(evil)
        for key, file in found.items():
            parts = key.split("/")
            assert ".." not in parts
            assert "" not in parts
            assert "\\" not in key
            assert ":" not in key
            assert file.is_image, "it is counted with the images"
        assert {key for key, file in found.items() if not file.refused} == {"etc/abs#2.jpg", "dot/fine.jpg"}
        assert read_bytes(found["etc/abs#2.jpg"].locator) == b"good"


def test_a_backslash_separates_as_a_slash_does() -> None:
    assert safe_key("shop\\images\\1.jpg") == ("shop/images/1.jpg", None), "as PowerShell 5 writes archives"


def test_two_dots_inside_a_name_are_fine() -> None:
    assert safe_key("a/b..c.jpg") == ("a/b..c.jpg", None)


def test_names_found_twice_become_unique_and_keep_their_own_bytes(tmp_path: Path) -> None:
    members = [("a.jpg", b"first"), ("a#2.jpg", b"literal"), ("a.jpg", b"second"), ("a.jpg", b"third")]
    with pytest.warns(UserWarning, match="Duplicate name"):
        _zip(tmp_path / "a.zip", members)
    for source in (ZipSource(tmp_path / "a.zip"), TarSource(_tar(tmp_path / "a.tar", members), tmp_path)):
        found = {key: read_bytes(file.locator) for key, file in _by_key(source).items()}
        assert found["a.jpg"] == b"first"
        assert found["a#2.jpg"] == b"literal"
        assert sorted(found.values()) == [b"first", b"literal", b"second", b"third"]


def test_links_and_devices_in_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert _rules(_by_key(ZipSource(tmp_path / "a.zip"))) == {"link.jpg": "not_a_file"}
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, kind in enumerate([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    rules = list(_rules(_by_key(TarSource(tmp_path / "a.tar", tmp_path))).values())
    assert rules == ["not_a_file", "dangling_link", "not_a_file", "not_a_file"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_hard_link_in_a_tar_has_the_content_of_the_member_that_it_is_a_link_to(tmp_path: Path, mode: str) -> None:
    with tarfile.open(_tar(tmp_path / "a.tar", [("images/1.jpg", b"one")], mode), "r") as tar:
        found = tar.getmembers()
    with tarfile.open(tmp_path / "a.tar", mode) as tar:  # type: ignore[call-overload]
        tar.addfile(found[0], io.BytesIO(b"one"))
        for name, target in (("2.jpg", "./images/1.jpg"), ("3.jpg", "2.jpg"), ("4.jpg", "later.jpg")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)
    files = _by_key(TarSource(tmp_path / "a.tar", tmp_path))
    assert _rules(files) == {"4.jpg": "dangling_link"}
    assert [read_bytes(files[name].locator) for name in ("images/1.jpg", "2.jpg", "3.jpg")] == [b"one"] * 3
    assert len({files[name].fingerprint for name in ("2.jpg", "3.jpg")}) == 1


def test_links_count_with_what_they_unpack_to(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("1.jpg")
        info.size = 1000
        tar.addfile(info, io.BytesIO(bytes(1000)))
        for number in range(3):
            link = tarfile.TarInfo(f"link{number}.jpg")
            link.type, link.linkname = tarfile.LNKTYPE, "1.jpg"
            tar.addfile(link)
    assert len(_by_key(TarSource(tmp_path / "a.tar", tmp_path, ArchiveBounds(max_total_bytes=4000)))) == 4
    with pytest.raises(LookbookError, match="more than 3999 bytes"):
        _by_key(TarSource(tmp_path / "a.tar", tmp_path, ArchiveBounds(max_total_bytes=3999)))


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    whole = bytearray(_zip(tmp_path / "a.zip", [("1.jpg", b"secret")]).read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(whole)
    assert _rules(_by_key(ZipSource(tmp_path / "a.zip"))) == {"1.jpg": "encrypted"}


def test_zip_names_in_utf8_without_the_flag_are_read_as_meant(tmp_path: Path) -> None:
    whole = _zip(tmp_path / "a.zip", [("Xrobe.jpg", b"1")]).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole.replace(b"Xrobe", "öobe".encode()))
    (file,) = ZipSource(tmp_path / "a.zip").files()
    assert file.key == "öobe.jpg"
    assert read_bytes(file.locator) == b"1"


def test_each_bound_is_named_with_its_value(tmp_path: Path) -> None:
    zeros = [(f"{number}.csv", bytes(100_000)) for number in range(4)]
    path, packed = _zip(tmp_path / "a.zip", zeros), _tar(tmp_path / "a.tar.gz", zeros, "w:gz")
    for bounds, message in (
        (ArchiveBounds(max_entries=3), r"3 entries \(max_entries\)"),
        (ArchiveBounds(max_total_bytes=399_999), r"399999 bytes \(max_total_bytes\)"),
        (ArchiveBounds(max_ratio=100, ratio_free_bytes=1000), r"100 times .*\(max_ratio\)"),
    ):
        with pytest.raises(LookbookError, match=message):
            list(ZipSource(path, bounds).files())
    with pytest.raises(LookbookError, match=r"4 entries \(max_entries\)"):
        list(TarSource(_tar(tmp_path / "b.tar", [*zeros, ("5", b"")]), tmp_path, ArchiveBounds(max_entries=4)).files())
    with pytest.raises(LookbookError, match=r"399999 bytes .*max_total_bytes"):
        list(TarSource(packed, tmp_path / "t", ArchiveBounds(max_total_bytes=399_999)).files())
    assert list((tmp_path / "t").iterdir()) == [], "nothing is left of the part that was written"


def test_overlapping_zip_bomb_is_stopped_but_a_well_packed_table_passes(tmp_path: Path) -> None:
    rows = b"1,Men,Apparel\n" * 5_000_000  # 70 MB pack to 1/400
    assert len(list(ZipSource(_zip(tmp_path / "table.zip", [("styles.csv", rows)])).files())) == 1
    # As in Fifield's bomb, many entries of the directory share one packed member.
    kernel = _zip(tmp_path / "kernel.zip", [("0.jpg", bytes(50_000_000))]).read_bytes()
    directory = kernel[kernel.index(b"PK\x01\x02") : kernel.index(b"PK\x05\x06")]
    end = bytearray(kernel[kernel.index(b"PK\x05\x06") :])
    end[8:12] = (300).to_bytes(2, "little") * 2
    end[12:16] = (300 * len(directory)).to_bytes(4, "little")
    (tmp_path / "bomb.zip").write_bytes(kernel[: kernel.index(b"PK\x01\x02")] + directory * 300 + end)
    with pytest.raises(LookbookError, match=r"max_ratio"):
        list(ZipSource(tmp_path / "bomb.zip").files())


@pytest.mark.parametrize("keep", [0, 10, 600, 0.5, -1, -30])
def test_zip_cut_off_anywhere_is_an_error(tmp_path: Path, keep: float) -> None:
    whole = _zip(tmp_path / "a.zip", method=zipfile.ZIP_STORED).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(LookbookError, match=r"a\.zip is cut off") as caught:
        list(ZipSource(tmp_path / "a.zip").files())
    assert "Fetch it again" in caught.value.way_out


def test_tar_cut_off_at_any_block_or_in_one_is_an_error(tmp_path: Path) -> None:
    whole = _tar(tmp_path / "whole.tar").read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # The last block with data; zero blocks follow.
    path = tmp_path / "a.tar"
    for length in [*range(0, end + 1, 512), *range(100, end, 512)]:
        path.write_bytes(whole[:length])
        with pytest.raises(LookbookError, match=r"a\.tar is cut off"):
            list(TarSource(path, tmp_path).files())
    path.write_bytes(whole[: end + 512])
    assert len(list(TarSource(path, tmp_path).files())) == len(PHOTOS)


def test_tar_with_a_damaged_header_is_an_error_not_a_shorter_listing(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar")
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"images/2.jpg") + 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(LookbookError, match=r"a\.tar is cut off, damaged"):
        list(TarSource(path, tmp_path).files())


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_packed_tar_cut_off_or_damaged_is_an_error_and_leaves_nothing(tmp_path: Path, mode: str) -> None:
    noise = [("noise.jpg", os.urandom(50_000))]
    whole = _tar(tmp_path / "whole", noise, mode).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for data in (whole[:-20], whole[: len(whole) // 2], bytes(flipped)):
        (tmp_path / "a.tgz").write_bytes(data)
        with pytest.raises(LookbookError, match=r"a\.tgz is cut off, damaged"):
            list(TarSource(tmp_path / "a.tgz", tmp_path / "scratch").files())
        assert list((tmp_path / "scratch").iterdir()) == []


def test_unpacking_stops_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RESERVE_BYTES", 2**62)  # More than any disk has.
    path = _tar(tmp_path / "a.tar.gz", mode="w:gz")
    with pytest.raises(LookbookError, match="No space left"):
        list(TarSource(path, tmp_path / "scratch").files())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_no_archive_is_an_error(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar"):
        (tmp_path / name).write_bytes(b"<html>Please log in</html>" * 100)
    with pytest.raises(LookbookError, match=r"a\.zip"):
        list(ZipSource(tmp_path / "a.zip").files())
    with pytest.raises(LookbookError, match=r"a\.tar"):
        list(TarSource(tmp_path / "a.tar", tmp_path).files())


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.exists(), reason="the real photos are not here")
def test_real_archive(tmp_path: Path) -> None:
    files = list(ZipSource(REAL).files())
    images = [file for file in files if file.is_image]
    assert (len(images), len(files)) == (1000, 1001)
    assert all(read_bytes(file.locator)[:2] == b"\xff\xd8" for file in images)
    assert list(tmp_path.iterdir()) == []
