"""A pipeline: its tasks and when they run."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from lookbook.tasks.tables.spec.schedules import Schedule, Trigger
from lookbook.tasks.tables.spec.tasks import ExtractTask, LoadTask, PythonTask, SqlTask, Task
from lookbook.tasks.tables.spec.values import BlockName, RelativePath, SpecName, Strict, TaskName


class Pipeline(Strict):
    """What a YAML file in the folder of pipelines says.

    Attributes:
        schedule: when it runs by the clock.
        on: what starts it.
        params: values for templates, SQL and functions; a run may give others for those that are named here.
        config: a YAML or JSON file beside the spec that functions get.
        notify: saved blocks that hear of a failed run.
    """

    name: SpecName
    description: str = ""
    schedule: Schedule | None = None
    on: Trigger | None = None
    params: dict[str, JsonValue] = Field(default_factory=dict)
    config: RelativePath | None = None
    notify: tuple[BlockName, ...] = ()
    tasks: Annotated[dict[TaskName, Task], Field(min_length=1)]

    @model_validator(mode="after")
    def _hangs_together(self) -> Pipeline:
        faults = [fault for name, task in self.tasks.items() for fault in self._faults(name, task)]
        if not faults:
            try:
                self.in_order()
            except CycleError as error:
                faults = [f"tasks: these wait for each other: {' → '.join(error.args[1])}"]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _faults(self, name: str, task: Task) -> Iterator[str]:
        """Yield what is wrong with the place of a task among the others, each with its path before it."""
        for before in task.after:
            if before not in self.tasks:
                yield f"tasks.{name}.after: there is no task {before}; there are {', '.join(self.tasks)}"
        if isinstance(task, ExtractTask) and task.after:
            yield f"tasks.{name}.after: a source comes first, and takes nothing from other tasks"
        known = all(before in self.tasks for before in task.after)
        if isinstance(task, SqlTask | LoadTask) and known and not self.rows_before(name):
            yield f"tasks.{name}: it names no task in after to take rows from"
        if isinstance(task, PythonTask) and task.skip_unchanged and task.after:
            yield f"tasks.{name}.skip_unchanged: it is for tasks that extract"

    def rows_before(self, name: str) -> list[str]:
        """Return the tasks in `after` whose results a task takes; loads, models and graphs only come before it."""
        known = [before for before in self.tasks[name].after if before in self.tasks]
        return [one for one in known if isinstance(self.tasks[one], ExtractTask | SqlTask | PythonTask)]

    def in_order(self) -> list[str]:
        """Return the names of the tasks, each after those that it takes from."""
        return list(TopologicalSorter({name: task.after for name, task in self.tasks.items()}).static_order())

    def upstream(self, name: str) -> Iterator[str]:
        """Yield every task that `name` takes from, over however many others."""
        seen = set()
        waiting = list(self.tasks[name].after)
        while waiting:
            before = waiting.pop()
            if before not in seen:
                seen.add(before)
                yield before
                waiting += self.tasks[before].after

    def extracts(self, name: str) -> list[str]:
        """Return the tasks upstream of `name` that bring rows in."""
        return [before for before in self.upstream(name) if not self.tasks[before].after]
