"""The report of a snapshot: one HTML file that tells the whole of it and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined

from lookbook.tasks.datasets import report_issues, report_lists, report_text
from lookbook.tasks.datasets.report_data import ReportData, books, column, plain_name, with_outcome
from lookbook.tasks.datasets.report_markdown import report_markdown
from lookbook.tasks.datasets.report_near_duplicates import near_duplicates
from lookbook.tasks.datasets.report_pictures import ReadObject, contact_sheet, thumbnails
from lookbook.tasks.datasets.report_plots import catalogue_charts, image_charts

__all__ = ["ReportData", "render_report", "report_markdown"]

#: Names shown of each kind of change.
MOST_CHANGES = 24


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
    page = _environment()
    issues = report_issues.image_issues(data)
    groups, number_of_groups = report_lists.duplicate_groups(data)
    return page.get_template("report.html.j2").render(
        data=data,
        script_hash=_script_hash(page),
        books=books(data.summary),
        figures=_figures(data),
        contacts=contact_sheet(data, read_object),
        catalogue_charts=catalogue_charts(data),
        image_charts=image_charts(data),
        issues=issues,
        issue_thumbnails=thumbnails(data.outputs, report_issues.hashes_of(issues), read_object),
        rejects=report_lists.rejects(data),
        groups=groups,
        number_of_groups=number_of_groups,
        group_thumbnails=thumbnails(data.outputs, report_lists.hashes_of(groups), read_object),
        near=near_duplicates(data, read_object),
        repeated=report_lists.repeated_rows(data),
        missing=report_lists.missing_images(data),
        orphans=report_lists.orphans(data),
        changes=_changes(data),
        outputs=data.recipe.get("outputs", {}),
        rules={name: value for name, value in data.recipe.items() if name != "outputs"},
    )


@cache
def _environment() -> Environment:
    page = Environment(
        loader=PackageLoader("lookbook.tasks.datasets", "templates"),
        autoescape=True,
        finalize=report_text.printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "count": report_text.count,
        "size": report_text.size,
        "moment": report_text.moment,
        "shorten": report_text.shorten,
        "fit": report_text.fit,
        "plain": plain_name,
    }
    return page


def _script_hash(page: Environment) -> str:
    """Return the hash by which the content security policy knows the page's own script."""
    script = page.get_template("report.js").render()
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _figures(data: ReportData) -> list[tuple[str, str]]:
    """Return the few numbers beside the books, as (label, value)."""
    loaded = with_outcome(data.images, "loaded")
    drawn = data.summary.get("outputs", {})
    figures = [("originals kept", report_text.size(pc.sum(column(loaded, "bytes")).as_py() or 0))]
    figures += [(f"{plain_name(name)} drawn in this run", report_text.count(number)) for name, number in drawn.items()]
    figures += [
        ("images without a row", report_text.count(data.summary.get("orphan_images", 0))),
        ("seconds of run", report_text.count(data.summary.get("seconds"))),
        ("images per second", report_text.count(data.summary.get("images_per_second"))),
    ]
    return figures


def _changes(data: ReportData) -> list[dict[str, Any]]:
    changes = data.changes
    kinds = (("added", changes.added), ("removed", changes.removed), ("changed", changes.changed))
    return [{"name": name, "total": len(keys), "first": keys[:MOST_CHANGES]} for name, keys in kinds]
