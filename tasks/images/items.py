"""The two tables of a batch: its manifest (what is to be done) and its part (what became of each image)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

Store = Literal["file", "zip", "tar", "lake"]


@dataclass(frozen=True)
class Locator:
    """Where an image's bytes are.

    Attributes:
        store: ``file``: the file at `path`; ``zip``: `member` of the archive at `path`;
            ``tar``: `size` bytes from `offset` of the uncompressed archive at `path`; ``lake``: the object under the
            key `path`, for what was landed.
        path: a path as the file system spells it, in bytes: names need not be UTF-8.
        member: name inside a zip archive, else empty.
        offset: first byte inside a tar archive; of the member's header in a zip archive; else 0.
        size: bytes of the image.
    """

    store: Store
    path: bytes
    member: str = ""
    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class KnownContent:
    """A content that the published snapshot holds, and the names of the recipe's outputs that stand for it."""

    sha256: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """One image of a batch.

    Attributes:
        key: the image's name within its source.
        fingerprint: changes when the content may have changed.
        locator: where its bytes are.
        known: published contents of the same size: this image may be one of them, or a copy.
        measure_again: draw nothing that is known, but describe the image again: the rules changed.
        refused: a rule and a message, for what must not be read (``outside_source`` …), else None.
    """

    key: str
    fingerprint: str
    locator: Locator
    known: tuple[KnownContent, ...] = ()
    measure_again: bool = False
    refused: tuple[str, str] | None = None


@dataclass
class Drawn:
    """One output that was drawn: its lake key, checksum, size in bytes and in pixels."""

    output: str
    output_digest: str
    object_key: str
    sha256: str
    bytes: int
    width: int
    height: int


@dataclass
class Outcome:
    """What became of one image: a row of the part.

    Attributes:
        status: ``ok``; ``same``: its content is a known one and nothing had to be drawn; ``rejected``; or
            ``forgotten``: its content was deleted on request, and nothing is said of it.
        rule: why it was rejected, else "".
        asset: the columns of `ASSET_FIELDS`; for a reject at most where its bytes are kept.
    """

    key: str
    fingerprint: str
    status: Literal["ok", "same", "rejected", "forgotten"]
    rule: str = ""
    error_message: str = ""
    sha256: str = ""
    bytes: int = 0
    asset: dict[str, Any] = field(default_factory=dict)
    drawn: list[Drawn] = field(default_factory=list)


#: What is known of an image's content, whatever its name. Sizes are pixels as displayed (after EXIF rotation).
ASSET_FIELDS: list[pa.Field] = [
    pa.field("original_key", pa.string()),  # lake key of the untouched original
    pa.field("original_width", pa.int32()),
    pa.field("original_height", pa.int32()),
    pa.field("mode", pa.string()),  # Pillow's name of the pixel layout in the file
    pa.field("format", pa.string()),  # as sniffed, not as the name says: JPEG, PNG, …
    pa.field("n_frames", pa.int32()),
    pa.field("decode_warnings", pa.int32()),  # of damage within; null where the decoder of its format tells none
    pa.field("orientation", pa.int32()),  # EXIF, 1 to 8; 1 where absent
    pa.field("icc_profile", pa.string()),  # its description, null where absent
    pa.field("exif", pa.large_string()),  # JSON text, null where absent
    pa.field("camera_make", pa.string()),
    pa.field("camera_model", pa.string()),
    pa.field("software", pa.string()),
    pa.field("taken_at", pa.timestamp("s")),
    pa.field("exposure_seconds", pa.float64()),
    pa.field("f_number", pa.float64()),
    pa.field("iso", pa.int32()),
    pa.field("focal_length_mm", pa.float64()),
    pa.field("dpi", pa.float64()),
    pa.field("mean_red", pa.float64()),  # 0 to 255
    pa.field("mean_green", pa.float64()),
    pa.field("mean_blue", pa.float64()),
    pa.field("dominant_colour", pa.string()),  # #rrggbb
    pa.field("brightness", pa.float64()),  # 0 to 1
    pa.field("contrast", pa.float64()),  # 0 to 1
    pa.field("sharpness", pa.float64()),  # variance of the Laplacian
    pa.field("has_xmp", pa.bool_()),
    pa.field("has_iptc", pa.bool_()),
    pa.field("dark_score", pa.float64()),  # this and the following: 0 (bad) to 1 (fine); see docs/issues.md
    pa.field("light_score", pa.float64()),
    pa.field("blurry_score", pa.float64()),
    pa.field("low_information_score", pa.float64()),
    pa.field("odd_aspect_ratio_score", pa.float64()),
    pa.field("grayscale_score", pa.float64()),
    pa.field("phash", pa.string()),  # 16 hex digits: near duplicates are looked up by it
    pa.field("signature", pa.binary()),  # of `perceptual.SIGNATURE_BYTES`: and confirmed on it
]

DRAWN_TYPE = pa.struct(
    [
        pa.field("output", pa.string()),
        pa.field("output_digest", pa.string()),
        pa.field("object_key", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)

PART_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("error_message", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        *ASSET_FIELDS,
        pa.field("drawn", pa.list_(DRAWN_TYPE)),
    ]
)

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("store", pa.string(), nullable=False),
        pa.field("path", pa.binary(), nullable=False),
        pa.field("member", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field(
            "known",
            pa.list_(pa.struct([pa.field("sha256", pa.string()), pa.field("outputs", pa.list_(pa.string()))])),
            nullable=False,
        ),
        pa.field("measure_again", pa.bool_(), nullable=False),
        pa.field("refused_rule", pa.string()),
        pa.field("refused_message", pa.string()),
    ]
)
