"""Image files that no library here writes, byte by byte after their specifications."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.pictures import encoded

Array = NDArray[np.uint8] | NDArray[np.uint16]

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # colour types of PNG
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG (section 5.3)."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(pixels: Array, colour: int, *before: bytes, interlaced: bool = False) -> bytes:
    """A PNG of 8 or 16 bits a sample.

    Args:
        pixels: shape (height, width, samples).
        colour: the colour type.
        before: chunks that go before the pixels.
        interlaced: in seven passes (section 8.1).
    """
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, int(interlaced))
    passes = [pixels[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [pixels]
    rows = (row for each in passes if each.size for row in each.astype(each.dtype.newbyteorder(">")))
    body = zlib.compress(b"".join(b"\x00" + row.tobytes() for row in rows))
    chunks = chunk(b"IHDR", header), *before, chunk(b"IDAT", body), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(
    tags: Mapping[int, tuple[int, ...]], *strips: bytes, where: tuple[int, int] = (273, 279), order: str = "<"
) -> bytes:
    """A TIFF (6.0, section 2) of these tags (SHORTs) and strips, or tiles with `where` (324, 325).

    Args:
        order: of bytes, ``<`` or ``>``; the strips have it already.
    """
    count = len(tags) + 2
    start = 8 + 2 + 12 * count + 4
    sizes = {tag: 2 * len(values) for tag, values in tags.items()} | dict.fromkeys(where, 4 * len(strips))
    first = start + sum(size for size in sizes.values() if size > 4)
    offsets = tuple(first + sum(map(len, strips[:at])) for at in range(len(strips)))
    directory, beside = struct.pack(f"{order}H", count), b""
    for tag in sorted(sizes):
        values = {where[0]: offsets, where[1]: tuple(map(len, strips))}.get(tag) or tags[tag]
        content = struct.pack(f"{order}{len(values)}{'I' if tag in where else 'H'}", *values)
        if len(content) > 4:
            content, beside = struct.pack(f"{order}I", start + len(beside)), beside + content
        directory += struct.pack(f"{order}HHI4s", tag, 4 if tag in where else 3, len(values), content)
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}I", 8)
    return head + directory + bytes(4) + beside + b"".join(strips)


def tiff_tags(pixels: Array, photometric: int, **more: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """The tags of an uncompressed TIFF of `pixels`, shape (height, width, samples); `more` by ``t338=(1,)``."""
    height, width, samples = pixels.shape
    bits = (8 * pixels.itemsize,) * samples
    tags = {256: (width,), 257: (height,), 258: bits, 259: (1,), 262: (photometric,), 277: (samples,), 278: (height,)}
    return tags | {int(name[1:]): value for name, value in more.items()}


def bmp(width: int, height: int, bits: int, body: bytes, *, method: int = 0, between: bytes = b"") -> bytes:
    """A BMP with a BITMAPINFOHEADER; `between` (palette or masks) stands before its pixels. A negative height is
    one from the top down."""
    start = 14 + 40 + len(between)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, method, len(body), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + between + body


def bmp_rle8(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A BMP in BI_RLE8: runs and escapes, as Microsoft's "Bitmap Compression" describes them."""
    body = b""
    for row in indices[::-1]:
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1), len(row)]
        for start, end in itertools.pairwise(edges):
            for at in range(start, end, 255):
                body += bytes((min(255, end - at), int(row[start])))
        body += b"\x00\x00"
    colours = b"".join(bytes((*colour[::-1], 0)) for colour in palette.tolist())
    height, width = indices.shape
    return bmp(width, height, 8, body + b"\x00\x01", method=1, between=colours.ljust(1024, b"\x00"))


def bmp_565(pixels: NDArray[np.uint8], *, top_down: bool = False) -> bytes:
    """A BMP of 16 bits a pixel: 5 red, 6 green and 5 blue (BI_BITFIELDS)."""
    height, width = pixels.shape[:2]
    red, green, blue = (pixels[:, :, at].astype(np.uint16) for at in range(3))
    words = ((red >> 3 << 11) | (green >> 2 << 5) | blue >> 3).astype("<u2")
    rows = [row.tobytes() + bytes(-2 * width % 4) for row in (words if top_down else words[::-1])]
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    return bmp(width, -height if top_down else height, 16, b"".join(rows), method=3, between=masks)


def without_adobe_marker(data: bytes) -> bytes:
    """A JPEG without the segment by which Adobe says that it inverts its inks."""
    start = data.index(b"\xff\xee\x00\x0eAdobe")
    return data[:start] + data[start + 16 :]


def ycck(inks: Image.Image) -> bytes:
    """A JPEG of CMYK inks in YCCK, as Adobe writes it (ITU-T T.872, 6.5.3; libjpeg's comments).

    Its first three components are the YCbCr of cyan, magenta and yellow taken for red, green and blue, the
    fourth is the inverse of black; the marker's transform is 2. Pillow inverts what it writes.
    """
    colours = Image.merge("RGB", inks.split()[:3]).convert("YCbCr").split()
    black = inks.getchannel("K")
    stored = Image.merge("CMYK", [*(each.point(lambda level: 255 - level) for each in colours), black])
    data = bytearray(encoded(stored, "JPEG", quality=98, subsampling=0))
    marker = data.index(b"\xff\xee\x00\x0eAdobe")
    assert data[marker + 15] == 0
    data[marker + 15] = 2
    return bytes(data)
