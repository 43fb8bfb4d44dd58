"""Copying a dataset's images to a folder or a bucket: under which names, to which target, and nothing twice."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError, UsageError, raise_if_full
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.tasks.datasets.links import key_order
from lookbook.tasks.datasets.manifest import TABLES, Manifest, read_table, require_published
from lookbook.tasks.exports.recipes import ORIGINALS
from lookbook.tasks.images.parquet import to_parquet
from lookbook.tasks.runs import progress

if TYPE_CHECKING:
    from prefect_gcp import GcpCredentials

#: The folder of images that no catalogue row names.
ORPHANS = "orphans"
#: Bytes of a name, at the most; file systems take 255, with the extension.
LONGEST = 200
#: What some file system, shell or address takes for something else.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%#]|^\.|[. ]$')


@dataclass(frozen=True)
class ImageRow:
    """An image of a snapshot, not rejected: its key, its content, and the product that it shows, if any.

    Attributes:
        main: it is the one that the product's catalogue row was matched with.
    """

    key: str
    sha256: str
    product_key: str | None
    main: bool = False


@dataclass(frozen=True)
class NamedImage:
    """An image and the name of its file, without the extension."""

    name: str
    image: ImageRow


def names_by_hash(images: Iterable[ImageRow]) -> list[NamedImage]:
    """Return each content once, under its SHA-256, in folders by the first two digits."""
    first: dict[str, ImageRow] = {}
    for image in sorted(images, key=lambda image: key_order(image.key)):
        first.setdefault(image.sha256, image)
    return [NamedImage(f"{sha256[:2]}/{sha256}", image) for sha256, image in sorted(first.items())]


def names_by_id(images: Iterable[ImageRow]) -> list[NamedImage]:
    """Return each image of a product under the product's id.

    - The product's main image is ``<id>``, its further ones, in the order of `key_order`, ``<id>-2``, ``<id>-3`` …
    - The same content is named once for each product that shows it.
    - Content that no product shows is named once, in the folder `ORPHANS`, by its key without the extension.
    - An id that is no file name is escaped (`file_name`).
    - A name that is taken, also but for case, is numbered.
    """
    ordered = sorted(images, key=lambda image: (not image.main, *key_order(image.key)))
    products: dict[str, dict[str, ImageRow]] = {}
    for image in ordered:
        if image.product_key is not None:
            products.setdefault(image.product_key, {}).setdefault(image.sha256, image)
    contents = [list(of_product.values()) for _, of_product in sorted(products.items())]
    shown = {image.sha256 for of_product in contents for image in of_product}
    names = _Names()
    named = [NamedImage(names.take(file_name(str(first.product_key))), first) for first, *_ in contents]
    for _, *further in contents:
        for number, image in enumerate(further, 2):
            named.append(NamedImage(names.take(file_name(str(image.product_key)), number), image))
    for image in ordered:
        if image.sha256 not in shown:
            shown.add(image.sha256)
            named.append(NamedImage(names.take(_orphan(image.key)), image))
    return named


def file_name(text: str) -> str:
    """Return a file name for any text: unsafe characters as percent escapes, a long one cut and hashed."""
    text = text.encode("utf-8", "backslashreplace").decode()
    name = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", text) or "%"
    data = name.encode()
    if len(data) <= LONGEST:
        return name
    return f"{data[: LONGEST - 17].decode(errors='ignore')}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _orphan(key: str) -> str:
    *folders, name = key.split("/")
    stem, dot, _ = name.rpartition(".")
    return "/".join(file_name(part) for part in (ORPHANS, *folders, stem if dot and stem else name))


class _Names:
    """The names that are taken. Two that differ in case or in how an accent is written meet on some file systems."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str, number: int = 1) -> str:
        """`name` with the number, or the next one that is free."""
        while True:
            candidate = name if number == 1 else f"{name}-{number}"
            seen = unicodedata.normalize("NFC", candidate).casefold()
            if seen not in self._taken:
                self._taken.add(seen)
                return candidate
            number += 1


def balanced(named: Sequence[NamedImage], images: Sequence[ImageRow]) -> bool:
    """Return whether each content has a name, and each product one for each of its contents."""
    pairs = {(image.product_key, image.sha256) for image in images if image.product_key is not None}
    found = {(each.image.product_key, each.image.sha256) for each in named}
    return pairs <= found and {image.sha256 for image in images} == {sha256 for _, sha256 in found}


TAKES = "It takes a folder, a file:// address, or gs://bucket/folder."

#: Of a lake, where its objects lie.
LAKE_FOLDERS = ("originals", "derived", "batches", "datasets", "rejected", "exports", "work")


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
        raise_if_full(cause, f"--to {to}: no space left.", "Free some, then copy again: what is copied already stays.")
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
    """Tell whether a folder of a bucket is a lake's; of a lake that is the whole bucket, only those that it uses."""
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


Layout = Literal["id", "hash"]
THREADS = 16
#: Files that are handed to the threads at a time.
SLICE = 4096
#: The table of the copied files, and what the snapshot's own tables are called; the others keep their names.
FILES = "files.parquet"
MANIFEST = "manifest.json"
TABLE_NAMES = {"products": "styles"}

FILES_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),  # below the copy's folder
        pa.field("output", pa.string()),
        pa.field("product_key", pa.string()),  # null for orphans, and where files are named by hash
        pa.field("image_key", pa.string()),
        pa.field("sha256", pa.string()),  # the original's
        pa.field("file_sha256", pa.string()),
        pa.field("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class CopiedFile:
    """One file of a copy: its name, and how to get its bytes."""

    name: str
    size: int
    sha256: str
    read: Callable[[], bytes]


def copy_dataset(
    lake: Lake, dataset: str, outputs: Sequence[str], to: str, layout: Layout = "id", target: Target | None = None
) -> dict[str, Any]:
    """Copy the current snapshot of a dataset. What stands there with the same size and checksum is not sent again.

    First the images, a folder for each output, then the tables, ``manifest.json`` last: where it names a snapshot, all
    of that is there. Nothing is removed but the manifest of another snapshot, before the first file is written.

    Args:
        lake: where the snapshot is.
        dataset: its name.
        outputs: names of outputs, or ``originals``.
        to: a folder, or ``gs://bucket/folder``.
        layout: how images are named: by their products' ids, or by their contents' hashes.
        target: in place of the one that `to` names.

    Returns:
        Counts for each folder, and for the tables: ``files``, how many of them were ``sent``, and their ``bytes``.

    Raises:
        UsageError: an output or the target can't be meant.
        LookbookError: there is no such dataset, the lake lacks an object or has other bytes for it, or the target
            can't be written.
    """
    manifest = require_published(lake, dataset).manifest
    check_outputs(manifest, outputs)
    target = target or open_target(to, lake, THREADS)
    images = read_table(lake, manifest, "images")
    good = images.filter(pc.not_equal(images.column("outcome"), "rejected"))
    named = _named(good, read_table(lake, manifest, "products"), layout)
    objects = {output: _objects(lake, manifest, good, output) for output in dict.fromkeys(outputs)}
    progress.announce(len(named) * len(objects) + len(TABLES) + len((FILES, MANIFEST)))
    last = _in_memory(MANIFEST, lake.get(f"{manifest.folder}/manifest.json"))
    if not target.holds(last.name, last.size, last.sha256):
        target.remove(last.name)  # half of this copy would stand under it
    counts: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for output, contents in objects.items():
        listed = [_row(output, each, contents[each.image.sha256], layout) for each in named]
        keys = [contents[each.image.sha256]["object_key"] for each in named]
        files = (_file(lake, row, key) for row, key in zip(listed, keys, strict=True))
        counts[output] = _send(target, files)
        rows += listed
    tables = _send(target, _tables(lake, manifest, rows))
    tables = _add(tables, _send(target, [last]))
    target.settle()
    return {
        "dataset": dataset,
        "snapshot": manifest.snapshot_id,
        "to": target.uri,
        "folders": counts,
        "tables": tables,
        "rejected": images.num_rows - good.num_rows,
    }


def check_outputs(manifest: Manifest, outputs: Sequence[str]) -> None:
    """See that a snapshot has these outputs.

    Raises:
        UsageError: it lacks one, or none is named.
    """
    known = [*manifest.recipe.outputs, ORIGINALS]
    for output in outputs:
        if output not in known:
            raise UsageError(
                f"--output {output}: {manifest.dataset} has no such output.", f"It has {', '.join(known)}."
            )
    if not outputs:
        raise UsageError("No output is named.", f"Give --output once or several times: {', '.join(known)}.")


def _named(images: pa.Table, products: pa.Table, layout: Layout) -> list[NamedImage]:
    rows = _image_rows(images, "key", main=False)
    if layout == "hash":
        return names_by_hash(rows)
    matched = products.filter(pc.equal(products.column("outcome"), "matched"))
    # One image may be that of several products: the images table names the first of them only.
    rows += _image_rows(matched, "image_key", main=True)
    named = names_by_id(rows)
    if not balanced(named, rows):
        raise LookbookError("The books of the copy do not balance: an image has no file name.", "Please report it.")
    return named


def _image_rows(table: pa.Table, key: str, *, main: bool) -> list[ImageRow]:
    keys, contents, products = (table.column(name).to_pylist() for name in (key, "sha256", "product_key"))
    return [ImageRow(*values, main) for values in zip(keys, contents, products, strict=True)]


def _objects(lake: Lake, manifest: Manifest, images: pa.Table, output: str) -> dict[str, dict[str, Any]]:
    """By the original's hash: the ``object_key``, ``bytes`` and ``file_sha256`` of what is copied of it."""
    if output not in manifest.recipe.outputs:
        columns = images.select(["sha256", "original_key", "bytes"]).to_pylist()
        return {
            row["sha256"]: {
                "object_key": row["original_key"],
                "bytes": row["bytes"],
                "file_sha256": row["sha256"],
            }
            for row in columns
        }
    table = read_table(lake, manifest, "outputs")
    table = table.filter(pc.equal(table.column("output"), output))
    return {row["sha256"]: row | {"file_sha256": row["output_sha256"]} for row in table.to_pylist()}


def _row(output: str, named: NamedImage, content: dict[str, Any], layout: Layout) -> dict[str, Any]:
    extension = content["object_key"].rpartition(".")[2]
    return {
        "file": f"{output}/{named.name}.{extension}",
        "output": output,
        "product_key": named.image.product_key if layout == "id" else None,
        "image_key": named.image.key,
        "sha256": named.image.sha256,
        "file_sha256": content["file_sha256"],
        "bytes": content["bytes"],
    }


def _file(lake: Lake, row: dict[str, Any], key: str) -> CopiedFile:
    return CopiedFile(row["file"], row["bytes"], row["file_sha256"], lambda: lake.get(key))


def _tables(lake: Lake, manifest: Manifest, rows: list[dict[str, Any]]) -> Iterator[CopiedFile]:
    data = to_parquet(pa.Table.from_pylist(rows, schema=FILES_SCHEMA))
    yield _in_memory(FILES, data)
    for table in TABLES:
        yield _in_memory(f"{TABLE_NAMES.get(table, table)}.parquet", to_parquet(read_table(lake, manifest, table)))


def _in_memory(name: str, data: bytes) -> CopiedFile:
    return CopiedFile(name, len(data), hashlib.sha256(data).hexdigest(), lambda: data)


def _send(target: Target, files: Iterable[CopiedFile]) -> dict[str, int]:
    """Send what does not stand there; counts of all files, of those sent, and bytes of these."""
    counts = {"files": 0, "sent": 0, "bytes": 0}
    rest = iter(files)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="copy") as pool:
        try:
            while slice_ := list(islice(rest, SLICE)):
                for file, sent in zip(slice_, pool.map(lambda file: _send_one(target, file), slice_), strict=True):
                    counts = _add(counts, {"files": 1, "sent": int(sent), "bytes": file.size if sent else 0})
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return counts


def _send_one(target: Target, file: CopiedFile) -> bool:
    sent = not target.holds(file.name, file.size, file.sha256)
    if sent:
        data = file.read()
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise LookbookError(
                f"{file.name}: the lake has other bytes for it than its snapshot says.",
                'Run "lookbook verify NAME --repair", then copy again: what is copied already stays.',
            )
        target.write(file.name, data, file.sha256)
    progress.advance(1)
    return sent


def _add(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one[name] + other[name] for name in one}
