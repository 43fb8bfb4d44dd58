"""What the tests of loads share."""

from __future__ import annotations

import pytest

from blocks.workspace import Workspace
from tests.support.feeds import forget_feeds


@pytest.fixture(autouse=True)
def _no_feeds(request: pytest.FixtureRequest) -> None:
    """The registry is shared: its feeds are gone before a test that has one."""
    if "workspace" in request.fixturenames:
        workspace: Workspace = request.getfixturevalue("workspace")
        forget_feeds(workspace.registry)


@pytest.fixture(params=["warehouse", "registry"])
def place(request: pytest.FixtureRequest) -> str:
    """Each place whose tables stand in a database."""
    name: str = request.param
    return name
