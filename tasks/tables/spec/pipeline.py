"""A pipeline: its tasks and when they run."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from tasks.tables.spec.schedules import Schedule, Trigger
from tasks.tables.spec.tasks import ExtractTask, GraphTask, LoadTask, ModelsTask, PythonTask, Task
from tasks.tables.spec.values import BlockName, RelativePath, SpecName, Strict, TaskName


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
        for name, task in self.tasks.items():
            for before in task.after:
                if before not in self.tasks:
                    raise ValueError(
                        f"tasks.{name}.after: there is no task {before}; there are {', '.join(self.tasks)}"
                    )
            _check_place(name, task)
        try:
            self.in_order()
        except CycleError as error:
            raise ValueError(f"tasks: these wait for each other: {' → '.join(error.args[1])}") from None
        return self

    def in_order(self) -> list[str]:
        """The names of the tasks, each after those that it takes from."""
        return list(TopologicalSorter({name: task.after for name, task in self.tasks.items()}).static_order())

    def upstream(self, name: str) -> Iterator[str]:
        """Every task that `name` takes from, over however many others."""
        seen = set()
        waiting = list(self.tasks[name].after)
        while waiting:
            before = waiting.pop()
            if before not in seen:
                seen.add(before)
                yield before
                waiting += self.tasks[before].after

    def extracts(self, name: str) -> list[str]:
        """The tasks upstream of `name` that bring rows in."""
        return [before for before in self.upstream(name) if not self.tasks[before].after]


def _check_place(name: str, task: Task) -> None:
    """Raises ValueError where a task of this kind cannot stand."""
    if isinstance(task, ExtractTask) and task.after:
        raise ValueError(f"tasks.{name}: a source comes first, and takes nothing from other tasks")
    if not isinstance(task, ExtractTask | PythonTask | GraphTask | ModelsTask) and not task.after:
        raise ValueError(f"tasks.{name}: it names no task in after to take rows from")
    if isinstance(task, PythonTask) and task.skip_unchanged and task.after:
        raise ValueError(f"tasks.{name}: skip_unchanged is for tasks that extract")
    if isinstance(task, LoadTask) and name in task.after:
        raise ValueError(f"tasks.{name}: it waits for itself")
