"""One image in, its description and all its outputs out: from whatever bytes."""

from __future__ import annotations

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from lookbook.tasks.images import decode
from lookbook.tasks.images.items import ASSET_FIELDS
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import Rejected, Rendered, render
from tests.support.pictures import adobe_rgb_profile, encoded, natural, pixels, psnr
from tests.support.sets import sampled

# Pillow warns of damaged metadata; pytest shows what the module turns off.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RECIPE = Recipe()
ALL = tuple(RECIPE.outputs)
REAL = Path(__file__).parents[4] / "shared" / "data" / "fashion-small-1000.zip"


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """1800×2400 pixels, as the product photos are."""
    return natural(1800, 2400)


def one_output(**definition: Any) -> Recipe:
    return Recipe(
        outputs={"out": OutputDefinition.model_validate({"encode_format": "png", "encode_quality": 1, **definition})}
    )


def output(data: bytes, **definition: Any) -> Any:
    """The pixels of a single output."""
    return pixels(render(data, one_output(**definition), ["out"]).files["out"].data)


def opened(rendered: Rendered, name: str) -> Image.Image:
    file = rendered.files[name]
    image = Image.open(io.BytesIO(file.data))
    assert image.size == (file.width, file.height)
    return image


def test_the_default_recipe_makes_its_three_outputs(photo: Image.Image) -> None:
    rendered = render(encoded(photo, "JPEG", quality=92), RECIPE, ALL)
    assert set(rendered.files) == {"standard", "grey", "thumb"}
    shapes = {name: (opened(rendered, name).size, opened(rendered, name).mode) for name in ALL}
    assert shapes == {"standard": ((512, 512), "RGB"), "grey": ((512, 512), "L"), "thumb": ((128, 128), "RGB")}
    assert all(opened(rendered, name).format == "JPEG" for name in ALL)


def test_the_asset_has_exactly_its_columns(photo: Image.Image) -> None:
    asset = render(encoded(photo, "JPEG"), RECIPE, ()).asset
    assert set(asset) == {field.name for field in ASSET_FIELDS} - {"original_key"}
    facts = {name: asset[name] for name in ("mode", "format", "n_frames", "original_width", "original_height")}
    expected = {"mode": "RGB", "format": "JPEG", "n_frames": 1, "original_width": 1800, "original_height": 2400}
    assert facts == expected


def test_borders_are_exactly_white_and_grey_has_the_same_geometry(photo: Image.Image) -> None:
    dark = photo.point(lambda level: level // 2)
    rendered = render(encoded(dark, "JPEG"), RECIPE, ALL)
    for name in ("standard", "grey"):
        drawn = pixels(rendered.files[name].data)
        # The colour of a JPEG has half the resolution: one pixel of the border may take some from beside it.
        blurred = 0 if name == "grey" else 1
        assert (drawn[:, : 64 - blurred] == 255).all()
        assert (drawn[:, 448 + blurred :] == 255).all()
        assert (drawn[:, 64:448] < 200).all()


def test_standard_is_near_a_full_decode_and_a_resize_of_every_pixel(photo: Image.Image) -> None:
    data = encoded(photo, "JPEG", quality=92)
    reference = Image.open(io.BytesIO(data)).resize((384, 512), Image.Resampling.LANCZOS)
    files = render(data, RECIPE, ALL).files
    for name, expected in (("standard", reference), ("grey", reference.convert("L"))):
        ratio = psnr(pixels(files[name].data)[:, 64:448], np.asarray(expected))
        encode_alone = psnr(pixels(encoded(expected, "JPEG", quality=90)), np.asarray(expected))
        assert ratio > 37, name
        assert ratio > encode_alone - 0.5, name
    assert psnr(output(data)[:, 64:448], np.asarray(reference)) > 44  # before the encode


#: In dB: what is lost by starting from a JPEG of the nearest scale, and by averaging blocks of a large PNG first.
LEAST = {("JPEG", "fast"): 44, ("PNG", "fast"): 50, ("JPEG", "exact"): 60, ("PNG", "exact"): 60}


@pytest.mark.parametrize(("kind", "speed"), LEAST)
@pytest.mark.parametrize("mode", ["border", "keep_ratio", "center_crop"])
@pytest.mark.parametrize("edge", sampled([100, 400, 700], fast=[100]))
def test_every_mode_and_size_is_near_the_reference(
    photo: Image.Image, kind: str, speed: str, mode: str, edge: int
) -> None:
    data = encoded(photo, kind) if kind == "JPEG" else encoded(photo.reduce(2), kind, compress_level=1)
    decoded = Image.open(io.BytesIO(data))
    drawn = Image.fromarray(output(data, image_size=edge, resize_mode=mode, speed=speed).astype(np.uint8))
    if mode == "center_crop":
        reference = ImageOps.fit(decoded, (edge, edge), Image.Resampling.LANCZOS)
    elif mode == "border":
        reference = decoded.resize((edge * 3 // 4, edge), Image.Resampling.LANCZOS)
        left = (edge - reference.width) // 2
        drawn = drawn.crop((left, 0, left + reference.width, edge))
    else:
        reference = decoded.resize((edge, round(edge * 4 / 3)), Image.Resampling.LANCZOS)
    assert drawn.size == reference.size
    assert psnr(np.asarray(drawn), np.asarray(reference)) > LEAST[kind, speed]


def quarters(size: tuple[int, int]) -> Image.Image:
    """An upright scene: red top left, lime top right, blue bottom left, black bottom right."""
    width, height = size
    image = Image.new("RGB", size, "black")
    image.paste("red", (0, 0, width // 2, height // 2))
    image.paste("lime", (width // 2, 0, width, height // 2))
    image.paste("blue", (0, height // 2, width // 2, height))
    return image


#: What a camera that is held so does to the upright scene (Exif 2.32, Orientation).
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_of_every_format_comes_out_upright(orientation: int, kind: str) -> None:
    upright = quarters((1040, 1560))
    method = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(upright if method is None else upright.transpose(method), kind, exif=exif.tobytes())
    rendered = render(data, RECIPE, ALL)
    assert rendered.asset["orientation"] == orientation
    assert (rendered.asset["original_width"], rendered.asset["original_height"]) == (1040, 1560)
    assert rendered.asset["phash"] == render(encoded(upright, "PNG"), RECIPE, ()).asset["phash"]
    standard = pixels(rendered.files["standard"].data)
    expected = {(128, 170): (255, 0, 0), (128, 340): (0, 255, 0), (384, 170): (0, 0, 255), (384, 340): (0, 0, 0)}
    for (row, column), colour in expected.items():
        assert np.abs(standard[row, column] - colour).max() < 12
    assert (standard[:, :76] == 255).all()


def test_measures_leave_borders_out() -> None:
    asset = render(encoded(Image.new("RGB", (300, 900), (40, 80, 120)), "PNG"), RECIPE, ALL).asset
    assert (asset["mean_red"], asset["mean_green"], asset["mean_blue"]) == (40, 80, 120)
    assert asset["dominant_colour"] == "#285078"


def test_sharpness_and_hash_compare_between_sizes_of_one_image(photo: Image.Image) -> None:
    large = render(encoded(photo, "JPEG", quality=95), RECIPE, ()).asset
    half = render(encoded(photo.resize((900, 1200), Image.Resampling.LANCZOS), "PNG"), RECIPE, ()).asset
    assert half["sharpness"] == pytest.approx(large["sharpness"], rel=0.15)
    assert (int(half["phash"], 16) ^ int(large["phash"], 16)).bit_count() <= 2


@pytest.mark.parametrize(
    ("kind", "size"),
    [("JPEG", (1800, 2400)), ("JPEG", (600, 500)), ("JPEG", (60, 80)), ("PNG", (700, 800)), ("PNG", (60, 80))],
)
def test_an_output_depends_on_its_own_definition_only(photo: Image.Image, kind: str, size: tuple[int, int]) -> None:
    data = encoded(photo.resize(size), kind)
    outputs = dict(RECIPE.outputs)
    outputs["large"] = OutputDefinition(image_size=1100)
    outputs["square"] = OutputDefinition(image_size=90, resize_mode="center_crop")
    together = render(data, Recipe(outputs=outputs), tuple(outputs))
    for name, definition in outputs.items():
        alone = render(data, Recipe(outputs={name: definition}), [name])
        assert alone.files[name] == together.files[name], name
        assert alone.asset == together.asset


@pytest.mark.parametrize(
    ("size", "edges", "scales"),
    [
        ((1800, 2400), (512, 128), [4]),  # a quarter is more than 384x512, an eighth would be less
        ((3200, 4100), (512, 400, 128), [8]),
        ((4000, 4000), (2000, 512, 64), [2, 4]),  # only what is larger than the base needs a decode of its own
    ],
)
def test_a_photo_is_decoded_once_however_many_outputs(
    size: tuple[int, int], edges: tuple[int, ...], scales: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = decode.decode

    def counted(image: Any, data: bytes, scale: int) -> decode.Pixels:
        seen.append(scale)
        return original(image, data, scale)

    monkeypatch.setattr(decode, "decode", counted)
    outputs = {f"o{edge}": OutputDefinition(image_size=edge) for edge in edges}
    render(encoded(Image.new("RGB", size, "olive"), "JPEG"), Recipe(outputs=outputs), tuple(outputs))
    assert sorted(seen) == scales
    seen.clear()
    render(encoded(Image.new("RGB", size, "olive"), "JPEG"), Recipe(outputs=outputs, speed="exact"), tuple(outputs))
    assert seen == [1]


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_png_cut_off_is_refused_although_its_metadata_is_read_first(photo: Image.Image, share: float) -> None:
    data = encoded(photo.resize((90, 120)), "PNG")
    with pytest.raises(Rejected) as refused:
        render(data[: int(len(data) * share)], RECIPE, ALL)
    assert refused.value.rule == "truncated"


def test_a_png_is_turned_upright_by_exif_that_stands_behind_its_pixels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (30, 20)), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    behind = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert behind.index(b"IDAT") < behind.index(b"eXIf")
    asset = render(behind, RECIPE, ()).asset
    assert (asset["orientation"], asset["original_width"], asset["original_height"]) == (6, 20, 30)


def test_many_threads_give_the_same_bytes(photo: Image.Image) -> None:
    sources = [
        encoded(photo.resize((900, 1200)), "JPEG", icc_profile=adobe_rgb_profile()),
        encoded(photo.resize((400, 300)).convert("RGBA"), "PNG"),
        encoded(photo.resize((300, 300)).convert("CMYK"), "JPEG"),
        encoded(photo.resize((300, 200)), "WEBP"),
    ]
    alone = [render(data, RECIPE, ALL) for data in sources]
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda data: render(data, RECIPE, ALL), sources * 6))
    assert again == alone * 6


@pytest.mark.parametrize("size", [(900, 1200), (90, 120)], ids=["scaled down", "scaled up"])
def test_a_profile_is_converted_on_the_way(photo: Image.Image, size: tuple[int, int]) -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(adobe_rgb_profile()))
    srgb = ImageCms.createProfile("sRGB")
    stored = photo.resize(size)
    data = encoded(stored, "JPEG", quality=95, icc_profile=adobe_rgb_profile())
    decoded = Image.open(io.BytesIO(data))
    converted = ImageCms.profileToProfile(decoded, profile, srgb)
    assert converted is not None
    reference = np.asarray(converted.resize((384, 512), Image.Resampling.LANCZOS))
    drawn = output(data)[:, 64:448]
    assert psnr(drawn, reference) > 42
    assert psnr(drawn, reference) > 6 + psnr(np.asarray(decoded.resize((384, 512))), reference)
    assert render(data, RECIPE, ()).asset["icc_profile"] == "Made like Adobe RGB"


def test_transparent_images_are_measured_on_white_whatever_lies_behind() -> None:
    cut_out = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    cut_out.paste((200, 30, 40, 255), (16, 16, 48, 48))
    on_white = Image.new("RGB", (64, 64), "white")
    on_white.paste((200, 30, 40), (16, 16, 48, 48))
    found, wanted = (render(encoded(image, "PNG"), one_output(), ["out"]).asset for image in (cut_out, on_white))
    for name in ("brightness", "contrast", "mean_red", "dominant_colour", "phash"):
        assert found[name] == wanted[name], name


def test_transparency_stands_on_the_background_of_each_output() -> None:
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (10, 10, 30, 30))
    for image in (clear, clear.quantize(), clear.convert("LA")):
        data = encoded(image, "PNG")
        white, green = output(data, image_size=40), output(data, image_size=40, background="#00ff00")
        assert white[2, 2].tolist() == [255, 255, 255], image.mode
        assert green[2, 2].tolist() == [0, 255, 0], image.mode
        assert green[20, 20].tolist() == white[20, 20].tolist() != [0, 255, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "CMYK", "LA"])
def test_every_layout_gives_all_outputs(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.tile(np.linspace(0, 65535, 200).astype(np.uint16), (100, 1)))
    else:
        image = natural(200, 100).convert(mode)
    rendered = render(encoded(image, "TIFF"), RECIPE, ALL)
    assert rendered.asset["mode"] == mode
    assert [opened(rendered, name).mode for name in ALL] == ["RGB", "L", "RGB"]
    assert 0.2 < rendered.asset["brightness"] < 0.8


def test_a_grey_jpeg_gives_the_same_grey_by_either_way(photo: Image.Image) -> None:
    data = encoded(photo.resize((300, 400)).convert("L"), "JPEG")
    grey, colour = output(data, colour_mode="grey"), output(data)
    assert (colour == grey[:, :, None]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (3, 2)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_extreme_shapes_are_drawn(size: tuple[int, int], kind: str) -> None:
    rendered = render(encoded(Image.new("RGB", size, "navy"), kind), RECIPE, ALL)
    assert [opened(rendered, name).size for name in ALL] == [(512, 512), (512, 512), (128, 128)]
    assert output(encoded(Image.new("RGB", size, "navy"), kind), resize_mode="center_crop").shape == (512, 512, 3)


def test_an_output_beyond_all_measure_is_refused_whether_asked_for_or_not() -> None:
    data = encoded(Image.new("RGB", (1, 10_000)), "PNG")
    for recipe in (one_output(resize_mode="keep_ratio"), one_output(resize_mode="keep_ratio", encode_format="jpeg")):
        for wanted in (["out"], []):
            with pytest.raises(Rejected, match="512x5120000") as refused:
                render(data, recipe, wanted)
            assert refused.value.rule == "aspect_ratio"
    long = encoded(Image.new("L", (1, 70_000)), "PNG")
    with pytest.raises(Rejected) as refused:
        render(long, one_output(resize_mode="no", encode_format="jpeg"), ["out"])
    assert refused.value.rule == "too_large"
    assert render(long, RECIPE, ALL).files


@pytest.mark.parametrize("mode", ["border", "keep_ratio", "keep_ratio_largest", "center_crop", "no"])
def test_every_mode_draws_the_size_it_says(mode: str) -> None:
    expected = {
        "border": (100, 100),
        "keep_ratio": (150, 100),
        "keep_ratio_largest": (100, 67),
        "center_crop": (100, 100),
        "no": (600, 400),
    }[mode]
    for kind in ("JPEG", "PNG"):
        drawn = render(encoded(natural(600, 400), kind), one_output(image_size=100, resize_mode=mode), ["out"])
        assert opened(drawn, "out").size == expected


def test_an_animation_gives_its_first_frame_and_their_number() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue", "white")]
    rendered = render(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), RECIPE, ALL)
    assert (rendered.asset["n_frames"], rendered.asset["dominant_colour"]) == (4, "#ff0000")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.exists(), reason="the real product photos are not there")
def test_real_product_photos_are_all_drawn() -> None:
    with zipfile.ZipFile(REAL) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        photos = {name: archive.read(name) for name in names[::10]}
    for name, data in photos.items():
        rendered = render(data, RECIPE, ALL)
        assert (rendered.asset["original_width"], rendered.asset["original_height"]) == (60, 80), name
        assert [opened(rendered, output).size for output in ALL] == [(512, 512), (512, 512), (128, 128)]
