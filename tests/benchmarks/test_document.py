"""The document of the benchmarks: one section can be measured again alone."""

from __future__ import annotations

from benchmarks.document import assemble, read_sections

NAMES = ("first", "second", "third")


def test_sections_come_back_from_the_document_they_were_put_into() -> None:
    sections = {"third": "## C\n\n| a |\n", "first": "## A\n"}
    text = assemble(sections, NAMES)
    assert read_sections(text, NAMES) == sections
    assert text.index("## A") < text.index("## C")


def test_a_section_measured_again_leaves_the_others_as_they_are() -> None:
    before = assemble({"first": "old\n", "second": "kept\n"}, NAMES)
    after = assemble(read_sections(before, NAMES) | {"first": "new\n"}, NAMES)
    assert after == before.replace("old", "new")


def test_a_document_without_marks_has_no_sections() -> None:
    assert read_sections("# Benchmarks\n\n## The main job\n", NAMES) == {}
    assert read_sections("", NAMES) == {}
