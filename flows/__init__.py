"""What runs: one deployable flow a module, read as a table of contents. Logic lives in `tasks`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def _outlive_reader(self: Console) -> None:  # noqa: ARG001 - a method of rich
    """Write no more to a console that nobody reads, and go on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


if "PREFECT__FLOW_RUN_ID" in os.environ:
    # The worker reads what its runs print. When it dies, rich would end the process at the next line that is logged, as
    # it ends a command whose reader has left; what is logged is with Prefect, and the run is healthy.
    from rich.console import Console

    Console.on_broken_pipe = _outlive_reader  # type: ignore[method-assign]
