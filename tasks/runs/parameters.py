"""The parameters of runs: one annotated type each, for the command's options, the flows and their forms."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

#: Images in a batch, and bytes of their originals: half a minute of work or more on two cores.
BATCH_SIZE = 5000
BATCH_BYTES = 1024**3


def described(title: str, description: str, **rules: Any) -> Any:  # noqa: ANN401 - what Field takes and returns
    """Return a pydantic field whose title and description reach Prefect's form.

    Prefect writes a parameter's name and docstring over the title and description of its field; what stands in
    ``json_schema_extra`` wins over both (``prefect._internal.pydantic.v2_schema.process_v2_params``).
    """
    shown: dict[str, JsonValue] = {"title": title, "description": description}
    return Field(title=title, description=description, json_schema_extra=shown, **rules)


SourceUri = Annotated[
    str,
    described(
        "Source",
        "A folder, a .zip or .tar(.gz) archive that the worker can read, inbox:// for its inbox, "
        "kaggle://owner/dataset, or sample://500.",
        min_length=1,
    ),
]
Within = Annotated[
    list[str],
    described(
        "Within",
        "Folders of the worker: the source, with links followed, has to lie in one of them. Empty: anywhere.",
        max_length=1000,
    ),
]
DatasetName = Annotated[
    str,
    described(
        "Dataset",
        "Name of the dataset: lower-case letters, digits, - and _; 63 at the most.",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
    ),
]
NewName = Annotated[DatasetName, described("New name", "The name that the dataset gets; no other one has it.")]
SnapshotName = Annotated[
    str, described("Snapshot", "Id or tag of one of the dataset's snapshots.", min_length=1, max_length=128)
]
Keys = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=4096)]],
    described(
        "Keys",
        "Keys of products, as the catalogue has them, or of images: their paths in the source.",
        max_length=100_000,
    ),
]
CandidateName = Annotated[
    Annotated[str, Field(min_length=1, max_length=128)] | None,
    described("Candidate", "Id of a snapshot that was not published because checks failed. None: the one there is."),
]
WorkspaceName = Annotated[
    str,
    described(
        "Workspace",
        "Where the dataset lives: local, or the name of a saved Lookbook Workspace block.",
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
    ),
]
Limit = Annotated[
    Annotated[int, Field(ge=1, title="Images")] | None,
    described("Limit", "Take only so many images (1 or more), in the order of their names. None: all."),
]
BatchSize = Annotated[
    int, described("Batch size", "Images in one batch, at the most (1 to 1,000,000).", ge=1, le=1_000_000)
]
Executor = Annotated[
    Literal["threads", "pool", "dask"],
    described(
        "Executor",
        "Where batches are done: threads: on this machine; pool: by the workers of a work pool; dask: on a Dask "
        "cluster. The result is the same.",
    ),
]
RejectLimit = Annotated[
    float,
    described(
        "Reject limit", "Fail if a larger share of the images, or of the rows, is rejected (0 to 1).", ge=0, le=1
    ),
]
KeyColumn = Annotated[
    str | None,
    described(
        "Key",
        "The catalogue's column that names a product. None: found by its name, such as id or sku.",
        min_length=1,
        max_length=1000,
    ),
]
ImageColumn = Annotated[
    str | None,
    described(
        "Image column",
        "The catalogue's column that names an image's file. None: found by its name, or by what fits the files.",
        min_length=1,
        max_length=1000,
    ),
]
DropDownload = Annotated[
    bool,
    described(
        "Drop download",
        "Remove what was downloaded for the source once the run is done. The next run downloads it again.",
    ),
]
Rules = Annotated[
    list[str],
    described(
        "Rules",
        'Rules whose image rejects are judged again, as "lookbook rejects" names them. Empty: all rules.',
        max_length=100,
    ),
]
PipelineName = Annotated[
    str,
    described(
        "Pipeline",
        "Name of a pipeline: its spec is the file of that name in the folder of pipelines, on the worker.",
        pattern=r"^[a-z][a-z0-9_-]{0,62}$",
    ),
]
LogicalDate = Annotated[
    datetime | None,
    described(
        "Date",
        "The date that the run is about, in the schedule's time zone if it names none. None: when the run was "
        "scheduled, else the schedule's last tick, else today.",
    ),
]
Params = Annotated[
    dict[str, JsonValue] | None,
    described("Parameters", "Values in place of those that the spec names under params. None: those of the spec."),
]
Again = Annotated[
    bool,
    described("Again", "Go on with what is unchanged since the last load, too: after the SQL of a spec was changed."),
]
