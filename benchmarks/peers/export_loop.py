"""The plain loop of an export: each photo opened, cut to a square of 224, saved; one process, one thread."""

from __future__ import annotations

from PIL import Image, ImageOps

from benchmarks.peers import clock

EDGE = 224


def main() -> None:
    """Do every photo."""
    photos, target = clock.arguments()

    def work() -> int:
        for path in photos:
            with Image.open(path) as image:
                square = ImageOps.fit(image.convert("RGB"), (EDGE, EDGE), Image.Resampling.LANCZOS)
            square.save(target / "standard" / path.name, quality=90)
        return len(photos)

    clock.report(work)


if __name__ == "__main__":
    main()
