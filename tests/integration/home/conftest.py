"""A home that all tests of this folder share: its servers take ten seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.homes import remove_home


@pytest.fixture(scope="package")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that tests share; each uses dataset names of its own. Its servers end with the last of them."""
    home = tmp_path_factory.mktemp("shared") / "home with space ü"
    yield home
    remove_home(home)
