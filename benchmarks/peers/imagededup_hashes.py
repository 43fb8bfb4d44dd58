"""imagededup's perceptual hash of a folder and its search for near duplicates (distance 10, its default).

Its packages import PyTorch for a method that is not used here: they are entered without their ``__init__``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

from benchmarks.peers import clock


def load_phash() -> Any:  # noqa: ANN401 - it has no types
    """The class ``PHash``."""
    found = importlib.util.find_spec("imagededup")
    if not (found and found.submodule_search_locations):
        raise ImportError("imagededup")
    for name in ("utils", "methods"):
        package = ModuleType(f"imagededup.{name}")
        package.__path__ = [f"{found.submodule_search_locations[0]}/{name}"]
        sys.modules[package.__name__] = package
    return importlib.import_module("imagededup.methods.hashing").PHash


def main() -> None:
    """Hash every photo of the folder and look for duplicates. It takes whole folders only."""
    hasher = load_phash()(verbose=False)
    photos, target = clock.arguments()

    def work() -> int:
        hashes = hasher.encode_images(image_dir=sys.argv[1])
        found = hasher.find_duplicates(encoding_map=hashes)
        (target / "duplicates.json").write_text(json.dumps(found), encoding="utf-8")
        return len(photos)

    clock.report(work)


if __name__ == "__main__":
    main()
