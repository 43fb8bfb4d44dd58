"""The checkers of infra/, run as commands."""

from __future__ import annotations

from infra.checks.__main__ import tool


def test_a_checker_that_fails_without_a_word_found_fault() -> None:
    assert tool("true") == ""
    assert "1" in tool("false")
