"""Objects of the lake as answers: whole, in part, or not at all where they are known already (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.deployments.api.problems import Problem

_RANGE = re.compile(r"bytes=\s*(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})\s*", re.ASCII)
_TAGS = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True)
class ByteRange:
    """Bytes that are sent.

    Attributes:
        start: the first one.
        end: the one behind the last.
        size: of the whole.
        partial: whether a range was asked for.
    """

    start: int
    end: int
    size: int
    partial: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of an answer with these bytes."""
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(self.end - self.start)}
        if self.partial:
            headers["Content-Range"] = f"bytes {self.start}-{self.end - 1}/{self.size}"
        return headers


def is_known(headers: Headers, etag: str) -> bool:
    """Return whether who asks has it already (If-None-Match); `etag` is a strong one with its quotes."""
    given = headers.get("if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or etag in {tag.removeprefix("W/") for tag in _TAGS.findall(given)}


def wanted_part(headers: Headers, size: int, etag: str) -> ByteRange:
    """Return the bytes that are asked for. Several ranges, or what is no range of bytes, ask for the whole.

    Raises:
        Problem: there are no such bytes.
    """
    whole = ByteRange(0, size, size)
    found = _RANGE.fullmatch(headers.get("range", ""))
    condition = headers.get("if-range")
    if found is None or (condition is not None and condition.strip() != etag):
        return whole
    first, last = found["first"], found["last"]
    if not first and not last:
        return whole
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return whole
    if start >= size or start >= end:
        raise Problem(416, "no-range", f"There are {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return ByteRange(start, end, size, True)


#: Bytes of one piece; what is no longer goes in one.
PIECE = 512 * 1024


class LostObjectError(LookbookError):
    """An object that a manifest lists is not there, or has another size."""


async def object_answer(
    request: Request, lake: Lake, key: str, size: int, etag: str, headers: Mapping[str, str]
) -> Response:
    """Return an object that is listed, with its size and checksum.

    Args:
        request: may ask for a part, or whether it is another one than known.
        lake: holds it.
        key: of the object.
        size: in bytes.
        etag: strong, with its quotes.
        headers: of the answer.

    Raises:
        LostObjectError: the lake does not hold it as it is listed.
    """
    common = dict(headers) | {"ETag": etag}
    if is_known(request.headers, etag):
        return Response(status_code=304, headers=common)
    part = wanted_part(request.headers, size, etag)
    common |= part.headers
    status = 206 if part.partial else 200
    if request.scope.get("is_head") or part.end == part.start:
        return Response(status_code=status, headers=common)
    if part.end - part.start <= PIECE or not isinstance(lake, FolderLake):
        return Response(await anyio.to_thread.run_sync(_read, lake, key, part), status, common)
    path = await anyio.to_thread.run_sync(_checked_path, lake, key, part)
    return StreamingResponse(_pieces(path, part), status, common)


def _read(lake: Lake, key: str, part: ByteRange) -> bytes:
    if isinstance(lake, FolderLake):
        with _checked_path(lake, key, part).open("rb") as file:
            file.seek(part.start)
            data = file.read(part.end - part.start)
    else:
        try:
            data = lake.get(key)
        except ObjectNotFoundError as error:
            raise LostObjectError(error.problem) from error
        if len(data) != part.size:
            raise LostObjectError(f"{key} has {len(data)} bytes where {part.size} are listed.")
        data = data[part.start : part.end]
    return data


def _checked_path(lake: FolderLake, key: str, part: ByteRange) -> Path:
    try:
        path = lake.local_copy(key, lake.root)
    except ObjectNotFoundError as error:
        raise LostObjectError(error.problem) from error
    if path.stat().st_size != part.size:
        raise LostObjectError(f"{key} has {path.stat().st_size} bytes where {part.size} are listed.")
    return path


async def _pieces(path: Path, part: ByteRange) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(part.start)
        left = part.end - part.start
        while left:
            piece = await file.read(min(PIECE, left))
            if not piece:
                raise LostObjectError(f"{path.name} became shorter while it was read.")
            left -= len(piece)
            yield piece
