"""Objects of a bucket: written and read whole, by the checksums and generations that the store keeps."""

from __future__ import annotations

import base64
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from blocks.errors import OutOfReachError
from blocks.extras import needs_extra

with needs_extra("gcp", "A bucket of Google Cloud Storage"):
    import google_crc32c
    from google.api_core.exceptions import GoogleAPICallError
    from google.api_core.retry import Retry, if_exception_type
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests import RequestException

    from blocks.gcs_errors import named_faults

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket

#: Seconds that a request is tried again while the service is out of reach or has faults; then it is an error.
RETRY_SECONDS = 60.0
#: Seconds to connect, and to wait for the next bytes of an answer.
TIMEOUT = (10.0, 60.0)
#: Bytes of a part of a resumable upload, which the client takes for more than 8 MiB: a fault costs one part.
PART_BYTES = 8 * 2**20
#: How often an upload is begun, or an object is downloaded whose bytes do not have its checksum.
ATTEMPTS = 3
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


def retrying() -> Retry:
    """How requests are tried again: after a quarter of a second, and ever later, until the budget is spent."""
    return DEFAULT_RETRY.with_delay(initial=0.25, maximum=10.0, multiplier=2.0).with_timeout(RETRY_SECONDS)


def with_whole_refusals() -> Retry:
    """For uploads and downloads: the client reads what a refusal says when it no longer tries again."""
    return Retry(if_exception_type(RequestException), initial=0.25, maximum=10.0, timeout=RETRY_SECONDS)


def write(
    bucket: Bucket, name: str, data: bytes, *, cache_control: str, writer: str = "", generation: int | None = None
) -> None:
    """Write an object; the store refuses bytes that do not have their CRC32C.

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
    for _ in range(ATTEMPTS):
        blob = bucket.blob(name, chunk_size=PART_BYTES if len(data) > PART_BYTES else None)
        blob.cache_control = cache_control
        if writer:
            blob.metadata = {WRITER: writer}
        with named_faults(bucket.name, name):
            if _upload(blob, data, generation):
                return
    raise OutOfReachError(
        f"gs://{bucket.name}/{name}: the service lost what was sent, {ATTEMPTS} times.", "Run the command again."
    )


def _upload(blob: Blob, data: bytes, generation: int | None) -> bool:
    """Upload once; False where a resumable upload has to begin again."""
    try:
        with_whole_refusals()(blob.upload_from_string)(
            data,
            content_type=CONTENT_TYPES.get(blob.name.rpartition(".")[2], "application/octet-stream"),
            if_generation_match=generation,
            checksum="crc32c",
            timeout=TIMEOUT,
            retry=retrying(),
        )
    except ValueError as error:
        # The service kept less of a part than was sent, and the client can't go on in the middle of one.
        if "unexpected state" not in str(error):
            raise
        return False
    except GoogleAPICallError as error:
        if error.code != HTTPStatus.GONE:
            raise
        return False
    return True


def read(bucket: Bucket, name: str) -> tuple[bytes, int]:
    """The bytes of an object, and its generation.

    Raises:
        ObjectNotFoundError: there is none.
        OutOfReachError: the service does not answer, or the bytes arrive damaged.
        LookbookError: there is no such bucket, or the credentials do not let us.
    """
    for _ in range(ATTEMPTS):
        blob = bucket.blob(name)
        with named_faults(bucket.name, name):
            # The client compares no checksum of a download that it had to take up again.
            data = with_whole_refusals()(blob.download_as_bytes)(checksum=None, timeout=TIMEOUT, retry=retrying())
        if blob.crc32c == crc32c_of(google_crc32c.value(data)):
            return data, int(blob.generation)
    raise _damaged(bucket, name)


def read_to(bucket: Bucket, name: str, path: Path) -> None:
    """Write the bytes of an object to a file. Raises as `read` does."""
    for _ in range(ATTEMPTS):
        blob = bucket.blob(name)
        with named_faults(bucket.name, name), path.open("wb") as file:
            with_whole_refusals()(blob.download_to_file)(file, checksum=None, timeout=TIMEOUT, retry=retrying())
        if blob.crc32c == crc32c_of(_crc32c_of_file(path)):
            return
    raise _damaged(bucket, name)


def find(bucket: Bucket, name: str) -> Blob | None:
    """The metadata of an object, or None where there is none. Raises as `read` does otherwise."""
    with named_faults(bucket.name):
        return bucket.get_blob(name, timeout=TIMEOUT, retry=retrying())


def was_written_by(blob: Blob, writer: str) -> bool:
    """Whether the object that stands there is what `write` wrote with this `writer`."""
    return bool((blob.metadata or {}).get(WRITER) == writer)


def crc32c_of(value: int) -> str:
    """A CRC32C as the store gives it: base64 of four bytes, the highest first."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def _crc32c_of_file(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(2**20), b""):
            value = google_crc32c.extend(value, piece)
    return int(value)


def _damaged(bucket: Bucket, name: str) -> OutOfReachError:
    return OutOfReachError(
        f"gs://{bucket.name}/{name} arrived {ATTEMPTS} times with another checksum than the store keeps for it.",
        "Something between here and Google Cloud damages data; run the command again.",
    )
