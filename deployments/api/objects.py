"""Objects of the lake as answers: whole, in part, or not at all where they are known already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.deployments.api.ranges import Part, is_known, wanted_part

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


def _read(lake: Lake, key: str, part: Part) -> bytes:
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


def _checked_path(lake: FolderLake, key: str, part: Part) -> Path:
    try:
        path = lake.local_copy(key, lake.root)
    except ObjectNotFoundError as error:
        raise LostObjectError(error.problem) from error
    if path.stat().st_size != part.size:
        raise LostObjectError(f"{key} has {path.stat().st_size} bytes where {part.size} are listed.")
    return path


async def _pieces(path: Path, part: Part) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(part.start)
        left = part.end - part.start
        while left:
            piece = await file.read(min(PIECE, left))
            if not piece:
                raise LostObjectError(f"{path.name} became shorter while it was read.")
            left -= len(piece)
            yield piece
