"""The list of deliberate breaks: each one can still be made."""

from __future__ import annotations

from tests.breaks.__main__ import ROOT, read_breaks


def test_each_break_finds_its_place_once_and_changes_it() -> None:
    for broken in read_breaks():
        text = (ROOT / broken.file).read_text(encoding="utf-8")
        changed = broken.made(text)
        assert changed != text, broken.name
        if broken.file.endswith(".py"):
            compile(changed, broken.file, "exec")


def test_each_names_tests_that_are_there() -> None:
    breaks = read_breaks()
    assert len({broken.name for broken in breaks}) == len(breaks) >= 60
    missing = [(broken.name, path) for broken in breaks for path in broken.tests if not (ROOT / path).exists()]
    assert missing == []
