"""The EXIF that an output carries where its definition says so: the original's, true of the output's pixels."""

from __future__ import annotations

from PIL import ExifTags, Image

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
_LEFT_OUT = {
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


def kept_exif(image: Image.Image, *, with_gps: bool) -> bytes:
    """Return the EXIF of `image`, as opened, for an output of it; empty where there is none, or none that can be kept.

    The camera maker's private notes, thumbnails, and without `with_gps` the position stay behind.
    """
    try:
        read = image.getexif()
        parts = [ExifTags.IFD.Exif] + ([ExifTags.IFD.GPSInfo] if with_gps else [])
        made = Image.Exif()
        made.update({tag: value for tag, value in read.items() if tag in _KEPT})
        for part in parts:
            kept = {tag: value for tag, value in read.get_ifd(part).items() if tag not in _LEFT_OUT}
            if kept:
                made.get_ifd(part).update(kept)
        data = made.tobytes() if len(made) or made.get_ifd(ExifTags.IFD.Exif) else b""
    except Exception:  # noqa: BLE001 - damaged EXIF raises anything, and is no reason to refuse an image
        return b""
    return data if len(data) <= MOST_BYTES else b""
