"""The flow that verifies: what it is asked for reaches each dataset, and a fault of one hides no other."""

from __future__ import annotations

import importlib
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.flows.verify import verify
from lookbook.tasks.datasets.verify import ListExports, Verified

module = importlib.import_module("lookbook.flows.verify")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool, bool]]:
    """What each dataset is asked for: its name, whether to mend, and whether everything; "torn" cannot be read."""
    found: list[tuple[str, bool, bool]] = []

    def verify_or_repair(
        _: object, name: str, mend: bool, *__: object, everything: ListExports | None, do: object
    ) -> tuple[Verified, list[str]]:
        assert callable(do)
        found.append((name, mend, everything is not None))
        if name == "torn":
            raise LookbookError("torn: its manifest is damaged.", "")
        return Verified(f"{name}-1", 3, []), []

    monkeypatch.setattr(module, "verify_or_repair", verify_or_repair)
    monkeypatch.setattr(module, "load_workspace", lambda _: SimpleNamespace(lake=None))
    monkeypatch.setattr(module, "list_datasets", lambda _: ["torn", "whole"])
    monkeypatch.setattr(module, "get_run_logger", logging.getLogger)
    monkeypatch.setattr(module, "create_table_artifact", lambda *_, **__: None)
    return found


@pytest.mark.parametrize("everything", [False, True])
def test_older_snapshots_and_exports_are_read_where_everything_is_asked_for(
    asked: list[tuple[str, bool, bool]], everything: bool
) -> None:
    assert verify.fn("whole", everything=everything) == [
        {"dataset": "whole", "snapshot": "whole-1", "objects": 3, "repairs": [], "differences": []}
    ]
    assert asked == [("whole", False, everything)]


def test_a_dataset_that_cannot_be_read_fails_the_run_and_hides_no_other(asked: list[tuple[str, bool, bool]]) -> None:
    state: Any = verify.fn(repair=True)
    assert state.is_failed()
    assert "torn: its manifest is damaged." in state.message
    assert asked == [("torn", True, False), ("whole", True, False)]
