"""Where copies go: a folder, or a folder of a bucket."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import FolderLake, Lake

if TYPE_CHECKING:
    from prefect_gcp import GcpCredentials

TAKES = "It takes a folder, a file:// address, or gs://bucket/folder."

#: Of a lake, where its objects lie.
LAKE_FOLDERS = ("originals", "derived", "batches", "datasets", "rejected", "exports")


class Target(Protocol):
    """A place for files under names with slashes. Many threads use it at once."""

    uri: str

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """Return whether a file with these bytes stands there."""
        ...

    def write(self, name: str, data: bytes, sha256: str) -> None:
        """Write a file, whatever stands there: it appears whole or not at all."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it stands there."""
        ...

    def settle(self) -> None:
        """Return once what was written is durable."""
        ...


class FolderTarget:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.uri = str(root)
        self._files = FolderLake(root=root)

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """See `Target.holds`: the file is read, if it has the size."""
        path = Path(self._files.uri(name))
        with _disk_faults(self.uri):
            if not path.is_file() or path.stat().st_size != size:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256

    def write(self, name: str, data: bytes, sha256: str) -> None:  # noqa: ARG002
        """See `Target.write`."""
        with _disk_faults(self.uri):
            self._files.replace(name, data)

    def remove(self, name: str) -> None:
        """See `Target.remove`."""
        with _disk_faults(self.uri):
            self._files.remove(name)

    def settle(self) -> None:
        """See `Target.settle`."""
        self._files.settle()
        with suppress(OSError):
            (self._files.root / ".tmp").rmdir()


@contextmanager
def _disk_faults(to: str) -> Iterator[None]:
    """Tell of the folder that was asked for: to whoever copies it is no lake."""
    try:
        yield
    except (OSError, LookbookError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LookbookError(
                f"--to {to}: no space left.", "Free some, then copy again: what is copied already stays."
            ) from cause
        raise LookbookError(
            f"--to {to} cannot be written: {cause.strerror or cause}.", "Name a folder that you may write to."
        ) from cause


class BucketTarget:
    """A folder of a bucket. Each object's metadata holds the SHA-256 of its bytes: one listing tells what is there."""

    def __init__(self, bucket: str, prefix: str, credentials: GcpCredentials, threads: int) -> None:
        from lookbook.blocks import gcs  # noqa: PLC0415 - an extra
        from lookbook.blocks.gcs import (  # noqa: PLC0415
            TIMEOUT,
            named_faults,
            retrying,
            storage_client,
        )

        self.uri = f"gs://{bucket}/{prefix}".rstrip("/")
        self._folder = f"{prefix}/" if prefix else ""
        self._objects = gcs
        with named_faults(bucket):
            self._bucket = storage_client(credentials, threads).bucket(bucket)
            blobs = self._bucket.list_blobs(
                prefix=self._folder or None,
                fields="items(name,size,metadata),nextPageToken",
                timeout=TIMEOUT,
                retry=retrying(),
            )
            self._there = {str(blob.name): (int(blob.size), (blob.metadata or {}).get(gcs.WRITER)) for blob in blobs}

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """See `Target.holds`."""
        return self._there.get(self._folder + name) == (size, sha256)

    def write(self, name: str, data: bytes, sha256: str) -> None:
        """See `Target.write`: the store refuses bytes that arrive damaged."""
        self._objects.write_object(self._bucket, self._folder + name, data, cache_control="no-cache", writer=sha256)

    def remove(self, name: str) -> None:
        """See `Target.remove`."""
        if self._folder + name in self._there:
            self._objects.remove_object(self._bucket, self._folder + name)

    def settle(self) -> None:
        """See `Target.settle`: the store answers a write when it is durable."""


def open_target(uri: str, lake: Lake, threads: int) -> Target:
    """Return the place that `uri` names.

    Args:
        uri: a folder, as a path or ``file://`` address, or ``gs://bucket/folder``.
        lake: what is copied; a bucket is written with the credentials of a lake that lies in one.
        threads: that will use it.

    Raises:
        UsageError: it is none of these, or lies inside the lake.
        LookbookError: the folder can't be looked at, the bucket can't be listed, or the extra ``gcp`` is not installed.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme and scheme[1].lower() == "gs":
        return _bucket(uri, lake, threads)
    if scheme and scheme[1].lower() != "file":
        raise UsageError(f"--to {uri}: {scheme[1]}:// is not known.", TAKES)
    address = urlsplit(uri)
    if not uri or (scheme and (address.netloc not in ("", "localhost") or not address.path)):
        raise UsageError(f"--to {uri!r}: no folder.", TAKES)
    root = _resolved(uri, unquote(address.path) if scheme else uri)
    if isinstance(lake, FolderLake) and (root == lake.root.resolve() or lake.root.resolve() in root.parents):
        raise UsageError(f"--to {uri}: this folder belongs to the lake.", "Name one outside of it.")
    with _disk_faults(str(root)):
        if root.exists() and not root.is_dir():
            raise UsageError(f"--to {uri}: a file stands there.", TAKES)
    return FolderTarget(root)


def _resolved(uri: str, path: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, ValueError) as error:  # ~nobody, links in a circle; NUL
        raise UsageError(f"--to {uri!r}: no folder: {error}.", TAKES) from error


def _bucket(uri: str, lake: Lake, threads: int) -> Target:
    found = re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", uri, re.IGNORECASE)
    if found is None:
        raise UsageError(f"--to {uri}: no bucket.", TAKES)
    prefix = (found[2] or "").strip("/")
    if getattr(lake, "bucket", None) == found[1] and _within(prefix, getattr(lake, "prefix", "")):
        raise UsageError(f"--to {uri}: this folder belongs to the lake.", "Name another one.")
    return BucketTarget(found[1], prefix, getattr(lake, "credentials", None) or _credentials_of_machine(uri), threads)


def _within(folder: str, lake: str) -> bool:
    """Whether a folder of a bucket is a lake's; in a lake that is the whole bucket only those that it uses are."""
    if lake:
        return f"{folder}/".startswith(f"{lake}/")
    return not folder or folder.partition("/")[0] in LAKE_FOLDERS


def _credentials_of_machine(uri: str) -> GcpCredentials:
    from lookbook.blocks.errors import needs_extra  # noqa: PLC0415

    with needs_extra("gcp", f"--to {uri}"):
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - slow, and an extra
        from prefect_gcp import GcpCredentials  # noqa: PLC0415
    try:
        return GcpCredentials()
    except GoogleAuthError as error:
        raise LookbookError(
            f"--to {uri}: this machine has no Google credentials.", 'Log in: "gcloud auth application-default login".'
        ) from error
