"""Verifying beside a run that publishes: what differs meanwhile is not held against the dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.errors import LookbookError
from blocks.workspace import Workspace
from tasks.datasets.lease import lease
from tasks.datasets.verify import is_disturbed, verify, verify_or_repair
from tests.support.pipeline import photo, request, run, write_collection


def test_a_run_that_is_at_work_or_has_published_since_disturbs(workspace: Workspace, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1)})
    run(request(workspace, source))
    found = verify(workspace, "things")
    assert found.differences == []
    assert not is_disturbed(workspace, "things", found)
    with lease(workspace.registry, "dataset/others"):
        assert not is_disturbed(workspace, "things", found), "others do not count"
    with lease(workspace.registry, "dataset/things"):
        assert is_disturbed(workspace, "things", found)
    write_collection(source, {"2.jpg": photo(2)})
    run(request(workspace, source))
    assert is_disturbed(workspace, "things", found)


def test_mending_takes_the_lease_and_says_what_it_did(workspace: Workspace, tmp_path: Path) -> None:
    run(request(workspace, write_collection(tmp_path / "source", {"1.jpg": photo(1)})))
    lost = next(path for path in (workspace.lake.root / "derived").rglob("*.*") if path.is_file())
    lost.unlink()
    found, repairs = verify_or_repair(workspace, "things", mend=False)
    assert [lost.name in difference.line for difference in found.differences] == [True]
    assert repairs == []
    with lease(workspace.registry, "dataset/things"), pytest.raises(LookbookError, match="at work"):
        verify_or_repair(workspace, "things", mend=True)
    found, (repair,) = verify_or_repair(workspace, "things", mend=True)
    assert (found.differences, repair.endswith(": mended")) == ([], True)
    assert lost.exists()
