"""Damage within a file is told, and a good picture is not lost over what stands beside its pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lookbook.tasks.images.decode import Rejected, decode, open_image
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import render
from tests.support.handmade import RGB, chunk, png
from tests.support.pictures import adobe_rgb_profile, encoded, natural, pixels

CASES = Path(__file__).parents[4] / "shared" / "cases" / "images"
AS_IT_IS = Recipe(outputs={"out": OutputDefinition(resize_mode="no", encode_format="png")})
COLOURS = np.asarray(natural(40, 30))
BIG = zlib.compress(b"a" * 1_500_000)
ENDLESS = zlib.compress(b"a" * 20_000_000)
ICCP = b"x\x00\x00" + zlib.compress(adobe_rgb_profile())


def case(name: str) -> bytes:
    """An input that was handed to us."""
    if not (CASES / name).exists():
        pytest.skip("the shared cases are not here")
    return (CASES / name).read_bytes()


def drawn(data: bytes) -> tuple[NDArray[np.int16], dict[str, Any]]:
    rendered = render(data, AS_IT_IS, ["out"])
    return pixels(rendered.files["out"].data), rendered.asset


def bad(chunk_bytes: bytes) -> bytes:
    """The chunk with a checksum that is not its own."""
    return chunk_bytes[:-1] + bytes((chunk_bytes[-1] ^ 1,))


def behind_pixels(data: bytes, more: bytes) -> bytes:
    end = data.index(b"IEND") - 4
    return data[:end] + more + data[end:]


NOTES = {
    "large iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + BIG),
    "large zTXt": chunk(b"zTXt", b"Comment\x00\x00" + BIG),
    "endless iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + ENDLESS),
    "endless zTXt": chunk(b"zTXt", b"Comment\x00\x00" + ENDLESS),
    "endless iCCP": chunk(b"iCCP", b"x\x00\x00" + ENDLESS),
    "many": chunk(b"zTXt", b"Comment\x00\x00" + BIG) * 60,
    "zTXt packed unknown": chunk(b"zTXt", b"Comment\x00\x07abc"),
    "iCCP without its null": chunk(b"iCCP", b"x"),
    "short gAMA": chunk(b"gAMA", b"\x00"),
    "short pHYs": chunk(b"pHYs", b"\x00"),
    "bad tEXt": bad(chunk(b"tEXt", b"Software\x00Shop tool")),
    "bad gAMA": bad(chunk(b"gAMA", struct.pack(">I", 100_000))),
    "bad cICP": bad(chunk(b"cICP", bytes((12, 13, 0, 1)))),
    "bad iCCP": bad(chunk(b"iCCP", ICCP)),
    "bad unknown": bad(chunk(b"juNK", b"123")),
    "bad animation": bad(chunk(b"acTL", struct.pack(">II", 2, 0))),
    "animation without sense": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\xff" * 26),
}


@pytest.mark.parametrize("name", NOTES)
@pytest.mark.parametrize("where", ["before", "behind"])
def test_a_png_is_not_lost_over_a_note(name: str, where: str) -> None:
    bare = png(COLOURS, RGB)
    data = png(COLOURS, RGB, NOTES[name]) if where == "before" else behind_pixels(bare, NOTES[name])
    seen, asset = drawn(data)
    assert np.array_equal(seen, COLOURS)
    assert asset["n_frames"] == 1
    assert asset["icc_profile"] is None


def test_a_bad_note_takes_none_of_the_others_along() -> None:
    orientation = b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 0x112, 3, 1, 3) + bytes(4)
    good = chunk(b"iCCP", ICCP), chunk(b"eXIf", orientation)
    seen, asset = drawn(png(COLOURS, RGB, NOTES["bad tEXt"], good[0], NOTES["endless zTXt"], good[1]))
    assert asset["icc_profile"] == "Made like Adobe RGB"
    assert asset["orientation"] == 3
    assert np.array_equal(seen, drawn(png(COLOURS, RGB, *good))[0])


def test_a_bad_checksum_is_the_same_before_and_behind_the_pixels() -> None:
    turned = bad(chunk(b"eXIf", b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 0x112, 3, 1, 3) + bytes(4)))
    for data in (png(COLOURS, RGB, turned), behind_pixels(png(COLOURS, RGB), turned)):
        assert drawn(data)[1]["orientation"] == 1


def test_a_png_that_ends_within_a_note_has_its_pixels_or_is_truncated() -> None:
    note = chunk(b"tEXt", b"Software\x00" + b"Shop tool " * 40)
    behind = behind_pixels(png(COLOURS, RGB), note)
    assert np.array_equal(drawn(behind[:-100])[0], COLOURS)
    with pytest.raises(Rejected, match="truncated"):
        drawn(png(COLOURS, RGB, note)[:200])


def test_what_the_pixels_need_is_no_note() -> None:
    data = png(COLOURS, RGB)
    header = data[:29] + bytes((data[29] ^ 1,)) + data[30:]
    with pytest.raises(Rejected, match="decode_error"):
        drawn(header)


@pytest.mark.parametrize("name", ["itxt_big.png", "badcrc_text.png"])
def test_the_notes_that_were_handed_to_us(name: str) -> None:
    seen, asset = drawn(case(name))
    assert tuple(seen[1, 1]) == (20, 220, 20)
    assert asset["has_xmp"] is (name == "itxt_big.png")


PHOTO = natural(800, 600)
INKS = Image.merge("CMYK", (*PHOTO.split(), PHOTO.getchannel("G")))
JPEGS = {
    "colour": encoded(PHOTO, "JPEG", quality=90),
    "4:4:4": encoded(PHOTO, "JPEG", subsampling=0),
    "progressive": encoded(PHOTO, "JPEG", progressive=True),
    "restarts": encoded(PHOTO, "JPEG", restart_marker_blocks=8),
    "grey": encoded(PHOTO.convert("L"), "JPEG"),
    "inks": encoded(INKS, "JPEG"),
    "odd": encoded(PHOTO.crop((0, 0, 333, 87)), "JPEG"),
}


def warnings_of(data: bytes, damaged: Literal["keep", "flag", "reject"] = "flag") -> int | None:
    """How many warnings its decoder gave."""
    found: int | None = render(data, Recipe(damaged=damaged), ["thumb"]).asset["decode_warnings"]
    return found


def refused(data: bytes, damaged: Literal["keep", "flag", "reject"] = "flag") -> str:
    """The rule that refuses it."""
    with pytest.raises(Rejected) as reject:
        warnings_of(data, damaged)
    return reject.value.rule


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_is_decoded_as_pillow_does(name: str, scale: int) -> None:
    image = Image.open(io.BytesIO(JPEGS[name]))
    image.draft(None, (image.width // scale, image.height // scale))
    found = decode(open_image(JPEGS[name], Recipe()), JPEGS[name], scale)
    assert found.warnings == ()
    assert found.image.mode == image.mode
    assert np.array_equal(np.asarray(found.image), np.asarray(image))


@pytest.mark.parametrize("name", JPEGS)
def test_damage_within_a_jpeg_is_counted_or_refused(name: str) -> None:
    whole = JPEGS[name]
    assert warnings_of(whole) == 0
    middle = (whole.index(b"\xff\xda") + len(whole)) // 2
    damaged = whole[:middle] + whole[middle + 100 :]
    assert warnings_of(damaged) == warnings_of(damaged, "keep") == 1
    assert refused(damaged, "reject") == "damaged"


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_lacks_only_the_mark_of_its_end_is_whole(name: str) -> None:
    whole = JPEGS[name]
    for without in (whole[:-2], whole[:-1]):
        seen, asset = drawn(without)
        assert np.array_equal(seen, drawn(whole)[0])
        assert asset["decode_warnings"] == 1
    assert refused(whole[:-2], "reject") == "damaged"
    for missing in (6, 40, 300):
        assert refused(whole[:-missing]) == "truncated"


def test_damage_within_a_png_is_counted_and_that_of_a_note_is_not() -> None:
    whole = png(COLOURS, RGB)
    start = whole.index(b"IDAT")
    length = int.from_bytes(whole[start - 4 : start])
    broken = bytearray(whole)
    broken[start + 4 + length] ^= 1  # of its checksum
    assert warnings_of(whole) == 0
    assert warnings_of(bytes(broken)) == 1
    assert warnings_of(whole[: whole.index(b"IEND") - 4]) == 1
    assert refused(bytes(broken), "reject") == "damaged"
    assert warnings_of(png(COLOURS, RGB, NOTES["bad tEXt"])) == 0


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"])
def test_a_format_whose_decoder_tells_nothing_of_damage_has_no_count(kind: str) -> None:
    assert warnings_of(encoded(PHOTO.resize((80, 60)), kind)) is None


def test_the_cases_of_damage_are_kept_and_counted() -> None:
    assert [warnings_of(case(name)) for name in ("no_eoi.jpg", "jpeg_damaged_accepted.jpg")] == [1, 1]
