"""Image formats: which are read, and which one the first bytes of a file announce, whatever its name says."""

from __future__ import annotations

import struct

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

# Nothing that starts other programs (EPS), has no signature (TGA) or holds no photos. Naming the plugins
# here loads them now, and not in the middle of many threads.
_PLUGINS: tuple[type[ImageFile.ImageFile], ...] = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    GifImagePlugin.GifImageFile,
    WebPImagePlugin.WebPImageFile,
    AvifImagePlugin.AvifImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    PpmImagePlugin.PpmImageFile,
)

#: Pillow's names of the formats that are read.
FORMATS = tuple(str(plugin.format) for plugin in _PLUGINS)

_UNREAD = {
    b"8BPS": "Photoshop",
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"\x00\x00\x01\x00": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"II\xbc": "JPEG XR",
}
_WEBP_HEADER = 30  # bytes up to the end of the canvas size, in each of its three kinds


def sniff(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes of `data` announce; None if it is not one of ours."""
    if data[4:8] == b"ftyp" and not any(brand in data[8:64] for brand in (b"avif", b"avis")):
        return None  # AVIF shares its container with HEIC and with video
    for kind in FORMATS:
        accept = Image.OPEN[kind][1]
        if accept and accept(data[:16]):
            return kind
    return None


def unread_kind(data: bytes) -> str | None:
    """The name of a kind of image that is known but not read, where the first bytes of `data` announce it."""
    if data[4:8] == b"ftyp":
        return f"ISO media, brand {data[8:12].decode('ascii', 'replace')!r} (HEIC, video …)"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<?xml") and b"<svg" in start:
        return "SVG"
    return next((name for magic, name in _UNREAD.items() if start.startswith(magic)), None)


def webp_length(data: bytes) -> int:
    """The bytes that a WebP file says it has (RFC 9649, section 2.4)."""
    return int.from_bytes(data[4:8], "little") + 8


def webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height in a WebP header (RFC 9649, sections 2.5 to 2.7); (0, 0) where it is cut off."""
    if len(data) < _WEBP_HEADER:
        return 0, 0
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF
