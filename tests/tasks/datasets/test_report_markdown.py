from __future__ import annotations

from lookbook.tasks.datasets.report.page import report_markdown
from tests.support.reports import data, image_changes, image_row, reject_row


def test_markdown_has_counts_first_rejects_and_changes() -> None:
    refused = [reject_row(n, message="a | b") for n in range(12)]
    made = data([image_row(0)], [], refused, changes=image_changes("s-before", added=["a_b.jpg"]))
    markdown = report_markdown(made)
    assert "| **Images found** | **1** |\n| loaded | 1 |" in markdown
    assert markdown.count("| image | ") == 10
    assert "| a &#124; b |" in markdown
    assert "12 in all: `lookbook rejects fashion` shows them." in markdown
    assert "- added: 1 (a&#95;b.jpg)\n- removed: 0\n- changed: 0" in markdown
