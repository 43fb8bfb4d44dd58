"""The plain loop: one pass for each output, as a hobby pipeline has it; one process, one thread."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image

from benchmarks.peers import clock

WHITE = (255, 255, 255)


def padded(path: Path, edge: int) -> Image.Image:
    """The photo, fitted into a white square of `edge` pixels."""
    image = Image.open(path).convert("RGB")
    scale = edge / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (edge, edge), WHITE)
    canvas.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    return canvas


def describe(path: Path) -> dict[str, object]:
    """Checksum, size, format and EXIF: one more reading of the file."""
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    with Image.open(path) as image:
        exif = {tag: str(value) for tag, value in image.getexif().items()}
        return {"sha256": checksum, "size": image.size, "format": image.format, "exif": exif}


def main() -> None:
    """Do every photo, one step after the other."""
    photos, target = clock.arguments()

    def work() -> int:
        described = [describe(path) for path in photos]
        for path in photos:
            padded(path, 512).save(target / "standard" / path.name, quality=90)
        for path in photos:
            padded(path, 512).convert("L").save(target / "grey" / path.name, quality=90)
        for path in photos:
            padded(path, 128).save(target / "thumb" / path.name, quality=90)
        return len(described)

    clock.report(work)


if __name__ == "__main__":
    main()
