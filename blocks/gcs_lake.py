"""A lake in a bucket of Google Cloud Storage."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from lookbook.blocks.errors import LookbookError, ObjectConflictError, ObjectNotFoundError, SwapConflictError
from lookbook.blocks.extras import needs_extra
from lookbook.blocks.lake import Lake, ObjectInfo, checked_key

with needs_extra("gcp", "A lake in a bucket of Google Cloud Storage"):
    from google.api_core.exceptions import PreconditionFailed
    from prefect_gcp import GcpCredentials

    from lookbook.blocks import gcs_objects
    from lookbook.blocks.gcs_client import storage_client
    from lookbook.blocks.gcs_errors import named_faults
    from lookbook.blocks.gcs_requests import crc32c_of
    from lookbook.blocks.gcs_retrying import TIMEOUT, retrying

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

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
            found = gcs_objects.find(self._bucket(), self._name(key))
            if found is None:
                continue  # it was removed in between
            if gcs_objects.was_written_by(found, writer):
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
        gcs_objects.write(self._bucket(), self._name(key), data, cache_control=MUTABLE)

    def get(self, key: str) -> bytes:
        """See `Lake.get`."""
        return gcs_objects.read(self._bucket(), self._name(key))[0]

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
        gcs_objects.remove(self._bucket(), self._name(key))

    def settle(self) -> None:
        """See `Lake.settle`: the service answers a write when it is durable."""

    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """See `Lake.read_version`. The token is the object's generation."""
        try:
            data, generation = gcs_objects.read(self._bucket(), self._name(key))
        except ObjectNotFoundError:
            return None
        return data, str(generation)

    def swap(self, key: str, data: bytes, expected: str | None) -> None:
        """See `Lake.swap`."""
        writer = uuid.uuid4().hex
        if self._write(key, data, MUTABLE, writer, generation=int(expected or 0)):
            return
        found = gcs_objects.find(self._bucket(), self._name(key))
        if found is None or not gcs_objects.was_written_by(found, writer):
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
            gcs_objects.read_to(self._bucket(), self._name(key), aside)
            return aside.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise LookbookError(
                f"No space left in {folder} for a copy of {self.uri(key)}.",
                "Free some, or point LOOKBOOK_HOME to another disk; then run again.",
            ) from error
        finally:
            aside.unlink(missing_ok=True)

    def _write(self, key: str, data: bytes, cache_control: str, writer: str, generation: int) -> bool:
        """Whether the object was written: it is not where another generation stands, our own of a lost answer, too."""
        try:
            gcs_objects.write(
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
