"""A progress bar in the terminal, fed by the batches of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tasks.images import progress


@contextmanager
def shown() -> Iterator[Callable[[str], None]]:
    """Show how far a run is while the block runs; on standard error, and only in a terminal.

    Yields:
        Call it with what is done now, for the time before the images can be counted.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.disable = not bar.console.is_terminal
    task = bar.add_task("", total=None)
    with (
        bar,
        progress.listening(
            announce=lambda images: bar.update(task, description="drawing", total=images),
            advance=lambda images: bar.advance(task, images),
        ),
    ):
        yield lambda text: bar.update(task, description=text)
