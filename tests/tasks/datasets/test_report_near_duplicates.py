from __future__ import annotations

import base64

from lookbook.tasks.datasets.report.page import render_report
from tests.support.reports import Page, data, image_row, picture, read_object


def section(text: str) -> str:
    return text.partition('<section id="near-duplicates"')[2].partition("</section>")[0]


def near(number: int, canonical: int, score: float = 0.5, **values: object) -> dict[str, object]:
    return image_row(number, near_duplicate_of=f"images/{canonical}.jpg", near_duplicates_score=score, **values)


def test_the_largest_groups_come_first_with_the_canonical_image_and_the_nearest_beside_it() -> None:
    images = [image_row(0), near(1, 0), image_row(2), near(3, 2, 0.9), near(4, 2, 0.1)]
    text = section(render_report(data(images, []), read_object))
    shown = [base64.b64encode(picture(number)).decode() for number in (2, 4, 3, 0, 1)]
    places = [text.index(pixels) for pixels in shown]
    assert places == sorted(places)
    assert "5 images may show the same as another one" in text


def test_large_groups_and_many_of_them_are_shown_to_a_bound() -> None:
    images = [image_row(0), *[near(n, 0) for n in range(1, 100)]]
    images += [row for n in range(100, 160, 2) for row in (image_row(n), near(n + 1, n))]
    text = section(render_report(data(images, []), read_object))
    assert "The 12 largest of 31 groups." in text
    assert "… and 94 more" in text
    assert text.count("<img") == 6 + 11 * 2


def test_a_copy_of_a_member_counts_once() -> None:
    copy = near(2, 0, outcome="duplicate", duplicate_of="images/1.jpg")
    assert "2 images may show the same as another one" in section(
        render_report(data([image_row(0), near(1, 0), copy], []), read_object)
    )


def test_without_near_duplicates_the_section_says_so() -> None:
    body = Page(render_report(data([image_row(0)], []), read_object)).body
    assert "No two images with different bytes look the same." in body
