"""A lake in a bucket of Google Cloud Storage: client, requests and retries, objects by checksum, named faults."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import quote

from pydantic import Field, field_validator

from lookbook.blocks.errors import (
    LookbookError,
    ObjectConflictError,
    ObjectNotFoundError,
    OutOfReachError,
    SwapConflictError,
    needs_extra,
    raise_if_full,
)
from lookbook.blocks.lake import Lake, ObjectInfo, checked_key

with needs_extra("gcp", "A bucket of Google Cloud Storage"):
    import google_crc32c
    from google.api_core import exceptions as api
    from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed, from_http_response
    from google.api_core.retry import Retry, if_exception_type
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage import Client
    from google.cloud.storage.exceptions import DataCorruption
    from google.cloud.storage.retry import DEFAULT_RETRY
    from prefect_gcp import GcpCredentials
    from requests import RequestException
    from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket
    from prefect_gcp import GcpCredentials
    from requests import Session

#: Seconds that a request is tried again while the service is out of reach or has faults; then it is an error.
RETRY_SECONDS = 60.0
#: Seconds to connect, and to wait for the next bytes of an answer.
TIMEOUT = (10.0, 60.0)


def retrying() -> Retry:
    """After a quarter of a second, and ever later, until the budget is spent.

    What is tried again is what Google says may be: https://cloud.google.com/storage/docs/retry-strategy.
    """
    policy: Retry = DEFAULT_RETRY.with_delay(initial=0.25, maximum=10.0, multiplier=2.0)
    return policy.with_timeout(RETRY_SECONDS)


def with_whole_refusals() -> Retry:
    """Around the client's uploads and downloads: it reads what a refusal says when it no longer tries again."""
    return Retry(if_exception_type(RequestException), initial=0.25, maximum=10.0, timeout=RETRY_SECONDS)


# For traces that nobody asked for the client reads the bucket's metadata: a request more, and a permission more.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


def storage_client(credentials: GcpCredentials, threads: int) -> Client:
    """Return a client that `threads` threads use at once, each over a connection that stays open.

    Equal credentials share one; a forked process gets its own, for two processes can't share connections.
    """
    return _shared(credentials, threads, os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST"))


@lru_cache(maxsize=16)
def _shared(credentials: GcpCredentials, threads: int, process: int, emulator: str | None) -> Client:  # noqa: ARG001
    client = credentials.get_cloud_storage_client()
    session = session_of(client)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=threads))
    # Proxies and certificates of the environment, asked for once: for each request it takes longer than to send it.
    told = session.merge_environment_settings(client.api_endpoint, {}, None, None, None)
    session.proxies, session.verify, session.cert = told["proxies"], told["verify"], told["cert"]
    session.trust_env = False
    return client


def session_of(client: Client) -> Session:
    """Return the client's connections, which send its credentials along."""
    return cast("Session", client._http)  # nothing public gives it


#: What passes, of the service and of the way to it. Other kinds of OSError are those of this machine's disk.
_NETWORK_FAULTS = (
    api.RetryError,
    api.ServerError,
    api.TooManyRequests,
    RequestException,
    DataCorruption,
    ConnectionError,
    TimeoutError,
)


@contextmanager
def named_faults(bucket: str, name: str = "") -> Iterator[None]:
    """Turn what the client raises into errors of ours. A precondition that failed is the caller's to judge.

    Args:
        bucket: the bucket that is asked.
        name: of the object that is asked for, if it is one.

    Raises:
        ObjectNotFoundError: there is no such object.
        OutOfReachError: the service did not answer, or only with faults of its own, as long as it was tried.
        LookbookError: there is no such bucket, or the credentials are refused or may not do this.
    """
    try:
        yield
    except api.PreconditionFailed:
        raise
    except api.NotFound as error:
        raise _missing(bucket, name, error) from error
    except (api.Forbidden, api.Unauthorized) as error:
        raise _refused(bucket, error) from error
    except TransportError as error:
        raise _out_of_reach(bucket, error) from error
    except GoogleAuthError as error:
        raise LookbookError(
            f"gs://{bucket}: the credentials cannot be used: {type(error).__name__}.",
            "Renew the key of the lake's credentials block, or sign in: gcloud auth application-default login.",
        ) from error
    except _NETWORK_FAULTS as error:
        raise _out_of_reach(bucket, error) from error
    except api.GoogleAPICallError as error:
        raise LookbookError(f"gs://{bucket}/{name}: refused: {_told(error)}") from error


def _missing(bucket: str, name: str, error: api.NotFound) -> LookbookError:
    if name and "bucket does not exist" not in str(error):
        return ObjectNotFoundError(f"{name}: not in the bucket {bucket}.")
    return LookbookError(
        f"The bucket {bucket} does not exist.", "Create it, or name another one in the workspace's lake block."
    )


def _refused(bucket: str, error: api.GoogleAPICallError) -> LookbookError:
    permission = re.search(r"storage\.[a-z]+\.[A-Za-z]+ access", str(error))
    what = f"The account lacks {permission[0].removesuffix(' access')}" if permission else "Access is denied"
    return LookbookError(
        f"gs://{bucket}: {what} ({error.code}).",
        f"Grant it the role Storage Object User (roles/storage.objectUser) on the bucket {bucket}.",
    )


def _out_of_reach(bucket: str, error: BaseException) -> OutOfReachError:
    cause = error.cause if isinstance(error, api.RetryError) and error.cause else error
    return OutOfReachError(
        f"gs://{bucket} is out of reach: {_told(cause)}.", "Run the command again: it goes on where this one stopped."
    )


def _told(error: BaseException) -> str:
    """Return what went wrong in a few words: the messages of clients hold addresses and whole bodies."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "code", None)
    return f"status {int(status)}" if status else type(error).__name__


# The client's own requests for whole objects take twice as long on a processor or more, and an image is four of them.

#: Bytes of a part of a resumable upload, and of what goes in one request: a fault costs one part.
PART_BYTES = 8 * 2**20
#: Objects of up to so many bytes are sent whole.
WHOLE_BYTES = PART_BYTES
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


def write_object(
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
        if len(data) <= WHOLE_BYTES:
            insert(bucket, metadata, data, generation)
        else:
            insert_in_parts(bucket, metadata, data, generation)


def read_object(bucket: Bucket, name: str) -> tuple[bytes, int]:
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


def download_object(bucket: Bucket, name: str, path: Path) -> None:
    """Write the bytes of an object to a file, part by part. Raises as `read` does."""
    for _ in range(ATTEMPTS):
        found = bucket.blob(name, chunk_size=DOWNLOADED_PART_BYTES)
        with named_faults(bucket.name, name), path.open("wb") as file:
            found.reload(timeout=TIMEOUT, retry=retrying())  # its parts are those of one generation
            with_whole_refusals()(found.download_to_file)(file, checksum=None, timeout=TIMEOUT, retry=retrying())
        if found.crc32c == _crc32c_of_file(path):
            return
    raise _damaged(bucket, name)


def find_object(bucket: Bucket, name: str) -> Blob | None:
    """Return the metadata of an object, or None where there is none. Raises as `read` does otherwise."""
    with named_faults(bucket.name):
        return bucket.get_blob(name, timeout=TIMEOUT, retry=retrying())


def remove_object(bucket: Bucket, name: str) -> None:
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


#: Metadata for whoever serves the objects: of those that never change, and of the others.
IMMUTABLE = "private, max-age=31536000, immutable"
MUTABLE = "no-store"


class GcsLake(Lake):
    """A lake in a bucket: objects are written once by ``ifGenerationMatch=0``, and swapped by their generation.

    Any method may raise, besides what `Lake` says, `OutOfReachError` when the service did not answer for as long as
    it was tried, and `LookbookError` when there is no such bucket or the credentials do not let us.
    """

    _block_type_name = "Lookbook GCS Lake"
    _block_type_slug = "lookbook-gcs-lake"

    bills: ClassVar[bool] = True
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", description="Name of the bucket.")
    prefix: str = Field("", description="Folder of the bucket in which the lake lies; empty: the whole bucket.")
    credentials: GcpCredentials = Field(description="Who asks; without a key it is whom the environment names.")
    threads: int = Field(256, ge=1, le=512, description="Connections that stay open: requests at once, at most.")

    @field_validator("prefix")
    @classmethod
    def _without_slashes(cls, prefix: str) -> str:
        return prefix.strip("/")

    def put(self, key: str, data: bytes) -> bool:
        """See `Lake.put`. Other bytes of the same size are a conflict, too."""
        writer = uuid.uuid4().hex
        while not self._write(key, data, IMMUTABLE, writer, generation=0):
            found = find_object(self._bucket(), self._name(key))
            if found is None:
                continue  # it was removed in between
            if was_written_by(found, writer):
                return True
            if (found.size, found.crc32c) != (len(data), crc32c_of(data)):
                raise ObjectConflictError(
                    f"{key}: the lake holds other bytes ({found.size}) where {len(data)} are to be written once.",
                    'Run "lookbook verify NAME --repair" to mend damaged objects.',
                )
            return False
        return True

    def replace(self, key: str, data: bytes) -> None:
        """See `Lake.replace`."""
        write_object(self._bucket(), self._name(key), data, cache_control=MUTABLE)

    def get(self, key: str) -> bytes:
        """See `Lake.get`."""
        return read_object(self._bucket(), self._name(key))[0]

    def list(self, prefix: str, start: str = "") -> Iterator[ObjectInfo]:
        """See `Lake.list`. A page of a thousand is one request."""
        root = f"{self.prefix}/" if self.prefix else ""
        with named_faults(self.bucket):
            blobs = self._bucket().list_blobs(
                prefix=self._name(prefix) + "/",
                start_offset=root + start if start else None,
                fields="items(name,size,updated,generation),nextPageToken",
                timeout=TIMEOUT,
                retry=retrying(),
            )
            for blob in blobs:
                key = str(blob.name).removeprefix(root)
                yield ObjectInfo(key, int(blob.size), blob.updated, str(blob.generation))

    def folders(self, prefix: str) -> Sequence[str]:
        """See `Lake.folders`. A page of a thousand is one request."""
        folder = self._name(prefix) + "/"
        with named_faults(self.bucket):
            blobs = self._bucket().list_blobs(
                prefix=folder,
                delimiter="/",
                fields="prefixes,nextPageToken",
                timeout=TIMEOUT,
                retry=retrying(),
            )
            for _ in blobs:  # the names of folders come with the pages
                pass
            return sorted(name.removeprefix(folder).strip("/") for name in blobs.prefixes)

    def remove(self, key: str) -> None:
        """See `Lake.remove`."""
        remove_object(self._bucket(), self._name(key))

    def settle(self) -> None:
        """See `Lake.settle`: the service answers a write when it is durable."""

    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """See `Lake.read_version`. The token is the object's generation."""
        try:
            data, generation = read_object(self._bucket(), self._name(key))
        except ObjectNotFoundError:
            return None
        return data, str(generation)

    def swap(self, key: str, data: bytes, expected: str | None) -> None:
        """See `Lake.swap`."""
        writer = uuid.uuid4().hex
        if self._write(key, data, MUTABLE, writer, generation=int(expected or 0)):
            return
        found = find_object(self._bucket(), self._name(key))
        if found is None or not was_written_by(found, writer):
            raise SwapConflictError(
                f"{key} was changed by another run.", "Run the command again: it starts from what stands there now."
            )

    def uri(self, key: str) -> str:
        """See `Lake.uri`: a ``gs://`` address."""
        return f"gs://{self.bucket}/{self._name(key)}"

    def local_copy(self, key: str, folder: Path) -> Path:
        """See `Lake.local_copy`: downloaded each time, and there only when it is whole.

        Raises:
            LookbookError: besides what `Lake.local_copy` says, there is no space for it.
        """
        path = folder / checked_key(key)
        aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            download_object(self._bucket(), self._name(key), aside)
            return aside.replace(path)
        except OSError as error:
            raise_if_full(error, f"No space left in {folder} for a copy of {self.uri(key)}.")
            raise
        finally:
            aside.unlink(missing_ok=True)

    def _write(self, key: str, data: bytes, cache_control: str, writer: str, generation: int) -> bool:
        """Tell whether the object was written: not where another generation stands, be it our own of a lost answer."""
        try:
            write_object(
                self._bucket(), self._name(key), data, cache_control=cache_control, writer=writer, generation=generation
            )
        except PreconditionFailed:
            return False
        return True

    def _bucket(self) -> Bucket:
        with named_faults(self.bucket):
            return storage_client(self.credentials, self.threads).bucket(self.bucket)

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{checked_key(key)}" if self.prefix else checked_key(key)
