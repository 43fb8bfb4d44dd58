"""The rejects that the API tells: of a snapshot, or of the last run, where that published nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from tests.support.api import problem, running
from tests.support.pipeline import photo, request, run, write_collection


def test_a_run_that_published_nothing_is_told_until_one_publishes(workspace: Workspace, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1), "2.jpg": b"", "3.jpg": b"<html>"})
    with running(workspace) as api:
        problem(api.get("/datasets/things/rejects"), 404, "no-dataset")
        with pytest.raises(LookbookError):
            run(request(workspace, source, reject_limit=0.1))
        page = api.json("/datasets/things/rejects?limit=1")
        assert (page["snapshot"], page["total"]) == (None, 2)
        assert (page["unpublished"]["run_id"], page["unpublished"]["source"]) == ("a-run", str(source))
        assert page["unpublished"]["why"].startswith("2 of 3 images")
        further = api.json(f"/datasets/things/rejects?limit=1&cursor={page['next']}")
        assert [each["items"][0]["locator"] for each in (page, further)] == ["2.jpg", "3.jpg"]
        published = run(request(workspace, source))["snapshot"]
        page = api.json("/datasets/things/rejects?limit=1")
        assert (page["snapshot"], page["unpublished"], page["total"]) == (published, None, 2)
        (source / "4.jpg").write_bytes(b"<html>no")
        with pytest.raises(LookbookError):
            run(request(workspace, source, reject_limit=0.1))
        assert api.json("/datasets/things/rejects")["total"] == 3
        assert api.json(f"/datasets/things/rejects?cursor={page['next']}")["total"] == 2
        assert api.json(f"/datasets/things/rejects?snapshot={published}")["total"] == 2
