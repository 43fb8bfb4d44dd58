"""Bytes into and out of a bucket: by one request of our own, and large ones in parts by the client.

The client's own requests for whole objects take twice as long on a processor or more, and an image is four of them.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lookbook.blocks.errors import OutOfReachError
from lookbook.blocks.extras import needs_extra

with needs_extra("gcp", "A bucket of Google Cloud Storage"):
    import google_crc32c
    from google.api_core.exceptions import GoogleAPICallError, from_http_response

    from lookbook.blocks.gcs_client import session_of
    from lookbook.blocks.gcs_retrying import TIMEOUT, retrying, with_whole_refusals

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket

#: Bytes of a part of a resumable upload, and of what goes in one request: a fault costs one part.
PART_BYTES = 8 * 2**20
#: How often an upload in parts is begun.
ATTEMPTS = 3


def insert(bucket: Bucket, metadata: Mapping[str, Any], data: bytes, generation: int | None) -> None:
    """Write an object by one request: https://cloud.google.com/storage/docs/uploading-objects#rest-upload-objects.

    Args:
        bucket: where to.
        metadata: fields of the object, among them its ``name`` and ``contentType``.
        data: its bytes.
        generation: that must stand there, 0 for none; None writes whatever does.

    Raises:
        GoogleAPICallError: the service refuses.
        RetryError: it did not answer, or only with faults of its own, as long as it was tried.
    """
    session, boundary = session_of(bucket.client), secrets.token_hex(16)
    address = f"{bucket.client.api_endpoint}/upload/storage/v1/b/{quote(bucket.name, safe='')}/o?uploadType=multipart"
    if generation is not None:
        address += f"&ifGenerationMatch={generation}"
    told = json.dumps({**metadata, "crc32c": crc32c_of(data)})
    head = f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{told}\r\n--{boundary}\r\n"
    kind = f"content-type: {metadata['contentType']}\r\n\r\n"
    body = b"".join((head.encode(), kind.encode(), data, f"\r\n--{boundary}--".encode()))
    headers = {"content-type": f'multipart/related; boundary="{boundary}"'}

    def send() -> None:
        response = session.request("POST", address, data=body, headers=headers, timeout=TIMEOUT)
        if response.status_code != HTTPStatus.OK:
            raise from_http_response(response)  # type: ignore[no-untyped-call]

    retrying()(send)()


def fetch(bucket: Bucket, name: str) -> tuple[bytes, int, str]:
    """Return the bytes of an object by one request, its generation, and the CRC32C that the service keeps for it.

    Raises:
        GoogleAPICallError: the service refuses.
        RetryError: it did not answer, or only with faults of its own, as long as it was tried.
    """
    session = session_of(bucket.client)
    place = f"b/{quote(bucket.name, safe='')}/o/{quote(name, safe='')}"
    address = f"{bucket.client.api_endpoint}/download/storage/v1/{place}?alt=media"

    def send() -> tuple[bytes, int, str]:
        response = session.request("GET", address, timeout=TIMEOUT)
        if response.status_code != HTTPStatus.OK:
            raise from_http_response(response)  # type: ignore[no-untyped-call]
        hashes = dict(pair.strip().split("=", 1) for pair in response.headers["x-goog-hash"].split(","))
        return response.content, int(response.headers["x-goog-generation"]), hashes["crc32c"]

    return retrying()(send)()


def insert_in_parts(bucket: Bucket, metadata: Mapping[str, Any], data: bytes, generation: int | None) -> None:
    """Write a large object by a resumable upload; arguments and errors are those of `insert`.

    Raises:
        OutOfReachError: the service lost what was sent, again and again.
    """
    for _ in range(ATTEMPTS):
        blob = bucket.blob(metadata["name"], chunk_size=PART_BYTES)
        blob.cache_control, blob.metadata = metadata["cacheControl"], metadata["metadata"]
        if _upload(blob, data, str(metadata["contentType"]), generation):
            return
    raise OutOfReachError(
        f"gs://{bucket.name}/{metadata['name']}: the service lost what was sent, {ATTEMPTS} times.",
        "Run the command again.",
    )


def _upload(blob: Blob, data: bytes, content_type: str, generation: int | None) -> bool:
    """Upload once; False where it has to begin again."""
    try:
        with_whole_refusals()(blob.upload_from_string)(
            data,
            content_type=content_type,
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


def crc32c_of(data: bytes) -> str:
    """Return the CRC32C of some bytes, as the service gives it."""
    return in_base64(google_crc32c.value(data))


def in_base64(crc32c: int) -> str:
    """Return four bytes, the highest first, in base64."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()
