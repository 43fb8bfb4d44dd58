"""Reading an image's bytes from where its locator says they are; and landing those that a worker can't reach."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from lzma import LZMAError
from typing import IO, TYPE_CHECKING

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.settings import this_host
from lookbook.tasks.images.items import Item, Locator
from lookbook.tasks.images.pacing import check_not_stopped, originals_in_memory
from lookbook.tasks.images.parquet import from_parquet, manifest_items, manifest_table, to_parquet
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.tombstones import FORGOTTEN, Tombstones, read_tombstones

if TYPE_CHECKING:
    from lookbook.blocks.lake import Lake

#: Archives that stay open at the same time, whatever they hold; the one not used for longest is closed first.
OPEN_ARCHIVES = 8
#: Small ones stay open in larger numbers: so many, of so many members together.
OPEN_SMALL_ARCHIVES, OPEN_MEMBERS = 128, 200_000


class UnreadableMemberError(Exception):
    """A member of an archive that no further attempt can read: its image is rejected.

    Args:
        rule: ``damaged_member``, ``encrypted`` or ``unsupported_compression``.
        message: what is wrong with it.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass
class _OpenZip:
    """A zip archive that many threads read: its directory is parsed once for all of them."""

    archive: zipfile.ZipFile
    members: dict[tuple[str, int], zipfile.ZipInfo]
    lock: threading.Lock = field(default_factory=threading.Lock)


_open_zips: OrderedDict[tuple[bytes, int, int], _OpenZip] = OrderedDict()
_open_zips_lock = threading.Lock()


def read_start(locator: Locator, most: int) -> bytes:
    """Read no more than the first `most` bytes.

    Raises:
        OSError, UnreadableMemberError: as `read_bytes`.
    """
    if locator.store == "zip":
        return _read_zip(locator, most)
    with open(locator.path, "rb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.seek(locator.offset if locator.store == "tar" else 0)
        return file.read(min(most, locator.size))


def read_bytes(locator: Locator) -> bytes:
    """Read the bytes that `locator` points to. Many threads may call this at once.

    For a zip member `locator.offset` may hold the offset of its header, which tells apart members of one name.

    Raises:
        OSError: the file vanished, shrank since it was listed, or could not be read: worth another attempt.
        UnreadableMemberError: the member of the zip archive is damaged, encrypted or compressed in a way that
            cannot be read.
    """
    if locator.store == "zip":
        data = _read_zip(locator)
    elif locator.store == "tar":
        data = _read_tar(locator)
    else:
        with open(locator.path, "rb") as file:  # noqa: PTH123 - pathlib takes no bytes
            data = file.read()
    if len(data) < locator.size:
        raise OSError(
            errno.EIO, f"{len(data)} bytes where {locator.size} were listed: it changed since", _name(locator)
        )
    return data


def _read_tar(locator: Locator) -> bytes:
    with open(locator.path, "rb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.seek(locator.offset)
        return file.read(locator.size)


def read_pieces(locator: Locator, most: int) -> Iterator[bytes]:
    """Yield the bytes that `locator` points to, `most` at a time.

    Raises:
        OSError, UnreadableMemberError: as `read_bytes`.
    """
    if locator.store == "zip":
        with _zip_member(locator) as member:
            while piece := member.read(most):
                yield piece
        return
    with open(locator.path, "rb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.seek(locator.offset)
        left = locator.size
        while left and (piece := file.read(min(most, left))):
            left -= len(piece)
            yield piece


def _read_zip(locator: Locator, most: int = -1) -> bytes:
    with _zip_member(locator) as member:
        return member.read(most)


@contextmanager
def _zip_member(locator: Locator) -> Iterator[IO[bytes]]:
    """Open a member of a zip archive; what goes wrong while it is read is told as `read_bytes` does."""
    opened = _open_zip(locator.path)
    info = opened.members.get((locator.member, locator.offset)) or opened.archive.NameToInfo.get(locator.member)
    if info is None:
        raise FileNotFoundError(errno.ENOENT, "no such member in the archive any more", _name(locator))
    try:
        with _opened_member(opened, info) as member:
            yield member
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError) as error:
        raise UnreadableMemberError("damaged_member", f"{info.filename}: damaged in its archive: {error}") from error
    except NotImplementedError as error:
        raise UnreadableMemberError("unsupported_compression", f"{info.filename}: {error}") from error
    except OSError as error:
        # The bz2 decompressor calls damaged data an OSError, one without a number.
        if error.errno is None:
            raise UnreadableMemberError("damaged_member", f"{info.filename}: {error}") from error
        raise


@contextmanager
def _opened_member(opened: _OpenZip, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    if info.flag_bits & 0x1:
        raise UnreadableMemberError("encrypted", f"{info.filename}: encrypted with a password")
    # ZipFile guards seeks and reads with a lock of its own, but counts its open members without one.
    with opened.lock:
        member = opened.archive.open(info)
    try:
        yield member
    finally:
        with opened.lock:
            member.close()


def _open_zip(path: bytes) -> _OpenZip:
    status = os.stat(path)  # noqa: PTH116 - pathlib takes no bytes
    identity = (path, status.st_mtime_ns, status.st_size)
    with _open_zips_lock:
        opened = _open_zips.get(identity)
        if opened is None:
            opened = _open_zips[identity] = _parse_zip(path)
            while len(_open_zips) > OPEN_ARCHIVES and (
                len(_open_zips) > OPEN_SMALL_ARCHIVES
                or sum(len(each.members) for each in _open_zips.values()) > OPEN_MEMBERS
            ):
                # Not closed here: another thread may be about to read it. It closes when the last one lets go.
                _open_zips.popitem(last=False)
        _open_zips.move_to_end(identity)
        return opened


def _parse_zip(path: bytes) -> _OpenZip:
    try:
        archive = zipfile.ZipFile(os.fsdecode(path))
    except (zipfile.BadZipFile, ValueError) as error:
        raise OSError(errno.EIO, f"no zip archive any more: {error}", os.fsdecode(path)) from error
    return _OpenZip(archive, {(info.filename, info.header_offset): info for info in archive.infolist()})


def _name(locator: Locator) -> str:
    path = os.fsdecode(locator.path)
    return f"{path}:{locator.member}" if locator.member else path


#: What a manifest calls the machine on which its source was listed.
LISTED_ON = "listed_on"
#: Images that are landed at the same time: a store that answers late is kept busy.
LANDING_THREADS = 8


class SourceElsewhereError(LookbookError):
    """The images of a batch lie in files of another machine."""


def check_within_reach(
    lake: Lake, batch_key: str, items: Sequence[Item], recipe: Recipe, metadata: Mapping[str, str]
) -> None:
    """See that this machine is the one whose files a manifest names; else leave word in the lake.

    A path that happens to be here, too, may be another file: only the machine counts.

    Raises:
        SourceElsewhereError: it is another one, and there is something to be read.
    """
    listed_on = metadata.get(LISTED_ON, this_host())
    if listed_on == this_host() or not any(_to_land(item, recipe) for item in items):
        return
    lake.replace(_word(batch_key), this_host().encode())
    raise SourceElsewhereError(
        f"{batch_key}: its images lie on {listed_on}, and this is {this_host()}.",
        "The run that sent it lands them in the lake and sends it again.",
    )


def needs_landing(lake: Lake, batch_key: str) -> bool:
    """Return whether a worker left word that it can't reach the images of a batch."""
    try:
        lake.get(_word(batch_key))
    except ObjectNotFoundError:
        return False
    return True


def land(lake: Lake, batch_key: str) -> None:
    """Copy the images of a batch into its folder in the lake, and let its manifest point there.

    Keys and fingerprints stay as they are. What is landed already stays, too; what can't be read is refused, as
    the batch would.

    Raises:
        OSError: the source or the lake failed.
        StoppedError: the run was interrupted.
    """
    manifest, metadata = from_parquet(lake.get(f"{batch_key}/manifest.parquet"))
    recipe, stones = Recipe.model_validate_json(metadata["recipe"]), read_tombstones(lake, metadata.get("dataset", ""))

    def landed(number: int, item: Item) -> Item:
        check_not_stopped()
        return _landed(lake, f"{batch_key}/landed/{number}", item, stones) if _to_land(item, recipe) else item

    items = manifest_items(manifest)
    with ThreadPoolExecutor(LANDING_THREADS, thread_name_prefix="landing") as pool:
        items = list(pool.map(landed, range(len(items)), items))
    lake.replace(f"{batch_key}/manifest.parquet", to_parquet(manifest_table(items), metadata))
    lake.remove(_word(batch_key))


def _landed(lake: Lake, key: str, item: Item, stones: Tombstones) -> Item:
    with originals_in_memory.taken(item.locator.size):
        try:
            data = read_bytes(item.locator)
        except UnreadableMemberError as error:
            return replace(item, refused=(error.rule, error.message))
        if stones.hold("content", hashlib.sha256(data).hexdigest()):
            return replace(item, refused=(FORGOTTEN, ""))
        lake.replace(key, data)
    return replace(item, locator=replace(item.locator, store="lake", path=key.encode(), member="", offset=0))


def _to_land(item: Item, recipe: Recipe) -> bool:
    """Return whether the bytes of an image are read at all, and lie outside of the lake."""
    return item.refused is None and item.locator.store != "lake" and item.locator.size <= recipe.max_file_bytes


def _word(batch_key: str) -> str:
    return f"{batch_key}/needs-landing"
