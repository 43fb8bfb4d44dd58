"""The floor: ``SOURCE TARGET EVERY WAY``: scaled decode and the same encodes by libjpeg-turbo, on every core.

Nothing else is done: no checksum, no measures, no metadata, no checks, no originals kept. It is written in three
ways, of which the fastest counts: ``pillow`` (Pillow's own codec, YCbCr all along, so that no colour is converted),
``simplejpeg`` (the TurboJPEG interface, which also scales by other eighths) and ``planes`` (Pillow decodes, luma
and the halved chroma planes are scaled apart, TurboJPEG encodes them as they are). A fourth, ``keeping``, is the first
with a copy of each original kept.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.peers import clock

EDGE, THUMB, QUALITY = 512, 128, 90
WHITE = (255, 128, 128)
LANCZOS = Image.Resampling.LANCZOS

Size = tuple[int, int]
Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


def fitted(size: Size, edge: int) -> Size:
    """`size`, scaled so that its longer side is `edge`."""
    scale = edge / max(size)
    return round(size[0] * scale), round(size[1] * scale)


def decoded(path: Path) -> tuple[Image.Image, Size]:
    """The photo in YCbCr at the nearest DCT scale that is still large enough, and its size in the standard output."""
    image = Image.open(BytesIO(path.read_bytes()), formats=["JPEG"])
    size = fitted(image.size, EDGE)
    image.draft("YCbCr", size)
    return image, size


def bordered(image: Image.Image, edge: int, colour: int | tuple[int, int, int]) -> Image.Image:
    """The image in the middle of a square of `edge` pixels."""
    canvas = Image.new(image.mode, (edge, edge), colour)
    canvas.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    return canvas


def by_pillow(path: Path, target: Path) -> None:
    """All by Pillow; grey is the luma that is there."""
    image, size = decoded(path)
    image = image.resize(size, LANCZOS)
    thumb = bordered(image.resize(fitted(size, THUMB), LANCZOS, reducing_gap=2.0), THUMB, WHITE)
    standard = bordered(image, EDGE, WHITE)
    for name, made in (("standard", standard), ("grey", standard.getchannel(0)), ("thumb", thumb)):
        file = BytesIO()
        made.save(file, "JPEG", quality=QUALITY)
        (target / name / path.name).write_bytes(file.getbuffer())


def by_simplejpeg(path: Path, target: Path) -> None:
    """Decode and encode by the TurboJPEG interface, resize by Pillow."""
    import simplejpeg  # noqa: PLC0415 - the other ways do without

    data = path.read_bytes()
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    size = fitted((width, height), EDGE)
    least = {"min_width": size[0], "min_height": size[1]} if max(width, height) > EDGE else {}
    image = Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", **least)).resize(size, LANCZOS)
    thumb = bordered(image.resize(fitted(size, THUMB), LANCZOS, reducing_gap=2.0), THUMB, (255, 255, 255))
    standard = bordered(image, EDGE, (255, 255, 255))
    grey = np.asarray(standard.convert("L"))[..., None]
    files = {
        "standard": simplejpeg.encode_jpeg(np.asarray(standard), QUALITY, "RGB", "420"),
        "grey": simplejpeg.encode_jpeg(grey, QUALITY, "GRAY", "Gray"),
        "thumb": simplejpeg.encode_jpeg(np.asarray(thumb), QUALITY, "RGB", "420"),
    }
    for name, file in files.items():
        (target / name / path.name).write_bytes(file)


def by_planes(path: Path, target: Path) -> None:
    """Each plane scaled straight to the size at which a 4:2:0 file holds it."""
    import simplejpeg  # noqa: PLC0415 - the other ways do without

    image, size = decoded(path)
    luma, *chroma = image.split()
    half = (size[0] // 2, size[1] // 2)
    drawn = [luma.resize(size, LANCZOS), *(plane.resize(half, LANCZOS) for plane in chroma)]
    large, small = framed(drawn, EDGE), framed([reduced(plane) for plane in drawn], THUMB)
    files = {
        "standard": simplejpeg.encode_jpeg_yuv_planes(*large, QUALITY),
        "grey": simplejpeg.encode_jpeg_yuv_planes(large[0], None, None, QUALITY),
        "thumb": simplejpeg.encode_jpeg_yuv_planes(*small, QUALITY),
    }
    for name, file in files.items():
        (target / name / path.name).write_bytes(file)


def reduced(plane: Image.Image) -> Image.Image:
    """A plane of the standard output at the size that it has in the thumbnail."""
    times = EDGE // THUMB
    size = (max(1, round(plane.width / times)), max(1, round(plane.height / times)))
    return plane.resize(size, LANCZOS, reducing_gap=2.0)


def framed(planes: list[Image.Image], edge: int) -> Planes:
    """Luma and halved chroma within their borders."""
    edges = (edge, edge // 2, edge // 2)
    luma, blue, red = (np.asarray(bordered(*each)) for each in zip(planes, edges, WHITE, strict=True))
    return luma, blue, red


def by_pillow_keeping(path: Path, target: Path) -> None:
    """As `by_pillow`, and a copy of the original kept, as ours does."""
    by_pillow(path, target)
    (target / "originals").mkdir(exist_ok=True)
    shutil.copyfile(path, target / "originals" / path.name)


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "pillow": by_pillow,
    "keeping": by_pillow_keeping,
    "simplejpeg": by_simplejpeg,
    "planes": by_planes,
}


def main() -> None:
    """Do every photo in one of the ways."""
    photos, target = clock.arguments()
    way = WAYS[sys.argv[4]]
    if sys.argv[4] not in {"pillow", "keeping"}:
        import simplejpeg  # noqa: F401, PLC0415 - imports do not count

    def work() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return len(list(pool.map(lambda path: way(path, target), photos)))

    Image.preinit()
    clock.report(work)


if __name__ == "__main__":
    main()
