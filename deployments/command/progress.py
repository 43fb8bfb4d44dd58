"""A progress bar in the terminal, fed by the batches of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from lookbook.tasks.runs import progress


class _Amount(ProgressColumn):
    """Images or bytes: how many of how many."""

    def render(self, task: Task) -> Text:
        """See `ProgressColumn.render`."""
        write = decimal if task.fields.get("bytes") else str
        return Text(f"{write(int(task.completed))}/{write(int(task.total)) if task.total else '?'}")


@contextmanager
def shown(doing: str = "drawing") -> Iterator[Callable[[str], None]]:
    """Show how far a run is while the block runs; on standard error, and only in a terminal.

    Args:
        doing: what is done with the images.

    Yields:
        Call it with what is done now, for the time before the images can be counted.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        _Amount(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.disable = not bar.console.is_terminal
    task, written = bar.add_task("", total=None), [0]

    def wrote(size: int) -> None:
        written[0] += size
        bar.update(task, description=f"{doing}, {decimal(written[0])}")

    with (
        bar,
        progress.listening(
            announce=lambda images: bar.reset(task, description=doing, total=images, bytes=False),
            advance=lambda images: bar.advance(task, images),
            download=lambda done, total: bar.update(
                task, description="downloading", completed=done, total=total, bytes=True
            ),
            wrote=wrote,
        ),
    ):
        yield lambda text: bar.update(task, description=text)
