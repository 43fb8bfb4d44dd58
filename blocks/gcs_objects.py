"""Objects of a bucket: written and read whole, by the checksums and generations that the store keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lookbook.blocks.errors import ObjectNotFoundError, OutOfReachError
from lookbook.blocks.extras import needs_extra

with needs_extra("gcp", "A bucket of Google Cloud Storage"):
    import google_crc32c

    from lookbook.blocks.gcs_errors import named_faults
    from lookbook.blocks.gcs_requests import PART_BYTES, crc32c_of, fetch, in_base64, insert, insert_in_parts
    from lookbook.blocks.gcs_retrying import TIMEOUT, retrying, with_whole_refusals

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket

#: How often an object is downloaded whose bytes do not have its checksum.
ATTEMPTS = 3
#: Bytes of a part of a large download: each has its own time to be tried again.
DOWNLOADED_PART_BYTES = 32 * 2**20
#: The metadata by which a writer knows its own write again, when it was done but its answer was lost.
WRITER = "lookbook-write"

CONTENT_TYPES = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "html": "text/html; charset=utf-8",
    "jp2": "image/jp2",
    "jpg": "image/jpeg",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "tif": "image/tiff",
    "webp": "image/webp",
}


def write(
    bucket: Bucket, name: str, data: bytes, *, cache_control: str, writer: str = "", generation: int | None = None
) -> None:
    """Write an object; the service refuses bytes that do not have their CRC32C.

    Args:
        bucket: where to.
        name: of the object.
        data: its bytes; more than 8 MiB go in parts.
        cache_control: what others who serve it may do.
        writer: kept in the object's metadata.
        generation: that must stand there, 0 for none; None writes whatever does.

    Raises:
        PreconditionFailed: another generation stands there.
        OutOfReachError: the service does not answer.
        LookbookError: there is no such bucket, or the credentials do not let us.
    """
    metadata = {
        "name": name,
        "contentType": CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream"),
        "cacheControl": cache_control,
        "metadata": {WRITER: writer} if writer else {},
    }
    with named_faults(bucket.name, name):
        if len(data) <= PART_BYTES:
            insert(bucket, metadata, data, generation)
        else:
            insert_in_parts(bucket, metadata, data, generation)


def read(bucket: Bucket, name: str) -> tuple[bytes, int]:
    """Return the bytes of an object, and its generation.

    Raises:
        ObjectNotFoundError: there is none.
        OutOfReachError: the service does not answer, or the bytes arrive damaged.
        LookbookError: there is no such bucket, or the credentials do not let us.
    """
    for _ in range(ATTEMPTS):
        with named_faults(bucket.name, name):
            data, generation, crc32c = fetch(bucket, name)
        if crc32c_of(data) == crc32c:
            return data, generation
    raise _damaged(bucket, name)


def read_to(bucket: Bucket, name: str, path: Path) -> None:
    """Write the bytes of an object to a file, part by part. Raises as `read` does."""
    for _ in range(ATTEMPTS):
        found = bucket.blob(name, chunk_size=DOWNLOADED_PART_BYTES)
        with named_faults(bucket.name, name), path.open("wb") as file:
            found.reload(timeout=TIMEOUT, retry=retrying())  # its parts are those of one generation
            with_whole_refusals()(found.download_to_file)(file, checksum=None, timeout=TIMEOUT, retry=retrying())
        if found.crc32c == _crc32c_of_file(path):
            return
    raise _damaged(bucket, name)


def find(bucket: Bucket, name: str) -> Blob | None:
    """Return the metadata of an object, or None where there is none. Raises as `read` does otherwise."""
    with named_faults(bucket.name):
        return bucket.get_blob(name, timeout=TIMEOUT, retry=retrying())


def remove(bucket: Bucket, name: str) -> None:
    """Remove an object, if there is one. Raises as `read` does otherwise."""
    try:
        with named_faults(bucket.name, name):
            bucket.delete_blob(name, timeout=TIMEOUT, retry=retrying())
    except ObjectNotFoundError:
        return


def was_written_by(blob: Blob, writer: str) -> bool:
    """Return whether the object that stands there is what `write` wrote with this `writer`."""
    return bool((blob.metadata or {}).get(WRITER) == writer)


def _crc32c_of_file(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(2**20), b""):
            value = google_crc32c.extend(value, piece)
    return in_base64(value)


def _damaged(bucket: Bucket, name: str) -> OutOfReachError:
    return OutOfReachError(
        f"gs://{bucket.name}/{name} arrived {ATTEMPTS} times with another checksum than the store keeps for it.",
        "Something between here and Google Cloud damages data; run the command again.",
    )
