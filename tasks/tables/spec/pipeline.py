"""A pipeline: its tasks and when they run; and orchestrations: pipelines, ingests and imports in an order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any
from zoneinfo import available_timezones

from croniter import croniter
from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag, model_validator

from lookbook.tasks.runs.parameters import DatasetName, ImageColumn, KeyColumn, RejectLimit, SourceUri
from lookbook.tasks.tables.spec.tasks import DecimalSign, ExtractTask, FileFormat, LoadTask, PythonTask, SqlTask, Task
from lookbook.tasks.tables.spec.values import (
    BlockName,
    Length,
    Names,
    RelativePath,
    SpecName,
    Strict,
    Target,
    TaskName,
    WriteDisposition,
)

#: Minute, hour, day, month, weekday: no seconds.
CRON_FIELDS = 5


def _is_cron(text: str) -> str:
    if not croniter.is_valid(text) or len(text.split()) != CRON_FIELDS:
        raise ValueError("five fields of cron are asked for: minute hour day month weekday")
    return text


def _is_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no time zone of this name; it looks like Europe/Berlin")
    return name


class Schedule(Strict):
    """By the clock.

    Attributes:
        cron: minute, hour, day, month, weekday.
        every: a length of time, in place of cron.
        timezone: in which cron counts.
        catch_up: dates that were missed since the last completed one are run first.
        active: whether it is switched on when it is first deployed.
    """

    cron: Annotated[str, AfterValidator(_is_cron)] | None = None
    every: Annotated[Length, Field(ge=timedelta(seconds=1))] | None = None
    timezone: Annotated[str, AfterValidator(_is_zone)] = "UTC"
    catch_up: bool = False
    active: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> Schedule:
        if (self.cron is None) == (self.every is None):
            raise ValueError("a schedule says either cron or every")
        return self


class Trigger(Strict):
    """By an event.

    Attributes:
        arrival: a path of files as in a source; new ones that have come to rest start a run.
        event: the name of an event that Prefect's server hears, such as lookbook.snapshot.published.
    """

    arrival: str | None = None
    event: Annotated[str, Field(pattern=r"^[^*\s]+$")] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Trigger:
        if (self.arrival is None) == (self.event is None):
            raise ValueError("on says either arrival or event")
        return self


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


class Ordered(Strict):
    """What all steps have.

    Attributes:
        after: steps that come before this one.
    """

    after: tuple[TaskName, ...] = ()


class PipelineStep(Ordered):
    """Runs a pipeline, for the date of the orchestration.

    Attributes:
        pipeline: its name.
        params: in place of those of its spec.
    """

    pipeline: SpecName
    params: dict[str, JsonValue] = Field(default_factory=dict)


class GraphStep(Ordered):
    """Runs a pipeline that makes a graph.

    Attributes:
        graph: name of the pipeline.
    """

    graph: SpecName


class IngestSettings(Strict):
    """What is ingested into which dataset, as the command ingest takes it."""

    source: SourceUri
    dataset: DatasetName
    reject_limit: RejectLimit = 0.1
    key: KeyColumn = None
    image_column: ImageColumn = None


class IngestStep(Ordered):
    """Ingests images.

    Attributes:
        ingest: what, and into which dataset.
    """

    ingest: IngestSettings


class ImportSettings(Strict):
    """A table that is brought in without a spec, as the command import does it.

    Attributes:
        source: a path, with or without wildcards, an address with http or https, lake://key, inbox://name, or
            connector:block/table.
        table: its name.
        to: where to.
        write_disposition: as of a load.
        primary_key: the columns that name a row.
        format: of the files.
        skip: lines before the header of delimited files.
        decimal: the sign before the fraction of a number in them.
        allow_private: for addresses of private networks too.
        reject_limit: as of a load.
    """

    source: Annotated[str, Field(min_length=1)]
    table: TaskName
    to: Target = "warehouse"
    write_disposition: WriteDisposition = "append"
    primary_key: Names = ()
    format: FileFormat = "auto"
    skip: Annotated[int, Field(ge=0, le=10_000)] = 0
    decimal: DecimalSign = "."
    allow_private: bool = False
    reject_limit: RejectLimit = 0.1


class ImportStep(Ordered):
    """Imports a table.

    Attributes:
        import: what, and into which table.
    """

    import_: Annotated[ImportSettings, Field(alias="import")]


#: The key that tells of which kind a step is.
KINDS = ("pipeline", "graph", "ingest", "import")


def _kind(value: Any) -> str | None:  # noqa: ANN401 - a step, or what stands in the YAML
    for kind in KINDS:
        if kind in value if isinstance(value, dict) else hasattr(value, "import_" if kind == "import" else kind):
            return kind
    return None


OrchestrationStep = Annotated[
    Annotated[PipelineStep, Tag("pipeline")]
    | Annotated[GraphStep, Tag("graph")]
    | Annotated[IngestStep, Tag("ingest")]
    | Annotated[ImportStep, Tag("import")],
    Discriminator(_kind, custom_error_type="step_kind", custom_error_message=f"a step has one of {', '.join(KINDS)}"),
]


class Orchestration(Strict):
    """Steps that run as one flow, each after those that it names.

    Attributes:
        schedule: when it runs by the clock.
        on: what starts it.
        notify: saved blocks that hear of a failed run.
        steps: by name.
    """

    description: str = ""
    schedule: Schedule | None = None
    on: Trigger | None = None
    notify: tuple[BlockName, ...] = ()
    steps: Annotated[dict[TaskName, OrchestrationStep], Field(min_length=1)]

    @model_validator(mode="after")
    def _hangs_together(self) -> Orchestration:
        faults = [
            f"steps.{name}.after: there is no step {before}; there are {', '.join(self.steps)}"
            for name, step in self.steps.items()
            for before in step.after
            if before not in self.steps
        ]
        try:
            self.in_order()
        except CycleError as error:
            faults.append(f"steps: these wait for each other: {' → '.join(error.args[1])}")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def in_order(self) -> list[str]:
        """Return the names of the steps, each after those that come before it."""
        return list(TopologicalSorter({name: step.after for name, step in self.steps.items()}).static_order())


class Orchestrations(Strict):
    """What orchestrate.yaml says.

    Attributes:
        orchestrations: by name.
    """

    orchestrations: dict[SpecName, Orchestration] = Field(default_factory=dict)

    def pipelines(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield the pipelines that steps name: orchestration, step, key, pipeline."""
        for name, orchestration in self.orchestrations.items():
            for step_name, step in orchestration.steps.items():
                if isinstance(step, PipelineStep):
                    yield name, step_name, "pipeline", step.pipeline
                elif isinstance(step, GraphStep):
                    yield name, step_name, "graph", step.graph
