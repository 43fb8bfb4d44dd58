"""Archives within a source: opened where they lie, to a depth, and within the bounds of the archive around them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lookbook.blocks.errors import UsageError
from lookbook.tasks.datasets.sources.base import Source, SourceFile
from lookbook.tasks.datasets.sources.local import (
    CHUNK_BYTES,
    TAR_NAME,
    ArchiveBounds,
    BadArchiveError,
    FolderSource,
    TarSource,
    ZipSource,
    archive_kind,
    damaged,
    numbered,
    unreadable_archive,
    write_whole,
)
from lookbook.tasks.images.locators import UnreadableMemberError, read_pieces

#: Archives within archives that are opened: ``a.zip/b.zip/c.tar/1.jpg`` in a folder, or in an archive.
MOST_NESTED = 3


class NestedSource:
    """A source whose zip and tar archives are opened: their files are called ``outer.zip/inner/1.jpg``.

    An archive that is a file is read in place; one within another is copied to `scratch` first, once. One that is
    not opened is one file, refused with the reason.

    Args:
        source: the source.
        scratch: where archives within others are copied to.
        archive_bytes: of the source, where it is an archive itself.
        bounds: of each archive of a folder, or of that archive, with all that is in it.
    """

    def __init__(
        self, source: Source, scratch: Path, archive_bytes: int | None = None, bounds: ArchiveBounds | None = None
    ) -> None:
        self.source = source
        self.uri = source.uri
        self._scratch = scratch.absolute()
        self._archive_bytes = archive_bytes
        self._bounds = bounds or ArchiveBounds()
        self._keys: set[str] = set()

    def files(self) -> Iterator[SourceFile]:
        """See `Source.files`.

        Raises:
            LookbookError: as the source's own, or there is no space to copy an archive.
        """
        found = list(self.source.files())
        self._keys = {file.key for file in found}
        shared = None if self._archive_bytes is None else _Budget(self._bounds, self._archive_bytes)
        if shared is not None:
            shared.take(found)
        for file in found:
            yield from self._opened(file, 1, shared or _Budget(self._bounds, file.size))

    def _opened(self, file: SourceFile, depth: int, budget: _Budget) -> Iterator[SourceFile]:
        """Yield the files in an archive, and in those in it; or the file itself where it is none."""
        if not _is_archive(file):
            yield file
            return
        try:
            members = self._members(file, depth, budget)
        except BadArchiveError as error:
            yield replace(file, refused=(error.rule, f"it {error.why}"))
            return
        except UnreadableMemberError as error:
            yield replace(file, refused=(error.rule, error.message))
            return
        for member in members:
            yield from self._opened(replace(member, key=self._unique(f"{file.key}/{member.key}")), depth + 1, budget)

    def _members(self, file: SourceFile, depth: int, budget: _Budget) -> Sequence[SourceFile]:
        if depth > MOST_NESTED:
            raise _not_opened(file, f"lies within {MOST_NESTED} archives already")
        in_place = file.locator.store == "file"
        path = Path(os.fsdecode(file.locator.path)) if in_place else self._copy(file)
        mark = "" if in_place else path.stem  # which says whose copy it is; its time says nothing
        try:
            kind = archive_kind(path)
        except OSError as error:
            raise unreadable_archive(path, error) from error
        if kind == "zip":
            members = list(ZipSource(path, budget.left).files())
        elif kind == "tar":
            members = list(TarSource(path, self._scratch, budget.left, mark).files())
        else:
            raise damaged(path, "its first bytes are no archive's")
        budget.take(members)
        if not members:
            raise _not_opened(file, "holds no file")
        return members

    def _copy(self, file: SourceFile) -> Path:
        """Return the copy of an archive that lies within another, named after what it is a copy of."""
        named_after = b"\0".join([file.locator.path, file.key.encode(), file.fingerprint.encode()])
        ending = ".zip" if file.extension == "zip" else ".tar"
        copy = self._scratch / f"within-{hashlib.sha256(named_after).hexdigest()[:32]}{ending}"
        if not copy.exists():
            write_whole(_pieces(file), Path(file.key), copy, file.size)
        return copy

    def _unique(self, key: str) -> str:
        unique, number = key, 1
        while unique in self._keys:
            number += 1
            unique = numbered(key, number)
        self._keys.add(unique)
        return unique


class _Budget:
    """What the archives within one archive may still hold together."""

    def __init__(self, bounds: ArchiveBounds, archive_bytes: int) -> None:
        self.left = replace(bounds, max_total_bytes=bounds.byte_limit(archive_bytes))

    def take(self, files: Sequence[SourceFile]) -> None:
        """Count files that were listed."""
        self.left = replace(
            self.left,
            max_entries=self.left.max_entries - len(files),
            max_total_bytes=self.left.max_total_bytes - sum(file.size for file in files),
        )


def _is_archive(file: SourceFile) -> bool:
    named = file.extension == "zip" or TAR_NAME.search(file.key) is not None
    return named and file.refused is None and not file.is_litter


def _not_opened(file: SourceFile, why: str) -> BadArchiveError:
    return BadArchiveError(f"Archive {file.key} {why}.", rule="archive", why=why)


def _pieces(file: SourceFile) -> Iterator[bytes]:
    try:
        yield from read_pieces(file.locator, CHUNK_BYTES)
    except OSError as error:
        raise unreadable_archive(Path(file.key), error) from error


TAKES = (
    "SOURCE takes a folder, a .zip, .tar, .tar.gz or .tgz archive, a file:// address, inbox://, "
    "kaggle://owner/dataset, or sample://500."
)


def open_path(uri: str, path: Path, scratch: Path) -> Source:
    """Return the source at a path: a folder, or an archive, with the archives in it.

    Args:
        uri: what the user called it.
        path: where it is.
        scratch: see `opening.open_source`.

    Raises:
        UsageError: nothing of use stands there.
    """
    try:
        if uri and path.is_dir():
            return NestedSource(FolderSource(path, leave_out=(scratch, scratch.parent)), scratch)
        if not uri or not path.exists():
            raise UsageError(f"SOURCE {uri!r}: no such file or folder.", TAKES)
        kind, size = archive_kind(path), path.stat().st_size
    except (OSError, ValueError) as error:
        raise UsageError(f"SOURCE {uri!r}: {getattr(error, 'strerror', None) or error}.", TAKES) from error
    if kind == "zip":
        return NestedSource(ZipSource(path), scratch, size)
    if kind == "tar":
        return NestedSource(TarSource(path, scratch), scratch, size)
    raise UsageError(f"SOURCE {uri}: neither a folder nor an archive.", TAKES)
