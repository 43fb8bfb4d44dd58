"""The command that compares snapshots: counts and the first differences for people, all of them as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.tasks.runs.parameters import DatasetName, WorkspaceName

if TYPE_CHECKING:
    from lookbook.tasks.datasets.differences import Differences

#: Differences of each kind that people are told, columns of each, and characters of a value.
FIRST = 10
MOST_COLUMNS = 6
LONGEST = 60


@with_checked_options
def diff(
    name: DatasetName,
    a: Annotated[str | None, Parameter(help="Id of the former snapshot. Else the one before the current one.")] = None,
    b: Annotated[str | None, Parameter(help="Id of the latter snapshot. Else the current one.")] = None,
    /,
    *,
    html: Annotated[Path | None, Parameter(help="Write a page with pictures of before and after to this file.")] = None,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what differs between two snapshots of NAME: images and catalogue rows, which columns, and why."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.server import environment

    environment.prepare(read_settings().home, debug=debug)
    from lookbook.blocks.workspace import load_workspace
    from lookbook.deployments.command.output import print_json
    from lookbook.tasks.datasets.differences import choose_snapshots, compare_snapshots, differing_making
    from lookbook.tasks.datasets.report.differences import render_differences

    place = load_workspace(workspace)
    before, after = choose_snapshots(place.lake, name, a, b)
    found = compare_snapshots(place.lake, place.scratch, before, after)
    if html is not None:
        html.write_text(render_differences(found, before, after, place.lake.get), encoding="utf-8")
    document = {
        "dataset": name,
        "from": before.snapshot_id,
        "to": after.snapshot_id,
        "made_by": differing_making(before, after),
        "counts": found.counts,
        "why": found.why,
        "columns": found.columns,
        "html": str(html) if html else None,
    }
    if json:
        print_json(document | {"items": found.items()})
    else:
        for line in _lines(document, found):
            sys.stdout.write(f"{line}\n")


def _lines(document: Mapping[str, Any], found: Differences) -> Iterator[str]:
    """Yield what people read: counts first, then the first differences of each kind."""
    from lookbook.deployments.command.output import printable
    from lookbook.tasks.datasets.differences import CHANGES, KINDS, WORDS

    yield f"{document['dataset']}  {document['from']} → {document['to']}"
    for name, counts in found.counts.items():
        if name not in {"images", "rows"} and not found.total((name,)):
            continue
        why = ", ".join(f"{count:,} {WORDS[reason]}" for reason, count in found.why[name].items())
        parts = "  ".join(f"{counts[each]:,} {each}" for each in ("unchanged", *CHANGES))
        several = f" ({why})" if why else ""
        yield f"  {KINDS[name].many:<20} {counts['before']:,} before  {counts['after']:,} after  {parts}{several}"
    for part, values in document["made_by"].items():
        told = ", ".join(f"{key}: {_value(old)} → {_value(new)}" for key, (old, new) in values.items())
        if told:
            yield f"  {f'other {part}':<20} {printable(told)}"
    if document["html"]:
        yield f"  {'page':<20} {printable(document['html'])}"
    for name in found.counts:
        yield from _first(name, found)


def _first(name: str, found: Differences) -> Iterator[str]:
    """Yield the first differences of one kind."""
    from lookbook.deployments.command.output import printable
    from lookbook.tasks.datasets.differences import CHANGES, KINDS

    for change in CHANGES:
        total = found.total((name,), change)
        if total:
            yield f"{KINDS[name].many}, {change}"
        for item in found.items((name,), change, limit=FIRST):
            yield f"  {printable(_told(item))}"
        if total > FIRST:
            yield f"  … and {total - FIRST:,} more: --json tells all"


def _told(item: Mapping[str, Any]) -> str:
    """Return one difference on a line."""
    from lookbook.tasks.datasets.differences import WORDS

    if item["kind"] != "changed":
        return str(item["key"])
    columns = [
        f"{name}: {_value(item['before'].get(name))} → {_value(item['after'].get(name))}"
        for name in item["columns"][:MOST_COLUMNS]
    ]
    more = len(item["columns"]) - MOST_COLUMNS
    values = ", ".join([*columns, *([f"{more} more columns"] if more > 0 else [])])
    return f"{item['key']}  {', '.join(WORDS[reason] for reason in item['why'])}  {values}"


def _value(value: object) -> str:
    from lookbook.tasks.datasets.differences import value_text
    from lookbook.tasks.datasets.report.text import shorten

    return shorten(value_text(value), LONGEST)
