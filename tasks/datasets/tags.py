"""Tags: names that people give to snapshots, kept in the lake; and the one place where a name becomes a snapshot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from pydantic import BaseModel

from lookbook.blocks.errors import SwapConflictError, UsageError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.candidates import candidate_ids, is_candidate, walk_candidates
from lookbook.tasks.datasets.manifest import (
    Manifest,
    read_manifest,
    read_published,
    read_removed,
    require_published,
    walk_snapshots,
)

#: What a tag looks like; `check_tag` refuses a few more.
TAG = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
#: Names that begin like the id of a snapshot, and the one that always means the current one.
_NO_TAG = re.compile(r"\d{8}T\d+Z|current$", re.IGNORECASE)
#: Tags of a dataset, at the most: all are read and written as one.
MOST_TAGS = 1000
#: Snapshots that an error names, at the most.
NAMED = 5
#: So often it is tried again where others tag the same dataset meanwhile.
TRIES = 50


class Tag(BaseModel):
    """What a tag says: the id of a snapshot, and when it was last set."""

    snapshot: str
    tagged_at: datetime


class _Tags(BaseModel):
    """The content of the object."""

    format_version: int = 1
    tags: dict[str, Tag]


@dataclass(frozen=True)
class Tagged:
    """What became of a tag.

    Attributes:
        snapshot: that it names now; None: it was removed.
        before: that it named before; None: it is new.
    """

    snapshot: str | None
    before: str | None


def tags_key(dataset: str) -> str:
    """Return the object with all tags of a dataset.

    It is one, and swapped: of two who change tags at once none undoes what the other did, also where one removes a tag
    that the other moves; and who reads them has those of one moment.
    """
    return f"datasets/{dataset}/tags.json"


def read_tags(lake: Lake, dataset: str) -> dict[str, Tag]:
    """Return the tags of a dataset, sorted by name; none where there is no such dataset.

    Raises:
        LookbookError: their object is damaged.
    """
    return _read(lake, dataset)[0]


def check_tag(tag: str) -> None:
    """See that a text can be a tag.

    Raises:
        UsageError: it can't, or could be taken for the id of a snapshot.
    """
    if not re.fullmatch(TAG, tag) or _NO_TAG.match(tag):
        raise UsageError(
            f"{tag[:100]!r} is no name for a tag.",
            "Take letters, digits, . _ and -, 63 at the most, not as a snapshot's id begins, nor the word current.",
        )


def set_tag(lake: Lake, dataset: str, tag: str, snapshot: str | None = None, *, move: bool = False) -> Tagged:
    """Let a tag name a snapshot. Doing it twice changes nothing.

    Args:
        lake: of the dataset.
        dataset: its name.
        tag: the name for the snapshot.
        snapshot: its id, or a tag of it; None: the current one.
        move: it may name another snapshot until now.

    Raises:
        UsageError: the tag names another snapshot and may not be moved, can be none, or there is no such snapshot, or
            it is a candidate.
        LookbookError: there is no such dataset, or its tags are damaged.
    """
    check_tag(tag)
    found = find_snapshot(lake, dataset, snapshot)
    named = found.snapshot_id
    if is_candidate(lake, found):
        raise UsageError(
            f"{dataset}: {named} is a candidate, which the next ingest may remove: it gets no tag.",
            f'Publish it first: "lookbook publish {dataset} {named}".',
        )

    def change(tags: dict[str, Tag]) -> str | None:
        before = tags[tag].snapshot if tag in tags else None
        if before is None and len(tags) >= MOST_TAGS:
            raise UsageError(f"{dataset} has {MOST_TAGS} tags already.", "Remove some first.")
        if before not in {None, named} and not move:
            raise UsageError(
                f"{dataset}: the tag {tag} names {before} already.", "Say --move if it is to name another one from now."
            )
        if before != named:
            tags[tag] = Tag(snapshot=named, tagged_at=datetime.now(UTC))
        return before

    tagged = Tagged(named, _change(lake, dataset, change))
    if tagged.before != named and named in read_removed(lake, dataset)[0].removed:  # since it was found
        remove_tag(lake, dataset, tag)
        raise UsageError(f"{dataset}: {named} was removed meanwhile.", f'See "lookbook snapshots {dataset}".')
    return tagged


def remove_tag(lake: Lake, dataset: str, tag: str) -> Tagged:
    """Remove a tag; the snapshot stays.

    Raises:
        UsageError: there is no such tag.
        LookbookError: there is no such dataset, or its tags are damaged.
    """
    require_published(lake, dataset)

    def change(tags: dict[str, Tag]) -> str:
        if tag not in tags:
            raise UsageError(f"{dataset}: there is no tag {tag[:100]}.", f'See "lookbook tag {dataset}".')
        return tags.pop(tag).snapshot

    return Tagged(None, _change(lake, dataset, change))


def find_snapshot(lake: Lake, dataset: str, name: str | None = None) -> Manifest:
    """Return the manifest of the snapshot that a name means.

    Args:
        lake: of the dataset.
        dataset: its name.
        name: the id of a snapshot or of a candidate, a tag, or ``current``; None: the current one.

    Raises:
        UsageError: there is no such snapshot.
        LookbookError: there is no such dataset, or its tags are damaged.
    """
    published = read_published(lake, dataset)
    if published is None and name is not None:  # all that there is may be a candidate for the first one
        for candidate in walk_candidates(lake, dataset):
            if candidate.snapshot_id == name:
                return candidate
    found = named_snapshot(
        name,
        (published or require_published(lake, dataset)).manifest,
        lambda: walk_snapshots(lake, dataset),
        lambda: read_tags(lake, dataset),
        lambda: candidate_ids(lake, dataset),
        lambda snapshot_id: read_manifest(lake, dataset, snapshot_id),
    )
    if found is None:
        known = [manifest.snapshot_id for manifest in islice(walk_snapshots(lake, dataset), NAMED + 1)]
        raise UsageError(
            f"{dataset}: there is no snapshot {name}, and no tag of that name that leads to one.",
            f"There is {', '.join(known[:NAMED])}{', …' if len(known) > NAMED else ''}: "
            f'see "lookbook snapshots {dataset}".',
        )
    return found


def named_snapshot(
    name: str | None,
    current: Manifest,
    published: Callable[[], Iterable[Manifest]],
    tags: Callable[[], Mapping[str, Tag]],
    candidates: Callable[[], Collection[str]],
    read: Callable[[str], Manifest | None],
) -> Manifest | None:
    """Return the snapshot that a name means, of a dataset however its parts are come by; None where there is none.

    Args:
        name: as for `find_snapshot`.
        current: the snapshot that readers see.
        published: gives it and those that it followed.
        tags: gives the tags.
        candidates: gives the ids of the candidates.
        read: reads the manifest that a tag or a candidate's id leads to: a tag's also where the way to it from the
            current one is broken.
    """
    if name in {None, "current", current.snapshot_id}:
        return current
    tag = None if is_snapshot_id(str(name)) else tags().get(str(name))
    if tag is not None:
        return read(tag.snapshot)
    found = next((manifest for manifest in published() if manifest.snapshot_id == name), None)
    return read(str(name)) if found is None and name in candidates() else found


def is_snapshot_id(name: str) -> bool:
    """Return whether a name can be the id of a snapshot alone, and no tag."""
    return _NO_TAG.match(name) is not None


def _read(lake: Lake, dataset: str) -> tuple[dict[str, Tag], str | None]:
    way_out = "Bring it back from a copy of the lake, or remove it and tag anew; snapshots are found by their ids."
    found, version = lake.read_swapped(tags_key(dataset), _Tags, f"{dataset}: its tags in", way_out)
    return dict(sorted(found.tags.items())) if found else {}, version


def _change(lake: Lake, dataset: str, change: Callable[[dict[str, Tag]], str | None]) -> str | None:
    """Change the tags, anew by what stands there whenever somebody else was quicker; return what `change` says."""
    tries = TRIES
    while True:
        tags, version = _read(lake, dataset)
        before = dict(tags)
        said = change(tags)
        if tags == before:
            return said
        text = json.dumps(_Tags(tags=tags).model_dump(mode="json"), indent=1, sort_keys=True)
        try:
            lake.swap(tags_key(dataset), text.encode(), version)
        except SwapConflictError:
            tries -= 1
            if not tries:
                raise
        else:
            return said
