"""img2dataset's resizer on the bytes of local files: ``SOURCE TARGET EVERY standard|all``.

It makes one output a call and knows no greyscale, so the three outputs are three calls, the grey one in colour.
Its own way to more than one core is processes: as many as there are cores.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks the network for a newer version

from benchmarks.peers import clock

SIZES = {"standard": 512, "grey": 512, "thumb": 128}


def load_resizer() -> Any:  # noqa: ANN401 - it has no types
    """The module alone: the package's own import wants its downloaders, loggers and Spark."""
    sys.modules.setdefault("imghdr", ModuleType("imghdr"))  # gone from Python 3.13; used for another option only
    package = importlib.util.find_spec("img2dataset")
    if not (package and package.submodule_search_locations):
        raise ImportError("img2dataset")
    path = Path(package.submodule_search_locations[0], "resizer.py")
    spec = importlib.util.spec_from_file_location("img2dataset_resizer", path)
    if not (spec and spec.loader):
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


resizer = load_resizer()


def resize(target: Path, names: list[str], path: Path) -> None:
    """Make the outputs of one photo, each by a call of its own."""
    data = path.read_bytes()
    for name in names:
        call = resizer.Resizer(SIZES[name], "border", False, encode_quality=90)
        made, *_, error = call(io.BytesIO(data))
        if error:
            raise RuntimeError(f"{path}: {error}")
        (target / name / path.name).write_bytes(made)


def main() -> None:
    """Do every photo."""
    photos, target = clock.arguments()
    names = ["standard"] if sys.argv[4] == "standard" else list(SIZES)
    with get_context("fork").Pool(os.cpu_count()) as pool:

        def work() -> int:
            pool.map(partial(resize, target, names), photos, chunksize=4)
            return len(photos)

        clock.report(work)


if __name__ == "__main__":
    main()
