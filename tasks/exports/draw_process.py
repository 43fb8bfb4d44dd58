"""The process in which the images of exports are decoded and drawn; see `lookbook.tasks.images.render_process`."""

from __future__ import annotations

import sys
from functools import lru_cache

from lookbook.tasks.exports.drawing import Job, draw_image
from lookbook.tasks.images.render_process import guarded, main


def answer(data: bytes, text: str, names: tuple[str, ...]) -> object:
    """Return what `draw` gives or raises."""
    job, (sha256, copies, small) = _job(text), names
    return guarded(lambda: draw_image(data, job, sha256, int(copies), small=bool(small)), job.max_seconds)


@lru_cache(maxsize=4)
def _job(text: str) -> Job:
    return Job.model_validate_json(text)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), answer)
