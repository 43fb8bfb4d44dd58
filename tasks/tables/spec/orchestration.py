"""Orchestrations: pipelines, ingests and imports in an order, as one flow."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from lookbook.tasks.runs.parameters import DatasetName, RejectLimit, SourceUri
from lookbook.tasks.tables.spec.schedules import Schedule, Trigger
from lookbook.tasks.tables.spec.sources import DecimalSign, FileFormat
from lookbook.tasks.tables.spec.values import BlockName, Names, SpecName, Strict, Target, TaskName, WriteDisposition


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
