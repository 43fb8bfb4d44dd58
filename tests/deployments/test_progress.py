"""The progress bar counts images, and the bytes of a download before them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lookbook.deployments.command import progress as bars
from lookbook.tasks.runs import progress


def test_bytes_are_counted_and_then_images(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(bars, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with bars.shown():
        progress.download(5_000_000, 20_000_000)
    assert "5.0 MB/20.0 MB" in screen.getvalue()
    with bars.shown():
        progress.download(20_000_000, 20_000_000)
        progress.announce(8)
        progress.advance(3)
    assert "3/8" in screen.getvalue()
