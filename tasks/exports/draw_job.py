"""What is drawn of each image of an export, and the disposable processes that do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pydantic import BaseModel, ConfigDict

from lookbook.blocks.settings import read_settings
from lookbook.tasks.exports.drawing import DrawnFile, draw_copies, lots_of, thumbnail
from lookbook.tasks.exports.recipes import ExportRecipe
from lookbook.tasks.exports.steps import Lots
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.renderers import Renderers, shared

COMMAND = ("-P", "-m", "lookbook.tasks.exports.draw_process")


class Job(BaseModel):
    """What is drawn of each image of an export.

    Attributes:
        recipe: the steps; None: nothing but the small picture.
        limits: the snapshot's recipe, which says what is refused.
        seed: of the export.
    """

    model_config = ConfigDict(frozen=True)

    recipe: ExportRecipe | None
    limits: Recipe
    seed: int

    @property
    def max_seconds(self) -> float:
        """For how long one image may be drawn."""
        return self.limits.max_seconds


@dataclass(frozen=True)
class Drawing:
    """What one image gave: its copies, and a small picture where one was asked for."""

    files: list[DrawnFile]
    thumbnail: bytes | None


def draw(data: bytes, job: Job, sha256: str, copies: int, *, small: bool) -> Drawing:
    """Draw copies of an image; 0: one copy without anything random.

    Raises:
        Rejected: the image breaks a rule.
    """
    files = []
    if job.recipe is not None:
        lots: list[Lots | None] = lots_of(job.seed, sha256, copies) if copies else [None]
        files = draw_copies(data, job.recipe, job.limits, lots)
    shown = files[0].data if files and job.recipe and job.recipe.encode_format != "npy" else data
    return Drawing(files, thumbnail(shown, job.limits) if small else None)


def ask(renderers: Renderers, data: bytes, job: Job, sha256: str, copies: int, *, small: bool) -> Drawing:
    """As `draw`, in a disposable process."""
    names = (sha256, str(copies), "small" if small else "")
    return cast("Drawing", renderers.render(data, job, names))


def processes() -> Renderers:
    """Return the processes that all exports of this process share."""
    return shared(read_settings().threads, COMMAND)
