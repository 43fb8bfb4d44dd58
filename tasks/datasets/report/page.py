"""The report of a snapshot: one HTML file that asks the network for nothing, and its short form in Markdown."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from lookbook.blocks.sql_text import literal
from lookbook.tasks.datasets.checks import failed, told
from lookbook.tasks.datasets.report import text
from lookbook.tasks.datasets.report.charts import catalogue_charts, image_charts
from lookbook.tasks.datasets.report.data import (
    Counts,
    ReportData,
    ReportTable,
    books,
    hashes_of_issues,
    image_issues,
    plain_name,
)
from lookbook.tasks.datasets.report.pictures import (
    ReadObject,
    contact_sheet,
    drawn_of,
    near_duplicates,
    rejected_pictures,
    thumbnails,
)
from lookbook.tasks.datasets.snapshot import UNCOUNTED

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_REJECTS = 200
MOST_GROUPS = 24
MOST_COPIES = 8
MOST_NAMES = 60


@dataclass(frozen=True)
class FirstOf:
    """The first rows of a list, how many there are in all, and how many of each kind."""

    rows: list[dict[str, Any]]
    total: int
    kinds: Counts

    @property
    def left_out(self) -> int:
        """Return how many rows are not shown."""
        return self.total - len(self.rows)


@dataclass(frozen=True)
class DuplicateGroup:
    """One content that stands under several keys: the one that was drawn, and its copies."""

    canonical: str
    sha256: str
    copies: list[str]
    total: int


REJECT_COLUMNS = ("reject_id", "kind", "locator", "rule", "message", "raw")


def rejects(table: ReportTable, most: int = MOST_REJECTS) -> FirstOf:
    """Return what was refused, in the order of the rejects' table."""
    return _first(table, f"NOT {_is_ignored(table)}", "place", "rule", REJECT_COLUMNS, most)


def ignored_files(table: ReportTable) -> FirstOf:
    """Return the files that are neither images nor of the catalogue; and, without a name, what was forgotten."""
    return _first(table, _is_ignored(table), table.at("locator"), "rule", REJECT_COLUMNS)


def _is_ignored(rejects: ReportTable) -> str:
    return f"coalesce({rejects.at('kind')} IN ({', '.join(map(literal, UNCOUNTED))}), false)"


def missing_images(data: ReportData) -> FirstOf:
    """Return catalogue rows without an image: none was found, or several fit equally well."""
    rows = data.products
    none, several = (rows.ended(outcome) for outcome in ("missing_image", "ambiguous_image"))
    columns = ("product_key", "missing_reason", "candidates", "file", "line")
    return _first(rows, f"({none} OR {several})", f"{rows.at('line')}, {several}", "missing_reason", columns)


def repeated_rows(data: ReportData) -> FirstOf:
    """Return catalogue rows that repeat the id of an earlier one."""
    rows = data.products
    return _first(rows, rows.ended("duplicate"), rows.at("line"), "file", ("product_key", "file", "line"))


def orphans(data: ReportData) -> FirstOf:
    """Return images without a catalogue row."""
    images = data.images
    return _first(images, f"{images.at('orphan')}::BOOLEAN", images.at("key"), "outcome", ("key",))


def duplicate_groups(data: ReportData) -> tuple[list[DuplicateGroup], int]:
    """Return the largest groups of images with the same bytes, and the number of all groups."""
    images = data.images
    original, key, copies = images.at("duplicate_of"), images.at("key"), f"WHERE {images.ended('duplicate')}"
    largest = images.answer(
        f"{original}, min({images.at('sha256')}), count(*), count(*) OVER ()",
        f"{copies} GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT ?",
        MOST_GROUPS,
    )
    wanted = [canonical for canonical, *_ in largest]
    names = dict(
        images.answer(
            f"{original}, min({key}, {MOST_COPIES})", f"{copies} AND list_contains(?, {original}) GROUP BY 1", wanted
        )
        if wanted
        else ()
    )
    groups = [
        DuplicateGroup(canonical, sha256, names.get(canonical, []), total) for canonical, sha256, total, _ in largest
    ]
    return groups, largest[0][3] if largest else 0


def hashes_of(groups: Iterable[DuplicateGroup]) -> list[str]:
    """Return the contents of the groups, for their thumbnails."""
    return [group.sha256 for group in groups]


def _first(
    table: ReportTable, where: str, order: str, kind: str, columns: Sequence[str], limit: int = MOST_NAMES
) -> FirstOf:
    """Return the first of some rows, with the counts of all by the column `kind`."""
    kinds = table.counts(table.at(kind), where)
    if not kinds.total:
        return FirstOf([], 0, [])
    rows = table.first(columns, f"WHERE {where} ORDER BY {order}, place LIMIT ?", limit)
    return FirstOf(rows, kinds.total, kinds.first)


REJECTS_IN_SHORT = 10
CHANGES_IN_SHORT = 5


def report_markdown(data: ReportData) -> str:
    """Return the counts, the first rejects and the changes of a snapshot. Texts of the source are inert in it."""
    made = f"{_text(data.snapshot_id)}, {text.moment(data.created_at)}, from {_text(data.source)}"
    lines = [f"# {_text(data.dataset)}", "", f"Snapshot {made}", "", *_counts(data)]
    checks = data.summary.get("checks", [])
    if checks:
        lines += ["", "## Checks", "", *(f"- {_text(check['outcome'])}: {_text(told(check))}" for check in checks)]
    lines += ["", "## Issues", "", *_issues(data)]
    lines += ["", "## Rejects", "", *_rejects(data), "", "## Changes", "", *_changes_in_short(data)]
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
    refused = rejects(data.rejects, REJECTS_IN_SHORT)
    if not refused.total:
        return ["None."]
    lines = ["| kind | where | rule | message |", "|---|---|---|---|"]
    lines += [
        f"| {_text(row['kind'])} | {_text(row['locator'])} | {_text(row['rule'])} | {_text(row['message'])} |"
        for row in refused.rows
    ]
    return [*lines, "", f"{refused.total:,} in all: `lookbook rejects {data.dataset}` shows them."]


def _changes_in_short(data: ReportData) -> list[str]:
    changes = data.changes
    if changes.previous is None:
        return [f"The first snapshot: all {changes.counts['added']:,} images are new."]
    lines = [f"- {kind}: {_names(total, changes.first.get(kind, ()))}" for kind, total in changes.counts.items()]
    return [f"Since {_text(changes.previous)}:", "", *lines]


def _names(total: int, first: Sequence[str]) -> str:
    if not total:
        return "0"
    more = ", …" if total > CHANGES_IN_SHORT else ""
    return f"{total:,} ({', '.join(_text(key) for key in first[:CHANGES_IN_SHORT])}{more})"


def _text(value: object) -> str:
    """Return a text in which nothing is Markdown or HTML any more: each such character becomes its entity."""
    plain = html.escape(text.cleaned(text.shorten(value)), quote=False)
    # Brackets, and the colon and dots of addresses, which would become links.
    return re.sub(r"[\\`*_\[\]|~#!]|:(?=//)", lambda found: f"&#{ord(found[0])};", plain)


__all__ = ["ReportData", "render_report", "render_unpublished", "report_markdown"]


def render_report(data: ReportData, read_object: ReadObject) -> str:
    """Write the report of a snapshot as one self-contained HTML page.

    The page stays below some megabytes whatever the size of the dataset: it shows the first of every list,
    with the count of all. Its content security policy forbids it the network and any script but its own.

    Args:
        data: the snapshot.
        read_object: gives the bytes of an output by its lake key, for the thumbnails.

    Raises:
        ObjectNotFoundError: the lake lacks an object that the outputs name.
    """
    page = page_environment()
    issues = image_issues(data)
    groups, number_of_groups = duplicate_groups(data)
    return page.get_template("report.html.j2").render(
        data=data,
        dataset=data.dataset,
        script_hash=_script_hash(page),
        books=books(data.summary),
        checks=data.summary.get("checks", []),
        broken=failed(data.summary.get("checks", [])),
        figures=_figures(data),
        contacts=contact_sheet(data, read_object),
        catalogue_charts=catalogue_charts(data),
        image_charts=image_charts(data),
        issues=issues,
        issue_thumbnails=thumbnails(drawn_of(data, hashes_of_issues(issues)), read_object),
        rejects=rejects(data.rejects),
        ignored=ignored_files(data.rejects),
        rejected_pictures={},
        groups=groups,
        number_of_groups=number_of_groups,
        group_thumbnails=thumbnails(drawn_of(data, hashes_of(groups)), read_object),
        near=near_duplicates(data, read_object),
        repeated=repeated_rows(data),
        missing=missing_images(data),
        orphans=orphans(data),
        outputs=data.recipe.get("outputs", {}),
        rules={name: value for name, value in data.recipe.items() if name != "outputs"},
    )


def render_unpublished(
    dataset: str, facts: Mapping[str, object], told: str, table: ReportTable, read_object: ReadObject
) -> str:
    """Write what a run refused that published nothing, as a page like the report's, with pictures of rejected images.

    Args:
        dataset: that the run was to publish.
        facts: of the run, by name.
        told: why it published nothing.
        table: of the rejects.
        read_object: gives the bytes of an object by its lake key.
    """
    shown = rejects(table)
    return (
        page_environment()
        .get_template("unpublished.html.j2")
        .render(
            dataset=dataset,
            facts=facts,
            told=told,
            rejects=shown,
            ignored=ignored_files(table),
            rejected_pictures=rejected_pictures(shown.rows, read_object),
        )
    )


@cache
def page_environment() -> Environment:
    """Return what renders the templates: whatever a value holds is escaped and cleaned."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - slow, and only reports need it

    page = Environment(
        loader=PackageLoader("lookbook.tasks.datasets", "templates"),
        autoescape=True,
        finalize=text.printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "count": text.count,
        "size": text.size,
        "moment": text.moment,
        "shorten": text.shorten,
        "fit": text.fit,
        "plain": plain_name,
    }
    return page


def _script_hash(page: Environment) -> str:
    """Return the hash by which the content security policy knows the page's own script."""
    script = page.get_template("report.js").render()
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _figures(data: ReportData) -> list[tuple[str, str]]:
    """Return the few numbers beside the books, as (label, value)."""
    ((kept,),) = data.images.answer(f"sum({data.images.at('bytes')}::BIGINT)", f"WHERE {data.images.ended('loaded')}")
    drawn = data.summary.get("outputs", {})
    figures = [("originals kept", text.size(kept or 0))]
    figures += [(f"{plain_name(name)} drawn in this run", text.count(number)) for name, number in drawn.items()]
    figures += [
        *((f"rows matched by {rule}", text.count(rows)) for rule, rows in data.summary.get("matched_by", {}).items()),
        ("images without a row", text.count(data.summary.get("orphan_images", 0))),
        ("seconds of run", text.count(data.summary.get("seconds"))),
        ("images per second", text.count(data.summary.get("images_per_second"))),
    ]
    return figures
