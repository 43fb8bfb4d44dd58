"""Which runs of batches are ended with their parent, and that a second try of it keeps its own."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.states import Cancelling, Crashed, Pending, Running

from lookbook.flows import endings

DIED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PARENT = uuid.uuid4()


class Api:
    """Prefect's API with a parent in the state `now` and living children, created so many seconds after `DIED`."""

    def __init__(self, now: Any, *created: float, away: bool = False) -> None:
        self.now = now
        self.away = away
        self.cancelled: list[float] = []
        self.children = {uuid.uuid4(): (seconds, DIED + timedelta(seconds=seconds)) for seconds in created}

    def read_flow_runs(self, flow_run_filter: Any) -> list[Any]:
        if self.away:
            raise httpx.ConnectError("refused")
        assert flow_run_filter.parent_flow_run_id.any_ == [PARENT]
        return [SimpleNamespace(id=key, created=at, deployment_id="d") for key, (_, at) in self.children.items()]

    def set_flow_run_state(self, run_id: uuid.UUID, state: Any) -> None:
        assert state.is_cancelling()
        self.cancelled.append(self.children[run_id][0])

    def read_flow_run(self, run_id: uuid.UUID) -> Any:
        assert run_id == PARENT
        return SimpleNamespace(state=self.now)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Api], list[str]]:
    """Puts an API in the place of Prefect's; gives what is noted in the registry of how the run ended."""
    noted: list[str] = []

    def use(api: Api) -> list[str]:
        @contextmanager
        def client(sync_client: bool) -> Iterator[Api]:
            assert sync_client
            yield api

        monkeypatch.setattr(endings, "get_client", client)
        return noted

    monkeypatch.setattr(endings, "load_workspace", lambda name: SimpleNamespace(registry=name))
    monkeypatch.setattr(endings, "end_lost_run", lambda registry, run_id, error: noted.append(error))  # noqa: ARG005
    monkeypatch.setattr(endings, "get_run_logger", lambda: logging.getLogger("test"))
    return use


def end(state: Any) -> None:
    run: Any = SimpleNamespace(id=PARENT, parameters={})
    endings.end_family(None, run, state)  # type: ignore[arg-type]


def test_a_run_that_crashed_takes_its_children_along(use: Callable[[Api], list[str]]) -> None:
    died: Any = Crashed(timestamp=DIED)
    api = Api(died, -60, -1)
    noted = use(api)
    end(died)
    assert (api.cancelled, noted) == ([-60, -1], ["killed"])


@pytest.mark.parametrize("now", [Pending(), Running()], ids=["pending", "running"])
def test_a_hook_that_comes_late_leaves_the_second_try_alone(use: Callable[[Api], list[str]], now: Any) -> None:
    api = Api(now, -60, 2)
    noted = use(api)
    died: Any = Crashed(timestamp=DIED)
    end(died)
    assert (api.cancelled, noted) == ([-60], [])


def test_a_run_that_is_cancelled_takes_along_what_it_sent_meanwhile(use: Callable[[Api], list[str]]) -> None:
    cancelled: Any = Cancelling(timestamp=DIED)
    api = Api(cancelled, -60, 2)
    noted = use(api)
    end(cancelled)
    assert (api.cancelled, noted) == ([-60, 2], ["cancelled"])


@pytest.mark.parametrize(("run_count", "ended"), [(1, []), (2, [-60, 2])])
def test_a_second_try_first_ends_what_is_left_of_the_first(
    use: Callable[[Api], list[str]], monkeypatch: pytest.MonkeyPatch, run_count: int, ended: list[float]
) -> None:
    run = SimpleNamespace(id=str(PARENT), run_count=run_count)
    monkeypatch.setattr(endings, "runtime", SimpleNamespace(flow_run=run))
    api = Api(Running(), -60, 2)
    use(api)
    endings.end_children_of_earlier_try()
    assert api.cancelled == ended
    use(Api(Running(), -60, away=True))
    endings.end_children_of_earlier_try()
