"""What is done about a batch's run on a work pool, by what is seen of it."""

from __future__ import annotations

import pytest

from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.flows.dispatch import (
    CROWDED,
    UNTAKEN,
    Action,
    ChildRun,
    fault_of,
    next_action,
    own_error,
)
from lookbook.tasks.images.locators import SourceElsewhereError

FAILED = "Flow run encountered an exception: "


@pytest.mark.parametrize(
    ("child", "action"),
    [
        (ChildRun("COMPLETED"), Action.DONE),
        (ChildRun("SCHEDULED", unchanged=UNTAKEN * 100), Action.WAIT),  # all workers are busy
        (ChildRun("SCHEDULED", unchanged=UNTAKEN - 1, workers=False), Action.WAIT),  # one may be starting
        (ChildRun("SCHEDULED", unchanged=UNTAKEN + 1, workers=False), Action.GIVE_UP),
        (ChildRun("SCHEDULED", unchanged=CROWDED * 9, crowded=CROWDED - 1), Action.WAIT),  # some batch was under way
        (ChildRun("SCHEDULED", unchanged=CROWDED + 1, crowded=CROWDED + 1), Action.GIVE_UP),
        (ChildRun("SCHEDULED", unchanged=UNTAKEN - 1, crowded=CROWDED + 1, workers=False), Action.WAIT),
        (ChildRun("PENDING", unchanged=10**6, workers=False), Action.WAIT),  # the automations end what is dead
        (ChildRun("RUNNING", unchanged=10**6, workers=False), Action.WAIT),
        (ChildRun("CANCELLING", unchanged=10**6), Action.WAIT),
        (ChildRun("CRASHED", "No heartbeat for 300 s: its process has died."), Action.AGAIN),
        (ChildRun("CRASHED", "Flow run infrastructure exited with non-zero status code -9."), Action.AGAIN),
        (ChildRun("FAILED", FAILED + "OSError: [Errno 5] Input/output error"), Action.AGAIN),
        (ChildRun("FAILED", FAILED + "OutOfReachError: Prefect's API\nSee to it."), Action.AGAIN),
        (ChildRun("FAILED", FAILED + "LookbookError: no space\nFree some."), Action.GIVE_UP),
        (ChildRun("FAILED", FAILED + "ObjectNotFoundError: k: not in the lake"), Action.GIVE_UP),
        (ChildRun("CANCELLED", "Flow run was cancelled successfully."), Action.GIVE_UP),
        (ChildRun("PAUSED", unchanged=10**6), Action.WAIT),
    ],
    ids=lambda value: f"{value.state.lower()}-{value.unchanged:.0f}" if isinstance(value, ChildRun) else value.name,
)
def test_the_verdict(child: ChildRun, action: Action) -> None:
    assert next_action(child)[0] is action


@pytest.mark.parametrize("kind", [LookbookError, SourceElsewhereError, OutOfReachError])
def test_an_error_of_ours_comes_back_as_it_was(kind: type[LookbookError]) -> None:
    told = kind("things: 3 of 4.", "Mend them,\nthen run again.")
    found = own_error(f"{FAILED}{type(told).__name__}: {told}")
    assert found is not None
    assert (found.problem, found.way_out) == (told.problem, told.way_out)


def test_another_error_is_none_of_ours() -> None:
    assert own_error(FAILED + "OSError: LookbookErrors: x") is None
    assert own_error("") is None


def test_a_run_that_nobody_takes_says_how_to_start_a_worker() -> None:
    child = ChildRun("SCHEDULED", unchanged=UNTAKEN + 1, workers=False, pool="lookbook")
    fault = fault_of(child, next_action(child)[1], "batches/things/b")
    assert "No worker takes runs of the work pool lookbook" in fault.problem
    assert "prefect worker start --pool lookbook" in fault.way_out


def test_a_run_for_which_workers_have_no_place_says_so() -> None:
    child = ChildRun("SCHEDULED", crowded=CROWDED + 1, pool="lookbook")
    fault = fault_of(child, next_action(child)[1], "batches/things/b")
    assert "busy with other runs" in fault.problem
    assert "--limit" in fault.way_out


def test_a_run_that_was_given_up_fails_with_its_own_error() -> None:
    child = ChildRun("FAILED", FAILED + "LookbookError: No space left.\nFree some.")
    fault = fault_of(child, next_action(child)[1], "batches/things/b")
    assert (fault.problem, fault.way_out) == ("No space left.", "Free some.")
    cancelled = ChildRun("CANCELLED")
    assert "cancelled" in fault_of(cancelled, next_action(cancelled)[1], "batches/things/b").problem
