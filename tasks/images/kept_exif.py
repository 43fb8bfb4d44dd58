"""The EXIF that an output carries where its definition says so: the original's, true of the output's pixels."""

from __future__ import annotations

from PIL import ExifTags, Image

#: A JPEG segment holds 65,533 bytes, six of which say that this is EXIF; other formats are held to the same.
MOST_BYTES = 65_527

#: Tags that would lie about an output (it stands upright, in its own size and resolution of storage), point to
#: directories that are written on their own, or hold what is private to a camera's maker.
_LEFT_OUT = {
    ExifTags.Base.Orientation,
    ExifTags.Base.ImageWidth,
    ExifTags.Base.ImageLength,
    ExifTags.Base.BitsPerSample,
    ExifTags.Base.Compression,
    ExifTags.Base.PhotometricInterpretation,
    ExifTags.Base.StripOffsets,
    ExifTags.Base.SamplesPerPixel,
    ExifTags.Base.RowsPerStrip,
    ExifTags.Base.StripByteCounts,
    ExifTags.Base.PlanarConfiguration,
    ExifTags.Base.JpegIFOffset,
    ExifTags.Base.JpegIFByteCount,
    ExifTags.Base.XMLPacket,
    ExifTags.Base.InterColorProfile,
    ExifTags.Base.ExifOffset,
    ExifTags.Base.GPSInfo,
    ExifTags.Base.ExifInteroperabilityOffset,
    ExifTags.Base.MakerNote,
    ExifTags.Base.ExifImageWidth,
    ExifTags.Base.ExifImageHeight,
}


def kept_exif(image: Image.Image, *, with_gps: bool) -> bytes:
    """The EXIF of `image`, as opened, for an output of it; empty where there is none, or none that can be kept.

    The camera maker's private notes, thumbnails, and without `with_gps` the position stay behind.
    """
    try:
        read = image.getexif()
        parts = [ExifTags.IFD.Exif] + ([ExifTags.IFD.GPSInfo] if with_gps else [])
        made = Image.Exif()
        made.update({tag: value for tag, value in read.items() if tag not in _LEFT_OUT})
        for part in parts:
            kept = {tag: value for tag, value in read.get_ifd(part).items() if tag not in _LEFT_OUT}
            if kept:
                made.get_ifd(part).update(kept)
        data = made.tobytes() if len(made) or made.get_ifd(ExifTags.IFD.Exif) else b""
    except Exception:  # noqa: BLE001 - damaged EXIF raises anything, and is no reason to refuse an image
        return b""
    return data if len(data) <= MOST_BYTES else b""
