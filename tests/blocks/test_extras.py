"""Extras that are not installed are named, with the way to install them."""

from __future__ import annotations

import importlib
import sys

import pytest

from lookbook.blocks.errors import LookbookError, needs_extra


def test_an_extra_that_is_missing_is_named_with_the_way_to_install_it() -> None:
    missing = "A thing needs the extra gcp: no_such_package is not installed"
    with pytest.raises(LookbookError, match=missing) as raised, needs_extra("gcp", "A thing"):
        importlib.import_module("no_such_package")
    assert raised.value.way_out == "From the checkout: pip install -r requirements-image.txt"


def test_a_bucket_without_its_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lookbook.blocks.gcs", raising=False)
    for name in ("prefect_gcp", "google.cloud.storage", "google_crc32c"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    with pytest.raises(LookbookError, match=r"needs the extra gcp"):
        importlib.import_module("lookbook.blocks.gcs")
