"""Runs of deployments: submitted, looked at and cancelled through Prefect's API. Imports Prefect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import Artifact, FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling

from lookbook.blocks.errors import LookbookError, MissingError, OutOfReachError, UsageError

Progress = Literal["waiting", "running", "cancelling", "completed", "failed", "cancelled"]
#: What Prefect's states mean to whoever waits. A crashed run may be given back by an automation: that is a new try.
MEANING: dict[StateType, Progress] = {
    StateType.SCHEDULED: "waiting",
    StateType.PENDING: "waiting",
    StateType.PAUSED: "waiting",
    StateType.RUNNING: "running",
    StateType.CANCELLING: "cancelling",
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CRASHED: "failed",
    StateType.CANCELLED: "cancelled",
}
FINAL = {"completed", "failed", "cancelled"}
#: Characters of an error that are told.
LONGEST_MESSAGE = 2000
_CONFLICT = 409


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        state: what it does.
        message: why it failed, if it did.
        percent: of its work, where the flow tells.
        progress: the same in words.
    """

    state: Progress
    message: str
    started_at: datetime | None
    ended_at: datetime | None
    percent: float | None = None
    progress: str | None = None


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended."""

    run_id: str
    flow: str
    state: Progress
    seconds: float
    ended_at: datetime


class Runs(Protocol):
    """What the API asks of Prefect."""

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Return the connection, while the app runs."""

    async def submit(self, deployment: str, parameters: Mapping[str, Any], token: str) -> str:
        """Start a run of a deployment, once for each `token`; returns its id.

        Raises:
            UsageError: the deployment does not take these parameters.
            MissingError: there is no such deployment.
            OutOfReachError: Prefect does not answer.
        """

    async def look(self, run_id: str) -> RunState | None:
        """Return how far a run is; None where Prefect knows it no more."""

    async def artifact(self, run_id: str, kind: str) -> Any:  # noqa: ANN401 - as the flow made it
        """Return what a run's artifact of its own kind says in JSON; None where Prefect knows of none."""

    async def cancel(self, run_id: str) -> None:
        """Ask that a run ends."""

    async def answers(self) -> bool:
        """Return whether Prefect answers."""

    async def waiting(self, flow: str) -> dict[str, int]:
        """Return how many runs of a flow have not ended, by state."""

    async def ended(self, flow: str, since: datetime) -> list[EndedRun]:
        """Return the runs of a flow that ended since, 200 at the most."""


class PrefectRuns:
    """Runs on the server of PREFECT_API_URL."""

    def __init__(self) -> None:
        self._client: PrefectClient | None = None
        self._deployments: dict[str, UUID] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """See `Runs.opened`."""
        async with get_client() as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    async def submit(self, deployment: str, parameters: Mapping[str, Any], token: str) -> str:
        """See `Runs.submit`."""
        async with self._asked() as client:
            try:
                found = await client.read_deployment_by_name(deployment)
            except ObjectNotFound as error:
                raise MissingError(
                    f"There is no deployment {deployment}.", 'Run "lookbook deploy", or "lookbook serve".'
                ) from error
            try:
                run = await client.create_flow_run_from_deployment(
                    found.id, parameters=dict(parameters), idempotency_key=f"lookbook-api-{token}", tags=["api"]
                )
            except PrefectHTTPStatusError as error:
                if error.response.status_code != _CONFLICT:
                    raise
                raise UsageError(f"{deployment} does not take these parameters.", "See its form in the UI.") from error
        return str(run.id)

    async def look(self, run_id: str) -> RunState | None:
        """See `Runs.look`."""
        async with self._asked() as client:
            try:
                run = await client.read_flow_run(UUID(run_id))
            except ObjectNotFound:
                return None
            state = _meaning(run)
            told = await _progress(client, run) if state in {"running", "cancelling"} else (None, None)
        message = (run.state.message or "") if run.state and state == "failed" else ""
        return RunState(state, message[:LONGEST_MESSAGE], _plain(run.start_time), _plain(run.end_time), *told)

    async def artifact(self, run_id: str, kind: str) -> Any:  # noqa: ANN401 - as the flow made it
        """See `Runs.artifact`."""
        async with self._asked() as client:
            found = await _artifact(client, UUID(run_id), kind)
        return json.loads(found.data) if found and isinstance(found.data, str) else None

    async def cancel(self, run_id: str) -> None:
        """See `Runs.cancel`."""
        async with self._asked() as client:
            await client.set_flow_run_state(UUID(run_id), Cancelling(message="cancelled by the API"))

    async def answers(self) -> bool:
        """See `Runs.answers`."""
        async with self._asked() as client:
            return await client.api_healthcheck() is None

    async def waiting(self, flow: str) -> dict[str, int]:
        """See `Runs.waiting`."""
        counts: dict[str, int] = dict.fromkeys(("waiting", "running", "cancelling"), 0)
        async with self._asked() as client:
            for kind in (kind for kind, meaning in MEANING.items() if meaning in counts):
                state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[kind]))
                number = await client.count_flow_runs(flow_filter=_of(flow), flow_run_filter=FlowRunFilter(state=state))
                counts[MEANING[kind]] += number
        return counts

    async def ended(self, flow: str, since: datetime) -> list[EndedRun]:
        """See `Runs.ended`."""
        async with self._asked() as client:
            runs = await client.read_flow_runs(
                flow_filter=_of(flow), flow_run_filter=FlowRunFilter(end_time=FlowRunFilterEndTime(after_=since))
            )
        return [
            EndedRun(str(run.id), flow, _meaning(run), _seconds(run), run.end_time)
            for run in runs
            if run.end_time and _meaning(run) in FINAL
        ]

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[PrefectClient]:
        """Yield the client, with its faults named."""
        if self._client is None:
            raise LookbookError("The connection to Prefect is not open.")
        try:
            yield self._client
        except PrefectHTTPStatusError as error:
            raise OutOfReachError(f"Prefect answered {error.response.status_code}.") from error
        except (httpx.HTTPError, OSError) as error:
            raise OutOfReachError(f"Prefect does not answer: {type(error).__name__}.") from error


def _of(flow: str) -> FlowFilter:
    return FlowFilter(name=FlowFilterName(any_=[flow]))


def _meaning(run: FlowRun) -> Progress:
    return MEANING.get(run.state_type, "waiting") if run.state_type else "waiting"


def _plain(time: datetime | None) -> datetime | None:
    """Return a time of Python's own class: Prefect's are of another one, which no encoder of JSON knows."""
    return datetime.fromtimestamp(time.timestamp(), UTC) if time is not None else None


def _seconds(run: FlowRun) -> float:
    start = run.start_time or run.end_time or datetime.now(UTC)
    return max(0.0, ((run.end_time or start) - start).total_seconds())


async def _progress(client: PrefectClient, run: FlowRun) -> tuple[float | None, str | None]:
    """Return what the flow's own progress artifact says."""
    found = await _artifact(client, run.id, "progress")
    data = found.data if found else None
    return (float(data), found.description) if found and isinstance(data, int | float) else (None, None)


async def _artifact(client: PrefectClient, run_id: UUID, kind: str) -> Artifact | None:
    """Return the newest artifact of a kind that a run made."""
    found = await client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]), type=ArtifactFilterType(any_=[kind])
        ),
        sort=ArtifactSort.UPDATED_DESC,
        limit=1,
    )
    return found[0] if found else None
