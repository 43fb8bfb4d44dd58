"""What the tests of loads share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["warehouse", "registry"])
def place(request: pytest.FixtureRequest) -> str:
    """Each place whose tables stand in a database."""
    name: str = request.param
    return name
