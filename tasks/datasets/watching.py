"""Watching a source: has it changed since the change that was last announced, and has it come to rest?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lookbook.blocks.registry import Registry
from lookbook.tasks.datasets.inventory import holds_image
from lookbook.tasks.datasets.sources.kaggle import KaggleSource
from lookbook.tasks.datasets.sources.opening import local_path, open_source

if TYPE_CHECKING:
    from lookbook.blocks.kaggle import KaggleCredentials

#: The digest of a source that is not there yet, or holds no image yet.
NOTHING = ""


@dataclass(frozen=True)
class Watch:
    """What is remembered of a watched source.

    Attributes:
        seen: digest of what the last look found, or None before the first.
        announced: digest of what was last announced, or None.
    """

    seen: str | None = None
    announced: str | None = None


def decide(before: Watch, now: str) -> tuple[bool, Watch]:
    """Return whether to announce what a look found, and what to remember once that is done.

    Announced is what two looks one after the other found (so a copy in progress has ended), and what differs from
    what was announced last. Nothing is never announced: a source that was emptied is not ingested.

    Args:
        before: what is remembered.
        now: the digest that this look found.
    """
    settled = now == before.seen
    if settled and now not in (NOTHING, before.announced):
        return True, Watch(now, now)
    return False, Watch(now, before.announced)


def look(source: str, scratch: Path, kaggle: KaggleCredentials | None = None) -> str:
    """Return the digest of a source's listing: names, sizes and times. No image is read; an archive is one file.

    Of a dataset of Kaggle it is the newest version; nothing is downloaded.

    Returns:
        `NOTHING` where nothing is there yet, or no image.

    Raises:
        LookbookError: it is there and can't be listed.
    """
    path = local_path(source)
    if path is not None and not path.exists():
        return NOTHING
    if path is not None and path.is_file():
        status = path.stat()
        return _digest([f"{status.st_size} {status.st_mtime_ns}"])
    opened = open_source(source, scratch, kaggle)
    if isinstance(opened, KaggleSource):
        return _digest([str(opened.pin())])
    files = list(opened.files())
    if not any(map(holds_image, files)):
        return NOTHING
    return _digest(sorted(f"{file.key}\0{file.size}\0{file.fingerprint}\0{file.refused}" for file in files))


def _digest(lines: list[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogatepass") + b"\0\n")
    return digest.hexdigest()


def read_watch(registry: Registry, source: str, dataset: str) -> Watch:
    """Return what is remembered of a source that is watched for a dataset."""
    row = registry.fetchrow(
        "SELECT seen, announced FROM watches WHERE dataset = $1 AND md5(source) = md5($2)", dataset, source
    )
    return Watch(row["seen"], row["announced"]) if row else Watch()


def write_watch(registry: Registry, source: str, dataset: str, watch: Watch) -> None:
    """Remember what a look found and what was announced."""
    registry.execute(
        "INSERT INTO watches (dataset, source, seen, announced, changed_at) VALUES ($1, $2, $3, $4, now())"
        " ON CONFLICT (dataset, md5(source)) DO UPDATE SET seen = excluded.seen, announced = excluded.announced,"
        " changed_at = excluded.changed_at",
        dataset,
        source,
        watch.seen,
        watch.announced,
    )
