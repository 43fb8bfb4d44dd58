from __future__ import annotations

from lookbook.tasks.datasets.report.data import MEANINGS, MOST_PICTURES, image_issues
from lookbook.tasks.datasets.report.page import render_report, report_markdown
from lookbook.tasks.datasets.snapshot import ISSUES
from tests.support.reports import Page, data, image_row, read_object

NAMES = [f"is_{issue}_issue" for issue in ISSUES]
FINE = dict.fromkeys(NAMES, False)


def test_the_images_with_the_lowest_scores_are_shown_with_the_count_of_all() -> None:
    images = [image_row(n, **FINE | {"is_dark_issue": n < 20}, dark_score=0.3 - n / 100) for n in range(40)]
    made = data(images, [])
    dark = image_issues(made)[0]
    assert (dark.name, dark.images, dark.looked_at, dark.share) == ("dark", 20, 40, "50.0 %")
    assert [picture.key for picture in dark.worst] == [f"images/{n}.jpg" for n in range(19, 19 - MOST_PICTURES, -1)]
    section = render_report(made, read_object).partition('<section id="issues"')[2].partition("</section>")[0]
    body = Page(f"<body>{section}").body
    assert "dark 20" in body
    assert "50.0 % of the images." in body
    assert section.count("data:image/") == MOST_PICTURES
    assert "| dark | 20 | 50.0 % |" in report_markdown(made)


def test_copies_and_rejects_are_not_counted() -> None:
    dark = FINE | {"is_dark_issue": True, "dark_score": 0.1}
    images = [image_row(0, **dark), image_row(1, **dark, outcome="duplicate"), image_row(2, outcome="rejected")]
    found = image_issues(data(images, []))
    assert {(issue.images, issue.looked_at) for issue in found} == {(1, 1), (0, 1)}


def test_images_without_issues_are_told_and_so_are_images_that_nobody_looked_at() -> None:
    assert "No image has any of these." in Page(render_report(data([image_row(0, **FINE)], []), read_object)).body
    assert "No image was looked at." in Page(render_report(data([image_row(0)], []), read_object)).body


def test_a_share_that_is_not_nothing_does_not_read_as_nothing() -> None:
    images = [image_row(n, **FINE | {"is_light_issue": n == 0}, light_score=0.0) for n in range(1500)]
    assert image_issues(data(images, []))[0].share == "below 0.1 %"


def test_each_issue_has_its_meaning() -> None:
    assert set(MEANINGS) == set(ISSUES)
