"""Which tasks of a pipeline can run now, and which need not: what nothing new reaches is left out."""

from __future__ import annotations

from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.tasks import ExtractTask, PythonTask


class Order:
    """The tasks of one run, as far as they have come.

    A task is wanted when one of its extracts has something new; so is, then, all that it takes from. What is wanted
    by nothing is skipped.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._waiting = pipeline.in_order()
        self._done: set[str] = set()
        roots = {name for name, task in pipeline.tasks.items() if not task.after}
        self._wanted = set(roots)
        for name in roots:
            if not isinstance(pipeline.tasks[name], ExtractTask | PythonTask):
                self._want_what_follows(name)

    def ready(self) -> list[str]:
        """Return the tasks to start now; each is named once."""
        found = [name for name in self._waiting if name in self._wanted and self._done.issuperset(self._after(name))]
        self._waiting = [name for name in self._waiting if name not in found]
        return found

    def done(self, name: str, *, unchanged: bool = False) -> None:
        """A task has ended; `unchanged`: what it brought is what the last run brought."""
        self._done.add(name)
        if not unchanged and not self._after(name):
            self._want_what_follows(name)

    @property
    def left(self) -> list[str]:
        """The tasks that were not started."""
        return list(self._waiting)

    def _after(self, name: str) -> tuple[str, ...]:
        return self._pipeline.tasks[name].after

    def _want_what_follows(self, root: str) -> None:
        for name in self._pipeline.tasks:
            upstream = set(self._pipeline.upstream(name))
            if root in upstream:
                self._wanted |= {name, *upstream}
