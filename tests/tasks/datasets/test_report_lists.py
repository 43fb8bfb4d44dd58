from __future__ import annotations

import base64
import re
from dataclasses import replace

from lookbook.tasks.datasets.report.page import render_report
from tests.support.reports import (
    Page,
    data,
    fashion,
    image_changes,
    image_row,
    picture,
    product_row,
    read_object,
    reject_row,
    sha,
)


def test_books_show_that_what_was_found_is_the_sum_of_the_outcomes() -> None:
    counts = {"found": 1000, "loaded": 990, "unchanged": 4, "duplicate": 1, "rejected": 5}
    made = fashion()
    page = Page(render_report(replace(made, summary=made.summary | {"images": counts}), read_object)).body
    assert "1,000 found = 990 loaded + 4 unchanged + 1 duplicate + 5 rejected ✓ balanced" in page
    off = made.summary | {"images": counts | {"loaded": 989}}
    page = Page(render_report(replace(made, summary=off), read_object)).body
    assert "1,000 found ≠ 989 loaded + 4 unchanged + 1 duplicate + 5 rejected ✗ does not add up" in page


def test_rejects_are_listed_to_a_bound_and_the_command_for_all_is_named() -> None:
    refused = [reject_row(n, raw="x" * 100_000) for n in range(250)]
    text = render_report(data([image_row(0)], [], refused), read_object)
    body = Page(text).body
    assert text.count("images/bad-") == 200
    assert "The first 200 of 250. All of them, with what they held: lookbook rejects fashion" in body
    assert "truncated 250" in body
    assert len(text) < 300_000


def test_duplicates_stand_with_the_image_that_was_kept() -> None:
    images = [image_row(n) for n in range(3)]
    copy = {"outcome": "duplicate", "duplicate_of": "images/1.jpg", "sha256": sha(1)}
    images += [image_row(7, **copy), image_row(8, **copy)]
    text = render_report(data(images, []), read_object)
    group = text.partition('<ul class="groups">')[2].partition("</section>")[0]
    assert "2 copies" in group
    assert re.findall(r"images/\d\.jpg", re.sub(r'alt="[^"]*"', "", group)) == [f"images/{n}.jpg" for n in (1, 7, 8)]
    assert base64.b64encode(picture(1)).decode() in group


def test_missing_images_and_orphans_are_named() -> None:
    products = [product_row(0), product_row(1, outcome="missing_image", missing_reason="no_image", image_key=None)]
    body = Page(render_report(data([image_row(0), image_row(5, orphan=True)], products), read_object)).body
    missing = body.partition("Missing and orphaned Rows")[2]
    assert "Every row whose image is missing. product reason where 1 no image styles.csv line 3" in missing
    assert "Images without a row 1 images/5.jpg" in missing


def test_changes_are_counted_and_the_first_named() -> None:
    made = replace(
        fashion(),
        changes=image_changes("s-before", added=[f"new/{n:04}.jpg" for n in range(1500)], removed=["old.jpg"]),
    )
    body = Page(render_report(made, read_object)).body
    assert "Against s-before ." in body
    assert re.search(r"added 1,500 new/0000\.jpg .* … and 1,476 more removed 1 old\.jpg changed 0 none", body)
