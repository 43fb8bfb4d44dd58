"""Images: originals and outputs that a snapshot lists, and nothing else of the lake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from lookbook.deployments.api.access import Reader
from lookbook.deployments.api.objects import object_answer
from lookbook.deployments.api.problems import DatasetPath, OutputPath, Problem, Sha256Path, SnapshotQuery, problems
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import is_original
from lookbook.deployments.api.snapshots import LoadedSnapshot
from lookbook.tasks.datasets.report.pictures import MEDIA_TYPES

router = APIRouter(prefix="/datasets/{name}/images", tags=["images"])

#: What never changes under its address, and what has to be asked for again.
IMMUTABLE = "private, max-age=31536000, immutable"
ASKED_AGAIN = "private, no-cache"
#: By the format that was sniffed: a name, or what the file itself claims, decides nothing.
TYPES = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "HEIF": "image/heif",
    "JPEG": "image/jpeg",
    "JPEG2000": "image/jp2",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
_IMAGE = {"description": "The image.", "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _IMAGE,
    206: _IMAGE | {"description": "A part of it."},
    304: {"description": "It is known."},
}


@dataclass(frozen=True)
class _Found:
    """An object that a snapshot lists."""

    key: str
    size: int
    sha256: str
    media_type: str


@router.get("/{sha256}/{output}", response_class=Response, responses=_RESPONSES | problems(404, 416))
async def show_image(
    name: DatasetPath,
    sha256: Sha256Path,
    output: OutputPath,
    request: Request,
    shared: Shared,
    _: Reader,
    snapshot: SnapshotQuery = None,
    v: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{8,64}$", description="Start of the digest of what drew the output.")
    ] = None,
) -> Response:
    """Send an image's bytes: the untouched file, or an output of it.

    An output's address with `v`, as products list it, never changes its bytes; without `v` it shows how the current
    snapshot draws it. An image that only an older snapshot has needs `snapshot`.
    """
    found = await anyio.to_thread.run_sync(_find, shared, name, snapshot, sha256, output, v)
    settled = is_original(output) or v is not None
    headers = {
        "Cache-Control": IMMUTABLE if settled else ASKED_AGAIN,
        "Content-Type": found.media_type,
        "Content-Disposition": "inline" if found.media_type.startswith("image/") else "attachment",
    }
    answer = await object_answer(request, shared.workspace.lake, found.key, found.size, f'"{found.sha256}"', headers)
    kind = "original" if is_original(output) else "output"
    shared.metrics.images.labels(kind).inc()
    shared.metrics.image_bytes.labels(kind).inc(int(answer.headers.get("content-length", 0)))
    return answer


def _find(shared: Services, name: str, snapshot: str | None, sha256: str, output: str, version: str | None) -> _Found:
    """Return the object; an older snapshot that a page was made of is in memory still, and looked into as well."""
    first = shared.snapshots.load(name, snapshot)
    others = [] if snapshot else [each for each in shared.snapshots.held(name) if each is not first]
    for loaded in (first, *others):
        found = _original(loaded, sha256) if is_original(output) else _output(loaded, sha256, output, version)
        if found is not None:
            return found
    raise Problem(
        404, "no-image", "No snapshot that was looked into lists this image.", "Name an older one by snapshot."
    )


def _original(loaded: LoadedSnapshot, sha256: str) -> _Found | None:
    places = loaded.places_of_content(sha256)
    if not len(places):
        return None
    row = loaded.table.slice(int(places[0]), 1).select(["original_key", "bytes", "format"]).to_pylist()[0]
    if not row["original_key"]:
        return None  # a reject whose bytes were not kept
    media_type = TYPES.get(row["format"] or "", "application/octet-stream")
    return _Found(row["original_key"], row["bytes"], sha256, media_type)


def _output(loaded: LoadedSnapshot, sha256: str, output: str, version: str | None) -> _Found | None:
    row = loaded.output_of(sha256, output)
    if row is None or not row["output_digest"].startswith(version or ""):
        return None
    media_type = MEDIA_TYPES.get(row["object_key"].rpartition(".")[2], "application/octet-stream")
    return _Found(row["object_key"], row["bytes"], row["output_sha256"], media_type)
