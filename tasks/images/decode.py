"""Opening and decoding image files, with the limits that come before the decode."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin, UnidentifiedImageError

from lookbook.tasks.images import colour, formats, metadata
from lookbook.tasks.images.recipe import Recipe

# Pillow's guard against bombs is one number for the whole process and only warns up to twice that number;
# our own limit is the recipe's, and comes before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# What Pillow has to say of damaged metadata belongs to no run's log; whether pixels can be had, load() tells.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_DCT_FORMATS = frozenset(("JPEG", "MPO"))
_JPEG_COLOURS = {"L": ("GRAY", 1), "RGB": ("RGB", 3), "CMYK": ("CMYK", 4)}  # simplejpeg's names, and their channels
_JPEG_END = b"\xff\xd9"
_LEAST_SCALED = 64  # pixels along the longer edge
_TILE_EDGES = (322, 323)  # TIFF tags TileWidth and TileLength
_COMPRESSION, _WORD_ALIGNED_RLE = 259, 32771  # TIFF tag Compression, and a value that libtiff does not read right
_TOO_LITTLE = ("truncated", "not enough image data")  # in the words of Pillow's decoders
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF tag PhotometricInterpretation, and a value of it
_BITS, _SAMPLES, _PLANES, _SAMPLE_FORMAT, _SUBSAMPLING = 258, 277, 284, 339, 530  # TIFF tags
_ONE_AFTER_THE_OTHER, _SEPARATE = 1, 2  # values of PlanarConfiguration
_BIG_TIFF = 43  # in place of 42
_UNSIGNED, _SIGNED = 1, 2  # values of SampleFormat
#: libtiff hands samples out in the order of this machine; Pillow knows of some only.
_IN_NATIVE_ORDER = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}


class Rejected(Exception):  # noqa: N818 - an outcome of an image, not a fault of the program
    """An image that is refused.

    Args:
        rule: ``empty``, ``not_an_image``, ``truncated``, ``unsupported``, ``too_large``, ``too_small``,
            ``aspect_ratio``, ``damaged`` or ``decode_error``.
        message: what is wrong with this image, with the numbers.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True)
class Pixels:
    """A decoded image in mode L, LA, RGB, RGBA or CMYK, 8 bits each.

    Attributes:
        image: the pixels, as stored (not turned upright).
        extent: width and height of the picture in this image's pixels. A scaled decode rounds its last
            column and row up, so it may end within them.
        warnings: what the decoder has to say of damage within the file. None where it would not tell: of the
            formats that are read, JPEG and PNG do.
    """

    image: Image.Image
    extent: tuple[float, float]
    warnings: tuple[str, ...] | None = None


@contextmanager
def refused_when_damaged() -> Iterator[None]:
    """Turn whatever a decoder raises on damaged input into `Rejected`; MemoryError passes through."""
    try:
        yield
    except (Rejected, MemoryError):
        raise
    except Exception as error:
        text = str(error).replace("\x00", "")[:300] or type(error).__name__
        cut = isinstance(error, EOFError) or any(word in text.lower() for word in _TOO_LITTLE)
        raise Rejected("truncated" if cut else "decode_error", f"The pixels cannot be read: {text}.") from error


def open_image(data: bytes, recipe: Recipe) -> ImageFile.ImageFile:
    """Return the image in `data`, its size within the recipe's limits. Its pixels are not decoded yet, but a PNG's.

    Raises:
        Rejected: it is empty, no image, of a kind that is not read, cut off, or beyond a limit.
    """
    if not data:
        raise Rejected("empty", "The file holds no bytes.")
    if len(data) > recipe.max_file_bytes:
        raise Rejected("too_large", f"{len(data)} bytes, where at most {recipe.max_file_bytes} are read.")
    kind = _kind(data)
    _check_announced(data, kind, recipe)
    image = open_header(data, kind)
    width, height = image.size
    _check_area(width, height, recipe)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        with refused_when_damaged():  # a tile may be far larger than the image
            tile_width, tile_height = (int(image.tag_v2.get(edge, 1)) for edge in _TILE_EDGES)
            _check_area(tile_width, tile_height, recipe)
            if image.tag_v2.get(_COMPRESSION) == _WORD_ALIGNED_RLE:
                raise Rejected("unsupported", "A TIFF in the word-aligned run lengths of CCITT is not read.")
            _settle_samples(image)
    _check_shape(width, height, recipe)
    if kind == "PNG":
        with refused_when_damaged():
            samples = image.tile[0].args if image.tile else None
            image.load()  # its EXIF may stand behind its pixels
            _settle_clear_colour(image, data, samples)
    metadata.settle_orientation(image)
    return image


def open_header(data: bytes, kind: str) -> ImageFile.ImageFile:
    """Read the header of an image of the format `kind`.

    Raises:
        Rejected: the header is damaged or cut off.
    """
    file = io.BytesIO(formats.sound_png(data) if kind == "PNG" else data)
    with refused_when_damaged():
        try:
            return Image.open(file, formats=[kind])
        except UnidentifiedImageError as error:
            # A plugin that has read up to the end was looking for more, but for those that read it all first.
            cut = file.tell() >= len(data) and kind not in {"WEBP", "AVIF", "HEIF"}
            if kind == "TIFF":
                with suppress(struct.error, SyntaxError, OSError, ValueError):
                    _check_known_samples(data)
            message = f"It starts like {kind}, but its header cannot be read{' to its end' if cut else ''}."
            raise Rejected("truncated" if cut else "decode_error", message) from error


def _check_known_samples(data: bytes) -> None:
    """Refuse a TIFF as a kind that is not read where its directory is whole, and yet Pillow cannot open it.

    Raises:
        Rejected: so it is.
    """
    big = _BIG_TIFF in data[2:4]
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
    file, start = io.BytesIO(data), directory.next
    file.seek(start)
    directory.load(file)
    entries = int.from_bytes(data[start : start + (8 if big else 2)], "little" if data[:2] == b"II" else "big")
    if len(directory) == entries and directory.get(_PHOTOMETRIC) is not None:
        raise Rejected("unsupported", "A TIFF whose samples are laid out like this, or of this depth, is not read.")


def _settle_samples(image: TiffImagePlugin.TiffImageFile) -> None:
    """Tell Pillow how the samples of a TIFF lie where it has it wrong, or refuse what it would read wrong."""
    tags = image.tag_v2
    deep, separate = max(tags.get(_BITS, (1,))) == 16, tags.get(_PLANES) == _SEPARATE  # noqa: PLR2004
    if image.mode == "L" and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise Rejected("unsupported", "A TIFF whose samples have 8 bits and a sign is not read.")
    if image.mode == "YCbCr" and tags.get(_SUBSAMPLING, (1, 1)) != (1, 1):
        raise Rejected("unsupported", "A TIFF with fewer samples of colour than of light, not compressed, is not read.")
    if separate and tags.get(_SAMPLES, 1) == 1:
        tags[_PLANES] = _ONE_AFTER_THE_OTHER
        image._setup()  # it has asked for the samples of one plane of many
        separate = False
    packed = bool(image.tile) and image.tile[0].codec_name == "libtiff"
    many = image.mode in {"RGB", "RGBA", "CMYK"}
    if separate and (image.mode in {"LA", "La", "PA"} or (not packed and not many)):
        raise Rejected("unsupported", "A TIFF of greys with further samples in planes of their own is not read.")
    tiles = []
    for tile in image.tile:
        samples, *rest = tuple(tile.args or ())
        if packed:
            samples = _IN_NATIVE_ORDER.get(samples, samples)
        elif separate and (samples not in "RGBACMYK" or (deep and image.mode == "CMYK")):
            raise Rejected("unsupported", "A TIFF with such samples in planes of their own is not read.")
        elif separate and deep:
            samples = f"{samples};16{'L' if tags.prefix == b'II' else 'B'}"
        tiles.append(tile._replace(args=(samples, *rest)))
    image.tile = tiles


def _settle_clear_colour(image: ImageFile.ImageFile, data: bytes, samples: object) -> None:
    """Make what a PNG says of its one transparent colour true of its decoded pixels.

    Pillow scales greys of 2 and 4 bits up, and takes the upper half of colours of 16 bits, but not what they are
    compared with. A colour of 16 bits is transparent where both halves are the same (PNG, section 11.3.2.1).
    """
    clear = image.info.get("transparency")
    if samples in {"L", "L;2", "L;4"} and isinstance(clear, int):
        most = {"L": 255, "L;2": 3, "L;4": 15}[str(samples)]
        image.info["transparency"] = (clear & most) * 255 // most
    elif samples == "RGB" and isinstance(clear, tuple):
        image.info["transparency"] = tuple(level & 255 for level in clear)
    elif samples == "RGB;16B" and isinstance(clear, tuple):
        lower = open_header(data, "PNG")
        lower.tile = [tile._replace(args="RGB;16L") for tile in lower.tile]
        lower.load()
        levels = np.asarray(image).astype(np.uint16) << 8 | np.asarray(lower)
        del image.info["transparency"]
        image.putalpha(Image.fromarray(np.where((levels == clear).all(axis=2), 0, 255).astype(np.uint8)))


def draft_scale(kind: str, size: tuple[int, int], needed: tuple[int, int]) -> int:
    """By how much (1, 2, 4 or 8) a JPEG of `size` may be scaled down and still give `needed` pixels.

    Other formats, and tiny ones, are decoded whole: 1.
    """
    if kind not in _DCT_FORMATS or max(size) < _LEAST_SCALED:
        return 1
    ratio = min(size[0] // needed[0], size[1] // needed[1])
    return next((scale for scale in (8, 4, 2) if ratio >= scale), 1)


def decode(image: ImageFile.ImageFile, data: bytes, scale: int) -> Pixels:
    """Decode `image`, opened from `data`; a JPEG scaled down by `scale` on the way (in the DCT, which saves most work).

    Raises:
        Rejected: the pixels are cut off or damaged beyond what the decoder gets over, or of a kind that is not read.
    """
    extent = (image.width / scale, image.height / scale)
    if image.format not in _DCT_FORMATS:
        warnings = formats.png_faults(data) if image.format == "PNG" else None
        return Pixels(_leniently(image, scale), extent, warnings)
    plain, fault = _strictly(image, data, scale)
    if plain:
        return Pixels(plain, extent, ())
    try:
        return Pixels(_leniently(image, scale), extent, (fault,))
    except Rejected:  # where no more than the mark of its end is missing, the picture is whole
        plain, _ = _strictly(image, data + _JPEG_END, scale)
        if plain is None:
            raise
        return Pixels(plain, extent, (fault,))


def _strictly(image: Image.Image, data: bytes, scale: int) -> tuple[Image.Image | None, str]:
    """Return the pixels of a JPEG, those that Pillow gives; or, in their place, the first warning of libjpeg-turbo."""
    colours, channels = _JPEG_COLOURS[image.mode]
    width, height = -(-image.width // scale), -(-image.height // scale)
    least = (height, width) if scale > 1 else (0, 0)
    try:
        levels = np.empty((height, width, channels), np.uint8)
        simplejpeg.decode_jpeg(data, colours, min_height=least[0], min_width=least[1], buffer=levels)
    except ValueError as error:
        return None, str(error)
    plain = Image.frombuffer(image.mode, (width, height), levels, "raw", image.mode, 0, 1)
    # Adobe stores CMYK inverted and says so in a marker.
    return ImageChops.invert(plain) if image.mode == "CMYK" and "adobe" in image.info else plain, ""


def _leniently(image: ImageFile.ImageFile, scale: int) -> Image.Image:
    """Return the pixels as Pillow decodes them, 8 bits each, past the damage that its decoder gets over."""
    with refused_when_damaged():
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        announced = image.size
        tags = getattr(image, "tag_v2", {})
        white_is_zero, bits = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO, max(tags.get(_BITS, (16,)))
        signed = max(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))) == _SIGNED
        image.load()
        if image.size != announced:  # of HEIF: the container has its say, then the codec
            held = f"{image.width}x{image.height}"
            raise Rejected("decode_error", f"It announces {announced[0]}x{announced[1]} pixels, and holds {held}.")
        try:
            return colour.eight_bit(image, white_is_zero=white_is_zero, bits=bits, signed=signed)
        except colour.UnknownModeError as error:
            raise Rejected("unsupported", str(error)) from error


def count_frames(data: bytes, image: ImageFile.ImageFile) -> int | None:
    """Return how many frames the file holds; None where what follows the first is too damaged to count.

    GIF and TIFF are counted by walking through the file, on a second opening, which leaves `image` alone.
    """
    if image.format not in {"GIF", "TIFF"}:
        return _countable(getattr(image, "n_frames", 1))
    try:
        return _countable(getattr(open_header(data, image.format), "n_frames", 1))
    except Exception:  # noqa: BLE001 - a damaged later frame raises anything; the first one may still be good
        return None


def _countable(frames: int) -> int | None:
    """Return a count of frames; None beyond 31 bits: a header may claim any number."""
    return int(frames) if 0 < frames < 2**31 else None


def _kind(data: bytes) -> str:
    kind = formats.sniff(data)
    if kind:
        return kind
    unread = formats.unread_kind(data)
    if unread:
        raise Rejected("unsupported", f"It is of a kind that is not read: {unread}.")
    if data[:100].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        raise Rejected("not_an_image", "It is a web page.")
    raise Rejected("not_an_image", f"It starts with {data[:12]!r}, as no image does.")


def _check_announced(data: bytes, kind: str, recipe: Recipe) -> None:
    """Check what a file says of its length and size, where the decoder would take memory or long to tell."""
    announced = len(data)
    if kind == "WEBP":
        announced = formats.webp_length(data)
    elif kind in {"AVIF", "HEIF"}:
        announced = formats.media_length(data)
    elif kind == "JPEG2000":
        announced = formats.jpeg2000_length(data)
    if announced > len(data):
        raise Rejected("truncated", f"It ends after {len(data)} of the {announced} bytes that it announces.")
    if kind == "WEBP":  # one that is opened has memory for its whole canvas
        _check_area(*formats.webp_canvas(data), recipe)
    elif kind in {"AVIF", "HEIF"}:
        _check_area(*formats.media_canvas(data), recipe)


def _check_area(width: int, height: int, recipe: Recipe) -> None:
    if width * height > recipe.max_image_area:
        message = f"{width}x{height} pixels, where at most {recipe.max_image_area} are read."
        raise Rejected("too_large", message)


def _check_shape(width: int, height: int, recipe: Recipe) -> None:
    shorter, longer = sorted((width, height))
    if shorter < 1:
        raise Rejected("decode_error", f"{width}x{height} pixels is no image.")
    if shorter < recipe.min_image_size:
        message = f"{width}x{height} pixels: an edge is shorter than {recipe.min_image_size}."
        raise Rejected("too_small", message)
    if recipe.max_aspect_ratio is not None and longer > recipe.max_aspect_ratio * shorter:
        message = f"{width}x{height} pixels: longer than {recipe.max_aspect_ratio:g} to 1."
        raise Rejected("aspect_ratio", message)
