"""What a file says of its image: EXIF, colour profile, resolution; and the EXIF that an output carries."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from numbers import Rational
from typing import IO, Any, Literal

from PIL import ExifTags, Image, TiffImagePlugin

from lookbook.tasks.images import colour

_INT32 = 2**31 - 1
_LONGEST_BYTES = 256  # longer ones are thumbnails, private notes and tables
_LONGEST_LIST = 64
_MAKER_NOTE = 0x927C
_IPTC_TAG = 33723  # of TIFF
_IPTC_RESOURCE = 0x0404  # of Photoshop
_IN_OTHER_WORDS = (0x8769, 0x8825, 0xA005, 0x02BC, 0x8773)  # offsets of the IFDs; XMP and ICC profile

Tags = dict[int, object]

#: Two signs, kana or kanji in a row: Latin-1 read as Shift-JIS gives single ones between Latin letters.
_JAPANESE = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uff01-\uff5e]{2}")
_ANYTHING = re.compile("")
_LEFT_OUT = object()


def describe(image: Image.Image, *, keep_gps: bool, keep_maker_notes: bool) -> dict[str, Any]:
    """Return the columns of an asset that come from the metadata of `image`, as opened, before any `draft`.

    Damaged metadata never raises; what cannot be read is None.

    Returns:
        ``orientation`` (1 to 8, 1 where absent), ``exif`` (JSON text), ``camera_make``, ``camera_model``,
        ``software``, ``taken_at`` (local time, no zone), ``exposure_seconds``, ``f_number``, ``iso``,
        ``focal_length_mm``, ``icc_profile`` (its description), ``dpi``, ``has_xmp`` (in JPEG, PNG, TIFF, WebP and
        AVIF), ``has_iptc`` (in JPEG, PNG and TIFF).
    """
    main, photo, position = _read(image)
    icc = image.info.get("icc_profile")
    return {
        "orientation": _orientation(main),
        "exif": _as_json(main, photo, position if keep_gps else {}, keep_maker_notes=keep_maker_notes),
        "camera_make": _text(main.get(ExifTags.Base.Make)),
        "camera_model": _text(main.get(ExifTags.Base.Model)),
        "software": _text(main.get(ExifTags.Base.Software)),
        "taken_at": _time(photo.get(ExifTags.Base.DateTimeOriginal))
        or _time(photo.get(ExifTags.Base.DateTimeDigitized)),
        "exposure_seconds": _positive(photo.get(ExifTags.Base.ExposureTime)),
        "f_number": _positive(photo.get(ExifTags.Base.FNumber)),
        "iso": _whole(photo.get(ExifTags.Base.ISOSpeedRatings)),
        "focal_length_mm": _positive(photo.get(ExifTags.Base.FocalLength)),
        "icc_profile": colour.profile_name(icc) if isinstance(icc, bytes) else None,
        "dpi": _positive(image.info.get("dpi")),
        "has_xmp": any(image.info.get(name) for name in ("xmp", "Raw profile type xmp")),
        "has_iptc": _has_iptc(image),
    }


def _has_iptc(image: Image.Image) -> bool:
    resources = image.info.get("photoshop")
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            if _IPTC_TAG in image.tag_v2:
                return True
            resources = image.get_photoshop_blocks()
        return bool(image.info.get("Raw profile type iptc") or (resources and resources.get(_IPTC_RESOURCE)))
    except Exception:  # noqa: BLE001 - as for EXIF
        return False


def _read(image: Image.Image) -> tuple[Tags, Tags, Tags]:
    """Return the tags of the image itself, of the photo and of its position."""
    try:
        exif = image.getexif()
    except Exception:  # noqa: BLE001 - damaged EXIF raises anything, and is no reason to refuse an image
        return {}, {}, {}
    return _tags(exif, None), _tags(exif, ExifTags.IFD.Exif), _tags(exif, ExifTags.IFD.GPSInfo)


def _tags(exif: Image.Exif, part: ExifTags.IFD | None) -> Tags:
    """Return one directory, tag by tag: one that cannot be read does not take those before it along."""
    tags: Tags = {}
    try:
        directory: Any = exif if part is None else exif.get_ifd(part)
        for tag in list(directory):
            tags[int(tag)] = directory[tag]
    except Exception:  # noqa: BLE001 - as above
        return tags
    return tags


def _as_json(main: Tags, photo: Tags, position: Tags, *, keep_maker_notes: bool) -> str | None:
    named = _named(main, ExifTags.TAGS) | _named(photo, ExifTags.TAGS)
    note = photo.get(_MAKER_NOTE)
    if keep_maker_notes and isinstance(note, bytes):
        named["MakerNote"] = note.hex()
    if position:
        named["GPSInfo"] = _named(position, ExifTags.GPSTAGS)
    return json.dumps(named, ensure_ascii=False, allow_nan=False, sort_keys=True) if named else None


def _named(tags: Tags, names: Mapping[int, str]) -> dict[str, object]:
    kept = (tag for tag in tags if tag not in _IN_OTHER_WORDS and tag != _MAKER_NOTE)
    plain = {names.get(tag, f"0x{tag:04x}"): _plain(tags[tag]) for tag in kept}
    return {name: value for name, value in plain.items() if value is not _LEFT_OUT}


def _plain(value: object) -> object:
    """Return a value as JSON takes it: rationals as floats, bytes as hex, what is no number as null."""
    match value:
        case str():
            return _clean(value)
        case bytes():
            return value.hex() if len(value) <= _LONGEST_BYTES else _LEFT_OUT
        case int():
            return value
        case float() | Rational():
            return _number(value)
        case tuple() | list():
            return [_plain(each) for each in value] if len(value) <= _LONGEST_LIST else _LEFT_OUT
        case _:
            return _LEFT_OUT


def _number(value: object) -> float | None:
    """Return a finite float, the first one of several; None where there is none."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    if not isinstance(value, int | float | Rational):
        return None
    try:
        number = float(value)
    except (ArithmeticError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: object) -> float | None:
    """Return a number above 0: cameras write 0 for what they do not know."""
    number = _number(value)
    return number if number is not None and number > 0 else None


def _whole(value: object) -> int | None:
    number = _positive(value)
    return int(number) if number is not None and 1 <= number <= _INT32 else None


def settle_orientation(image: Image.Image) -> None:
    """Leave the EXIF of `image`, just opened, an orientation only where it is one: a SHORT, as Exif has it.

    Pillow also takes a number of another type, and XMP's. Browsers turn neither, nor does libvips what XMP says. A TIFF
    may have it in any type.
    """
    with suppress(Exception):  # damaged EXIF raises anything
        exif, tag = image.getexif(), ExifTags.Base.Orientation
        stored = exif._info  # what was read, without what Pillow has added
        kind = stored.tagtype.get(tag) if stored is not None and tag in stored else None
        if kind is None or (kind != _SHORT and image.format != "TIFF"):
            exif.pop(tag, None)


def _orientation(main: Tags) -> int:
    value = main.get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and value in range(1, 9) else 1


def _clean(text: str) -> str:
    """Return `text` as it was meant, as PostgreSQL and UTF-8 take it: without NULs, lone surrogates replaced."""
    if not text.isascii():
        with suppress(UnicodeEncodeError):
            text = _meant(text.encode("latin-1"))
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _meant(stored: bytes) -> str:
    """Read a text of EXIF, which is to be ASCII and which Pillow reads as Latin-1: in UTF-8, Shift-JIS or Latin-1.

    UTF-8 does not fit by chance. Shift-JIS may, so it takes two characters of Japanese in a row, or that cp1252 does
    not fit, which is Latin-1 with quotation marks and dashes.
    """
    for encoding, needed in (("utf-8", _ANYTHING), ("shift_jis", _JAPANESE), ("cp1252", _ANYTHING)):
        with suppress(UnicodeDecodeError):
            if needed.search(text := stored.decode(encoding)):
                return text
    with suppress(UnicodeDecodeError):
        return stored.decode("shift_jis")
    return stored.decode("latin-1")


def _text(value: object) -> str | None:
    return (_clean(value).strip() or None) if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    """Return an EXIF time, ``2010:08:13 16:24:26``; None for anything else, such as ``2010:13:45 …``."""
    try:
        return datetime.strptime(str(value)[:19], "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007 - EXIF has no zone
    except ValueError:
        return None


#: A JPEG segment holds 65,533 bytes, six of which say that this is EXIF; other formats are held to the same.
MOST_BYTES = 65_527

_SUBJECT_AREA = 0x9214  # which Pillow has no name for

#: What is kept of the main directory. A list of what may stay, since that of a TIFF also holds its structure, GeoTIFF's
#: place on earth, IPTC, Photoshop's thumbnail and whatever else a program put there.
_KEPT = {
    ExifTags.Base.DocumentName,
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
    ExifTags.Base.Rating,
    ExifTags.Base.RatingPercent,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
}

#: Of the photo's directory: what would lie about an output (its size, colours and places in it are others), points
#: to another directory, or is private to a camera's maker.
_NOT_KEPT = {
    ExifTags.Base.ComponentsConfiguration,
    ExifTags.Base.CompressedBitsPerPixel,
    _SUBJECT_AREA,
    ExifTags.Base.SubjectLocation,
    ExifTags.Base.ColorSpace,
    ExifTags.Base.Gamma,
    ExifTags.Base.ExifInteroperabilityOffset,
    ExifTags.Base.MakerNote,
    ExifTags.Base.ExifImageWidth,
    ExifTags.Base.ExifImageHeight,
}


#: Kind of a field, of those that TIFF and Exif have, and the bytes of its values, as stored.
Fields = dict[int, tuple[int, bytes]]
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a value, by kind
_SHORT, _LONG, _BIG_TIFF = 3, 4, 43
_HEADS = {"little": b"II*\x00\x08\x00\x00\x00", "big": b"MM\x00*\x00\x00\x00\x08"}


def kept_exif(image: Image.Image, *, with_gps: bool) -> bytes:
    """Return the EXIF of `image`, as opened, for an output of it; empty where there is none, or none that can be kept.

    Fields are kept byte for byte. The camera maker's private notes, thumbnails, and without `with_gps` the position
    stay behind.
    """
    try:
        file = _stored_exif(image)
        head = file.read(8)
        head += file.read(8) if _BIG_TIFF in head[2:4] else b""
        order: Literal["little", "big"] = "little" if head.startswith(b"II") else "big"
        main = _fields(file, head)
        made = {tag: field for tag, field in main.items() if tag in _KEPT}
        parts = {}
        for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if with_gps else (ExifTags.IFD.Exif,):
            read = _fields(file, head, int.from_bytes(main[part][1], order)) if part in main else {}
            if kept := {tag: field for tag, field in read.items() if tag not in _NOT_KEPT}:
                parts[part] = kept
        behind, start = b"", 8 + len(_directory(made | dict.fromkeys(parts, (_LONG, bytes(4))), 8, order))
        for part, kept in parts.items():
            made[part] = (_LONG, (start + len(behind)).to_bytes(4, order))
            behind += _directory(kept, start + len(behind), order)
        data = b"Exif\x00\x00" + _HEADS[order] + _directory(made, 8, order) + behind if made else b""
    except Exception:  # noqa: BLE001 - damaged EXIF raises anything, and is no reason to refuse an image
        return b""
    return data if len(data) <= MOST_BYTES else b""


def _stored_exif(image: Image.Image) -> IO[bytes]:
    """Return the EXIF of `image` as its file has it, at its start; empty where there is none."""
    stored = image.info.get("exif")
    if stored is None and "Raw profile type exif" in image.info:
        stored = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    if stored is None and isinstance(image, TiffImagePlugin.TiffImageFile) and image.fp:
        image.fp.seek(0)
        return image.fp
    return io.BytesIO(re.sub(b"^(Exif\x00\x00){1,2}", b"", stored or b""))


def _fields(file: IO[bytes], head: bytes, start: int | None = None) -> Fields:
    """Return the directory at `start`, or the first one."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(directory.next if start is None else start)
    directory.load(file)
    stored = directory._tagdata  # what it gives out otherwise is decoded
    return {tag: (directory.tagtype[tag], data) for tag, data in stored.items() if directory.tagtype[tag] in _SIZES}


def _directory(fields: Fields, start: int, order: Literal["little", "big"]) -> bytes:
    """Return a directory as it is to stand at `start`, with the values that it points to behind it (TIFF 6.0, 2)."""
    entries, beside = len(fields).to_bytes(2, order), b""
    place = start + len(entries) + 12 * len(fields) + 4
    for tag, (kind, value) in sorted(fields.items()):
        entries += tag.to_bytes(2, order) + kind.to_bytes(2, order) + (len(value) // _SIZES[kind]).to_bytes(4, order)
        if len(value) > 4:  # noqa: PLR2004 - shorter ones stand in the entry itself
            entries += (place + len(beside)).to_bytes(4, order)
            beside += value + bytes(len(value) % 2)
        else:
            entries += value.ljust(4, b"\x00")
    return entries + bytes(4) + beside
