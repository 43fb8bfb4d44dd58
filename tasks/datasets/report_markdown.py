"""The short report, in Markdown, for an artifact beside the run."""

from __future__ import annotations

import html
import re

from lookbook.tasks.datasets import report_text
from lookbook.tasks.datasets.report_data import ReportData, books, plain_name
from lookbook.tasks.datasets.report_issues import image_issues

MOST_REJECTS = 10
MOST_CHANGES = 5


def report_markdown(data: ReportData) -> str:
    """Return the counts, the first rejects and the changes of a snapshot. Texts of the source are inert in it."""
    made = f"{_text(data.snapshot_id)}, {report_text.moment(data.created_at)}, from {_text(data.source)}"
    lines = [f"# {_text(data.dataset)}", "", f"Snapshot {made}", "", *_counts(data)]
    lines += ["", "## Issues", "", *_issues(data)]
    lines += ["", "## Rejects", "", *_rejects(data), "", "## Changes", "", *_changes(data)]
    return "\n".join([*lines, "", f"Logical digest {_text(data.digest)}", ""])


def _counts(data: ReportData) -> list[str]:
    lines = ["| | count |", "|---|---:|"]
    for book in books(data.summary):
        lines.append(f"| **{book.name} found** | **{book.found:,}** |")
        lines += [f"| {plain_name(name)} | {number:,} |" for name, number in book.outcomes.items()]
    lines.append(f"| Images without a row | {data.summary.get('orphan_images', 0):,} |")
    lines += [
        f"| Output {_text(plain_name(name))} drawn | {number:,} |"
        for name, number in data.summary.get("outputs", {}).items()
    ]
    return [*lines, "", *(f"{book.name}: {book.equation}." for book in books(data.summary))]


def _issues(data: ReportData) -> list[str]:
    found = [issue for issue in image_issues(data) if issue.images]
    if not found:
        return ["None."]
    return ["| issue | images | share |", "|---|---:|---:|"] + [
        f"| {issue.name} | {issue.images:,} | {issue.share} |" for issue in found
    ]


def _rejects(data: ReportData) -> list[str]:
    total = data.rejects.num_rows
    if total == 0:
        return ["None."]
    lines = ["| kind | where | rule | message |", "|---|---|---|---|"]
    lines += [
        f"| {_text(row['kind'])} | {_text(row['locator'])} | {_text(row['rule'])} | {_text(row['message'])} |"
        for row in data.rejects.slice(0, MOST_REJECTS).to_pylist()
    ]
    return [*lines, "", f"{total:,} in all: `lookbook rejects {data.dataset}` shows them."]


def _changes(data: ReportData) -> list[str]:
    changes = data.changes
    if changes.previous is None:
        return [f"The first snapshot: all {len(changes.added):,} images are new."]
    kinds = (("added", changes.added), ("removed", changes.removed), ("changed", changes.changed))
    return [f"Since {_text(changes.previous)}:", ""] + [f"- {name}: {_names(keys)}" for name, keys in kinds]


def _names(keys: list[str]) -> str:
    if not keys:
        return "0"
    more = ", …" if len(keys) > MOST_CHANGES else ""
    return f"{len(keys):,} ({', '.join(_text(key) for key in keys[:MOST_CHANGES])}{more})"


def _text(value: object) -> str:
    """Return a text in which nothing is Markdown or HTML any more: each such character becomes its entity."""
    plain = html.escape(report_text.cleaned(report_text.shorten(value)), quote=False)
    # Brackets, and the colon and dots of addresses, which would become links.
    return re.sub(r"[\\`*_\[\]|~#!]|:(?=//)", lambda found: f"&#{ord(found[0])};", plain)
