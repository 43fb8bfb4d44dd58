"""The tasks of a feed as Prefect's: in the order of their dependencies, those at the same time that do not wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from lookbook.flows.retrying import is_worth_another_try
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.planning import Order
from lookbook.tasks.tables.steps import Outcome, Report, outcome_of, run_step

#: Tasks of one run that are under way at the same time.
AT_ONCE = 4


class TaskRuns:
    """The tasks of a run that wait, are under way, and are done.

    Args:
        context: of the run.
        again: go on with what is unchanged, too.
    """

    def __init__(self, context: Context, *, again: bool = False) -> None:
        self._context, self._again = context, again
        self._order = Order(context.pipeline)
        self._report = Report(context.pipeline)
        self._futures: dict[str, PrefectFuture[Any]] = {}
        self._ended: SimpleQueue[str] = SimpleQueue()
        self._faults: list[Exception] = []

    def to_end(self) -> Report:
        """Run all that is to be run. After a fault nothing more is started; what is under way ends first."""
        under_way = 0
        runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=AT_ONCE)
        with runner:
            while True:
                starting = [] if self._faults else self._order.ready()
                for name in starting:
                    self._start(name, runner)
                under_way += len(starting)
                if not under_way:
                    break
                self._finish(self._ended.get())
                under_way -= 1
        if self._faults:
            raise self._faults[0]
        self._report.left = self._order.left
        return self._report

    def _start(self, name: str, runner: TaskRunner[Any]) -> None:
        step = self._context.pipeline.tasks[name]
        made = task(
            name=name,
            task_run_name=name,
            retries=step.retries,
            retry_delay_seconds=step.retry_delay.total_seconds() if step.retry_delay is not None else 0,
            timeout_seconds=step.timeout.total_seconds() if step.timeout is not None else None,
            retry_condition_fn=is_worth_another_try,
            persist_result=False,
            cache_policy=NO_CACHE,
        )(self._work(name))
        future = runner.submit(made, parameters={}, wait_for=[self._futures[before] for before in step.after])
        self._futures[name] = future
        future.add_done_callback(lambda _: self._ended.put(name))

    def _work(self, name: str) -> Callable[[], Outcome]:
        context, results = self._context, self._report.results
        inputs = {before: results[before] for before in context.pipeline.tasks[name].after}

        def work() -> Outcome:  # results stay in this process: a closure hands them on, and no parameter
            began = time.monotonic()
            result = run_step(context, name, inputs, results)
            outcome = outcome_of(context, name, inputs, result, time.monotonic() - began)
            if self._again:
                outcome = replace(outcome, unchanged=False)
            get_run_logger().info("%s", outcome.line)
            return outcome

        return work

    def _finish(self, name: str) -> None:
        try:
            outcome: Outcome = self._futures[name].result()
        except Exception as fault:  # noqa: BLE001 - raised at the end, once the other tasks have ended
            self._faults.append(fault)
            return
        self._report.outcomes[name] = outcome
        self._order.done(name, unchanged=outcome.unchanged)
