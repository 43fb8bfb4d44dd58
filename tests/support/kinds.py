"""A small file of every kind of image that is read, with what has to be seen of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.support.handmade import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    bmp,
    bmp_565,
    bmp_rle8,
    chunk,
    png,
    tiff,
    tiff_tags,
    without_adobe_marker,
    ycck,
)
from tests.support.pictures import encoded, natural

EXACT = float("inf")
SIZE = WIDTH, HEIGHT = 53, 38

#: The compressions of TIFF that this build reads and writes, for greys and colours, and for one bit.
TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")
TIFF_ONE_BIT = ("tiff_ccitt", "group3", "group4")


@dataclass(frozen=True)
class Kind:
    """A file, and what a viewer shows of it.

    Attributes:
        data: the file.
        shown: its first frame on white, RGB.
        nearness: how near (PSNR in dB) a decode has to come to that; what the file's own encode leaves.
        frames: how many it has.
    """

    data: bytes
    shown: NDArray[np.uint8]
    nearness: float = EXACT
    frames: int = 1


@functools.cache
def kinds() -> dict[str, Kind]:
    """All of them, by name: the format, then what is special."""
    families = (_jpegs, _inks, _pngs, _deep_pngs, _gifs, _webps, _avifs, _heifs, _bmps, _tiffs, _special_tiffs, _others)
    return dict(each for family in families for each in family())


Kinds = Iterator[tuple[str, Kind]]


def picture(seed: int = 7) -> Image.Image:
    """A new image each time: Pillow leaves traces of an encode in what it encodes."""
    return natural(WIDTH, HEIGHT, seed)


def seen(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"))


def on_white(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """RGBA, shape (height, width, 4), as it looks on white."""
    alpha = pixels[:, :, 3:] / 255
    return np.rint(pixels[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def with_alpha() -> NDArray[np.uint8]:
    """RGBA: clear on the left, opaque on the right."""
    ramp = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    return np.dstack([seen(picture()), ramp])


def _animated(kind: str, **options: Any) -> bytes:
    return encoded(picture(), kind, save_all=True, append_images=[picture(8), picture(9)], **options)


def _jpegs() -> Kinds:
    shown = seen(picture())
    exif = Image.Exif()
    exif.update({0x010F: "Maker", 0x0112: 1, 0x0132: "2020:01:01 00:00:00"})
    variants: dict[str, dict[str, Any]] = {
        "baseline": {},
        "4:4:4": {"subsampling": 0},
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_blocks": 1},
        "rich": {"exif": exif, "xmp": b"<x:xmpmeta/>", "comment": "hello", "dpi": (300, 300), "icc_profile": _srgb()},
    }
    for name, options in variants.items():
        yield f"jpeg {name}", Kind(encoded(picture(), "JPEG", quality=95, **options), shown, 30)
    grey = picture().convert("L")
    yield "jpeg grey", Kind(encoded(grey, "JPEG", quality=95), seen(grey), 38)
    yield "mpo", Kind(_animated("MPO", quality=95), shown, 30, 3)


def _inks() -> Kinds:
    black = picture(9).convert("L").point(lambda level: level // 2)
    inks = Image.merge("CMYK", [*picture().split(), black])
    levels = np.asarray(inks).astype(np.float64)
    shown = np.rint((255 - levels[:, :, :3]) * (255 - levels[:, :, 3:]) / 255).astype(np.uint8)
    inverse = inks.point(lambda level: 255 - level)
    yield "jpeg cmyk of Adobe", Kind(encoded(inks, "JPEG", quality=95), shown, 38)
    plain = without_adobe_marker(encoded(inverse, "JPEG", quality=95))
    yield "jpeg cmyk", Kind(plain, shown, 38)
    yield "jpeg ycck", Kind(ycck(inks), shown, 38)
    yield "tiff cmyk", Kind(encoded(inks, "TIFF"), shown, 48)


def _pngs() -> Kinds:
    colours, clear = seen(picture()), with_alpha()
    grey = np.asarray(picture().convert("L"))
    indexed = picture().quantize(16)
    bits = picture().convert("1")
    yield "png", Kind(encoded(picture(), "PNG", icc_profile=None), colours)
    yield "png interlaced", Kind(png(colours, RGB, interlaced=True), colours)
    yield "png palette interlaced", Kind(_palette_png(indexed, interlaced=True), seen(indexed))
    yield "png grey", Kind(encoded(picture().convert("L"), "PNG"), seen(picture().convert("L")))
    yield "png one bit", Kind(encoded(bits, "PNG"), seen(bits))
    yield "png palette", Kind(encoded(indexed, "PNG"), seen(indexed))
    yield "png rgba", Kind(png(clear, RGB_ALPHA), on_white(clear), 50)
    faint = np.dstack([grey, clear[:, :, 3]])
    yield "png grey alpha", Kind(png(faint, GREY_ALPHA), on_white(np.dstack([grey, grey, faint])), 50)
    keyed = np.dstack([seen(indexed), np.where(np.asarray(indexed) == 3, 0, 255)])
    yield "png palette transparent", Kind(encoded(indexed, "PNG", transparency=3), on_white(keyed))
    yield "apng", Kind(_animated("PNG"), colours, EXACT, 3)


def _palette_png(image: Image.Image, *, interlaced: bool) -> bytes:
    palette = chunk(b"PLTE", bytes(image.getpalette() or ()))
    return png(np.asarray(image)[:, :, None], PALETTE, palette, interlaced=interlaced)


def _deep_pngs() -> Kinds:
    """Sixteen bits: the higher byte is what is seen, or one more where it is rounded."""
    low = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 4)).astype(np.uint16)
    deep: NDArray[np.uint16] = (with_alpha().astype(np.uint16) << 8 | low).astype(np.uint16)
    shown, clear = with_alpha()[:, :, :3], on_white(deep >> 8)
    greys = np.repeat(shown[:, :, :1], 3, axis=2)
    yield "png 16 bits", Kind(png(deep[:, :, :3], RGB), shown, 48)
    yield "png 16 bits interlaced", Kind(png(deep[:, :, :3], RGB, interlaced=True), shown, 48)
    yield "png 16 bits grey", Kind(png(deep[:, :, :1], GREY), greys, 48)
    yield "png 16 bits rgba", Kind(png(deep, RGB_ALPHA), clear, 48)
    faint = on_white(np.dstack([greys, deep[:, :, 3] >> 8]))
    yield "png 16 bits grey alpha", Kind(png(deep[:, :, ::3], GREY_ALPHA), faint, 48)
    yield "ppm 16 bits grey", Kind(b"P5 %d %d 65535\n" % SIZE + deep[:, :, 0].astype(">u2").tobytes(), greys, 48)
    yield "ppm 16 bits", Kind(b"P6 %d %d 65535\n" % SIZE + deep[:, :, :3].astype(">u2").tobytes(), shown, 48)
    yield "tiff 16 bits", Kind(tiff(tiff_tags(deep[:, :, :3], 2), deep[:, :, :3].tobytes()), shown, 48)
    yield "tiff 16 bits grey", Kind(tiff(tiff_tags(deep[:, :, :1], 1), deep[:, :, :1].tobytes()), greys, 48)
    yield "tiff 16 bits white is 0", Kind(tiff(tiff_tags(deep[:, :, :1], 0), deep[:, :, :1].tobytes()), 255 - greys, 48)


def _gifs() -> Kinds:
    indexed = picture().quantize(64)
    keyed = np.dstack([seen(indexed), np.where(np.asarray(indexed) == 3, 0, 255)])
    yield "gif", Kind(encoded(indexed, "GIF"), seen(indexed))
    yield "gif transparent", Kind(encoded(indexed, "GIF", transparency=3), on_white(keyed))
    rest = [picture(seed).quantize(64) for seed in (8, 9)]
    yield "gif animated", Kind(encoded(indexed, "GIF", save_all=True, append_images=rest), seen(indexed), EXACT, 3)


def _webps() -> Kinds:
    shown, clear = seen(picture()), with_alpha()
    rich = encoded(
        picture(), "WEBP", quality=95, icc_profile=_srgb(), exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"
    )
    yield "webp", Kind(encoded(picture(), "WEBP", quality=95), shown, 30)
    yield "webp rich", Kind(rich, shown, 30)
    yield "webp lossless", Kind(encoded(picture(), "WEBP", lossless=True), shown)
    yield "webp rgba", Kind(encoded(Image.fromarray(clear), "WEBP", lossless=True, exact=True), on_white(clear), 50)
    yield "webp animated", Kind(_animated("WEBP", quality=95), shown, 30, 3)


def _avifs() -> Kinds:
    shown, clear = seen(picture()), with_alpha()
    yield "avif", Kind(encoded(picture(), "AVIF", quality=95), shown, 30)
    yield "avif rgba", Kind(encoded(Image.fromarray(clear), "AVIF", quality=95), on_white(clear), 30)
    yield "avif animated", Kind(_animated("AVIF", quality=95), shown, 30, 3)


def _heifs() -> Kinds:
    shown, clear = seen(picture()), with_alpha()
    yield "heif", Kind(encoded(picture(), "HEIF", quality=95), shown, 30)
    yield "heif rgba", Kind(encoded(Image.fromarray(clear), "HEIF", quality=95), on_white(clear), 30)
    yield "heif of several", Kind(_animated("HEIF", quality=95), shown, 30, 3)


def _bmps() -> Kinds:
    shown, indexed = seen(picture()), picture().quantize(16)
    palette = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)
    rows = [row[:, ::-1].tobytes() + bytes(-3 * WIDTH % 4) for row in shown]
    yield "bmp", Kind(encoded(picture(), "BMP"), shown)
    yield "bmp top down", Kind(bmp(WIDTH, -HEIGHT, 24, b"".join(rows)), shown)
    yield "bmp palette", Kind(encoded(indexed, "BMP"), seen(indexed))
    yield "bmp one bit", Kind(encoded(picture().convert("1"), "BMP"), seen(picture().convert("1")))
    yield "bmp rle", Kind(bmp_rle8(np.asarray(indexed), palette), seen(indexed))
    yield "bmp 16 bits", Kind(bmp_565(shown), shown, 36)
    yield "bmp 16 bits top down", Kind(bmp_565(shown, top_down=True), shown, 36)


def _tiffs() -> Kinds:
    shown, bits = seen(picture()), picture().convert("1")
    for compression in TIFF_COMPRESSIONS:
        yield f"tiff {compression}", Kind(encoded(picture(), "TIFF", compression=compression), shown)
    for compression in TIFF_ONE_BIT:
        yield f"tiff {compression}", Kind(encoded(bits, "TIFF", compression=compression), seen(bits))
    yield "tiff jpeg", Kind(encoded(picture(), "TIFF", compression="jpeg", quality=95), shown, 30)
    yield "tiff pages", Kind(_animated("TIFF"), shown, EXACT, 3)


def _special_tiffs() -> Kinds:
    shown, clear = seen(picture()), with_alpha()
    planes = (shown[:, :, at].tobytes() for at in range(3))
    yield "tiff planes", Kind(tiff(tiff_tags(shown, 2, t284=(2,)), *planes), shown)
    padded = np.zeros((48, 64, 3), np.uint8)
    padded[:HEIGHT, :WIDTH] = shown
    tiles = [padded[y : y + 16, x : x + 16].tobytes() for y in range(0, 48, 16) for x in range(0, 64, 16)]
    tags = tiff_tags(shown, 2, t322=(16,), t323=(16,))
    yield "tiff tiles", Kind(tiff(tags, *tiles, where=(324, 325)), shown)
    yield "tiff rgba", Kind(tiff(tiff_tags(clear, 2, t338=(2,)), clear.tobytes()), on_white(clear), 50)
    alpha = clear[:, :, 3:].astype(np.uint16)
    multiplied = np.dstack([(clear[:, :, :3] * alpha + 127) // 255, alpha]).astype(np.uint8)
    yield (
        "tiff multiplied rgba",
        Kind(tiff(tiff_tags(multiplied, 2, t338=(1,)), multiplied.tobytes()), on_white(clear), 45),
    )
    faint, greys = multiplied[:, :, ::3], clear[:, :, [0, 0, 0, 3]]
    yield "tiff multiplied grey", Kind(tiff(tiff_tags(faint, 1, t338=(1,)), faint.tobytes()), on_white(greys), 45)
    more = clear.copy()
    yield "tiff unknown fourth", Kind(tiff(tiff_tags(more, 2, t338=(0,)), more.tobytes()), shown)


def _others() -> Kinds:
    shown, grey, bits = seen(picture()), picture().convert("L"), picture().convert("1")
    yield "jp2", Kind(encoded(picture(), "JPEG2000"), shown)
    yield "jp2 grey", Kind(encoded(grey, "JPEG2000"), seen(grey))
    yield "jp2 rgba", Kind(encoded(Image.fromarray(with_alpha()), "JPEG2000"), on_white(with_alpha()), 50)
    lossy = encoded(picture(), "JPEG2000", irreversible=True, quality_mode="dB", quality_layers=[40])
    yield "jp2 lossy", Kind(lossy, shown, 35)
    yield "jp2 bare codestream", Kind(encoded(picture(), "JPEG2000", no_jp2=True), shown)
    yield "ppm", Kind(encoded(picture(), "PPM"), shown)
    yield "ppm grey", Kind(encoded(grey, "PPM"), seen(grey))
    yield "ppm one bit", Kind(encoded(bits, "PPM"), seen(bits))
    yield "ppm as text", Kind(b"P3 %d %d 255\n" % SIZE + " ".join(map(str, shown.ravel())).encode(), shown)


def _srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
