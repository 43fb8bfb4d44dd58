"""The page of what differs between two snapshots: one HTML file, with pictures of before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.tasks.datasets.differences import CHANGES, KINDS, WORDS, Differences, differing_making, value_text
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.datasets.report.data import Book
from lookbook.tasks.datasets.report.page import page_environment
from lookbook.tasks.datasets.report.pictures import ReadObject, thumbnails

#: Differences of each kind that are shown, and columns of each.
MOST = {"added": 36, "removed": 36, "changed": 60}
MOST_COLUMNS = 12


@dataclass(frozen=True)
class Side:
    """One side of a difference: its picture as a data URI, or why there is none."""

    uri: str
    instead: str


@dataclass(frozen=True)
class Told:
    """A difference as the page shows it.

    Attributes:
        title: its key; with the former one, where it moved.
        why: the reasons, in words.
        before, after: None where there is no such side, or it has no image.
        columns: that differ, with their values; `left_out` more are not shown.
    """

    title: str
    why: str
    before: Side | None
    after: Side | None
    columns: list[tuple[str, str, str]]
    left_out: int


@dataclass(frozen=True)
class Part:
    """The differences of one kind, and how many there are in all."""

    change: str
    first: list[Told]
    total: int


@dataclass(frozen=True)
class Section:
    """What became of the rows of one table: the books of both snapshots, why rows changed, and the first of them."""

    name: str
    title: str
    books: list[Book]
    why: list[tuple[str, int]]
    columns: list[tuple[str, int]]
    parts: list[Part]


def render_differences(found: Differences, before: Manifest, after: Manifest, read_object: ReadObject) -> str:
    """Write what differs as one self-contained page that asks the network for nothing.

    The page stays below some megabytes whatever differs: it shows the first of every list, with the count of all.

    Args:
        found: the differences.
        before: the former snapshot.
        after: the latter one.
        read_object: gives the bytes of an output by its lake key, for the thumbnails.
    """
    listed = {
        (name, change): list(found.items((name,), change, limit=MOST[change]))
        for name in found.changes
        for change in CHANGES
    }
    shown = [item for items in listed.values() for item in items]
    pictures = [
        _pictures(found, at, [item[side] for item in shown if item[side]], read_object)
        for at, side in enumerate(("before", "after"))
    ]
    sections = [
        Section(
            name,
            KINDS[name].many,
            [
                Book("before", changes.before, {k: changes.counts[k] for k in ("unchanged", "changed", "removed")}),
                Book("after", changes.after, {k: changes.counts[k] for k in ("unchanged", "changed", "added")}),
            ],
            [(WORDS[reason], rows) for reason, rows in found.why[name].items()],
            list(found.columns[name].items()),
            [
                Part(change, [_told(item, pictures) for item in listed[name, change]], changes.counts[change])
                for change in reversed(CHANGES)
            ],
        )
        for name, changes in found.changes.items()
    ]
    making = [
        (part, name, value_text(values[0]), value_text(values[1]))
        for part, each in differing_making(before, after).items()
        for name, values in each.items()
    ]
    page = page_environment().get_template("differences.html.j2")
    return page.render(dataset=after.dataset, before=before, after=after, sections=sections, making=making)


def _pictures(
    found: Differences, side: int, rows: Sequence[Mapping[str, Any]], read_object: ReadObject
) -> dict[str, str]:
    """Return thumbnails of one side by content; "" where the lake lacks the object."""
    hashes = {row["sha256"] for row in rows if row.get("sha256") and row.get("outcome") != "rejected"}
    outputs = found.outputs_of(side, sorted(hashes))
    lost: set[str] = set()

    def read(key: str) -> bytes:
        try:
            return read_object(key)
        except ObjectNotFoundError:
            lost.add(key)
            return b""

    uris = thumbnails(outputs, read)
    gone = {row["sha256"] for row in outputs.to_pylist() if row["object_key"] in lost}
    return {sha256: "" if sha256 in gone else uri for sha256, uri in uris.items()}


def _told(item: Mapping[str, Any], pictures: Sequence[Mapping[str, str]]) -> Told:
    old, new = item["before"] or {}, item["after"] or {}
    moved = "moved" in item["why"]
    columns = [(name, value_text(old.get(name)), value_text(new.get(name))) for name in item["columns"]]
    return Told(
        f"{old['key']} → {new['key']}" if moved else str(item["key"]),
        ", ".join(WORDS[reason] for reason in item["why"]),
        None if _looks_the_same(item) else _side(item["before"], pictures[0]),
        _side(item["after"], pictures[1]),
        columns[:MOST_COLUMNS],
        len(columns) - MOST_COLUMNS,
    )


def _looks_the_same(item: Mapping[str, Any]) -> bool:
    """Return whether both sides show one picture: once is enough then."""
    old, new = item["before"], item["after"]
    rejected = old and new and (old.get("outcome") == "rejected") != (new.get("outcome") == "rejected")
    return bool(
        old and new and old.get("sha256") == new.get("sha256") and not rejected and "outputs" not in item["why"]
    )


def _side(row: Mapping[str, Any] | None, pictures: Mapping[str, str]) -> Side | None:
    """Return the picture of one side."""
    if row is None or "sha256" not in row:
        return None
    if row["outcome"] == "rejected":
        return Side("", f"rejected: {row.get('rule')}")
    if not row["sha256"]:
        return Side("", "no image")
    uri = pictures.get(row["sha256"], "")
    return Side(uri, "" if uri else 'its object is gone: see "lookbook verify"')
