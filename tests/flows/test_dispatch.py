"""One batch on a work pool: attempts, their keys, whom they wait for, and what an interrupt leaves."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, Pending, Running, Scheduled

from lookbook.blocks.errors import LookbookError, OutOfReachError, UsageError
from lookbook.flows import dispatch
from lookbook.tasks.images.pacing import StoppedError

BATCH = "batches/things/b"
DEPLOYMENT = uuid.uuid4()
REFUSED: Any = Failed(message="Flow run encountered an exception: LookbookError: No space left.\nFree some.")
HTTP_500 = httpx.HTTPStatusError("500", request=httpx.Request("GET", "http://x"), response=httpx.Response(500))


class Api:
    """Prefect's API as `dispatch` uses it: each run goes through the states that were written for its attempt.

    Attributes:
        scripts: for each run, what each look at it gives; the last one stays.
        started: what `run_deployment` was asked for.
        told: the states that were set, by attempt.
        now: the clock; each pause lets it go on.
        others: whether batches of other runs are under way.
        down_until: the time from which it answers.
    """

    def __init__(self, *scripts: Sequence[Any], workers: bool = True, others: bool = True) -> None:
        self.scripts = [list(script) for script in scripts]
        self.workers = workers
        self.others = others
        self.down_until = 0.0
        self.started: list[dict[str, Any]] = []
        self.told: list[tuple[int, str]] = []
        self.now = 1000.0
        self.ids: list[uuid.UUID] = []

    def _answer(self) -> None:
        if self.now < self.down_until:
            raise httpx.ConnectError("refused")

    def run_deployment(self, name: str, **asked: Any) -> Any:
        self._answer()
        self.started.append({"name": name} | asked)
        self.ids.append(uuid.uuid4())
        return self._run(self.ids[-1], Scheduled())

    def _run(self, run_id: uuid.UUID, state: Any) -> Any:
        return SimpleNamespace(id=run_id, name=BATCH, state=state, work_pool_name="lookbook", deployment_id=DEPLOYMENT)

    def read_flow_run(self, run_id: uuid.UUID) -> Any:
        self._answer()
        script = self.scripts[self.ids.index(run_id)]
        found = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(found, Exception):
            raise found
        return self._run(run_id, found)

    def set_flow_run_state(self, run_id: uuid.UUID, state: Any, force: bool = False) -> None:  # noqa: ARG002
        self._answer()
        self.told.append((self.ids.index(run_id) + 1, state.type.value))

    def read_workers_for_work_pool(self, pool: str, wanted: Any, limit: int) -> list[str]:  # noqa: ARG002
        return ["w"] if self.workers else []

    def count_flow_runs(self, flow_run_filter: Any) -> int:
        assert flow_run_filter.deployment_id.any_
        return 1 if self.others else 0

    def pause(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 10_000, "it waits for ever"


@contextmanager
def used(api: Api) -> Iterator[Api]:
    with pytest.MonkeyPatch.context() as patch:

        @contextmanager
        def client(sync_client: bool) -> Iterator[Api]:
            assert sync_client
            yield api

        patch.setattr(dispatch, "get_client", client)
        patch.setattr(dispatch, "run_deployment", api.run_deployment)
        patch.setattr(dispatch, "pause", api.pause)
        patch.setattr(dispatch, "time", SimpleNamespace(monotonic=lambda: api.now))
        patch.setattr(dispatch, "get_run_logger", lambda: logging.getLogger("test"))
        names = SimpleNamespace(
            flow_run=SimpleNamespace(id="parent"),
            task_run=SimpleNamespace(id="task"),
            deployment=SimpleNamespace(name=None),
        )
        patch.setattr(dispatch, "runtime", names)
        yield api


def test_a_batch_that_is_done_is_sent_once() -> None:
    with used(Api([Scheduled(), Pending(), Running(), Completed()])) as api:
        dispatch.dispatch("local", BATCH)
    assert len(api.started) == 1
    asked = api.started[0]
    assert asked["name"] == "process-batch/local"
    assert asked["parameters"] == {"workspace": "local", "batch": BATCH}
    assert asked["timeout"] == 0
    assert api.told == []


def test_a_run_that_crashed_or_failed_by_a_fault_that_may_pass_is_sent_again_under_another_key() -> None:
    failed: Any = Failed(message="Flow run encountered an exception: OSError: [Errno 5] Input/output error")
    with used(Api([Running(), Crashed()], [failed], [Completed()])) as api:
        dispatch.dispatch("local", BATCH)
    keys = [asked["idempotency_key"] for asked in api.started]
    assert len(set(keys)) == 3
    assert all(part in key for key in keys for part in ("parent", "task", BATCH))


def test_after_three_attempts_it_fails_with_the_last_fault() -> None:
    last: Any = Failed(message="Flow run encountered an exception: OSError: disk on fire")
    with used(Api([Crashed()], [Crashed()], [last])) as api, pytest.raises(LookbookError, match="disk on fire"):
        dispatch.dispatch("local", BATCH)
    assert len(api.started) == 3


def test_an_error_of_ours_is_raised_as_it_was_and_not_tried_again() -> None:
    with used(Api([Running(), REFUSED])) as api, pytest.raises(LookbookError) as caught:
        dispatch.dispatch("local", BATCH)
    assert (caught.value.problem, caught.value.way_out) == ("No space left.", "Free some.")
    assert len(api.started) == 1


def test_a_run_that_somebody_cancelled_is_not_started_again() -> None:
    with used(Api([Running(), Cancelled()])) as api, pytest.raises(LookbookError, match="cancelled"):
        dispatch.dispatch("local", BATCH)
    assert len(api.started) == 1


def test_a_run_that_an_automation_gives_to_the_next_worker_is_the_same_run() -> None:
    given_back: Any = AwaitingRetry(message="Its worker died before it started.")
    with used(Api([Pending(), given_back, Pending(), Running(), Completed()])) as api:
        dispatch.dispatch("local", BATCH)
    assert len(api.started) == 1


def test_a_run_may_take_long() -> None:
    with used(Api([*[Running()] * 1000, Completed()])) as api:
        dispatch.dispatch("local", BATCH)
    assert api.now - 1000 > 2 * dispatch.CROWDED
    assert (len(api.started), api.told) == (1, [])


def test_without_workers_it_says_so_and_with_busy_ones_it_waits() -> None:
    with used(Api([Scheduled()], workers=False)) as api, pytest.raises(LookbookError, match="No worker takes"):
        dispatch.dispatch("local", BATCH)
    assert dispatch.UNTAKEN < api.now - 1000 < dispatch.UNTAKEN + 60
    assert api.told == [(1, "CANCELLING")], "a worker that comes later must not do it"
    with used(Api([*[Scheduled()] * 500, Completed()])) as api:
        dispatch.dispatch("local", BATCH)
    assert api.now - 1000 > 2 * dispatch.CROWDED


def test_workers_that_are_busy_with_no_batch_are_not_waited_for_for_ever() -> None:
    with used(Api([Scheduled()], others=False)) as api, pytest.raises(LookbookError, match="busy with other runs"):
        dispatch.dispatch("local", BATCH)
    assert dispatch.CROWDED < api.now - 1000 < dispatch.CROWDED + 60
    assert api.told == [(1, "CANCELLING")]


def test_an_api_that_hiccups_is_forgiven_and_one_that_is_gone_is_not() -> None:
    with used(Api([Running(), HTTP_500, httpx.ConnectError("refused"), Completed()])) as api:
        dispatch.dispatch("local", BATCH)
    assert len(api.started) == 1
    with used(Api([httpx.ConnectError("refused")])), pytest.raises(LookbookError, match="out of reach"):
        dispatch.dispatch("local", BATCH)


@pytest.mark.parametrize("away", [dispatch.OUT_OF_REACH - 5, 3 * dispatch.OUT_OF_REACH])
def test_sending_waits_for_the_api_but_not_for_ever(away: float) -> None:
    api = Api([Completed()])
    api.down_until = api.now + away
    with used(api):
        if away < dispatch.OUT_OF_REACH:
            dispatch.dispatch("local", BATCH)
            assert len(api.started) == 1
        else:
            with pytest.raises(OutOfReachError):
                dispatch.dispatch("local", BATCH)
            assert api.now - 1000 < dispatch.OUT_OF_REACH + 10


def test_what_the_api_refuses_is_not_asked_again() -> None:
    refused = httpx.HTTPStatusError("401", request=HTTP_500.request, response=httpx.Response(401))
    with used(Api([refused])) as api, pytest.raises(httpx.HTTPStatusError):
        dispatch.dispatch("local", BATCH)
    assert api.now == 1000


def test_an_interrupt_while_the_api_is_gone_is_still_an_interrupt() -> None:
    api = Api([Running()])

    def stop(seconds: float) -> None:  # noqa: ARG001
        api.down_until = api.now + 1
        raise StoppedError("The run was interrupted.")

    api.pause = stop  # type: ignore[method-assign]
    with used(api), pytest.raises(StoppedError):
        dispatch.dispatch("local", BATCH)


def test_an_interrupt_cancels_the_run_that_was_sent() -> None:
    api = Api([Running()])

    def stop(seconds: float) -> None:  # noqa: ARG001
        raise StoppedError("The run was interrupted.")

    api.pause = stop  # type: ignore[method-assign]
    with used(api), pytest.raises(StoppedError):
        dispatch.dispatch("local", BATCH)
    assert api.told == [(1, "CANCELLING")]


def test_a_deployment_that_is_missing_is_named_with_the_way_out() -> None:
    api = Api()

    def missing(name: str, **asked: Any) -> None:  # noqa: ARG001
        raise ObjectNotFound(HTTP_500)

    api.run_deployment = missing  # type: ignore[method-assign]
    with used(api), pytest.raises(UsageError, match="process-batch/local") as caught:
        dispatch.dispatch("local", BATCH)
    assert "make deploy" in caught.value.way_out


def test_looks_become_rarer_but_never_rare() -> None:
    with used(Api([*[Running()] * 50, Completed()])) as api:
        dispatch.dispatch("local", BATCH)
    assert dispatch.FIRST_PAUSE * 50 < api.now - 1000 <= dispatch.LONGEST_PAUSE * 50
