"""Image formats: which are read, and which one the first bytes of a file announce, whatever its name says."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator

import pi_heif
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

# A process draws one image at a time, and shows the one that is its file's main one.
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)

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
    pi_heif.HeifImageFile,
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
# Texts and profiles of a PNG that have more bytes than this, unpacked, are passed over, as libpng does.
PngImagePlugin.MAX_TEXT_CHUNK = 8_000_000

_PNG_SIGNATURE = 8  # bytes
_CRC = 4  # bytes behind the content of a chunk of a PNG
_CHUNK_NAME = re.compile(rb"[A-Za-z]{4}")
_ANCILLARY = 0x20  # of a name's first byte: the picture can be shown without this chunk
_PNG_PIXELS = (b"PLTE", b"tRNS", b"IDAT", b"IEND")
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_SOC = b"\xff\x4f\xff\x51"  # JPEG 2000's codestreams start so
_ISPE = re.compile(rb"ispe\x00{4}(.{8})", re.DOTALL)
_NCLX = re.compile(rb"colrnclx(..)(..)", re.DOTALL)
_MEDIA_HEADER = 1 << 16  # bytes in which sizes and colours are looked for
_SOT, _EOC = b"\xff\x90", b"\xff\xd9"  # markers: start of a tile-part, end of the codestream
_TILE_PART_HEADER = 12  # bytes
_WEBP_HEADER = 30  # bytes up to the end of the canvas size, in each of its three kinds


def sniff(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes of `data` announce; None if it is not one of ours."""
    of_av1 = any(brand in data[8:64] for brand in (b"avif", b"avis"))
    for kind in FORMATS:
        accept = Image.OPEN[kind][1]
        if accept and accept(data[:16]) and (kind != "AVIF" or of_av1):  # HEIF has the same container
            return kind
    return None


def unread_kind(data: bytes) -> str | None:
    """Return the name of a kind of image that is known but not read, where the first bytes of `data` announce it."""
    if data[4:8] == b"ftyp":
        return f"ISO media, brand {data[8:12].decode('ascii', 'replace')!r} (a video …)"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<?xml") and b"<svg" in start:
        return "SVG"
    return next((name for magic, name in _UNREAD.items() if start.startswith(magic)), None)


def png_chunk(data: bytes, name: bytes) -> bytes | None:
    """Return the content of the sound chunk `name` before the pixels of a PNG (section 5.3); None without one."""
    for kind, start, end in _png_chunks(data):
        if kind == b"IDAT":
            return None
        if kind == name and _has_its_checksum(data, start, end):
            return data[start + 8 : end - _CRC]
    return None


def sound_png(data: bytes) -> bytes:
    """Return a PNG without those chunks beside its pixels that cannot be read: mostly `data` itself.

    Where such a chunk has a bad checksum, is cut off behind the pixels, too large, or not what its name says, libpng
    and browsers show the picture without it (PNG, third edition, section 13.1); Pillow would refuse it. An animation
    goes as a whole; its later frames are nobody's concern here.
    """
    judge, chunks, bad = PngImagePlugin.PngStream(io.BytesIO()), list(_png_chunks(data)), set[int | bytes]()
    pixels_seen = animated = False
    for kind, start, end in chunks:
        pixels_seen |= kind == b"IDAT"
        if kind == b"IHDR":
            _is_understood(judge, kind, data[start + 8 : end - _CRC])  # what the others are measured by
        elif kind in _ANIMATION and pixels_seen:
            bad |= set() if animated else {kind}
        elif kind[0] & _ANCILLARY and (end <= len(data) or pixels_seen):
            content = data[start + 8 : end - _CRC]
            if not (_has_its_checksum(data, start, end) and _is_understood(judge, kind, content)):
                bad |= set(_ANIMATION) if kind in _ANIMATION else {start}
            animated |= kind == b"acTL"
    if not bad:
        return data
    kept = (data[start:end] for kind, start, end in chunks if start not in bad and kind not in bad)
    return b"".join((data[:_PNG_SIGNATURE], *kept, data[chunks[-1][2] :]))


def png_faults(data: bytes) -> tuple[str, ...]:
    """Return what is damaged among the chunks that make the picture of a PNG: their checksums, and a missing end."""
    chunks = list(_png_chunks(data))
    faults = [
        f"The checksum of the chunk {kind.decode()} at byte {start} is not that of its content."
        for kind, start, end in chunks
        if kind in _PNG_PIXELS and not _has_its_checksum(data, start, end)
    ]
    return tuple(faults if chunks and chunks[-1][0] == b"IEND" else (*faults, "The end (IEND) is missing."))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a PNG, up to the last: their names, and where they start and end."""
    start = _PNG_SIGNATURE
    while _CHUNK_NAME.match(data, start + 4):
        kind, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4])
        yield kind, start, end
        start = end if kind != b"IEND" else len(data)


def _has_its_checksum(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(memoryview(data)[start + 4 : end - _CRC]).to_bytes(4) == data[end - _CRC : end]


def _is_understood(judge: PngImagePlugin.PngStream, kind: bytes, content: bytes) -> bool:
    """Return whether Pillow reads a chunk without a fault."""
    read = getattr(judge, f"chunk_{kind.decode()}", None)
    try:
        judge.fp = io.BytesIO(content)
        if read:
            read(0, len(content))
    except Exception:  # noqa: BLE001 - whatever it raises, the picture can be shown without this chunk
        return False
    return True


def media_length(data: bytes) -> int:
    """Return the bytes that an AVIF or HEIF file says it has (ISO/IEC 14496-12, section 4.2)."""
    return max((end for _, _, end in _boxes(data)), default=0)


def media_canvas(data: bytes) -> tuple[int, int]:
    """Return the largest width and height of the images in an AVIF or HEIF (``ispe``); (0, 0) where it gives none."""
    sizes = [struct.unpack(">II", size) for size in _ISPE.findall(data[:_MEDIA_HEADER])]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def media_code_points(data: bytes) -> tuple[int, int]:
    """Return the colour primaries and the transfer function of an AVIF or HEIF; (2, 2), unspecified, without any.

    They are those of the first ``colr`` of ``nclx`` (ISO/IEC 14496-12, section 12.1.5).
    """
    found = _NCLX.search(data[:_MEDIA_HEADER])
    return (int.from_bytes(found[1]), int.from_bytes(found[2])) if found else (2, 2)


def jpeg2000_length(data: bytes) -> int:
    """Return the bytes that a JPEG 2000 file says it has, up to the end of its codestream.

    Boxes: ISO/IEC 15444-1, annex I.4; tile-parts and the marker at the end: annex A.
    """
    if data.startswith(_SOC):
        return _codestream_end(data, 0)
    end = 0
    for kind, start, end in _boxes(data):
        if kind == b"jp2c":
            return end if end != len(data) else _codestream_end(data, start)
    return max(end, len(data)) + 1  # of the codestream there is nothing


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes of a file, one after the other: their kind, and where their content starts and they end."""
    start = 0
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if length == 1:  # a longer length follows
            length, header = int.from_bytes(data[start + 8 : start + 16]), 16
        end = start + max(length, header) if length else len(data)
        yield kind, start + header, end
        start = end


def _codestream_end(data: bytes, start: int) -> int:
    """Return where the codestream ends: segment by segment, then by the lengths of its tile-parts."""
    at = start + len(_EOC)
    while not data.startswith(_EOC, at):
        if at + _TILE_PART_HEADER > len(data):
            return max(at, len(data)) + len(_EOC)
        length = 2 + int.from_bytes(data[at + 2 : at + 4])
        if data.startswith(_SOT, at):
            length = int.from_bytes(data[at + 6 : at + 10])
            if not length:  # up to the end
                return len(data) + (not data.endswith(_EOC))
        if data[at] != _EOC[0]:
            return at  # no marker: where it ends cannot be told
        at += length
    return at + len(_EOC)


def webp_length(data: bytes) -> int:
    """Return the bytes that a WebP file says it has (RFC 9649, section 2.4)."""
    return int.from_bytes(data[4:8], "little") + 8


def webp_canvas(data: bytes) -> tuple[int, int]:
    """Return width and height in a WebP header (RFC 9649, sections 2.5 to 2.7); (0, 0) where it is cut off."""
    if len(data) < _WEBP_HEADER:
        return 0, 0
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF
