"""The parameters of runs: one annotated type each, for the command's options, the flows and their forms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

#: Images in a batch, and bytes of their originals: half a minute of work or more on two cores.
BATCH_SIZE = 5000
BATCH_BYTES = 1024**3

SourceUri = Annotated[
    str,
    Field(
        min_length=1,
        title="Source",
        description="A folder, a .zip or .tar(.gz) archive, or sample://500 for a built-in catalogue.",
    ),
]
DatasetName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        title="Dataset",
        description="Name of the dataset: lower-case letters, digits, - and _; 63 at the most.",
    ),
]
WorkspaceName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        title="Workspace",
        description="Where the dataset lives: local, or the name of a saved Lookbook Workspace block.",
    ),
]
Limit = Annotated[
    int, Field(ge=1, title="Limit", description="Take only so many images (1 or more), in the order of their names.")
]
BatchSize = Annotated[
    int, Field(ge=1, le=1_000_000, title="Batch size", description="Images in one batch, at the most.")
]
Executor = Annotated[
    Literal["threads", "pool", "dask"],
    Field(
        title="Executor",
        description="Where batches are drawn: threads: on this machine; pool: by the workers of a work pool; "
        "dask: on a Dask cluster. The result is the same.",
    ),
]
RejectLimit = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        title="Reject limit",
        description="Fail if a larger share of the images is rejected (0 to 1).",
    ),
]
