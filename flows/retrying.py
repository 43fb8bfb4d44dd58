"""Which faults are worth another try."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import CancelledRun
from prefect.tasks import Task

from lookbook.blocks.errors import LookbookError, OutOfReachError


def is_worth_another_try(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Faults of disk and network may pass; what a user has to mend does not, nor that the run was interrupted."""
    fault = state.result(raise_on_failure=False)
    return isinstance(fault, OutOfReachError) or not isinstance(fault, (LookbookError, CancelledRun))


def is_no_interruption(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Whatever Prefect's API did not take may be taken the next time; a run that is to end sends nothing more."""
    return not isinstance(state.result(raise_on_failure=False), CancelledRun)
